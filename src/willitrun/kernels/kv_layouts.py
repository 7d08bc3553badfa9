"""What a model leaves in a cache, and in which types: sums over layers, in int64.

A layout holds sums over layers, so a sweep over contexts, sequences and types needs few columns and the same
code serves one scenario and a million.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import minimum, where
from willitrun.kernels.weights import as_int64

__all__ = [
    "KV_FORMATS",
    "CellKind",
    "KvLayout",
    "bytes_per_element",
    "cell_kinds",
    "expanded_elements",
    "quantizes",
    "recurrent_state",
    "row_bytes",
    "whole_steps",
]

Int64Array = NDArray[np.int64]

# Elements and bytes per block of a cache type.
KV_FORMATS: dict[str, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "fp8": (1, 1),
    "int8": (1, 1),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
    "q6_0": (32, 26),
    "nvfp4": (16, 9),
    # Groups of 64 with a scale and a bias, or a zero point, of 16 bits each.
    "mlx-8bit": (64, 68),
    "mlx-4bit": (64, 36),
    "int4": (64, 36),
}


@frozen
class KvLayout:
    """What one token leaves in the cache, summed over layers; all fields int64 scalars or arrays of one shape.

    Attributes
    ----------
    full_k, full_v
        Elements per cell of keys and of values over layers that see the whole context.
    windowed_k, windowed_v
        The same over layers that see ``window_tokens`` only.
    hybrid_padding
        Elements per token that vLLM adds to make groups of full and windowed layers equally large.
    window_tokens
        Sliding window or attention chunk [tokens]; 0 for none.
    conv_state, recurrent_state
        Elements of the convolution and of the recurrent state of one sequence (float32 in llama.cpp).
    cross_k, cross_v
        Elements per encoder position of a cross-attention cache, and ``cross_positions`` of them.
    index_k
        Elements per token of an attention indexer's keys (DeepSeek sparse attention).
    kv_heads
        KV heads of the full layers; 1 for latent attention. Tensor-parallel ranks beyond them repeat it.
    n_kv_layers
        Layers that keep a cache of their own.
    latent_v
        Values that runtimes with a plain cache store beside the latent row of MLA: a second copy of it.
    transposed_v, transposed_windowed_v
        Elements per cell that values take more, over full and over windowed layers, where they are stored transposed
        (llama.cpp without flash attention): every layer's are as wide as the widest layer's.
    latent
        1 for latent attention (MLA): one row of latent and rope.
    expanded_k, expanded_v
        Elements per cell of the keys and values of latent attention where a runtime keeps every head's own:
        transformers, and llama.cpp before April 2025.
    """

    full_k: ArrayLike
    full_v: ArrayLike
    windowed_k: ArrayLike = 0
    windowed_v: ArrayLike = 0
    window_tokens: ArrayLike = 0
    hybrid_padding: ArrayLike = 0
    conv_state: ArrayLike = 0
    recurrent_state: ArrayLike = 0
    cross_k: ArrayLike = 0
    cross_v: ArrayLike = 0
    cross_positions: ArrayLike = 0
    index_k: ArrayLike = 0
    kv_heads: ArrayLike = 1
    n_kv_layers: ArrayLike = 1
    latent_v: ArrayLike = 0
    latent: ArrayLike = 0
    transposed_v: ArrayLike = 0
    transposed_windowed_v: ArrayLike = 0
    expanded_k: ArrayLike = 0
    expanded_v: ArrayLike = 0


def whole_steps(value: Int64Array, to: ArrayLike) -> Int64Array:
    """A count rounded up to a multiple of a step."""
    step = as_int64(to)
    return -(-value // step) * step


CellKind = str | tuple[Int64Array, Int64Array]
"""A cache type out of `KV_FORMATS`, or elements and bytes per block as columns: see `cell_kinds`."""


def cell_kinds(kinds: Sequence[str]) -> CellKind:
    """Cache types of rows as columns; one name where all rows share it.

    Examples
    --------
    >>> cell_kinds(["f16", "f16"]), [column.tolist() for column in cell_kinds(["f16", "q8_0"])]
    ('f16', [[1, 32], [2, 34]])
    """
    if len(set(kinds)) == 1:
        return kinds[0]
    blocks, sizes = zip(*(KV_FORMATS[kind] for kind in kinds), strict=True)
    return np.array(blocks, dtype=np.int64), np.array(sizes, dtype=np.int64)


def bytes_per_element(kind: CellKind) -> float | NDArray[np.float64]:
    """Mean bytes of one element of a cache type [bytes]."""
    per_block, size = KV_FORMATS[kind] if isinstance(kind, str) else kind
    return size / per_block


def quantizes(kind: CellKind) -> Int64Array:
    """1 where a cache type stores blocks.

    Examples
    --------
    >>> int(quantizes("q8_0")), int(quantizes("f16"))
    (1, 0)
    """
    per_block = KV_FORMATS[kind][0] if isinstance(kind, str) else kind[0]
    return minimum(as_int64(per_block) - 1, 1)


def row_bytes(elements: ArrayLike, kind: CellKind) -> Int64Array:
    """Bytes of a row of elements of a cache type, in whole blocks [bytes]."""
    try:
        per_block, size = KV_FORMATS[kind] if isinstance(kind, str) else kind
    except KeyError:
        raise ValueError(f"{kind!r} is no cache type; known: {', '.join(KV_FORMATS)}") from None
    count = as_int64(elements, "elements")
    if np.any(count % per_block):
        raise ValueError(f"{kind} stores blocks of {per_block}: rows of {count.tolist()} do not divide")
    return as_int64(count // per_block * size)


def expanded_elements(layout: KvLayout) -> tuple[Int64Array, Int64Array]:
    """Keys and values per cell of a runtime that doesn't know the latent row."""
    keys, values = as_int64(layout.expanded_k), as_int64(layout.expanded_v)
    known = keys > 0
    full_k, full_v = as_int64(layout.full_k), as_int64(layout.full_v)
    return where(known, keys, full_k), where(known, values, full_v)


def recurrent_state(
    layout: KvLayout, *, sequences: ArrayLike = 1, element_bytes: ArrayLike = 4
) -> Int64Array:
    """Recurrent state of all sequences [bytes]: convolution and state, float32 in llama.cpp.

    Examples
    --------
    >>> recurrent_state(KvLayout(0, 0, conv_state=3 * 8192, recurrent_state=128 * 4096)).item()
    2195456
    """
    elements = as_int64(layout.conv_state) + as_int64(layout.recurrent_state)
    return as_int64(sequences) * elements * as_int64(element_bytes)
