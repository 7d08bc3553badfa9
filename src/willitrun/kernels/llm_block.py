"""One block of LLM scenarios: cache, placement, speed and intervals in one pass of array calls.

The scalar door runs it on one row, remedies on a dozen, a sweep on blocks of thousands. What the loads do not change
(work, rates, coefficients, ranks) is the block's ground.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import derived, frozen
from willitrun.kernels.columns import Columns
from willitrun.kernels.elementwise import as_float, maximum, minimum, where
from willitrun.kernels.kv_cells import bytes_in_cells, cell_counts, windowed_in_cells
from willitrun.kernels.kv_layouts import recurrent_state
from willitrun.kernels.kv_pages import dynamic_cache, paged_cache
from willitrun.kernels.llm_ground import LlmGround
from willitrun.kernels.llm_inputs import LlmLoad
from willitrun.kernels.llm_speed import LlmSpeed, predict
from willitrun.kernels.overheads import vllm_weight_extras
from willitrun.kernels.placement import Demand, Layout, Room, can_offload, place
from willitrun.kernels.reason_codes import dominance_codes, fit_codes
from willitrun.kernels.splits import sum_devices
from willitrun.kernels.weights import as_int64

__all__ = ["Buffers", "Cache", "LlmBlock", "assess_block", "cache_bytes"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.int8]


@frozen(eq=False)
class Buffers:
    """Activations (compute buffers) and runtime overhead, int64 of shape (n, devices) or (n, 1) [bytes].

    ``host`` is what the runtime adds on the host, shape (n,).
    """

    activation: IntArray
    activation_low: IntArray
    activation_high: IntArray
    overhead: IntArray
    overhead_low: IntArray
    overhead_high: IntArray
    host: IntArray


@frozen(eq=False)
class LlmBlock:
    """Results of a block: memory and placement; speed and reason codes when somebody looks."""

    ground: LlmGround
    loads: Columns
    available: IntArray
    kv_cache: IntArray
    state: IntArray
    buffers: Buffers
    layout: Layout

    @derived
    def fit(self) -> CodeArray:
        """Index into `FIT_REASONS` per row."""
        ground = self.ground
        return fit_codes(
            self.layout,
            can_offload=can_offload(ground.policy.offload, ground.models["n_moe_layers"]),
            unified=ground.machines["unified"],
        )

    @derived
    def dominance(self) -> CodeArray:
        """Index into `DOMINANCE_REASONS` per row."""
        return dominance_codes(self.layout)

    @derived
    def load(self) -> LlmLoad:
        """What the speed kernel is asked."""
        policy, layout = self.ground.policy, self.layout
        pool = _UNBOUNDED
        if policy.cache == "pages":
            taken = layout.weights + layout.activation + layout.overhead
            pool = as_float(sum_devices(maximum(self.available - taken, 0)))
        return _load(self.ground, self.loads, layout, pool)

    @derived
    def speed(self) -> LlmSpeed:
        """The speed of every row."""
        ground = self.ground
        return predict(ground.work, ground.rates, self.load, ground.coefficients)


class Cache(NamedTuple):
    """Cache and state of a block before tensor parallelism [bytes], and the sequences and cells that they are of."""

    kv: IntArray
    state: IntArray
    sequences: IntArray
    cells: IntArray
    """Of the longest stream of llama.cpp; the context elsewhere [tokens]."""
    window_cells: IntArray
    windowed: IntArray | None = None
    """What of the cache of llama.cpp is of layers that see a window."""


def cache_bytes(ground: LlmGround, loads: Columns) -> Cache:
    """KV cache and recurrent state of all sequences."""
    policy, layout = ground.policy, ground.kv_layout
    sequences = maximum(loads["concurrency"], policy.slots)
    context = cells = narrow = loads["context_tokens"]
    state_bytes: ArrayLike = ground.kinds.state_bytes
    windowed: IntArray | None = None
    if policy.cache == "cells":
        counts = cell_counts(
            context * sequences,
            layout.window_tokens,
            sequences=sequences,
            unified=policy.unified,
            swa_full=policy.swa_full,
            n_ubatch=policy.n_ubatch,
            policy=policy.cells,
        )
        cells, narrow, _ = counts
        cache = bytes_in_cells(counts, sequences, ground.cell_bytes)
        windowed = windowed_in_cells(counts, ground.cell_bytes)
        state_bytes = 4
    elif policy.cache == "pages":
        # One whole context must fit; the other sequences hold what they use.
        used = minimum(context, loads["cached_tokens"] + loads["prompt_tokens"] + loads["output_tokens"])
        paged: dict[str, ArrayLike] = {
            "element_bytes": ground.kinds.element_bytes,
            "block_elements": ground.kinds.block_elements,
            "block_tokens": policy.block_tokens,
            "chunk_tokens": policy.microbatch_tokens,
        }
        cache = paged_cache(layout, context, **paged) + paged_cache(
            layout, used, sequences=maximum(sequences - 1, 0), **paged
        )
    elif policy.cache == "dynamic":
        cache = dynamic_cache(
            layout,
            context,
            # Texts that are read together keep theirs until all are read.
            sequences=maximum(sequences, loads["texts"]),
            element_bytes=ground.kinds.element_bytes,
            block_elements=ground.kinds.block_elements,
            static=policy.static_cache,
        )
    else:
        cache = 0 * context
    state = recurrent_state(layout, sequences=sequences, element_bytes=state_bytes)
    return Cache(as_int64(cache), state, sequences, cells, narrow, windowed)


def assess_block(
    ground: LlmGround,
    loads: Columns,
    available: IntArray,
    cache: Cache,
    buffers: Buffers,
) -> LlmBlock:
    """Memory, placement and tier of a block of scenarios, and its speed when it is looked at.

    Parameters
    ----------
    ground
        Runtime, models, machines and ranks: see `willitrun.kernels.llm_ground.lay_ground`.
    loads
        Columns of `WorkloadRow` of the estimators. All columns have length n, or are sides of one grid: models and
        machines (n, 1), loads (1, m), and (1, 1) where a side has one value.
    available
        Room by device, int64 of shape (n, devices), on a grid (n, 1, devices) [bytes].
    cache
        KV cache and recurrent state from `cache_bytes`.
    buffers
        Columns.
    """
    models, machines, parallelism = ground.models, ground.machines, ground.parallelism
    unified = machines["unified"]
    output = ground.output
    if ground.policy.serves:
        output = output + vllm_weight_extras(
            models["experts"],
            models["hidden_size"],
            models["filled_width"],
            models["rope_bytes"],
            tensor=parallelism.tensor,
        )
    demand = Demand(
        repeating=models["repeating"],
        experts=models["experts"],
        output=output,
        embedding=ground.embedding,
        n_layers=models["n_layers"],
        n_moe_layers=models["n_moe_layers"],
        kv_cache=cache.kv,
        state=cache.state,
        activation=buffers.activation,
        activation_low=buffers.activation_low,
        activation_high=buffers.activation_high,
        overhead=buffers.overhead,
        overhead_low=buffers.overhead_low,
        overhead_high=buffers.overhead_high,
        weights_low=models["weights_low"],
        weights_high=models["weights_high"],
        host_buffer=where(unified, 0, buffers.host),
        kv_heads=models["kv_heads"],
        kv_windowed=cache.windowed,
        layer_numbers=models["layer_number"],
    )
    room = Room(
        available=available,
        host_available=machines["host_available"],
        strategy=parallelism.strategy,
        offload=ground.offload,
        unified=unified,
        gpu_layers=parallelism.gpu_layers,
        cpu_moe_layers=parallelism.cpu_moe_layers,
        shares=ground.policy.shares,
        output_last=ground.policy.output_last,
        counts_output=ground.policy.cache == "cells",
    )
    return LlmBlock(
        ground=ground,
        loads=loads,
        available=available,
        kv_cache=cache.kv,
        state=cache.state,
        buffers=buffers,
        layout=place(demand, room),
    )


_UNBOUNDED: FloatArray = np.float64(np.inf)  # type: ignore[assignment]


def _load(ground: LlmGround, loads: Columns, layout: Layout, pool: FloatArray) -> LlmLoad:
    prompt = as_float(loads["prompt_tokens"])
    output = as_float(loads["output_tokens"])
    cached = as_float(loads["cached_tokens"])
    return LlmLoad(
        concurrency=as_float(loads["concurrency"]),
        prompt_tokens=prompt,
        cached_tokens=cached,
        output_tokens=output,
        context_tokens=cached + prompt + 0.5 * output,
        prefill_sequences=as_float(loads["texts"]),
        held_steps=0.0 * cached,
        draft_tokens=as_float(loads["draft_tokens"]),
        acceptance=loads["acceptance"],
        host_dense_fraction=layout.host_dense_fraction,
        host_expert_fraction=layout.host_expert_fraction,
        kv_pool_bytes=pool,
        **ground.limits,
        **ground.parallelism.ranks,
    )
