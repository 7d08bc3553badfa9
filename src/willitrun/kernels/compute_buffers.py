"""Compute buffers of llama.cpp: what a graph needs beside weights and cache [bytes], in int64.

The graph allocator reuses memory, so a device needs the largest stage of its part of the graph: logits, attention
(with or without flash attention) or feed-forward. Every stage is a sum of tensors that are alive together, each as
wide as a field of `BufferShape`, for every token of a physical batch. The sums were read off a real llama.cpp by
changing one width at a time (``python -m accuracy.memory.truth``), for the graphs of three eras. The allocator also
leaves holes, which no sum sees: where a whole graph of the current era lies on one device and its architecture was
recorded, the allocator is walked instead (`willitrun.kernels.ggml_walk`).
"""

from __future__ import annotations

from dataclasses import field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import derived, frozen
from willitrun.kernels.columns import pick
from willitrun.kernels.elementwise import as_bool, exists, maximum, minimum, where
from willitrun.kernels.ggml_shelf import GraphRow, GraphShelf
from willitrun.kernels.weights import as_int64

__all__ = [
    "FORKED",
    "BufferShape",
    "GraphBuffers",
    "GraphEra",
    "device_buffer",
    "graph_era",
    "host_buffer",
    "output_buffer",
]

Int64Array = NDArray[np.int64]

FLOAT_BYTES = 4
HALF_BYTES = 2


@frozen(eq=False)
class BufferShape:
    """Widths of a model's graph per token [elements]; int64 scalars or arrays of one shape.

    Attributes
    ----------
    vocabulary, hidden, heads
        Rows of the output matrix, width of the residual stream, query heads.
    head_total
        Query heads x head width: the width of the attention output.
    feed_forward
        Width of the feed-forward block that one token passes through: dense, or experts used x expert width.
    has_output
        0 for encoders, which compute no logits.
    key_value
        Keys and values of one layer.
    gated
        1 where the block has a gate beside its up-projection.
    expert_output
        Experts used x hidden width, where the experts are narrower than half of it; 0 elsewhere.
    latent
        Widths alive in latent attention (MLA): per head twice the latent, the part without and three times the
        part with positions; 0 elsewhere.
    streams
        Tensors of hidden width that lie below the logits; ``host_streams`` where host and device are one.
    attention_hidden
        Tensors of hidden width alive in attention: the residual stream and its normed copy, or the stream alone.
    attention_total
        Queries before and after positions [elements], and their gate where they have one.
    block_total
        Attention output that is still alive in the feed-forward block [elements].
    beside
        Inputs of all layers, which stay alive from the first to the last (Gemma 3n and 4).
    windowed
        1 where some layers have a sliding window, and so a mask of their own.
    graph
        Number of the model's graph on a `GraphShelf`; 0 where it was not recorded.
    """

    vocabulary: ArrayLike
    hidden: ArrayLike
    heads: ArrayLike
    head_total: ArrayLike
    feed_forward: ArrayLike
    has_output: ArrayLike = 1
    key_value: ArrayLike = 0
    gated: ArrayLike = 1
    expert_output: ArrayLike = 0
    latent: ArrayLike = 0
    streams: ArrayLike = 1
    host_streams: ArrayLike = 2
    attention_hidden: ArrayLike = 2
    attention_total: ArrayLike | None = None
    block_total: ArrayLike | None = None
    beside: ArrayLike = 0
    windowed: ArrayLike = 0
    graph: ArrayLike = 0


@frozen
class GraphEra:
    """How one era of llama.cpp builds its graphs.

    Attributes
    ----------
    half_mask
        The mask is float16 from the start where flash attention is on; before, a float32 one and its copy.
    separate_product
        Gate times up is a tensor of its own (the GLU operators); before, it overwrote the gate.
    indexed_rows
        Keys and values are written by index and stay alive until then.
    """

    half_mask: bool = True
    separate_product: bool = True
    indexed_rows: bool = True


FORKED = GraphEra(half_mask=False, separate_product=False, indexed_rows=False)
"""ik_llama.cpp, which left in 2024 and counts its builds anew: https://github.com/ikawrakow/ik_llama.cpp"""


