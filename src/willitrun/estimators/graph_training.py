"""Training of graphs of operators: states, kept activations and the time of a step as an evaluated request."""

from __future__ import annotations

import numpy as np

from willitrun.errors import MissingDataError
from willitrun.estimators.datasets import dataset_reasons, decode_rate, input_rates
from willitrun.estimators.evaluation import Evaluated, from_error, not_modelled
from willitrun.estimators.graph_rates import graph_coefficients, graph_load, graph_rates, vision_scales
from willitrun.estimators.graph_traces import find_trace, residual_of, work_of
from willitrun.estimators.llm_machines import MachineView, machine_row
from willitrun.estimators.overheads import runtime_overhead
from willitrun.estimators.ready import Part, Ready, judge_parts, where_it_runs
from willitrun.estimators.requests import Request
from willitrun.estimators.support import interval_of, support_of
from willitrun.kernels.activations import kept_elements
from willitrun.kernels.operators import BOUNDS, TERMS, predict_images
from willitrun.kernels.overheads import MemoryRange, scale_range
from willitrun.kernels.training import training_states
from willitrun.records.presentation import counted
from willitrun.records.recipes import Placement
from willitrun.records.results import Bound, Evidence, Reason, SpeedEstimate, Term
from willitrun.records.traces import OperatorTrace
from willitrun.units import format_duration

__all__ = ["evaluate_graph_training"]

SPEED, MEMORY = "vision-speed", "vision-training"
_EQUATIONS = {
    "compute": "forward and backward FLOPs of the batch / (efficiency x peak), its share of the smooth maximum",
    "memory-bandwidth": "bytes moved forward, backward and by the optimizer / (efficiency x bandwidth), its share",
    "kernel-floor": "kernels of a step x shortest kernel time, its share",
    "launch": "host time per step + kernels x host time per kernel, its share",
    "input": "bytes of the batch / link bandwidth",
}


def evaluate_graph_training(request: Request) -> Evaluated:
    """Memory and time of a training step of an image model."""
    if request.workload.mode != "full-finetune":
        return not_modelled(
            request, "memory-not-modelled", f"{request.workload.mode} of image models is not modelled yet."
        )
    checkpointing = request.workload.gradient_checkpointing or "none"
    if checkpointing != "none":
        return not_modelled(
            request,
            "memory-not-modelled",
            f"What {checkpointing} gradient checkpointing leaves of an image model's activations is not modelled yet.",
        )
    try:
        return _train(request)
    except MissingDataError as error:
        return from_error(request, error)


def _train(request: Request) -> Ready:
    trace = find_trace(request)
    view = machine_row(request)
    parts = _parts(request, trace, view)
    disk = trace.parameters * 4 + trace.buffers * 4
    tier, memory, reason = judge_parts(request, view, parts, disk_bytes=disk)
    speed, bound, cites = _speed(request, trace, view)
    rate = speed.samples_per_s
    timed = ("samples_per_s", rate) if rate is not None and tier != "will-not-run" else None
    dataset = dataset_reasons(request, timed)
    return Ready(
        request=request,
        tier=tier,
        placement=Placement(strategy="cpu" if view.row.on_host else "single"),
        reasons=(reason, *where_it_runs(tier, bound), *dataset, *view.reasons),
        cites=cites,
        calibrations=(SPEED, MEMORY, "memory", "system-reserve"),
        memory=memory,
        speed=speed,
    )


