"""KV cache and recurrent state under the allocation policies of the runtimes [bytes], in int64.

A layout holds sums over layers, so a sweep over contexts, sequences and types needs few columns and the same
code serves one scenario and a million.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.columns import pick
from willitrun.kernels.elementwise import as_bool, maximum, minimum, where
from willitrun.kernels.weights import as_int64

__all__ = [
    "KV_FORMATS",
    "CellBytes",
    "CellCounts",
    "CellKind",
    "CellsPolicy",
    "KvLayout",
    "bytes_in_cells",
    "bytes_of_cells",
    "bytes_per_element",
    "cell_kinds",
    "cell_counts",
    "cells_cache",
    "cells_policy",
    "dynamic_cache",
    "paged_bytes_per_token",
    "paged_cache",
    "quantizes",
    "recurrent_state",
    "windowed_in_cells",
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


@frozen
class CellsPolicy:
    """How one era of llama.cpp lays the cache out.

    Attributes
    ----------
    padding
        Cells are a multiple of it.
    windowed
        Whether sliding-window layers get a cache of their own (May 2025); before that every layer was full.
    streams
        Whether sequences can have streams of their own (July 2025).
    latent
        Whether MLA models keep the latent row instead of expanded keys and values (April 2025).
    latent_values
        Whether a copy of the latent is kept as values too (until January 2026).
    quantized_window
        Whether the sliding-window part takes the cache type that was asked for: always, but for the builds of one day
        (pull request 21277 of 1 April 2026 kept it float16, 21332 took that back the next day).
    transposed
        Whether values are stored transposed, as they are without flash attention.
    """

    padding: int = 256
    windowed: bool = True
    streams: bool = True
    latent: bool = True
    latent_values: bool = False
    quantized_window: bool = True
    transposed: bool = False


def cells_policy(build: int | None = None, *, flash_attention: bool = True) -> CellsPolicy:
    """The policy of a llama.cpp build number; the current one for None.

    Cells were padded to 32 without flash attention until streams came (build 5912 made the padding depend on
    the cache, 256 in all of them since). Sliding-window caches came in build 5438, latent caches in 5129; the
    copy of the latent went with pull request 19067 of January 2026, about build 7826.

    Examples
    --------
    >>> cells_policy(5000).windowed
    False
    >>> cells_policy().padding
    256
    """
    transposed = not flash_attention
    if build is None or build >= 7826:
        return CellsPolicy(transposed=transposed)
    if build >= 6900:
        return CellsPolicy(latent_values=True, transposed=transposed)
    return CellsPolicy(
        latent_values=build >= 5129,
        padding=256 if flash_attention else 32,
        windowed=build >= 5438,
        streams=build >= 5912,
        latent=build >= 5129,
        transposed=transposed,
    )


def _pad(value: Int64Array, to: ArrayLike) -> Int64Array:
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


def _row_bytes(elements: ArrayLike, kind: CellKind) -> Int64Array:
    try:
        per_block, size = KV_FORMATS[kind] if isinstance(kind, str) else kind
    except KeyError:
        raise ValueError(f"{kind!r} is no cache type; known: {', '.join(KV_FORMATS)}") from None
    count = as_int64(elements, "elements")
    if np.any(count % per_block):
        raise ValueError(f"{kind} stores blocks of {per_block}: rows of {count.tolist()} do not divide")
    return as_int64(count // per_block * size)


def cell_counts(
    context_tokens: ArrayLike,
    window_tokens: ArrayLike,
    *,
    sequences: ArrayLike = 1,
    unified: ArrayLike = True,
    swa_full: ArrayLike = False,
    n_ubatch: ArrayLike = 512,
    policy: CellsPolicy | None = None,
) -> CellCounts:
    """Cells of a stream in full and in sliding-window layers, and streams; parameters as in `cells_cache`.

    Examples
    --------
    >>> tuple(int(part) for part in cell_counts(32768, 1024))
    (32768, 1536, 1)
    """
    era = policy or CellsPolicy()
    slots = as_int64(sequences, "sequences")
    context = as_int64(context_tokens, "context_tokens")
    window = as_int64(window_tokens, "window_tokens")
    shared = True if unified is True or not era.streams else as_bool(unified)
    streams = pick(shared, 1, slots)
    cells = _pad(pick(shared, context, context // slots), era.padding)
    if era.windowed:
        reach = window * pick(shared, slots, 1) + as_int64(n_ubatch, "n_ubatch")
        # The window's cache is padded on its own: it never exceeds the full one.
        narrow = minimum(cells, _pad(reach, era.padding))
        full = window == 0 if swa_full is False else as_bool(swa_full) | (window == 0)
        narrow = where(full, cells, narrow)
    else:
        narrow = cells
    return cells, narrow, streams


def cells_cache(
    layout: KvLayout,
    context_tokens: ArrayLike,
    *,
    sequences: ArrayLike = 1,
    unified: ArrayLike = True,
    swa_full: ArrayLike = False,
    n_ubatch: ArrayLike = 512,
    kind_k: CellKind = "f16",
    kind_v: CellKind = "f16",
    policy: CellsPolicy | None = None,
) -> Int64Array:
    """KV cache of llama.cpp [bytes].

    ``cells x streams x (K elements x bytes(K) + V elements x bytes(V))``: cells are padded; sliding-window
    layers hold ``pad(min(n_ctx_seq, window x (unified ? sequences : 1) + n_ubatch))``.

    Parameters
    ----------
    layout
        Elements per cell.
    context_tokens
        ``n_ctx``: the total over sequences [tokens].
    sequences
        ``n_seq_max``, the parallel slots.
    unified
        One stream shared by all sequences, or one stream each.
    swa_full
        Sliding-window layers hold the whole context.
    n_ubatch
        Physical batch, which sliding-window caches reserve room for [tokens].
    kind_k, kind_v
        Types of keys and values, out of `KV_FORMATS`.
    policy
        The era; the current one where None.

    References
    ----------
    https://github.com/ggml-org/llama.cpp/blob/master/src/llama-kv-cache-iswa.cpp

    Examples
    --------
    Llama-3.1-8B, 32 layers of 8 heads of 128, 1,024 tokens:

    >>> cells_cache(KvLayout(full_k=32 * 1024, full_v=32 * 1024), 1024).item() // 2**20
    128
    """
    era = policy or CellsPolicy()
    slots = as_int64(sequences, "sequences")
    cells, narrow, streams = cell_counts(
        context_tokens,
        layout.window_tokens,
        sequences=slots,
        unified=unified,
        swa_full=swa_full,
        n_ubatch=n_ubatch,
        policy=era,
    )
    return bytes_in_cells((cells, narrow, streams), slots, bytes_of_cells(layout, kind_k, kind_v, era))


def bytes_in_cells(counts: CellCounts, sequences: Int64Array, cell_bytes: CellBytes) -> Int64Array:
    """KV cache of llama.cpp whose cells are counted [bytes].

    Parameters
    ----------
    counts
        Cells of a stream in full and in sliding-window layers, and streams: see `cell_counts`.
    sequences
        Parallel slots.
    cell_bytes
        Bytes of a cell and of a slot: see `bytes_of_cells`; they are the same for all loads.
    """
    cells, narrow, streams = counts
    per_cell, per_narrow, cross = cell_bytes
    total: Int64Array = streams * (cells * per_cell + narrow * per_narrow) + sequences * cross
    return total


def windowed_in_cells(counts: CellCounts, cell_bytes: CellBytes) -> Int64Array:
    """What of `bytes_in_cells` is of layers that see a window [bytes]."""
    _, narrow, streams = counts
    total: Int64Array = streams * (narrow * cell_bytes[1])
    return total


def _expanded(layout: KvLayout) -> tuple[Int64Array, Int64Array]:
    """Keys and values per cell of a runtime that doesn't know the latent row."""
    keys, values = as_int64(layout.expanded_k), as_int64(layout.expanded_v)
    known = keys > 0
    full_k, full_v = as_int64(layout.full_k), as_int64(layout.full_v)
    return where(known, keys, full_k), where(known, values, full_v)