def graph_era(build: int | None = None) -> GraphEra:
    """The era of a llama.cpp build number; the current one for None.

    GLU operators came with pull request 14158 (June 2025, build 5780), writing by index with 14285 (July 2025, on by
    default from build 6100), the float16 mask about build 8200 of 2026.

    Examples
    --------
    >>> graph_era(5000).separate_product
    False
    """
    if build is None:
        return GraphEra()
    return GraphEra(half_mask=build >= 8200, separate_product=build >= 5780, indexed_rows=build >= 6100)


def device_buffer(
    shape: BufferShape,
    cells: ArrayLike,
    *,
    window_cells: ArrayLike = 0,
    n_ubatch: ArrayLike = 512,
    flash_attention: ArrayLike = True,
    holds_output: ArrayLike = True,
    pipeline: ArrayLike = False,
    streamed_bytes: ArrayLike = 0,
    streamed_layer_bytes: ArrayLike = 0,
    copied_cache_bytes: ArrayLike = 0,
    logits_rows: ArrayLike | None = None,
    era: GraphEra | None = None,
    single_buffer: ArrayLike = False,
    graphs: GraphShelf | None = None,
    sequences: ArrayLike = 1,
) -> Int64Array:
    """Compute buffer on one accelerator [bytes].

    With U = n_ubatch, C = cells (of the full and of the windowed layers), E = hidden, H = heads, A = H x head width,
    K = keys and values of a layer, F = feed-forward, V = vocabulary, all in float32 unless stated:

    - logits: ``(V + streams E) U``;
    - attention without flash attention: ``C H U + C U + (2 E + 2 A + K) U``, with it the mask, ``C U / 2``
      (before build 8200 ``3 C U / 2``), and ``(2 E + 2 A) U``; latent attention ``(3 E + latent) U`` beside its mask;
    - feed-forward: the mask, which stays alive, and ``(3 F + 2 E + A) U`` (2 F before the GLU operators, F without
      gate), or with narrow experts ``(2 F + outputs of all experts + 2 E + 2 A) U``.

    The largest counts. A pipeline over devices keeps copies of its inputs: three of the mask and four of the
    hidden state, two and four with flash attention.

    Parameters
    ----------
    shape
        Widths of the graph.
    cells
        Cells of the longest cache: ``n_ctx`` per stream [tokens].
    window_cells
        Cells of the sliding-window layers' cache [tokens].
    n_ubatch
        Physical batch [tokens].
    flash_attention
        Whether scores are never materialised.
    holds_output
        Whether this device computes the logits.
    pipeline
        Whether several devices work as a pipeline.
    streamed_bytes
        Output matrix in host memory that a large batch copies over: it lies beside the logits.
    streamed_layer_bytes
        Largest weight of a layer in host memory that is copied over: it lies beside the feed-forward stage.
    copied_cache_bytes
        Keys and values of a layer whose cache is in host memory: a large batch attends to a copy of them.
    logits_rows
        Rows for which logits are computed; ``n_ubatch`` where None.
    era
        The graphs; current ones where None.
    single_buffer
        Host and device are one (CPU, and its embedded tokens lie in the same buffer).
    graphs
        Recorded graphs; the sums above for all models where None.
    sequences
        Sequences with a recurrent state of their own, which pass through a recorded graph.

    References
    ----------
    https://github.com/ggml-org/llama.cpp/blob/master/src/llama-context.cpp

    Examples
    --------
    Llama-3-8B at 8,192 cells without flash attention: 560 MiB, as the load log of a build of 2024 prints.

    >>> llama = BufferShape(128256, 4096, 32, 4096, 14336, key_value=2048)
    >>> device_buffer(llama, 8192, flash_attention=False, era=graph_era(3000)).item() / 2**20
    560.0
    """
    rows = GraphBuffers(
        shape,
        n_ubatch=n_ubatch,
        flash_attention=flash_attention,
        holds_output=holds_output,
        pipeline=pipeline,
        streamed_bytes=streamed_bytes,
        streamed_layer_bytes=streamed_layer_bytes,
        copied_cache_bytes=copied_cache_bytes,
        logits_rows=logits_rows,
        era=era or GraphEra(),
        single_buffer=single_buffer,
        graphs=graphs,
    )
    return rows.of(as_int64(cells, "cells"), as_int64(window_cells), as_int64(sequences))


