"""One block of LLM scenarios: cache, placement, speed and intervals in one pass of array calls.

The scalar door runs it on one row, remedies on a dozen, a sweep on blocks of thousands. What is one value for
the whole block (the runtime and its options) is in `RuntimePolicy`; everything else is a column. What the loads
do not change (work, rates, coefficients) is the block's ground: it is laid once and serves any number of loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import derived, frozen
from willitrun.kernels.columns import Columns
from willitrun.kernels.compute_buffers import BufferShape
from willitrun.kernels.elementwise import as_float, maximum, minimum, numbers_of, where
from willitrun.kernels.kv_cache import (
    CellBytes,
    CellKind,
    CellsPolicy,
    KvLayout,
    bytes_of_cells,
    bytes_per_element,
    cell_kinds,
    cells_cache,
    dynamic_cache,
    paged_cache,
    quantizes,
    recurrent_state,
)
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_levels import LevelTables, look_up
from willitrun.kernels.llm_peaks import select_compute_peak
from willitrun.kernels.llm_speed import LlmSpeed, predict
from willitrun.kernels.placement import Demand, Layout, Room, place
from willitrun.kernels.reason_codes import dominance_codes, fit_codes
from willitrun.kernels.splits import LAYER_SPLIT, TENSOR_SPLIT, by_device, sum_devices
from willitrun.kernels.weights import as_int64

__all__ = [
    "Buffers",
    "CacheKinds",
    "LlmBlock",
    "LlmGround",
    "Parallelism",
    "RuntimePolicy",
    "assess_block",
    "cache_bytes",
    "lay_ground",
    "work_of",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.int8]


@frozen
class RuntimePolicy:
    """How the block's runtime spends memory and time; one value for all rows.

    ``cache`` is ``cells`` (llama.cpp), ``pages`` (vLLM), ``dynamic`` (transformers) or ``none``.
    ``element_bytes`` is that of the paged or dynamic cache; ``kind_k`` and ``kind_v`` are cell types.
    ``output_last`` and ``shares`` are those of `Room`. ``codes`` are level codes of runtime, backend, era and attention, shape (1,).
    """

    cache: str
    kind_k: str
    kind_v: str
    element_bytes: int
    n_ubatch: int
    microbatch_tokens: int
    block_tokens: int
    unified: bool
    swa_full: bool
    cells: CellsPolicy
    offload: int
    max_sequences: float
    interference: bool
    static_cache: bool
    slots: int
    output_last: bool
    shares: tuple[float, ...] | None
    codes: dict[str, IntArray]


@frozen(eq=False)
class Parallelism:
    """Ranks, stages, data groups and expert shards as int64 columns, and the split of memory."""

    tensor: IntArray
    pipeline: IntArray
    data: IntArray
    expert_shards: IntArray
    gpu_layers: IntArray
    cpu_moe_layers: IntArray

    @derived
    def strategy(self) -> IntArray:
        """Which split of memory each row has: `LAYER_SPLIT` or `TENSOR_SPLIT`."""
        return where(self.tensor > 1, TENSOR_SPLIT, LAYER_SPLIT)

    @derived
    def ranks(self) -> dict[str, FloatArray]:
        """The counts as the speed kernel reads them."""
        return {
            name: as_float(getattr(self, name)) for name in ("tensor", "pipeline", "data", "expert_shards")
        }


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
class CacheKinds:
    """Types of keys and values: one for the block, or a column each where rows differ in them and in nothing else.

    ``element_bytes`` is that of paged and dynamic caches.
    """

    k: CellKind
    v: CellKind
    element_bytes: IntArray

    @classmethod
    def of(cls, policies: Sequence[RuntimePolicy]) -> CacheKinds:
        """The kinds of one policy, or of one per row."""
        sizes = [policy.element_bytes for policy in policies]
        return cls(
            cell_kinds([policy.kind_k for policy in policies]),
            cell_kinds([policy.kind_v for policy in policies]),
            np.array(sizes[:1] if len(set(sizes)) == 1 else sizes, dtype=np.int64),
        )


@frozen(eq=False)
class LlmGround:
    """What a block's loads do not change: the runtime, models and machines as columns, and what follows from them."""

    policy: RuntimePolicy
    models: Columns
    machines: Columns
    kinds: CacheKinds
    kv_layout: KvLayout
    buffer_shape: BufferShape
    work: LlmWork
    rates: LlmRates
    coefficients: LlmCoefficients
    codes: dict[str, IntArray]
    """Level codes by axis, shape (n,) or (1,)."""

    def of_one_row(self) -> LlmGround:
        """The ground of one row on one device, as numbers instead of columns."""
        return replace(
            self,
            models=self.models.numbers(),
            machines=self.machines.numbers(),
            kinds=numbers_of(self.kinds),
            kv_layout=numbers_of(self.kv_layout),
            buffer_shape=numbers_of(self.buffer_shape),
            work=numbers_of(self.work),
            rates=numbers_of(self.rates),
            coefficients=numbers_of(self.coefficients),
        )

    @derived
    def cell_bytes(self) -> CellBytes:
        """Bytes per cell of llama.cpp's cache."""
        return bytes_of_cells(self.kv_layout, self.kinds.k, self.kinds.v, self.policy.cells)

    @derived
    def output(self) -> IntArray:
        """Weights beside the layers on the devices [bytes]."""
        total: IntArray = self.models["output"] + self.models["vision_bytes"]
        return total

    @derived
    def embedding(self) -> IntArray:
        """Embeddings that stay on the host [bytes]; where memory is one, a tied matrix is one tensor: no copy
        serves as output. Position tables and embeddings per layer are tied to nothing."""
        copied = where(self.machines["unified"] & self.models["tied"], self.models["lm_head_bytes"], 0)
        return maximum(self.models["embedding"] - copied, 0)

    @derived
    def offload(self) -> IntArray:
        """What the runtime can move to the host; nothing is moved where memory is one."""
        return where(self.machines["unified"], 0, self.policy.offload)

    @derived
    def limits(self) -> dict[str, FloatArray]:
        """Limits of the runtime as the speed kernel reads them: numbers, which hold for every row."""
        policy = self.policy
        return {
            "microbatch_tokens": as_float(policy.microbatch_tokens),
            "interference": as_float(policy.interference),
            "max_sequences": as_float(policy.max_sequences),
        }


