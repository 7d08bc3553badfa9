"""Compute buffers of llama.cpp: what a graph needs beside weights and cache [bytes], in int64.

The graph allocator reuses memory, so a device needs the largest stage of its part of the graph: logits,
attention (with or without flash attention) or feed-forward. The forms were found on load logs and are exact
in most of them (see ``accuracy/memory``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.kernels.columns import pick
from willitrun.kernels.weights import as_int64

__all__ = [
    "MASK_BYTES",
    "MASK_BYTES_BEFORE_8200",
    "BufferShape",
    "device_buffer",
    "host_buffer",
    "output_buffer",
]

Int64Array = NDArray[np.int64]

FLOAT_BYTES = 4
MASK_BYTES = 2
"""Per cell and token with flash attention: a float16 mask."""
MASK_BYTES_BEFORE_8200 = 6
"""Until about build 8200: the float32 mask and its float16 copy."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BufferShape:
    """Widths of a model's graph; int64 scalars or arrays of one shape.

    Attributes
    ----------
    vocabulary, hidden, heads
        Rows of the output matrix, width of the residual stream, query heads.
    head_total
        Query heads x head width: the width of the attention output.
    feed_forward
        Widest feed-forward block of a layer [elements]: dense, or experts used x expert width.
    has_output
        0 for encoders, which compute no logits.
    """

    vocabulary: ArrayLike
    hidden: ArrayLike
    heads: ArrayLike
    head_total: ArrayLike
    feed_forward: ArrayLike
    has_output: ArrayLike = 1


def device_buffer(
    shape: BufferShape,
    cells: ArrayLike,
    *,
    n_ubatch: ArrayLike = 512,
    flash_attention: ArrayLike = True,
    holds_output: ArrayLike = True,
    pipeline: ArrayLike = False,
    streamed_bytes: ArrayLike = 0,
    streamed_layer_bytes: ArrayLike = 0,
    logits_rows: ArrayLike | None = None,
    mask_bytes: ArrayLike = MASK_BYTES,
    single_buffer: ArrayLike = False,
) -> Int64Array:
    """Compute buffer on one accelerator [bytes].

    With U = n_ubatch, C = cells, E = hidden, H = heads, V = vocabulary, all in float32:
    logits ``(V + E) U 4``; attention without flash attention ``C H U 4 + C U 4 + 4 max(E, H d) U 4``, with it
    ``mask_bytes C U + 4 E U 4``; feed-forward ``(2 F + 3 E) U 4``. The largest counts. A pipeline over devices keeps
    copies of its inputs: three of the mask and four of the hidden state, two and four with flash attention.

    Parameters
    ----------
    shape
        Widths of the graph.
    cells
        Cells of the longest cache: ``n_ctx`` per stream [tokens].
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
    logits_rows
        Rows for which logits are computed; ``n_ubatch`` where None.
    mask_bytes
        Mask per cell and token with flash attention: `MASK_BYTES`, or `MASK_BYTES_BEFORE_8200`.
    single_buffer
        Host and device are one (CPU, and its embedded tokens lie in the same buffer).

    References
    ----------
    https://github.com/ggml-org/llama.cpp/blob/master/src/llama-context.cpp

    Examples
    --------
    Llama-3-8B at 8,192 cells without flash attention: 560 MiB, as its load log prints.

    >>> llama = BufferShape(128256, 4096, 32, 4096, 14336)
    >>> device_buffer(llama, 8192, flash_attention=False).item() / 2**20
    560.0
    """
    batch = as_int64(n_ubatch, "n_ubatch")
    count = as_int64(cells, "cells")
    vocabulary, hidden = as_int64(shape.vocabulary), as_int64(shape.hidden)
    heads, head_total = as_int64(shape.heads), as_int64(shape.head_total)
    flash = flash_attention if isinstance(flash_attention, bool) else np.asarray(flash_attention, dtype=bool)
    rows = batch if logits_rows is None else np.minimum(as_int64(logits_rows), batch)
    stream = hidden * batch * FLOAT_BYTES
    mask = count * batch * FLOAT_BYTES
    logits = (vocabulary + hidden) * rows * FLOAT_BYTES + as_int64(streamed_bytes)
    with_scores = mask * heads + mask + 4 * np.maximum(hidden, head_total) * batch * FLOAT_BYTES
    without_scores = count * batch * as_int64(mask_bytes) + 4 * stream
    feed_forward = (2 * as_int64(shape.feed_forward) * FLOAT_BYTES) * batch + 3 * stream
    layer = as_int64(streamed_layer_bytes)
    feed_forward = np.where(layer > 0, feed_forward + layer, pick(flash, feed_forward, 0))
    output = np.asarray(shape.has_output, dtype=bool)
    if holds_output is not True:
        output = output & np.asarray(holds_output, dtype=bool)
    stage = np.maximum(
        np.maximum(pick(flash, without_scores, with_scores), feed_forward), np.where(output, logits, 0)
    )
    stage = stage + np.where(np.asarray(single_buffer, dtype=bool), stream, 0)
    if pipeline is not False:
        copies = pick(flash, 2, 3) * mask + 4 * stream
        stage = stage + np.where(np.asarray(pipeline, dtype=bool), copies, 0)
    return np.asarray(stage, dtype=np.int64)


def host_buffer(shape: BufferShape, cells: ArrayLike, *, n_ubatch: ArrayLike = 512) -> Int64Array:
    """Input buffer in host memory [bytes]: the attention mask and the embedded tokens of one batch.

    Examples
    --------
    >>> host_buffer(BufferShape(128256, 4096, 32, 4096, 14336), 8192).item() / 2**20
    24.0
    """
    batch = as_int64(n_ubatch)
    total = (as_int64(cells) + as_int64(shape.hidden)) * batch * FLOAT_BYTES
    return np.asarray(total, dtype=np.int64)


def output_buffer(shape: BufferShape, *, sequences: ArrayLike = 1) -> Int64Array:
    """Logits handed to the caller [bytes of host memory]: one row per sequence.

    Examples
    --------
    >>> output_buffer(BufferShape(128256, 4096, 32, 4096, 14336)).item()
    513024
    """
    total = as_int64(shape.vocabulary) * as_int64(sequences) * FLOAT_BYTES
    return np.asarray(total * as_int64(shape.has_output), dtype=np.int64)
