"""KV cache in pages (vLLM) and as it grows (transformers) [bytes]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.elementwise import as_bool, maximum, minimum, where
from willitrun.kernels.kv_layouts import KvLayout, expanded_elements, whole_steps
from willitrun.kernels.weights import as_int64

__all__ = ["dynamic_cache", "paged_bytes_per_token", "paged_cache"]

Int64Array = NDArray[np.int64]


def _elements(layout: KvLayout) -> tuple[ArrayLike, ...]:
    return layout.full_k, layout.full_v, layout.windowed_k, layout.windowed_v, layout.hybrid_padding


def _indexer_bytes(layout: KvLayout) -> Int64Array:
    """Of one token: one byte per element of the indexer's keys, and a float32 scale per 128 of them."""
    elements = as_int64(layout.index_k)
    return elements + 4 * -(-elements // 128)


def paged_bytes_per_token(
    layout: KvLayout,
    *,
    tensor: ArrayLike = 1,
    pipeline: ArrayLike = 1,
    element_bytes: ArrayLike = 2,
    block_elements: ArrayLike = 1,
) -> Int64Array:
    """KV bytes of one token on one accelerator in a paged runtime such as vLLM [bytes].

    ``elements / pipeline / min(tensor, kv_heads)``: ranks beyond the KV heads repeat them, and latent
    attention repeats whole. Sliding-window layers count in full (see `paged_cache` for their bound), padded to
    whole groups of as many layers as the rarer kind has. ``element_bytes`` are of ``block_elements`` elements: 34 of
    32 where blocks of eight bits have a scale.

    Examples
    --------
    >>> layout = KvLayout(32 * 1024, 32 * 1024, kv_heads=8)
    >>> paged_bytes_per_token(layout, tensor=4).item()
    32768
    >>> paged_bytes_per_token(layout, tensor=4, element_bytes=18, block_elements=32).item()
    9216
    """
    shards = minimum(as_int64(tensor), as_int64(layout.kv_heads))
    elements = sum(
        (as_int64(part) for part in _elements(layout)),
        start=np.int64(0),
    )
    parts = shards * as_int64(pipeline) * as_int64(block_elements)
    per_rank = -(-elements * as_int64(element_bytes) // parts)
    return as_int64(per_rank + -(-_indexer_bytes(layout) // as_int64(pipeline)))


def paged_cache(
    layout: KvLayout,
    context_tokens: ArrayLike,
    *,
    sequences: ArrayLike = 1,
    tensor: ArrayLike = 1,
    pipeline: ArrayLike = 1,
    element_bytes: ArrayLike = 2,
    block_elements: ArrayLike = 1,
    block_tokens: ArrayLike = 16,
    chunk_tokens: ArrayLike = 8192,
    hybrid: ArrayLike = True,
) -> Int64Array:
    """KV pages that ``sequences`` of ``context_tokens`` occupy on one accelerator [bytes].

    Whole blocks per sequence. With a hybrid manager, sliding-window layers keep no more than
    ``window + chunk_tokens`` tokens; without one every layer keeps all.

    Parameters
    ----------
    context_tokens
        Tokens of one sequence.
    element_bytes
        Bytes of ``block_elements`` elements of keys or values.
    chunk_tokens
        ``max_num_batched_tokens``: what one step may add before old blocks are freed [tokens].
    """
    block = as_int64(block_tokens)
    context = as_int64(context_tokens)
    window = as_int64(layout.window_tokens)
    shards = (
        minimum(as_int64(tensor), as_int64(layout.kv_heads)) * as_int64(pipeline) * as_int64(block_elements)
    )
    size = as_int64(element_bytes)
    full = (as_int64(layout.full_k) + as_int64(layout.full_v)) * size
    padding = as_int64(layout.hybrid_padding)
    narrow = (as_int64(layout.windowed_k) + as_int64(layout.windowed_v) + padding) * size
    whole = whole_steps(context, block)
    bounded = minimum(whole, whole_steps(window - 1 + as_int64(chunk_tokens), block) + block)
    kept = where(as_bool(hybrid) & (window > 0), bounded, whole)
    per_sequence = -(-(whole * full + kept * narrow) // shards)
    per_sequence = per_sequence + whole * -(-_indexer_bytes(layout) // as_int64(pipeline))
    cross = as_int64(layout.cross_positions) * (as_int64(layout.cross_k) + as_int64(layout.cross_v)) * size
    return as_int64(as_int64(sequences) * (per_sequence + -(-cross // shards)))


def dynamic_cache(
    layout: KvLayout,
    context_tokens: ArrayLike,
    *,
    sequences: ArrayLike = 1,
    element_bytes: ArrayLike = 2,
    block_elements: ArrayLike = 1,
    static: ArrayLike = False,
    previous_step: ArrayLike = False,
) -> Int64Array:
    """KV cache of transformers [bytes]: as many tokens as were seen, or as many as were asked for (static).

    Sliding-window layers keep ``window - 1`` tokens once the sequence is longer; a static cache holds the
    window whole. A growing cache copies one layer at a time; the tuples of versions before 4.36 kept the cache
    of the previous step alive as well (``previous_step``). Latent attention (MLA) caches every head's keys and
    values, after the up-projection.

    References
    ----------
    https://github.com/huggingface/transformers/blob/main/src/transformers/models/deepseek_v3/modeling_deepseek_v3.py

    Examples
    --------
    >>> dynamic_cache(KvLayout(1024, 1024), 100).item()
    409600
    """
    context = as_int64(context_tokens)
    window = as_int64(layout.window_tokens)
    size = as_int64(element_bytes)
    bound = where(as_bool(static), window, window - 1)
    kept = where(window > 0, minimum(context, maximum(bound, 1)), context)
    keys, values = expanded_elements(layout)
    full = keys + values + as_int64(layout.index_k)
    narrow = as_int64(layout.windowed_k) + as_int64(layout.windowed_v)
    cross = as_int64(layout.cross_positions) * (as_int64(layout.cross_k) + as_int64(layout.cross_v))
    elements = as_int64(sequences) * (context * full + kept * narrow + cross)
    total = -(-elements * size // as_int64(block_elements))
    total = where(as_bool(previous_step), 2 * total, total)
    return as_int64(total)