def _parts(request: Request, trace: OperatorTrace, view: MachineView) -> list[Part]:
    load = request.workload
    precision = load.precision or "fp32"
    amp = precision.startswith("amp")
    half = precision in ("fp16", "bf16")
    width = 2 if amp or half else 4
    optimizer = load.optimizer or "adamw"
    states = training_states(
        trace.parameters,
        parameter_bytes=2 if half else 4,
        gradient_bytes=2 if half else 4,
        master_bytes=4 if half else 0,
        optimizer=optimizer,
    )
    # Autocast keeps the half-precision copy of each weight until the step ends.
    copies = 2 * trace.parameters if amp else 0
    calibration = request.catalog.calibrations[MEMORY]
    shares = {
        key.removeprefix("kept."): value
        for key, value in calibration.coefficients.items()
        if key.startswith("kept.")
    }
    batch = load.batch_size or 1
    elements = kept_elements(trace.classes, shares)
    kept = np.int64(round(elements * width)) * batch
    factors = calibration.intervals["activation.training"]
    activation = scale_range(kept, *(factors[name] for name in ("low", "best", "high")))
    context = MemoryRange(
        *(np.int64(v) for v in runtime_overhead(request, host=view.row.on_host))  # type: ignore[arg-type]
    )
    inputs: dict[str, float | int | str] = {"parameters": trace.parameters, "precision": precision}
    return [
        Part.exact(
            "weights",
            "weights, buffers and copies",
            int(states.parameters + states.master) + copies + trace.buffers * 4,
            "parameters x bytes + buffers x 4, with autocast's half-precision or the optimizer's 32-bit copy",
            inputs,
        ),
        Part.exact("gradient", "gradients", int(states.gradients), "parameters x bytes per gradient", inputs),
        Part.exact(
            "optimizer",
            "optimizer states",
            int(states.optimizer),
            "parameters x bytes of state",
            inputs | {"optimizer": optimizer},
        ),
        Part.ranged(
            "activation",
            "activations kept for the backward pass",
            activation,
            "batch x sum over operator classes of kept share x elements read and written x bytes",
            {"batch_size": batch, "elements_per_image": elements, "bytes_per_element": width},
            (MEMORY,),
        ),
        Part.ranged("overhead", "device context", context, "context and libraries of the runtime", {}),
    ]


def _speed(
    request: Request, trace: OperatorTrace, view: MachineView
) -> tuple[SpeedEstimate, Reason, tuple[str, ...]]:
    load = request.workload
    precision = load.precision or "fp32"
    catalog = request.catalog
    calibration = catalog.calibrations[SPEED]
    if view.row.on_host:
        note = Reason.model_construct(
            code="speed-not-modelled", message="The time of a training step on a CPU is not calibrated."
        )
        return SpeedEstimate(notes=(note,)), note, ()
    work = work_of(request, trace)
    rates = graph_rates(request, view, precision, vision_scales(request, view, calibration, "train"))
    profile = "train-nhwc" if load.layout == "nhwc" else "train"
    asked = graph_load(
        float(load.batch_size or 1),
        precision,
        load.execution or "eager",
        layout=load.layout or "nchw",
        host=False,
        training=True,
        parameters=float(trace.parameters),
        decode_images_per_s=decode_rate(request),
        log_residual=residual_of(request, view, trace, profile),
    )
    found = predict_images(work, rates, asked, graph_coefficients(catalog))
    support = support_of(request, view.device_ids, SPEED)
    # Measurements near by are of inference.
    evidence: Evidence = "estimated" if support.evidence == "estimated" else "calibrated"
    rate = interval_of(calibration, "train", support.level, float(found.images_per_s[0]))
    step = interval_of(calibration, "train", support.level, float(found.seconds[0]), inverse=True)
    bound: Bound = BOUNDS[int(found.bound[0])]  # type: ignore[assignment]
    decoded, read = input_rates(request)
    if bound == "input" and read < decoded:
        bound = "disk"
    speed = SpeedEstimate.model_construct(
        training_step_s=step,
        samples_per_s=rate,
        bound=bound,
        evidence=evidence,
        support=f"train/{support.level}",
        terms=tuple(
            Term.model_construct(
                name=name,
                value=float(value),
                unit="s",
                equation=_EQUATIONS[name],
                inputs={"batch_size": load.batch_size or 1, "flops_per_image": 2.0 * trace.macs}
                if name == "compute"
                else {},
                cites=(SPEED, *view.cites) if name == "compute" else (SPEED,),
                evidence="calibrated",
            )
            for name, value in zip(TERMS, found.terms[0], strict=True)
        ),
        notes=(),
    )
    reason = Reason.model_construct(
        code=f"{bound}-bound",
        message=f"A step over {counted(load.batch_size or 1, 'image')} takes {format_duration(step.best)}: "
        f"{_BOUND_TEXT[bound]}.",
        numbers={"training_step_s": step.best, "batch_size": load.batch_size or 1},
    )
    return speed, reason, ()


_BOUND_TEXT = {
    "compute": "arithmetic takes most of it",
    "memory-bandwidth": "moving activations and weights takes most of it",
    "launch": "starting kernels takes longer than their work",
    "input": "the CPU decodes images more slowly than the device consumes them",
    "disk": "the disk delivers images more slowly than the device consumes them",
}
