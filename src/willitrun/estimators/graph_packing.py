"""Rows of an evaluated graph block as records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from willitrun.estimators.calibration_anchors import with_anchor_term
from willitrun.estimators.datasets import input_rates, input_reasons
from willitrun.estimators.obstacles import memory_suffices
from willitrun.intervals import Interval
from willitrun.kernels.columns import at
from willitrun.kernels.operators import BOUNDS, TERMS
from willitrun.records.results import Bound, DeviceMemory, MemoryEstimate, Reason, SpeedEstimate, Term
from willitrun.units import format_bytes, format_duration

if TYPE_CHECKING:
    from willitrun.estimators.graph_evaluation import EvaluatedGraph

__all__ = ["graph_bound", "graph_reasons", "pack_graph_memory", "pack_graph_speed"]

ZERO = Interval.exact(0)

_EQUATIONS = {
    "compute": "sum over operator classes of batch x FLOPs / (efficiency x peak), its share of the smooth maximum",
    "memory-bandwidth": "sum over operator classes of bytes moved / (efficiency x bandwidth), its share of the smooth maximum",
    "kernel-floor": "kernels x shortest kernel time, its share of the smooth maximum",
    "launch": "host time per step + kernels x host time per kernel, its share of the smooth maximum",
    "input": "batch x bytes per image / link bandwidth",
}

_BOXES = "The time is of the network: choosing boxes after it, such as suppressing overlapping ones (NMS), comes on top."
_AFTER_THE_NETWORK = {
    "object-detection": _BOXES,
    "oriented-detection": _BOXES,
    "pose-estimation": _BOXES,
    "image-segmentation": "The time is of the network: resizing masks to the picture, and with instances choosing boxes "
    "(NMS), comes on top.",
}
"""What no trace holds because it depends on what is in the picture, by task."""


def pack_graph_memory(found: EvaluatedGraph) -> MemoryEstimate:
    """The memory estimate of one row."""
    place, row = found.place, found.prepared
    weights = int(at(found.block.weights, place))
    activation = int(at(found.block.activation, place))
    device = row.device
    low, best, high = device.overhead_low, device.overhead, device.overhead_high
    total = found.total()
    on_disk = float(weights)
    terms = (
        Term.model_construct(
            name="weights",
            value=weights,
            unit="B",
            equation="parameters x bytes per weight + buffers x 4",
            inputs={"parameters": row.trace.parameters, "precision": str(found.request.workload.precision)},
            cites=(),
            evidence="exact",
        ),
        Term.model_construct(
            name="live activations",
            value=activation,
            unit="B",
            equation="largest sum of simultaneously live tensors of one image x batch",
            inputs={
                "peak_elements": row.trace.peak_elements,
                "batch_size": found.request.workload.batch_size or 1,
            },
            cites=("vision-totals",) if found.from_totals else (),
            evidence="calibrated" if found.from_totals else "derived",
        ),
        Term.model_construct(
            name="runtime overhead",
            value=best,
            unit="B",
            equation="device context and libraries of the runtime",
            inputs={"runtime": found.request.runtime.name},
            cites=("memory",),
            evidence="calibrated",
        ),
    )
    return MemoryEstimate.model_construct(
        weights_bytes=Interval.exact(float(weights)),
        kv_cache_bytes=ZERO,
        state_bytes=ZERO,
        activation_bytes=found.activation(),
        gradient_bytes=ZERO,
        optimizer_bytes=ZERO,
        overhead_bytes=Interval(float(low), float(best), float(high)),
        total_bytes=total,
        host_bytes=ZERO,
        disk_bytes=Interval.exact(on_disk),
        per_device=(
            DeviceMemory.model_construct(
                device=row.view.names[0],
                weights_bytes=weights,
                kv_cache_bytes=0,
                state_bytes=0,
                activation_bytes=activation,
                gradient_bytes=0,
                optimizer_bytes=0,
                overhead_bytes=best,
                total_bytes=total,
                available_bytes=max(row.view.available),
            ),
        ),
        terms=terms,
        notes=(),
    )


def pack_graph_speed(found: EvaluatedGraph) -> SpeedEstimate | None:
    """The speed estimate of one row, for as long as it fits: whether it does is the memory's question."""
    speed, place, row = found.block.speed, found.place, found.prepared
    head = found.headline()
    if head is None:
        return SpeedEstimate.model_construct(notes=(_not_measured(found),))
    rate = head[1]
    batch = found.request.workload.batch_size or 1
    bound = graph_bound(found)
    inputs: dict[str, float | int | str] = {
        "flops_per_image": 2.0 * row.trace.macs,
        "kernels": row.trace.operators,
        "batch_size": batch,
        "memory_bytes_per_s": row.view.row.memory_bytes_per_s,
        "tensor_peak_flop_per_s": float(row.rates.conv_flops_per_s[0]),
    }
    terms = with_anchor_term(
        tuple(
            Term.model_construct(
                name=name,
                value=float(at(speed.shares[i], place)),
                unit="s",
                equation=_EQUATIONS[name],
                inputs=inputs if i == 0 else {},
                cites=("vision-speed", *row.view.cites) if i == 0 else ("vision-speed",),
                evidence="calibrated",
            )
            for i, name in enumerate(TERMS)
        ),
        found.shift,
    )
    return SpeedEstimate.model_construct(
        images_per_s=rate,
        seconds_per_image=Interval(1.0 / rate.high, 1.0 / rate.best, 1.0 / rate.low),
        bound=bound,
        evidence=found.support.evidence,
        support=f"{found.interval_task()}/{found.support.level}",
        terms=terms,
        notes=(),
    )


