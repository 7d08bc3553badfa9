"""KV cache of llama.cpp: streams of cells, padded, with a cache of their own for sliding windows [bytes]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.columns import pick
from willitrun.kernels.elementwise import as_bool, minimum, where
from willitrun.kernels.kv_layouts import CellKind, KvLayout, expanded_elements, row_bytes, whole_steps
from willitrun.kernels.weights import as_int64

__all__ = [
    "CellBytes",
    "CellCounts",
    "CellsPolicy",
    "bytes_in_cells",
    "bytes_of_cells",
    "cell_counts",
    "cells_cache",
    "cells_policy",
    "windowed_in_cells",
]

Int64Array = NDArray[np.int64]


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
    cells = whole_steps(pick(shared, context, context // slots), era.padding)
    if era.windowed:
        reach = window * pick(shared, slots, 1) + as_int64(n_ubatch, "n_ubatch")
        # The window's cache is padded on its own: it never exceeds the full one.
        narrow = minimum(cells, whole_steps(reach, era.padding))
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


CellCounts = tuple[Int64Array, Int64Array, Int64Array]
CellBytes = tuple[Int64Array, Int64Array, Int64Array]


def bytes_of_cells(layout: KvLayout, kind_k: CellKind, kind_v: CellKind, era: CellsPolicy) -> CellBytes:
    """Bytes of a cell over full and over sliding-window layers, and of a slot's cross-attention."""
    window_k, window_v = (kind_k, kind_v) if era.quantized_window else ("f16", "f16")
    keys, values = as_int64(layout.full_k), as_int64(layout.full_v)
    if not era.latent:
        keys, values = expanded_elements(layout)
    if era.latent_values:
        values = values + as_int64(layout.latent_v)
    narrow = as_int64(layout.windowed_v)
    if era.transposed:
        values = values + as_int64(layout.transposed_v)
        narrow = narrow + as_int64(layout.transposed_windowed_v)
    per_cell = row_bytes(keys, kind_k) + row_bytes(values, kind_v)
    per_narrow = row_bytes(layout.windowed_k, window_k) + row_bytes(narrow, window_v)
    indexer = row_bytes(layout.index_k, kind_k)
    cross = as_int64(layout.cross_positions) * 2 * (as_int64(layout.cross_k) + as_int64(layout.cross_v))
    return per_cell + indexer, per_narrow, cross
