"""Widths of a model's graph in llama.cpp, and what of them is alive together in each stage of it, by era."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import as_bool, maximum, minimum, where
from willitrun.kernels.weights import as_int64

__all__ = ["FORKED", "BufferShape", "GraphEra", "GraphWidths", "graph_era", "graph_widths"]

Int64Array = NDArray[np.int64]


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
    kept_stream
        The residual stream is alive beside its normed copy below the logits, but where norms lie behind blocks.
    """

    half_mask: bool = True
    separate_product: bool = True
    indexed_rows: bool = True
    kept_stream: bool = False


FORKED = GraphEra(half_mask=False, separate_product=False, indexed_rows=False, kept_stream=True)
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


@frozen(eq=False)
class GraphWidths:
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


def graph_widths(shape: BufferShape, era: GraphEra) -> GraphWidths:
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
    streams = as_int64(shape.streams)
    if era.kept_stream:
        streams = maximum(streams, minimum(as_int64(shape.attention_hidden), 2))
    return GraphWidths(
        attention=2 * (where(latent > 0, folded, plain + written) + beside),
        flash_attention=2 * (where(latent > 0, folded, plain) + beside),
        feed_forward=2 * (alive + 2 * hidden + joined + beside),
        logits=2 * (vocabulary + streams * hidden),
        host_logits=2 * (vocabulary + as_int64(shape.host_streams) * hidden),
        heads=as_int64(shape.heads),
        attends=minimum(as_int64(shape.heads), 1),
        beside=2 * beside,
        windowed=as_int64(shape.windowed),
        latent=latent > 0,
        has_output=as_bool(shape.has_output),
    )