CellCounts = tuple[Int64Array, Int64Array, Int64Array]
CellBytes = tuple[Int64Array, Int64Array, Int64Array]


def bytes_of_cells(layout: KvLayout, kind_k: CellKind, kind_v: CellKind, era: CellsPolicy) -> CellBytes:
    """Bytes of a cell over full and over sliding-window layers, and of a slot's cross-attention."""
    window_k, window_v = (kind_k, kind_v) if era.quantized_window else ("f16", "f16")
    keys, values = as_int64(layout.full_k), as_int64(layout.full_v)
    if not era.latent:
        keys, values = _expanded(layout)
    if era.latent_values:
        values = values + as_int64(layout.latent_v)
    narrow = as_int64(layout.windowed_v)
    if era.transposed:
        values = values + as_int64(layout.transposed_v)
        narrow = narrow + as_int64(layout.transposed_windowed_v)
    per_cell = _row_bytes(keys, kind_k) + _row_bytes(values, kind_v)
    per_narrow = _row_bytes(layout.windowed_k, window_k) + _row_bytes(narrow, window_v)
    indexer = _row_bytes(layout.index_k, kind_k)
    cross = as_int64(layout.cross_positions) * 2 * (as_int64(layout.cross_k) + as_int64(layout.cross_v))
    return per_cell + indexer, per_narrow, cross


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


