"""How many patches and tokens a square picture becomes in a vision-language model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.weights import as_int64

__all__ = ["anyres_tokens", "pooled_side", "resized_side", "row_broken_tokens", "square_tiles"]

Int64Array = NDArray[np.int64]


def resized_side(side: ArrayLike, cell: ArrayLike, *, least: ArrayLike, most: ArrayLike) -> Int64Array:
    """Side of the square of tokens after a resize to whole cells [tokens].

    ``n = round(side / cell)``, brought between ``ceil(sqrt(least))`` and ``floor(sqrt(most))``: Qwen-VL's and
    GLM-4V's ``smart_resize`` for a square picture.

    Parameters
    ----------
    side
        Side of the picture [pixels].
    cell
        Patch size times the side of the square of patches merged into one token [pixels].
    least, most
        Bounds of tokens per picture.

    References
    ----------
    https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/qwen2_vl/image_processing_qwen2_vl.py

    Examples
    --------
    >>> resized_side([448, 1024, 8000], 28, least=4, most=16384).tolist()
    [16, 37, 128]
    """
    count = np.rint(np.asarray(side, dtype=np.float64) / as_int64(cell)).astype(np.int64)
    floor, ceiling = np.ceil(np.sqrt(as_int64(least))), np.floor(np.sqrt(as_int64(most)))
    return np.asarray(np.clip(count, floor.astype(np.int64), ceiling.astype(np.int64)), dtype=np.int64)


def row_broken_tokens(side: ArrayLike, cell: ArrayLike, *, longest: ArrayLike) -> Int64Array:
    """Tokens of a picture whose rows each end in one more token, Pixtral's rule [tokens].

    ``n (n + 1)`` with ``n = ceil(min(side, longest) / cell)``.

    References
    ----------
    https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/pixtral/processing_pixtral.py

    Examples
    --------
    >>> row_broken_tokens([1024, 4000], 28, longest=1540).tolist()
    [1406, 3080]
    """
    count = -(-np.minimum(as_int64(side), as_int64(longest)) // as_int64(cell))
    return np.asarray(count * (count + 1), dtype=np.int64)


def pooled_side(most: ArrayLike) -> Int64Array:
    """Side of the largest square of tokens within a budget: Gemma 4 scales every picture up or down to it.

    References
    ----------
    https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/gemma4/image_processing_gemma4.py

    Examples
    --------
    >>> pooled_side(280).item()
    16
    """
    return np.asarray(np.floor(np.sqrt(as_int64(most))), dtype=np.int64)


def square_tiles(side: ArrayLike, tile: ArrayLike, *, most: ArrayLike) -> Int64Array:
    """Tiles that a square picture is cut into, with the thumbnail that comes on top where it is cut.

    The largest ``k x k`` within ``most`` tiles whose area stays below twice the picture's, and a thumbnail for
    ``k > 1``: InternVL's rule.

    References
    ----------
    https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/got_ocr2/image_processing_got_ocr2.py

    Examples
    --------
    >>> square_tiles([448, 700, 1024, 4000], 448, most=12).tolist()
    [1, 5, 10, 10]
    """
    squared = 2 * as_int64(side) ** 2
    # k^2 tile^2 < 2 side^2, and at least one tile.
    cut = np.ceil(np.sqrt(squared / as_int64(tile) ** 2)).astype(np.int64) - 1
    cut = np.clip(cut, 1, np.floor(np.sqrt(as_int64(most))).astype(np.int64))
    return np.asarray(cut * cut + (cut > 1), dtype=np.int64)


def anyres_tokens(side: ArrayLike, tile: ArrayLike, patch: ArrayLike) -> Int64Array:
    """Tokens of a square picture in LLaVA-NeXT with its usual grids of up to 2 x 2 tiles [tokens].

    A base view of ``p^2`` tokens with ``p = tile / patch``; and the picture itself with a token after each row:
    ``p (p + 1)`` on a grid of 1 x 2 while it is no larger than a tile, else ``2 p (2 p + 1)``.

    References
    ----------
    https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/llava_next/processing_llava_next.py

    Examples
    --------
    >>> anyres_tokens([336, 672, 4000], 336, 14).tolist()
    [1176, 2928, 2928]
    """
    per_side = as_int64(tile) // as_int64(patch)
    seen = np.where(as_int64(side) <= as_int64(tile), per_side, 2 * per_side)
    return np.asarray(per_side * per_side + seen * (seen + 1), dtype=np.int64)
