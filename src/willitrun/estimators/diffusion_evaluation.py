"""Diffusion pipelines as evaluated requests: memory by stage under an offload mode, time by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.diffusion_components import Pipeline, pipeline_of, stages_of
from willitrun.estimators.diffusion_packing import (
    offload_reason,
    offloaded_tier,
    pack_diffusion_speed,
    speed_reasons,
)
from willitrun.estimators.evaluation import Evaluated, from_error, not_modelled
from willitrun.estimators.llm_machines import MachineView, machine_row
from willitrun.estimators.overheads import runtime_overhead
from willitrun.estimators.ready import Part, Ready, judge_parts, where_it_runs
from willitrun.estimators.requests import Request
from willitrun.kernels.activations import TILE_PIXELS, DiffusionPeaks, diffusion_peak
from willitrun.kernels.overheads import MemoryRange, scale_range
from willitrun.records.recipes import Placement
from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Tier

__all__ = ["evaluate_diffusion"]

_STAGES = ("encode", "denoise", "decode")
_STAGE_TEXT = {"encode": "text encoding", "denoise": "denoising", "decode": "decoding"}
_TIERS = ("will-not-run", "offload", "tight", "comfortable")


def evaluate_diffusion(requests: Sequence[Request]) -> list[Evaluated]:
    """Evaluate diffusion requests. A pipeline with a component of unknown size is unknown, with a reason."""
    found: list[Evaluated] = []
    for request in requests:
        if request.workload.mode != "inference":
            found.append(
                not_modelled(
                    request,
                    "memory-not-modelled",
                    f"{request.workload.mode} of {request.model.task} is not modelled yet.",
                )
            )
            continue
        try:
            found.append(_evaluate(request))
        except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
            found.append(from_error(request, error))
    return found


def _evaluate(request: Request) -> Ready:
    pipeline = pipeline_of(request)
    view = machine_row(request)
    modes = _modes(request, view, pipeline)
    tried = [(mode, *_judge(request, view, pipeline, mode)) for mode in modes]
    # The first mode that runs; where none does, the one that was asked for or that offloads least.
    mode, tier, memory, reason = next((row for row in tried if row[1] != "will-not-run"), tried[0])
    # What keeps each mode from running: a device that is too small, or a host.
    reasons = [
        reason,
        *(row[3] for row in tried[1:] if tier == "will-not-run" and row[3].code != reason.code),
    ]
    if mode != "none":
        resident = tried[0] if modes[0] == "none" else ("none", *_judge(request, view, pipeline, "none"))
        tier = offloaded_tier(tier, resident[1])
        if tier == "offload":
            reasons.insert(0, offload_reason(mode, memory, resident[2]))
    stages = stages_of(request)
    if stages is None:
        speed = SpeedEstimate(notes=(_no_trace(request),))
        reasons += where_it_runs(tier, speed.notes[0])
        cites: tuple[str, ...] = ()
        calibrations = ["memory", "system-reserve"]
    else:
        speed, support, used = pack_diffusion_speed(request, view, pipeline, stages, mode)
        reasons += where_it_runs(tier, *speed_reasons(speed, pipeline, stages), *support.reasons)
        cites = support.cites
        calibrations = [*used, "memory", "system-reserve"]
    return Ready(
        request=request,
        tier=tier,
        placement=Placement(strategy="cpu" if view.row.on_host else "single"),
        reasons=(*reasons, *view.reasons),
        cites=cites,
        calibrations=tuple(calibrations),
        memory=memory,
        speed=speed,
    )


def _no_trace(request: Request) -> Reason:
    return Reason.model_construct(
        code="speed-not-modelled",
        message=f"The catalog has no operator trace of every component of {request.model.name}.",
        numbers={"task": request.model.task},
    )


def _modes(request: Request, view: MachineView, pipeline: Pipeline) -> tuple[str, ...]:
    """Offload modes to try, in order of cost. One that was asked for is the only one.

    Where memory is shared with the host, and on the host itself, there is nowhere to offload to.
    """
    if view.row.on_host or view.row.unified:
        return ("none",)
    if request.runtime.offload is not None:
        if request.runtime.offload in ("sequential", "group") and pipeline.largest_layer is None:
            raise MissingDataError(
                f"{request.model.name}: no operator trace of its denoiser, so its largest layer is not known.",
                hint="Ask for offload='model', or trace it with willitrun.interop.tracing.",
            )
        return (request.runtime.offload,)
    if request.profile.cpu_offload != "components":
        return ("none",)
    return ("none", "model", "sequential") if pipeline.largest_layer is not None else ("none", "model")


def _peaks(request: Request, pipeline: Pipeline, mode: str, layer_bytes: int) -> DiffusionPeaks:
    numbers = request.catalog.calibrations["memory"].coefficients
    return diffusion_peak(
        pipeline.stored("text-encoder"),
        pipeline.stored("denoiser"),
        pipeline.stored("vae"),
        pixels=pipeline.pixels,
        batch=pipeline.batch,
        guidance=pipeline.guidance,
        encoder_activation_bytes=round(
            numbers["diffusion.encoder_activation_bytes"] * pipeline.element_bytes / 2
        ),
        denoiser_bytes_per_pixel=pipeline.denoiser_bytes_per_pixel,
        vae_bytes_per_pixel=pipeline.vae_bytes_per_pixel,
        largest_layer_bytes=layer_bytes,
        largest_denoiser_bytes=sum(part.bytes for part in pipeline.held("denoiser")),
        offload=mode,
        tiling=bool(request.runtime.vae_tiling),
        slicing=bool(request.runtime.vae_slicing),
        # Tiles cut the image; each holds all frames.
        tile_pixels=TILE_PIXELS * pipeline.frames,
    )


def _judge(
    request: Request, view: MachineView, pipeline: Pipeline, mode: str
) -> tuple[Tier, MemoryEstimate, Reason]:
    """Tier, memory and reason under one offload mode."""
    low_layer, layer, high_layer = pipeline.largest_layer or (0, 0, 0)
    peaks = _peaks(request, pipeline, mode, layer)
    by_stage = {name: int(getattr(peaks, name)) for name in _STAGES}
    stage = max(by_stage, key=lambda name: by_stage[name])
    peak = by_stage[stage]
    weights = _held(pipeline, mode, stage, layer)
    live = peak - sum(part.best for part in weights)
    if mode in ("sequential", "group") and weights:
        # The largest layer is an estimate: its range is the range of what is held.
        held = weights[0]
        share = held.best / layer if layer else 0.0
        weights = [
            replace(held, low=round(low_layer * share), high=round(high_layer * share), evidence="calibrated")
        ]
    found = request.catalog.calibrations["memory"].intervals["live.diffusion"]
    # Weights are exact: only what comes and goes can turn out larger than predicted.
    slack = scale_range(np.int64(live), *(max(found[name], 1.0) - 1.0 for name in ("low", "best", "high")))
    context = MemoryRange(
        *(np.int64(v) for v in runtime_overhead(request, host=view.row.on_host))  # type: ignore[arg-type]
    )
    parts = [
        *weights,
        Part(
            "activation",
            f"live activations of {_STAGE_TEXT[stage]}",
            live,
            live,
            live,
            "images at once x pixels x bytes per pixel of the stage that peaks",
            {
                "stage": _STAGE_TEXT[stage],
                "pixels": pipeline.pixels,
                "batch_size": pipeline.batch,
                **{f"{name}_bytes": value for name, value in by_stage.items()},
            },
            "calibrated",
            ("memory",),
        ),
        Part.ranged("overhead", "device context", context, "context and libraries of the runtime", {}),
        Part.ranged(
            "overhead", "allocator slack", slack, "(measured / predicted live bytes - 1) x live bytes", {}
        ),
    ]
    disk = sum(part.bytes for part in pipeline.components)
    return judge_parts(request, view, parts, host_bytes=int(peaks.host), disk_bytes=disk)


def _held(pipeline: Pipeline, mode: str, stage: str, layer: int) -> list[Part]:
    """Weights that lie on the device while a stage runs."""
    role = {"encode": "text-encoder", "denoise": "denoiser", "decode": "vae"}[stage]
    if mode in ("none", "model"):
        return [
            Part.exact(
                "weights",
                f"weights of {part.name}",
                part.bytes,
                "ceil(parameters / weights per block) x bytes per block",
                {"parameters": part.parameters, "format": part.format, "role": part.role},
            )
            for part in (pipeline.components if mode == "none" else pipeline.held(role))
        ]
    whole = pipeline.stored(role)
    if mode == "sequential":
        held = min(layer, whole) if stage == "decode" else layer
    else:
        held = {"encode": min(whole, 2 * layer), "denoise": 2 * layer, "decode": whole}[stage]
    return [
        Part.exact(
            "weights",
            "layers on the device",
            held,
            "largest layer (sequential) or two groups of layers (group)",
            {"largest_layer_bytes": layer, "offload": mode},
        )
    ]