def graph_bound(found: EvaluatedGraph) -> Bound:
    """What binds the speed; an input pipeline that waits for its disk is bound by the disk."""
    bound: Bound = BOUNDS[int(at(found.block.speed.bound, found.place))]  # type: ignore[assignment]
    decoded, read = input_rates(found.request)
    return "disk" if bound == "input" and read < decoded else bound


def _not_measured(found: EvaluatedGraph) -> Reason:
    load = found.request.workload
    where = "a CPU" if found.prepared.view.row.on_host else "an accelerator"
    return Reason.model_construct(
        code="speed-not-modelled",
        message=f"No measurements of {load.execution} on {where} are in the calibration data, so speed has no interval.",
        numbers={"execution": str(load.execution)},
    )


def graph_reasons(found: EvaluatedGraph) -> list[Reason]:
    """Why this tier, and what binds the speed."""
    layout, place, row = found.block.layout, found.place, found.prepared
    total = found.total()
    room = max(row.view.available)
    need, have = format_bytes(total.best), format_bytes(room)
    numbers: dict[str, float | int | str] = {"total_bytes": total.best, "available_bytes": room}
    tier = int(at(layout.tier, place))
    if tier >= 2 and found.request.blockers:
        fit = memory_suffices(total.best, room)
    elif tier == 3:
        fit = Reason.model_construct(
            code="fits-comfortably", message=f"{need} of {have}, with room to spare.", numbers=numbers
        )
    elif tier == 2:
        fit = Reason.model_construct(
            code="fits-tightly", message=f"{need} of {have}: little is left.", numbers=numbers
        )
    else:
        fit = Reason.model_construct(
            code="does-not-fit", message=f"It needs {need} and {have} are available.", numbers=numbers
        )
    reasons = [fit]
    if tier < 2 or found.request.blockers:
        return reasons
    if not found.is_calibrated:
        return [*reasons, _not_measured(found)]
    bound = graph_bound(found)
    step = float(at(found.block.speed.seconds, place)) / found.shift.factor
    batch = found.request.workload.batch_size or 1
    if bound in ("input", "disk"):
        reasons += input_reasons(found.request, batch / step)
    else:
        text = {
            "launch": f"Each pass starts about {row.trace.operators} kernels; at batch {batch} the host needs longer to start "
            f"them than the device to run them ({format_duration(step)} a pass).",
            "compute": f"Arithmetic takes most of the {format_duration(step)} that a batch of {batch} needs.",
            "memory-bandwidth": f"Moving activations and weights takes most of the {format_duration(step)} that a batch of {batch} needs.",
        }[bound]
        numbers = {"seconds_per_batch": step, "batch_size": batch}
        reasons.append(Reason.model_construct(code=f"{bound}-bound", message=text, numbers=numbers))
    if found.from_totals:
        reasons.append(
            Reason.model_construct(
                code="work-scaled",
                message=f"Nobody has traced {found.request.model.name}: its work is spread from published MACs and parameters "
                "by the law of traced convolutional networks, and the intervals are as wide as that is with whole families "
                "held out.",
                numbers={"macs": row.trace.macs, "parameters": row.trace.parameters},
            )
        )
    if (after := _AFTER_THE_NETWORK.get(found.request.model.task)) is not None:
        reasons.append(Reason.model_construct(code="post-processing-not-counted", message=after, numbers={}))
    if row.trace.scaled_from is not None:
        reasons.append(
            Reason.model_construct(
                code="work-scaled",
                message=f"No trace at {row.trace.image_size} pixels: work was scaled by area from {row.trace.scaled_from}.",
                numbers={"image_size": row.trace.image_size, "traced_image_size": row.trace.scaled_from},
            )
        )
    return reasons