@frozen(eq=False)
class GraphBuffers:
    """Compute buffers of some rows for any loads; fields are parameters of `device_buffer`."""

    shape: BufferShape
    n_ubatch: ArrayLike
    flash_attention: ArrayLike
    holds_output: ArrayLike = True
    pipeline: ArrayLike = False
    streamed_bytes: ArrayLike = 0
    streamed_layer_bytes: ArrayLike = 0
    copied_cache_bytes: ArrayLike = 0
    logits_rows: ArrayLike | None = None
    era: GraphEra = field(default_factory=GraphEra)
    single_buffer: ArrayLike = False
    graphs: GraphShelf | None = None

    def of(self, cells: Int64Array, window_cells: Int64Array, sequences: Int64Array) -> Int64Array:
        """Buffer of each row for its load [bytes]: see `device_buffer`."""
        if self._walkable is None:
            return self._sums(cells, window_cells)
        walked = self._walkable.buffers(
            batch=self._batch, cells=cells, window_cells=window_cells, sequences=sequences
        )
        known = (walked > 0) & self._whole
        if not exists(self._copies):
            return walked if not exists(~known) else where(known, walked, self._sums(cells, window_cells))
        # What is copied over comes on top of the graph, which was recorded without.
        stage = self._sums(cells, window_cells)
        return where(known, maximum(walked, where(self._copies, stage, 0)), stage)

    @derived
    def _batch(self) -> Int64Array:
        return as_int64(self.n_ubatch, "n_ubatch")

    @derived
    def _flash(self) -> NDArray[np.bool_] | bool:
        return (
            self.flash_attention if isinstance(self.flash_attention, bool) else as_bool(self.flash_attention)
        )

    @derived
    def _whole(self) -> NDArray[np.bool_]:
        """Which rows have a whole graph on one device."""
        whole: NDArray[np.bool_] = as_bool(self.holds_output) & ~as_bool(self.pipeline)
        return whole

    @derived
    def _copies(self) -> NDArray[np.bool_]:
        """Which rows copy something over from host memory."""
        copied = (
            as_int64(self.streamed_bytes)
            + as_int64(self.streamed_layer_bytes)
            + as_int64(self.copied_cache_bytes)
        )
        some: NDArray[np.bool_] = copied > 0
        return some

    @derived
    def _walkable(self) -> GraphRow | None:
        """Recorded graphs of the rows; None where none can be walked."""
        if self.graphs is None or self.era != GraphEra() or self.logits_rows is not None:
            return None
        if not exists(self._whole):
            return None
        return self.graphs.row(self.shape.graph, card=~as_bool(self.single_buffer), flash=self._flash)

    @derived
    def _widths(self) -> _Widths:
        return _widths(self.shape, self.era)

    @derived
    def _factor(self) -> Int64Array:
        return self._batch * HALF_BYTES

    def _sums(self, cells: Int64Array, window_cells: Int64Array) -> Int64Array:
        """The largest stage, as a sum of tensors that are alive together [bytes]."""
        flash, widths, factor = self._flash, self._widths, self._factor
        masked = cells * widths.attends + window_cells * widths.windowed
        kept = pick(flash, masked, 2 * masked)
        scores = pick(widths.latent, kept, masked if self.era.half_mask else 3 * masked)
        scores = pick(flash, scores, 2 * (cells * widths.heads + masked))
        attention = scores + pick(flash, widths.flash_attention, widths.attention)
        stage = maximum(
            attention * factor + as_int64(self.copied_cache_bytes),
            (kept + widths.feed_forward) * factor + as_int64(self.streamed_layer_bytes),
        )
        output = widths.has_output
        if self.holds_output is not True:
            output = output & np.asarray(self.holds_output)
        stream = as_int64(self.shape.hidden) * (self._batch * FLOAT_BYTES)
        below = widths.logits
        if self.single_buffer is not False:
            one = as_bool(self.single_buffer)
            # In latent attention the embedded tokens take a place of their own beside their copy.
            stage = stage + where(one, where(widths.latent, 2 * stream, stream), 0)
            below = where(one, widths.host_logits, below)
        rows = self._batch if self.logits_rows is None else minimum(as_int64(self.logits_rows), self._batch)
        logits = below * (rows * HALF_BYTES) + as_int64(self.streamed_bytes)
        logits = logits + where(widths.beside > 0, (kept + widths.beside) * factor, 0)
        stage = maximum(stage, where(output, logits, 0))
        if self.pipeline is not False:
            copies = pick(flash, 2, 3) * cells * self._batch * FLOAT_BYTES + 4 * stream
            stage = stage + where(as_bool(self.pipeline), copies, 0)
        return as_int64(stage)


