"""What a server with a memory budget leaves for the KV cache, as its start-up log prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from willitrun.estimators.overheads import CALIBRATION, GRAPHS_IN_BUDGET, server_version
from willitrun.kernels.columns import at
from willitrun.kernels.kv_layouts import KvLayout
from willitrun.kernels.kv_pages import paged_bytes_per_token
from willitrun.kernels.overheads import vllm_kv_pool, vllm_kv_tokens
from willitrun.records.results import Reason
from willitrun.units import format_bytes

if TYPE_CHECKING:
    from willitrun.estimators.llm_evaluation import EvaluatedLlm

__all__ = ["pool_notes"]


def pool_notes(found: EvaluatedLlm) -> tuple[Reason, ...]:
    """KV pool of the scarcest device and the tokens that it holds; nothing for runtimes without a budget."""
    request, prepared = found.request, found.prepared
    share = request.runtime.gpu_memory_utilization or request.profile.default_gpu_memory_utilization
    machine = request.machine
    if prepared.policy.cache != "pages" or share is None or machine is None or prepared.machine.row.on_host:
        return ()
    installed = {device.accelerator.id: device for device in machine.accelerators}
    used = [installed[name] for name in prepared.machine.device_ids]
    totals = np.array(
        [device.memory_total_bytes or device.accelerator.memory or 0 for device in used], dtype=np.int64
    )
    calibration = request.catalog.calibrations[CALIBRATION]
    tensor, pipeline, _, _ = prepared.parallelism
    graphs = 0.0
    if server_version(request) >= GRAPHS_IN_BUDGET and not request.runtime.enforce_eager:
        graphs = calibration.intervals["graphs.vllm"]["best"]
    layout, place = found.block.layout, found.place
    pool = vllm_kv_pool(
        totals,
        utilization=share,
        weights_bytes=at(layout.weights, place),
        activation_bytes=at(layout.activation, place),
        non_torch_bytes=int(
            calibration.coefficients["vllm.non_torch_tp_bytes" if tensor > 1 else "vllm.non_torch_bytes"]
        ),
        graph_bytes=int(graphs),
    ).min()
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
