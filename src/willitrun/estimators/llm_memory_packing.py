"""Memory of a row of an evaluated block as a record: numbers at once, devices and terms when somebody looks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from willitrun.estimators.overheads import borrowed_from
from willitrun.estimators.paged_pools import pool_notes
from willitrun.intervals import Interval
from willitrun.kernels.columns import at, devices_at
from willitrun.records.results import DeviceMemory, MemoryEstimate, Term

if TYPE_CHECKING:
    from willitrun.estimators.llm_evaluation import EvaluatedLlm

__all__ = ["pack_memory"]

EXACT = Interval.exact(0)


def pack_memory(found: EvaluatedLlm) -> MemoryEstimate:
    """The memory estimate of one row, exact parts with zero width."""
    layout, place, row = found.block.layout, found.place, found.prepared.model
    total = found.total()
    host = float(at(layout.host, place))
    known = total.high == total.best
    return MemoryEstimate.model_defer(
        {
            "per_device": partial(_devices, found),
            "terms": partial(_terms, found),
            "notes": partial(pool_notes, found),
        },
        weights_bytes=row.size_spread.scale(float(sum(devices_at(layout.weights, place)))),
        kv_cache_bytes=Interval.exact(float(sum(devices_at(layout.kv_cache, place)))),
        state_bytes=Interval.exact(float(sum(devices_at(layout.state, place)))),
        activation_bytes=_part(found, "activation", known=known),
        gradient_bytes=EXACT,
        optimizer_bytes=EXACT,
        overhead_bytes=_part(found, "overhead", known=known),
        total_bytes=total,
        host_bytes=Interval(host, host, float(at(layout.host_high, place))),
        disk_bytes=row.disk_bytes,
    )


def _part(found: EvaluatedLlm, name: str, *, known: bool) -> Interval:
    """Activations or overhead of all devices; of a total without spread they have none either."""
    buffers, place = found.block.buffers, found.place
    if known:
        best = float(sum(devices_at(getattr(found.block.layout, name), place)))
        return Interval(best, best, best, 0.9 if name == "activation" else 1.0)
    devices = len(found.prepared.machine.names)
    low, best, high = (
        float(_over_devices(devices_at(getattr(buffers, f"{name}{suffix}"), place), devices))
        for suffix in ("_low", "", "_high")
    )
    return Interval(min(low, best), best, max(high, best))


def _over_devices(amounts: list[int], devices: int) -> int:
    """Sum over devices; one amount stands for each of them."""
    return amounts[0] * devices if len(amounts) == 1 else sum(amounts)


def _devices(found: EvaluatedLlm) -> tuple[DeviceMemory, ...]:
    layout, place, view = found.block.layout, found.place, found.prepared.machine
    weights, kv, state, activation, overhead, low, best, high = (
        devices_at(values, place)
        for values in (
            layout.weights,
            layout.kv_cache,
            layout.state,
            layout.activation,
            layout.overhead,
            layout.total_low,
            layout.total,
            layout.total_high,
        )
    )
    return tuple(
        DeviceMemory.model_construct(
            device=name,
            weights_bytes=weights[i],
            kv_cache_bytes=kv[i],
            state_bytes=state[i],
            activation_bytes=activation[i],
            gradient_bytes=0,
            optimizer_bytes=0,
            overhead_bytes=overhead[i],
            total_bytes=Interval(float(low[i]), float(best[i]), float(high[i])),
            available_bytes=view.available[i],
        )
        for i, name in enumerate(view.names)
    )


def _terms(found: EvaluatedLlm) -> tuple[Term, ...]:
    layout, place = found.block.layout, found.place
    row, policy = found.prepared.model, found.prepared.policy
    cells = policy.cache == "cells"
    kv_inputs: dict[str, float | int | str] = {
        "context_tokens": found.prepared.load.context_tokens,
        "concurrency": found.prepared.load.concurrency,
        "kv_elements_per_token": row.full_k + row.full_v,
        "windowed_elements_per_token": row.windowed_k + row.windowed_v,
        "type_k": policy.kind_k,
        "type_v": policy.kind_v,
    }
    quantization = found.request.quantization
    lender = borrowed_from(found.request)
    stands_for = {"figures_of": lender} if lender else {}
    return (
        Term.model_construct(
            name="weights",
            value=sum(devices_at(layout.weights, place)),
            unit="B",
            equation="sum over tensors of rows x blocks per row x bytes per block, less what lies on the host",
            inputs={
                "quantization": quantization.id if quantization else "",
                "layers_bytes": row.repeating,
                "output_bytes": row.output,
                "host_layers": int(at(layout.host_layers, place)),
                "host_moe_layers": int(at(layout.host_moe_layers, place)),
            },
            cites=tuple(citation.source for citation in quantization.citations("block_bytes"))
            if quantization
            else (),
            evidence="exact" if row.exact else "calibrated",
        ),
        Term.model_construct(
            name="KV cache",
            value=sum(devices_at(layout.kv_cache, place)),
            unit="B",
            equation="cells x streams x (K elements x bytes(K) + V elements x bytes(V)), summed over layers"
            if cells
            else "tokens x (K + V elements) x bytes, summed over layers, in whole blocks",
            inputs=kv_inputs,
            cites=(),
            evidence="exact",
        ),
        Term.model_construct(
            name="recurrent state",
            value=sum(devices_at(layout.state, place)),
            unit="B",
            equation="sequences x (convolution + state elements) x 4 bytes",
            inputs={"elements": row.conv_state + row.recurrent_state},
            cites=(),
            evidence="exact",
        ),
        Term.model_construct(
            name="activations and compute buffers",
            value=sum(devices_at(layout.activation, place)),
            unit="B",
            equation="max(logits path, attention path) of one physical batch, per device",
            inputs={
                "n_ubatch": policy.n_ubatch,
                "n_vocab": row.vocab_size,
                "n_embd": row.hidden_size,
                **stands_for,
            },
            cites=("memory",),
            evidence="calibrated",
        ),
        Term.model_construct(
            name="runtime overhead",
            value=sum(devices_at(layout.overhead, place)),
            unit="B",
            equation="device context, allocator and graphs of the runtime, per device",
            inputs={
                "runtime": found.request.runtime.name,
                "devices": len(found.prepared.machine.names),
                **stands_for,
            },
            cites=("memory",),
            evidence="calibrated",
        ),
    )
