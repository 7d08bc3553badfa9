"""Times of a pipeline's stages as a speed estimate, and the reasons that go with it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.estimators.diffusion_components import Pipeline, Stages
from willitrun.estimators.graph_devices import device_levels, used_accelerator
from willitrun.estimators.graph_rates import (
    Scales,
    graph_coefficients,
    graph_load,
    graph_rates,
    profile_of,
    vision_scales,
)
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.estimators.support import Support, interval_of, support_of
from willitrun.intervals import Interval
from willitrun.kernels.diffusion_speed import PIPELINE_TERMS, PipelineSpeed, offload_traffic, time_pipeline
from willitrun.kernels.operators import OperatorCoefficients, predict_images, with_saturation
from willitrun.records.calibrations import Calibration
from willitrun.records.results import Bound, Evidence, MemoryEstimate, Reason, SpeedEstimate, Term, Tier
from willitrun.units import format_bytes, format_duration

__all__ = ["offload_reason", "offloaded_tier", "pack_diffusion_speed", "speed_reasons"]

DIFFUSION, VISION = "diffusion-speed", "vision-speed"
_ENGINES = {"tensorrt": "engine", "onnxruntime": "engine", "openvino": "engine", "coreml": "engine"}
_EQUATIONS = {
    "text encoding": "sum over text encoders of one pass of the operator roofline",
    "denoiser compute": "steps x sum over operator classes of batch x guidance x FLOPs / (efficiency x peak), its share of the smooth maximum",
    "denoiser memory-bandwidth": "steps x sum over operator classes of bytes moved / (efficiency x bandwidth), its share",
    "denoiser kernel-floor": "steps x kernels x shortest kernel time, its share",
    "denoiser launch": "steps x (host time per step + kernels x host time per kernel), its share",
    "decoding": "one pass of the VAE's decoder over the batch",
    "weight transfer": "bytes of offloaded weights that cross the host link / its bandwidth",
}
_OFFLOAD_TEXT = {
    "model": "whole components in host memory, moved to the device one at a time",
    "sequential": "all weights in host memory, moved to the device layer by layer at every step",
    "group": "all weights in host memory, moved to the device in groups of layers at every step",
}


def offloaded_tier(tier: Tier, resident: Tier) -> Tier:
    """A pipeline that would fit whole keeps its tier; one that fits only in pieces is `offload`."""
    if tier == "will-not-run" or resident in ("comfortable", "tight"):
        return tier
    return "offload"


def offload_reason(mode: str, memory: MemoryEstimate, resident: MemoryEstimate) -> Reason:
    """What lies in host memory, and what the device would need without."""
    host = memory.host_bytes.best
    return Reason.model_construct(
        code="needs-offload",
        message=f"It runs with {_OFFLOAD_TEXT[mode]} ({format_bytes(host)} there); "
        f"without it would need {format_bytes(resident.total_bytes.best)} on the device.",
        numbers={"offload": mode, "host_bytes": host, "resident_bytes": resident.total_bytes.best},
    )


@lru_cache(maxsize=8)
def _coefficients(catalog: Catalog) -> OperatorCoefficients:
    """Coefficients of graphs, with the saturation that was fitted to denoisers where it was."""
    shared = graph_coefficients(catalog)
    if DIFFUSION not in catalog.calibrations:
        return shared
    return with_saturation(shared, catalog.calibrations[DIFFUSION].levels.get("saturation", {}))


def _scales(request: Request, view: MachineView) -> Scales:
    """Factors of the diffusion calibration where there is one, else those of the vision calibration."""
    catalog = request.catalog
    execution = request.workload.execution or "eager"
    profile = profile_of(execution, "nchw", host=view.row.on_host)
    vision = vision_scales(request, view, catalog.calibrations[VISION], profile)
    if DIFFUSION not in catalog.calibrations or view.row.on_host:
        return vision
    levels = catalog.calibrations[DIFFUSION].levels
    names = [
        name.replace("intel-integrated", "intel")
        for name in device_levels(used_accelerator(request, view).accelerator, "eager")
    ]

    def level(term: str) -> float:
        table = levels.get(term, {})
        own = table.get("all", 0.0) + table.get(_ENGINES.get(execution, execution), 0.0)
        device = levels.get(f"device.{term}", {})
        return own + sum(device.get(name, 0.0) for name in names)

    return Scales(
        compute=math.exp(level("compute")),
        memory=math.exp(level("memory")),
        host=math.exp(levels.get("host", {}).get("all", 0.0)),
    )


def _time(
    request: Request, view: MachineView, pipeline: Pipeline, stages: Stages, mode: str
) -> PipelineSpeed:
    workload = request.workload
    precision, execution = workload.precision or "bf16", workload.execution or "eager"
    rates = graph_rates(request, view, precision, _scales(request, view))
    table = _coefficients(request.catalog)
    batch = float(pipeline.batch)
    one = graph_load(batch, precision, execution, layout=workload.layout or "nchw", host=view.row.on_host)
    passes = 2.0 if pipeline.guidance else 1.0
    guided = replace(one, batch=one.batch * passes)
    # A prompt and, under guidance, the empty one, once each.
    prompts = replace(one, batch=np.array([passes]))
    moved = offload_traffic(
        mode,
        pipeline.stored("text-encoder"),
        pipeline.stored("denoiser"),
        pipeline.stored("vae"),
        steps=stages.steps,
    )
    return time_pipeline(
        [predict_images(work, rates, prompts, table) for work in stages.encoders],
        predict_images(stages.denoiser, rates, guided, table),
        predict_images(stages.decoder, rates, one, table),
        steps=stages.steps,
        transfer_s=moved / view.row.pcie_bytes_per_s if mode != "none" else 0.0,
    )


def _support(request: Request, view: MachineView) -> tuple[Support, Calibration, str, Evidence]:
    """Support, the record that the interval comes from, its task, and the evidence."""
    catalog = request.catalog
    if DIFFUSION in catalog.calibrations and not view.row.on_host:
        found = support_of(request, view.device_ids, DIFFUSION)
        return found, catalog.calibrations[DIFFUSION], "lab", found.evidence
    # Classifiers are what that calibration has seen: its widest interval, and no claim of calibration.
    found = support_of(request, view.device_ids, VISION)
    task = "cpu" if view.row.on_host else "eager"
    return replace(found, level="unseen-class"), catalog.calibrations[VISION], task, "estimated"


def pack_diffusion_speed(
    request: Request, view: MachineView, pipeline: Pipeline, stages: Stages, mode: str
) -> tuple[SpeedEstimate, Support, list[str]]:
    """Speed of one batch with terms that sum to its seconds, its support, and the calibrations used."""
    speed = _time(request, view, pipeline, stages, mode)
    support, calibration, task, evidence = _support(request, view)
    level = support.level
    batch = float(pipeline.batch)
    seconds = interval_of(calibration, task, level, float(speed.seconds[0]), inverse=True)
    steps_per_s = interval_of(calibration, task, level, float(speed.iterations_per_s[0]))
    used = list(dict.fromkeys((calibration.id, VISION)))
    bound: Bound = speed.bound[0]  # type: ignore[assignment]
    inputs: dict[str, float | int | str] = {
        "steps": stages.steps,
        "batch_size": pipeline.batch,
        "frames": pipeline.frames,
        "guidance_passes": 2 if pipeline.guidance else 1,
        "memory_bytes_per_s": view.row.memory_bytes_per_s,
        "offload": mode,
    }
    estimate = SpeedEstimate.model_construct(
        # A video is one output, made of many images: its time says more than a rate.
        images_per_s=None
        if pipeline.frames > 1
        else Interval(batch / seconds.high, batch / seconds.best, batch / seconds.low),
        seconds_per_image=seconds.scale(1.0 / batch),
        iterations_per_s=steps_per_s,
        bound=bound,
        evidence=evidence,
        support=f"{task}/{level}",
        terms=tuple(
            Term.model_construct(
                name=name,
                value=float(value),
                unit="s",
                equation=_EQUATIONS[name],
                inputs=inputs if name == "denoiser compute" else {},
                cites=(*used, *view.cites) if name == "denoiser compute" else tuple(used),
                evidence="calibrated",
            )
            for name, value in zip(PIPELINE_TERMS, speed.terms[0], strict=True)
        ),
        notes=(),
    )
    return estimate, support, used


def speed_reasons(speed: SpeedEstimate, pipeline: Pipeline, stages: Stages) -> list[Reason]:
    """What binds the speed, and whether the work was scaled from another size."""
    assert speed.seconds_per_image is not None
    parts = {term.name: term.value for term in speed.terms}
    denoising = sum(value for name, value in parts.items() if name.startswith("denoiser"))
    shown = f"A video of {pipeline.frames} frames: " if pipeline.frames > 1 else ""
    text = (
        f"{shown}{stages.steps} denoising steps take {format_duration(denoising)}, decoding "
        f"{format_duration(parts['decoding'])}, text encoding {format_duration(parts['text encoding'])}"
    )
    if parts["weight transfer"] > 0:
        text += f", moving weights {format_duration(parts['weight transfer'])}"
    found = [
        Reason.model_construct(
            code=f"{speed.bound}-bound",
            message=f"{text}.",
            numbers={"seconds_per_batch": sum(parts.values()), "steps": stages.steps},
        )
    ]
    if stages.scaled_from is not None:
        found.append(
            Reason.model_construct(
                code="work-scaled",
                message=f"No trace at this size and these frames: the denoiser's work was scaled from {stages.scaled_from} pixels "
                "by how it grows between the shapes that were traced.",
                numbers={"traced_image_size": stages.scaled_from},
            )
        )
    return found