def _elements(layout: KvLayout) -> tuple[ArrayLike, ...]:
    return layout.full_k, layout.full_v, layout.windowed_k, layout.windowed_v, layout.hybrid_padding


def paged_bytes_per_token(
    layout: KvLayout, *, tensor: ArrayLike = 1, pipeline: ArrayLike = 1, element_bytes: ArrayLike = 2
) -> Int64Array:
    """KV bytes of one token on one accelerator in a paged runtime such as vLLM [bytes].

    ``elements / pipeline / min(tensor, kv_heads)``: ranks beyond the KV heads repeat them, and latent
    attention repeats whole. Sliding-window layers count in full (see `paged_cache` for their bound), padded to
    whole groups of as many layers as the rarer kind has.

    Examples
    --------
    >>> paged_bytes_per_token(KvLayout(32 * 1024, 32 * 1024, kv_heads=8), tensor=4).item()
    32768
    """
    shards = minimum(as_int64(tensor), as_int64(layout.kv_heads))
    elements = sum(
        (as_int64(part) for part in _elements(layout)),
        start=np.int64(0),
    )
    indexer = as_int64(layout.index_k)
    # The indexer keeps one byte per element and a float32 scale per 128 of them.
    index_bytes = indexer + 4 * -(-indexer // 128)
    per_rank = -(-elements * as_int64(element_bytes) // (shards * as_int64(pipeline)))
    return as_int64(per_rank + -(-index_bytes // as_int64(pipeline)))


def paged_cache(
    layout: KvLayout,
    context_tokens: ArrayLike,
    *,
    sequences: ArrayLike = 1,
    tensor: ArrayLike = 1,
    pipeline: ArrayLike = 1,
    element_bytes: ArrayLike = 2,
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
    chunk_tokens
        ``max_num_batched_tokens``: what one step may add before old blocks are freed [tokens].
    """
    block = as_int64(block_tokens)
    context = as_int64(context_tokens)
    window = as_int64(layout.window_tokens)
    shards = minimum(as_int64(tensor), as_int64(layout.kv_heads)) * as_int64(pipeline)
    size = as_int64(element_bytes)
    full = (as_int64(layout.full_k) + as_int64(layout.full_v)) * size
    padding = as_int64(layout.hybrid_padding)
    narrow = (as_int64(layout.windowed_k) + as_int64(layout.windowed_v) + padding) * size
    whole = _pad(context, block)
    bounded = minimum(whole, _pad(window - 1 + as_int64(chunk_tokens), block) + block)
    kept = where(as_bool(hybrid) & (window > 0), bounded, whole)
    indexer = as_int64(layout.index_k)
    index_bytes = indexer + 4 * -(-indexer // 128)
    per_sequence = -(-(whole * full + kept * narrow) // shards) + whole * -(
        -index_bytes // as_int64(pipeline)
    )
    cross = as_int64(layout.cross_positions) * (as_int64(layout.cross_k) + as_int64(layout.cross_v)) * size
    return as_int64(as_int64(sequences) * (per_sequence + -(-cross // shards)))


def dynamic_cache(
    layout: KvLayout,
    context_tokens: ArrayLike,
    *,
    sequences: ArrayLike = 1,
    element_bytes: ArrayLike = 2,
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
    keys, values = _expanded(layout)
    full = keys + values + as_int64(layout.index_k)
    narrow = as_int64(layout.windowed_k) + as_int64(layout.windowed_v)
    cross = as_int64(layout.cross_positions) * (as_int64(layout.cross_k) + as_int64(layout.cross_v))
    total = as_int64(sequences) * size * (context * full + kept * narrow + cross)
    total = where(as_bool(previous_step), 2 * total, total)
    return as_int64(total)
