"""What the loads of a block of LLM scenarios do not change: runtime, models, machines, ranks, and what follows from them.

What is one value for the whole block (the runtime and its options) is in `RuntimePolicy`; everything else is a column.
A ground is laid once and serves any number of loads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import derived, frozen
from willitrun.kernels.columns import Columns
from willitrun.kernels.compute_buffers import BufferShape
from willitrun.kernels.elementwise import as_float, maximum, numbers_of, where
from willitrun.kernels.kv_cells import CellBytes, bytes_of_cells
from willitrun.kernels.kv_layouts import KvLayout, bytes_per_element, quantizes
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmRates, LlmWork
from willitrun.kernels.llm_levels import LevelTables, look_up
from willitrun.kernels.llm_peaks import format_codes, product_codes, select_compute_peak
from willitrun.kernels.llm_runtime import CacheKinds, Parallelism, RuntimePolicy
from willitrun.kernels.splits import by_device

__all__ = ["LlmGround", "lay_ground", "level_codes", "work_of"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@frozen(eq=False)
class LlmGround:
    """What a block's loads do not change: the runtime, models, machines and ranks as columns, and what follows from them."""

    policy: RuntimePolicy
    models: Columns
    machines: Columns
    kinds: CacheKinds
    kv_layout: KvLayout
    buffer_shape: BufferShape
    work: LlmWork
    rates: LlmRates
    coefficients: LlmCoefficients
    parallelism: Parallelism

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
            parallelism=numbers_of(self.parallelism),
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


def level_codes(policy: RuntimePolicy, models: Columns, machines: Columns) -> dict[str, IntArray]:
    """Level codes of a block by axis, shape (n,) or (1,): which offsets of the calibration its rows have."""
    codes = {
        **policy.codes,
        "vendor": machines["vendor"],
        "memory_class": machines["memory_class"],
        "generation": machines["generation"],
        "format": models["format"],
        "kind": (models["experts"] > 0).astype(np.int64),
    }
    codes["format"] = format_codes(codes)
    return codes | {"product": product_codes(codes)}


def lay_ground(
    policy: RuntimePolicy,
    models: Columns,
    machines: Columns,
    parallelism: Parallelism,
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
    parallelism
        Ranks of each row, of such shapes too.
    tables
        The LLM speed calibration, laid out.
    kinds
        Cache types by row; those of the policy where None.
    """
    kinds = kinds or CacheKinds.of([policy])
    codes = level_codes(policy, models, machines)
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
            generation=codes["generation"],
            product=codes["product"],
        ),
        attention_flop_per_s=half,
        issue_per_s=machines["issue_per_s"],
        compute_w=machines["compute_w"],
        link_bytes_per_s=machines["link_bytes_per_s"],
        link_latency_s=machines["hop_s"],
        link_peer_s=machines["peer_s"],
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
        work_of(models, *_cell_sizes(policy, kinds), selects=policy.serves),
        rates,
        look_up(tables, codes),
        parallelism,
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


def work_of(
    models: Columns, k_size: float | FloatArray, v_size: float | FloatArray, *, selects: bool = False
) -> LlmWork:
    """What a step of each model costs, from its columns.

    Parameters
    ----------
    models
        Columns of `ModelRow`.
    k_size, v_size
        Bytes per element of keys and of values in the cache.
    selects
        Whether the runtime has kernels that read chosen tokens alone; others score them and attend to all.
    """
    selected = models["selected_tokens"] if selects else 0 * models["selected_tokens"]
    narrow = selected > 0
    return LlmWork(
        dense_bytes=models["dense_bytes"].astype(np.float64),
        lm_head_bytes=models["lm_head_bytes"].astype(np.float64),
        expert_bytes=models["experts"].astype(np.float64),
        n_experts=models["n_experts"].astype(np.float64),
        n_experts_used=models["n_experts_used"].astype(np.float64),
        n_layers=models["n_blocks"] / 2.0,
        n_moe_layers=models["n_routed_blocks"].astype(np.float64),
        dense_params=models["dense_params"].astype(np.float64),
        lm_head_params=models["lm_head_params"].astype(np.float64),
        expert_params=models["expert_params"].astype(np.float64),
        attention_width=as_float(
            models["attention_width"] + models["index_width"] - narrow * models["selected_width"]
        ),
        prefill_attention_width=as_float(
            models["prefill_attention_width"]
            + models["index_width"]
            - narrow * models["prefill_selected_width"]
        ),
        windowed_width=models["windowed_width"].astype(np.float64),
        window_tokens=where(models["window_tokens"] > 0, models["window_tokens"], 2**40).astype(np.float64),
        n_launched=(models["n_blocks"] + models["n_extra_blocks"]) / 2.0,
        selected_width=as_float(narrow * models["selected_width"]),
        prefill_selected_width=as_float(narrow * models["prefill_selected_width"]),
        selected_tokens=as_float(where(narrow, selected, 2**40)),
        selected_kv_bytes_per_token=narrow * (models["selected_k"] * k_size + models["selected_v"] * v_size),
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
        size = kinds.element_bytes / kinds.block_elements
        return size, size
    return bytes_per_element(kinds.k), bytes_per_element(kinds.v)