@frozen(eq=False)
class LlmBlock:
    """Results of a block: memory and placement; speed and reason codes when somebody looks."""

    ground: LlmGround
    loads: Columns
    parallelism: Parallelism
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
            self.layout, can_offload=ground.policy.offload > 0, unified=ground.machines["unified"]
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
        return _load(self.ground, self.loads, self.parallelism, layout, pool)

    @derived
    def speed(self) -> LlmSpeed:
        """The speed of every row."""
        ground = self.ground
        return predict(ground.work, ground.rates, self.load, ground.coefficients)


def lay_ground(
    policy: RuntimePolicy,
    models: Columns,
    machines: Columns,
    tables: LevelTables,
    *,
    kinds: CacheKinds | None = None,
) -> LlmGround:
    """What a block's loads do not change.

    Parameters
    ----------
    policy
        The runtime.
    models, machines
        Columns of `ModelRow` and `MachineRow` of the estimators, of shapes that broadcast against each other.
    tables
        The LLM speed calibration, laid out.
    kinds
        Cache types by row; those of the policy where None.
    """
    kinds = kinds or CacheKinds.of([policy])
    codes = {
        **policy.codes,
        "vendor": machines["vendor"],
        "memory_class": machines["memory_class"],
        "generation": machines["generation"],
        "format": models["format"],
        "kind": (models["experts"] > 0).astype(np.int64),
    }
    half = where(np.isnan(machines["fp16"]), machines["fp32"], machines["fp16"])
    rates = LlmRates(
        memory_bytes_per_s=machines["memory_bytes_per_s"],
        compute_flop_per_s=select_compute_peak(
            int8_ops_per_s=machines["int8"],
            fp8_flop_per_s=machines["fp8"],
            fp4_flop_per_s=machines["fp4"],
            fp16_flop_per_s=machines["fp16"],
            fp16_accumulate_fp16_flop_per_s=machines["fp16_fast"],
            fp32_flop_per_s=machines["fp32"],
            runtime=codes["runtime"],
            backend=codes["backend"],
            format=codes["format"],
        ),
        attention_flop_per_s=half,
        issue_per_s=machines["issue_per_s"],
        link_bytes_per_s=machines["link_bytes_per_s"],
        link_latency_s=machines["hop_s"],
        host_bytes_per_s=machines["host_bytes_per_s"],
        host_flop_per_s=machines["host_flop_per_s"],
        pcie_bytes_per_s=machines["pcie_bytes_per_s"],
    )
    return LlmGround(
        policy,
        models,
        machines,
        kinds,
        _kv_layout(models),
        _buffer_shape(models, kinds),
        work_of(models, *_cell_sizes(policy, kinds)),
        rates,
        look_up(tables, codes),
        codes,
    )


