"""What a server with a memory budget leaves for the KV cache, as its start-up log prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from willitrun.estimators.overheads import CALIBRATION, GRAPHS_IN_BUDGET, server_version
from willitrun.estimators.server_budgets import memory_share
from willitrun.kernels.columns import at
from willitrun.kernels.kv_layouts import KvLayout
from willitrun.kernels.kv_pages import paged_bytes_per_token
from willitrun.kernels.overheads import vllm_kv_pool, vllm_kv_tokens
from willitrun.kernels.server_defaults import pool_of_share, share_for_pool
from willitrun.records.results import Reason
from willitrun.units import format_bytes

if TYPE_CHECKING:
    from willitrun.estimators.llm_evaluation import EvaluatedLlm

__all__ = ["pool_notes", "share_of_memory"]


def share_of_memory(found: EvaluatedLlm) -> float | None:
    """The share that a server is told so that it holds what was asked: as told, its own, or more where its own would not do.

    None for runtimes without such an option.
    """
    pool = _pool(found)
    return None if pool is None else pool[0]


def _pool(found: EvaluatedLlm) -> tuple[float, int] | None:
    """Share and KV pool of the scarcest device; None for runtimes without a budget."""
    request, prepared, layout, place = found.request, found.prepared, found.block.layout, found.place
    machine, of = request.machine, request.profile.memory_share_of
    if prepared.policy.cache != "pages" or of is None or machine is None or prepared.machine.row.on_host:
        return None
    installed = {device.accelerator.id: device for device in machine.accelerators}
    used = [installed[name] for name in prepared.machine.device_ids]
    totals = np.array(
        [device.memory_total_bytes or device.accelerator.memory or 0 for device in used], dtype=np.int64
    )
    tensor, pipeline, _, _ = prepared.parallelism
    share = memory_share(request, int(totals.min()), tensor=tensor, pipeline=pipeline)
    if share is None:
        return None
    calibration = request.catalog.calibrations[CALIBRATION]
    graphs = 0 if request.runtime.enforce_eager else int(calibration.intervals["graphs.vllm"]["best"])
    weights, activation = at(layout.weights, place), at(layout.activation, place)
    if of == "card":
        pool = vllm_kv_pool(
            totals,
            utilization=share,
            weights_bytes=weights,
            activation_bytes=activation,
            non_torch_bytes=int(
                calibration.coefficients["vllm.non_torch_tp_bytes" if tensor > 1 else "vllm.non_torch_bytes"]
            ),
            graph_bytes=graphs if server_version(request) >= GRAPHS_IN_BUDGET else 0,
        )
        return share, int(pool.min())
    free = np.array(prepared.machine.free, dtype=np.int64)
    overhead = at(layout.overhead, place)
    # SGLang counts what is free before it loads; TensorRT-LLM what weights and a trial run leave.
    beside = overhead - graphs if of == "free" else overhead + weights + activation
    within = weights if of == "free" else 0
    if request.runtime.gpu_memory_utilization is None:
        kv = at(layout.kv_cache, place)
        needed = share_for_pool(free, pool_bytes=kv, beside_bytes=beside, within_bytes=within)
        share = max(share, float(needed.max()))
    pool = pool_of_share(free, share=share, beside_bytes=beside, within_bytes=within)
    return share, int(pool.min())


def pool_notes(found: EvaluatedLlm) -> tuple[Reason, ...]:
    """KV pool of the scarcest device and the tokens that it holds; nothing for runtimes without a budget."""
    request, prepared = found.request, found.prepared
    budget = _pool(found)
    if budget is None:
        return ()
    share, pool = budget
    tensor, pipeline, _, _ = prepared.parallelism
    row = prepared.model
    cells = KvLayout(
        full_k=row.full_k,
        full_v=row.full_v,
        windowed_k=row.windowed_k,
        windowed_v=row.windowed_v,
        window_tokens=row.window_tokens,
        index_k=row.index_k,
        kv_heads=row.kv_heads,
        n_kv_layers=row.n_kv_layers,
        latent=row.latent,
        latent_v=row.latent_v,
        hybrid_padding=row.hybrid_padding,
    )
    each = paged_bytes_per_token(
        cells,
        tensor=tensor,
        pipeline=pipeline,
        element_bytes=prepared.policy.element_bytes,
        block_elements=prepared.policy.block_elements,
    )
    if not each.item():
        return ()
    tokens = vllm_kv_tokens(pool, each, block_tokens=prepared.policy.block_tokens).item()
    context = prepared.load.context_tokens
    return (
        Reason.model_construct(
            code="kv-pool",
            message=f"{request.profile.name} at a utilization of {share:g} leaves {format_bytes(int(pool))} for the KV "
            f"cache: {tokens:,} tokens, {tokens // context} sequences of the whole context.",
            numbers={
                "kv_pool_bytes": int(pool),
                "kv_pool_tokens": tokens,
                "kv_bytes_per_token": each.item(),
                "sequences": tokens // context,
            },
        ),
    )