@frozen(eq=False)
class _Widths:
    """Sums of widths per token by stage, counted in float16 so that masks stay integers; flags as bool."""

    attention: Int64Array
    flash_attention: Int64Array
    feed_forward: Int64Array
    logits: Int64Array
    host_logits: Int64Array
    heads: Int64Array
    attends: Int64Array
    windowed: Int64Array
    beside: Int64Array
    latent: NDArray[np.bool_]
    has_output: NDArray[np.bool_]


def _widths(shape: BufferShape, era: GraphEra) -> _Widths:
    hidden, attended = as_int64(shape.hidden), as_int64(shape.head_total)
    latent = as_int64(shape.latent)
    folded = 3 * hidden + latent
    written = as_int64(shape.key_value) if era.indexed_rows else 0
    block, narrow = as_int64(shape.feed_forward), as_int64(shape.expert_output)
    alive = where(as_bool(shape.gated), 3 if era.separate_product else 2, 1) * block
    alive = where(narrow > 0, 2 * block + narrow + attended, alive)
    vocabulary = as_int64(shape.vocabulary)
    beside = as_int64(shape.beside)
    queries = 2 * attended if shape.attention_total is None else as_int64(shape.attention_total)
    joined = attended if shape.block_total is None else as_int64(shape.block_total)
    plain = as_int64(shape.attention_hidden) * hidden + queries
    return _Widths(
        attention=2 * (where(latent > 0, folded, plain + written) + beside),
        flash_attention=2 * (where(latent > 0, folded, plain) + beside),
        feed_forward=2 * (alive + 2 * hidden + joined + beside),
        logits=2 * (vocabulary + as_int64(shape.streams) * hidden),
        host_logits=2 * (vocabulary + as_int64(shape.host_streams) * hidden),
        heads=as_int64(shape.heads),
        attends=minimum(as_int64(shape.heads), 1),
        beside=2 * beside,
        windowed=as_int64(shape.windowed),
        latent=latent > 0,
        has_output=as_bool(shape.has_output),
    )


def host_buffer(shape: BufferShape, cells: ArrayLike, *, n_ubatch: ArrayLike = 512) -> Int64Array:
    """Input buffer in host memory [bytes]: the attention mask and the embedded tokens of one batch.

    Examples
    --------
    >>> host_buffer(BufferShape(128256, 4096, 32, 4096, 14336), 8192).item() / 2**20
    24.0
    """
    batch = as_int64(n_ubatch)
    total = (as_int64(cells) + as_int64(shape.hidden)) * batch * FLOAT_BYTES
    return as_int64(total)


def output_buffer(shape: BufferShape, *, sequences: ArrayLike = 1) -> Int64Array:
    """Logits handed to the caller [bytes of host memory]: one row per sequence.

    Examples
    --------
    >>> output_buffer(BufferShape(128256, 4096, 32, 4096, 14336)).item()
    513024
    """
    total = as_int64(shape.vocabulary) * as_int64(sequences) * FLOAT_BYTES
    return as_int64(total * as_int64(shape.has_output))