def _buffer_shape(models: Columns, kinds: CacheKinds) -> BufferShape:
    """Widths with a last axis for devices; each model has a graph for every way of quantizing its cache."""
    variant = quantizes(kinds.k) + 2 * quantizes(kinds.v)
    return BufferShape(
        vocabulary=by_device(models["vocab_size"]),
        hidden=by_device(models["hidden_size"]),
        heads=by_device(models["heads"]),
        head_total=by_device(models["head_total"]),
        feed_forward=by_device(models["graph_feed_forward"]),
        has_output=by_device(models["has_output"]),
        key_value=by_device(models["graph_key_value"]),
        gated=by_device(models["graph_gated"]),
        expert_output=by_device(models["graph_expert_output"]),
        latent=by_device(models["graph_latent"]),
        streams=by_device(models["graph_streams"]),
        host_streams=by_device(models["graph_host_streams"]),
        attention_hidden=by_device(models["graph_attention_hidden"]),
        attention_total=by_device(models["graph_attention_total"]),
        block_total=by_device(models["graph_block_total"]),
        beside=by_device(models["graph_beside"]),
        windowed=by_device(models["graph_windowed"]),
        graph=by_device(models["graph_number"] + variant),
    )


def _kv_layout(models: Columns) -> KvLayout:
    return KvLayout(
        full_k=models["full_k"],
        full_v=models["full_v"],
        windowed_k=models["windowed_k"],
        windowed_v=models["windowed_v"],
        window_tokens=models["window_tokens"],
        conv_state=models["conv_state"],
        recurrent_state=models["recurrent_state"],
        cross_k=models["cross_k"],
        cross_v=models["cross_v"],
        cross_positions=models["cross_positions"],
        index_k=models["index_k"],
        kv_heads=models["kv_heads"],
        n_kv_layers=models["n_kv_layers"],
        latent=models["latent"],
        latent_v=models["latent_v"],
        expanded_k=models["expanded_k"],
        expanded_v=models["expanded_v"],
        transposed_v=models["transposed_v"],
        transposed_windowed_v=models["transposed_windowed_v"],
        hybrid_padding=models["hybrid_padding"],
    )


def cache_bytes(ground: LlmGround, loads: Columns) -> tuple[IntArray, IntArray]:
    """KV cache and recurrent state of all sequences, before tensor parallelism [bytes]."""
    policy, layout = ground.policy, ground.kv_layout
    sequences = maximum(loads["concurrency"], policy.slots)
    context = loads["context_tokens"]
    if policy.cache == "cells":
        cache = cells_cache(
            layout,
            context * sequences,
            sequences=sequences,
            unified=policy.unified,
            swa_full=policy.swa_full,
            n_ubatch=policy.n_ubatch,
            policy=policy.cells,
            cell_bytes=ground.cell_bytes,
        )
    elif policy.cache == "pages":
        # One whole context must fit; the other sequences hold what they use.
        used = minimum(context, loads["cached_tokens"] + loads["prompt_tokens"] + loads["output_tokens"])
        paged: dict[str, ArrayLike] = {
            "element_bytes": ground.kinds.element_bytes,
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
            sequences=sequences,
            element_bytes=ground.kinds.element_bytes,
            static=policy.static_cache,
        )
    else:
        cache = 0 * context
    state_bytes = 4 if policy.cache == "cells" else ground.kinds.element_bytes
    state = recurrent_state(layout, sequences=sequences, element_bytes=state_bytes)
    return as_int64(cache), state


