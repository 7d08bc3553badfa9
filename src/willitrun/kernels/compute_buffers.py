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
from willitrun.kernels.graph_shapes import FORKED, BufferShape, GraphEra, GraphWidths, graph_era, graph_widths
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

    The largest counts. A pipeline over devices keeps four copies of its inputs, the mask and the hidden state.

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
        logits_rows=logits_rows,
        era=era or GraphEra(),
        single_buffer=single_buffer,
        graphs=graphs,
    )
    copied = as_int64(copied_cache_bytes)
    return rows.of(as_int64(cells, "cells"), as_int64(window_cells), as_int64(sequences), copied)


@frozen(eq=False)
class GraphBuffers:
    """Compute buffers of some rows for any loads; fields are parameters of `device_buffer`, loads those of `of`."""

    shape: BufferShape
    n_ubatch: ArrayLike
    flash_attention: ArrayLike
    holds_output: ArrayLike = True
    pipeline: ArrayLike = False
    streamed_bytes: ArrayLike = 0
    streamed_layer_bytes: ArrayLike = 0
    logits_rows: ArrayLike | None = None
    era: GraphEra = field(default_factory=GraphEra)
    single_buffer: ArrayLike = False
    graphs: GraphShelf | None = None

    def of(
        self,
        cells: Int64Array,
        window_cells: Int64Array,
        sequences: Int64Array,
        copied_cache_bytes: Int64Array,
        *,
        walked: Int64Array | None = None,
    ) -> Int64Array:
        """Buffer of each row for its load [bytes]: see `device_buffer`; ``walked`` is what `walk` found, where known."""
        if walked is None:
            walked = self.walk(cells, window_cells, sequences)
        if walked is None:
            return self._sums(cells, window_cells, copied_cache_bytes)
        known = (walked > 0) & self._whole
        copies = self._copies | (copied_cache_bytes > 0)
        if not exists(copies):
            return (
                walked
                if not exists(~known)
                else where(known, walked, self._sums(cells, window_cells, copied_cache_bytes))
            )
        # What is copied over comes on top of the graph, which was recorded without.
        stage = self._sums(cells, window_cells, copied_cache_bytes)
        return where(known, maximum(walked, where(copies, stage, 0)), stage)

    def walk(self, cells: Int64Array, window_cells: Int64Array, sequences: Int64Array) -> Int64Array | None:
        """What the recorded graphs of the rows need by themselves [bytes]; None where none can be walked."""
        if self._walkable is None:
            return None
        return self._walkable.buffers(
            batch=self._batch, cells=cells, window_cells=window_cells, sequences=sequences
        )

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
        """Which rows copy weights over from host memory."""
        copied = as_int64(self.streamed_bytes) + as_int64(self.streamed_layer_bytes)
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
    def _widths(self) -> GraphWidths:
        return graph_widths(self.shape, self.era)

    @derived
    def _factor(self) -> Int64Array:
        return self._batch * HALF_BYTES

    def _sums(
        self, cells: Int64Array, window_cells: Int64Array, copied_cache_bytes: Int64Array
    ) -> Int64Array:
        """The largest stage, as a sum of tensors that are alive together [bytes]."""
        flash, widths, factor = self._flash, self._widths, self._factor
        masked = cells * widths.attends + window_cells * widths.windowed
        kept = pick(flash, masked, 2 * masked)
        scores = pick(widths.latent, kept, masked if self.era.half_mask else 3 * masked)
        scores = pick(flash, scores, 2 * (cells * widths.heads + masked))
        attention = scores + pick(flash, widths.flash_attention, widths.attention)
        several = self._copies_of_inputs(masked)
        stage = maximum(
            (attention + several.beside_attention) * factor + copied_cache_bytes,
            (kept + widths.feed_forward + several.beside_block) * factor
            + as_int64(self.streamed_layer_bytes),
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
        logits = logits + several.beside_logits * factor
        stage = maximum(stage, where(output, logits, 0))
        return as_int64(stage)

    def _copies_of_inputs(self, masked: Int64Array) -> _Copies:
        """What a pipeline keeps beside each stage: four masks as they are handed in, of which a stage may hold one, and
        four hidden states. Beside logits it found places for two of them with flash attention."""
        if self.pipeline is False:
            return _NO_COPIES
        several = as_bool(self.pipeline)
        hidden = 4 * 2 * as_int64(self.shape.hidden)
        whole = pick(self._flash, masked, 2 * masked) if self.era.half_mask else 2 * masked
        # The block keeps what attention reads: with flash attention that was a float16 copy of the mask.
        block = 3 * whole if self.era.half_mask else pick(self._flash, 4, 3) * whole
        return _Copies(
            where(several, 3 * whole + hidden, 0),
            where(several, block + hidden, 0),
            where(several, pick(self._flash, 2, 3) * whole + hidden, 0),
        )


@frozen(eq=False)
class _Copies:
    """Widths of inputs that a pipeline keeps, counted in float16."""

    beside_attention: Int64Array
    beside_block: Int64Array
    beside_logits: Int64Array


_ZERO: Int64Array = np.int64(0)  # type: ignore[assignment]
_NO_COPIES = _Copies(_ZERO, _ZERO, _ZERO)


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