def assess_block(
    ground: LlmGround,
    loads: Columns,
    available: IntArray,
    parallelism: Parallelism,
    cache: tuple[IntArray, IntArray],
    buffers: Buffers,
) -> LlmBlock:
    """Memory, placement and tier of a block of scenarios, and its speed when it is looked at.

    Parameters
    ----------
    ground
        Runtime, models and machines: see `lay_ground`.
    loads
        Columns of `WorkloadRow` of the estimators. All columns have length n, or are sides of one grid: models and
        machines (n, 1), loads (1, m), and (1, 1) where a side has one value.
    available
        Room by device, int64 of shape (n, devices), on a grid (n, 1, devices) [bytes].
    parallelism, buffers
        Columns.
    cache
        KV cache and recurrent state from `cache_bytes` [bytes].
    """
    models, machines = ground.models, ground.machines
    kv, state = cache
    unified = machines["unified"]
    demand = Demand(
        repeating=models["repeating"],
        experts=models["experts"],
        output=ground.output,
        embedding=ground.embedding,
        n_layers=models["n_layers"],
        n_moe_layers=models["n_moe_layers"],
        kv_cache=kv,
        state=state,
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
    )
    return LlmBlock(
        ground=ground,
        loads=loads,
        parallelism=parallelism,
        available=available,
        kv_cache=kv,
        state=state,
        buffers=buffers,
        layout=place(demand, room),
    )


_UNBOUNDED: FloatArray = np.float64(np.inf)  # type: ignore[assignment]


def _load(
    ground: LlmGround, loads: Columns, parallelism: Parallelism, layout: Layout, pool: FloatArray
) -> LlmLoad:
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
        draft_tokens=as_float(loads["draft_tokens"]),
        acceptance=loads["acceptance"],
        host_dense_fraction=layout.host_dense_fraction,
        host_expert_fraction=layout.host_expert_fraction,
        kv_pool_bytes=pool,
        **ground.limits,
        **parallelism.ranks,
    )


def work_of(models: Columns, k_size: float | FloatArray, v_size: float | FloatArray) -> LlmWork:
    """What a step of each model costs, from its columns.

    Parameters
    ----------
    models
        Columns of `ModelRow`.
    k_size, v_size
        Bytes per element of keys and of values in the cache.
    """
    return LlmWork(
        dense_bytes=models["dense_bytes"].astype(np.float64),
        lm_head_bytes=models["lm_head_bytes"].astype(np.float64),
        expert_bytes=models["experts"].astype(np.float64),
        n_experts=models["n_experts"].astype(np.float64),
        n_experts_used=models["n_experts_used"].astype(np.float64),
        n_layers=models["n_layers"].astype(np.float64),
        n_moe_layers=models["n_moe_layers"].astype(np.float64),
        dense_params=models["dense_params"].astype(np.float64),
        lm_head_params=models["lm_head_params"].astype(np.float64),
        expert_params=models["expert_params"].astype(np.float64),
        attention_width=models["attention_width"].astype(np.float64),
        prefill_attention_width=models["prefill_attention_width"].astype(np.float64),
        windowed_width=models["windowed_width"].astype(np.float64),
        window_tokens=where(models["window_tokens"] > 0, models["window_tokens"], 2**40).astype(np.float64),
        kv_bytes_per_token=models["full_k"] * k_size + models["full_v"] * v_size + models["index_k"] * k_size,
        windowed_kv_bytes_per_token=models["windowed_k"] * k_size + models["windowed_v"] * v_size,
        # Read and written each step.
        state_bytes=2.0 * 4.0 * (models["conv_state"] + models["recurrent_state"]),
        kv_heads=models["kv_heads"].astype(np.float64),
        hidden_size=models["hidden_size"].astype(np.float64),
    )


def _cell_sizes(policy: RuntimePolicy, kinds: CacheKinds) -> tuple[float | FloatArray, float | FloatArray]:
    """Bytes per element of keys and of values in the block's cache."""
    if policy.cache != "cells":
        size = kinds.element_bytes.astype(np.float64)
        return size, size
    return bytes_per_element(kinds.k), bytes_per_element(kinds.v)
