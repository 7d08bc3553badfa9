"""A device and a load as rows of the operator roofline, for graphs that are parts of something larger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.catalog.trace_sizes import resize_trace
from willitrun.errors import MissingDataError
from willitrun.estimators.graph_totals import TOTALS, totals_trace
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.rates import device_rates
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.llm_levels import classify_generation
from willitrun.kernels.operator_inputs import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    resolve_coefficients,
)
from willitrun.kernels.operator_residuals import (
    RESIDUAL_OF_PROFILE,
    ResidualTable,
    resolve_residuals,
    work_features,
)
from willitrun.kernels.operator_work import OperatorWork
from willitrun.records.accelerators import Accelerator
from willitrun.records.calibrations import Calibration
from willitrun.records.machines import Host, InstalledAccelerator, Machine
from willitrun.records.models import Model
from willitrun.records.traces import OperatorTrace

__all__ = [
    "GENERATIONS",
    "PRECISION_BYTES",
    "Scales",
    "accelerator_rates",
    "device_class",
    "device_generation",
    "device_levels",
    "find_trace",
    "generation_of",
    "graph_coefficients",
    "graph_load",
    "graph_rates",
    "host_levels",
    "interval_task",
    "processor_generation",
    "processor_rates",
    "profile_rates",
    "profile_of",
    "residual_of",
    "residuals_of",
    "software_era",
    "trace_family",
    "trace_work",
    "used_accelerator",
    "vision_scales",
    "work_of",
]

VISION = "vision-speed"

# Bytes per activation element, per element that stays wide under autocast, per weight element.
PRECISION_BYTES = {
    "amp-fp16": (2, 4, 4),
    "amp-bf16": (2, 4, 4),
    "fp16": (2, 2, 2),
    "bf16": (2, 2, 2),
    "fp32": (4, 4, 4),
    "fp32-strict": (4, 4, 4),
    "tf32": (4, 4, 4),
    "int8": (1, 1, 1),
    "fp8": (1, 1, 1),
}
_ENGINES = {"tensorrt", "onnxruntime", "openvino", "coreml"}


@frozen
class Scales:
    """Factors on what a device sustains, from a calibration [1]."""

    compute: float
    memory: float
    host: float
    power: float = 1.0


def profile_of(execution: str, layout: str, *, host: bool) -> str:
    """Name of the execution profile that the kernel's coefficients are keyed by."""
    if host:
        return "cpu-engine" if execution in _ENGINES else "cpu-compile" if execution == "compile" else "cpu"
    if execution in _ENGINES:
        return "engine"
    return execution + ("-nhwc" if layout == "nhwc" else "")


def precision_peaks(
    device: InstalledAccelerator, machine: Machine, precision: str
) -> tuple[float, float, float]:
    """Peaks of convolutions, of matrix products and of vector code in a precision [FLOP/s].

    PyTorch's default ``fp32`` runs convolutions in TF32 where the chip has it and products in FP32.
    """
    rates, _ = device_rates(device, machine)
    tf32 = rates.fp32 if math.isnan(rates.tf32) else rates.tf32
    peaks = device.accelerator.peaks
    half = rates.bf16 if precision.endswith("bf16") and not math.isnan(rates.bf16) else rates.fp16
    if math.isnan(half) or (peaks.fp16_tensor is None and peaks.bf16_tensor is None):
        # Without matrix units, libraries multiply half-precision operands at the rate of single precision.
        half = rates.fp32
    int8 = half if math.isnan(rates.int8) else rates.int8
    fp8 = half if math.isnan(rates.fp8) else rates.fp8
    pair = {
        "fp32": (tf32, rates.fp32),
        "tf32": (tf32, tf32),
        "fp32-strict": (rates.fp32, rates.fp32),
        "int8": (int8, int8),
        "fp8": (fp8, fp8),
    }.get(precision, (half, half))
    return (*pair, rates.fp32)


def host_class(machine: Machine) -> str:
    """Class of the host by the device's form: one host operation takes longer on servers and laptops."""
    if not machine.accelerators:
        return "desktop"
    form = machine.accelerators[0].accelerator.form
    if form.startswith(("server", "cloud")):
        return "server"
    if form.startswith("laptop"):
        return "laptop"
    return "board" if form in ("unified-soc", "sbc") else "desktop"


GENERATIONS = ("pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell")
"""Generations of NVIDIA, from old to new."""
_SIMD = ("avx512", "avx2", "neon")


def generation_of(accelerator: Accelerator) -> str:
    """Generation of a device, empty where no table has it."""
    named = accelerator.compute_capability or accelerator.gfx_target or accelerator.architecture or ""
    found = classify_generation(accelerator.vendor, named)
    return found or classify_generation(accelerator.vendor, accelerator.architecture or "") or ""


def processor_generation(host: Host) -> str:
    """What tells processors apart: the widest vector instructions, empty where unknown."""
    known = {name.lower() for name in host.instruction_sets}
    return next((name for name in _SIMD if any(one.startswith(name) for one in known)), "")


def _steps(accelerator: Accelerator) -> tuple[str, ...]:
    """Levels of a device's generation: a step from each generation to the next, so that one without data takes
    after the one before it."""
    generation = generation_of(accelerator)
    if generation not in GENERATIONS:
        return ()
    return tuple(f"since-{name}" for name in GENERATIONS[1 : GENERATIONS.index(generation) + 1])


ERA_TOLD = GENERATIONS.index("ampere")
"""Generation since which hosts were measured under both eras of PyTorch. What is known of older cards is of PyTorch 1."""


def software_era(version: str | None, accelerator: Accelerator) -> tuple[str, ...]:
    """Level of the era of PyTorch, whose first needed more of the host's time per operation; empty where nobody
    states it: then the middle of both eras is meant.

    >>> from willitrun import load_catalog
    >>> card = load_catalog().accelerators["nvidia-geforce-rtx-3090"]
    >>> software_era("1.13.1", card), software_era("2.4", card), software_era(None, card)
    (('torch-1',), ('torch-2',), ())
    """
    generation = generation_of(accelerator)
    major = (version or "").partition(".")[0]
    if generation not in GENERATIONS or GENERATIONS.index(generation) < ERA_TOLD or not major.isdigit():
        return ()
    return ("torch-1",) if int(major) < 2 else ("torch-2",)


def host_levels(machine: Machine, version: str | None = None) -> tuple[str, ...]:
    """Names of the levels that the time of a host operation is summed over.

    The class of the host, and the generation of its accelerator: an older card sits beside an older processor
    and older software. ``version`` is that of PyTorch, where it is stated.
    """
    if not machine.accelerators:
        return (host_class(machine),)
    accelerator = machine.accelerators[0].accelerator
    return (host_class(machine), *_steps(accelerator), *software_era(version, accelerator))


def device_class(accelerator: Accelerator) -> str:
    """Class of a device by which its shares of peak and bandwidth are calibrated.

    The vendor; for NVIDIA its form, and whether it has matrix units at all.
    """
    form = accelerator.form
    if accelerator.vendor != "nvidia":
        return f"{accelerator.vendor}-integrated" if form in ("igpu", "unified-soc") else accelerator.vendor
    if accelerator.peaks.fp16_tensor is None:
        return "nvidia-vector"
    if form in ("unified-soc", "sbc"):
        return "nvidia-board"
    kind = (
        "laptop" if form.startswith("laptop") else "server" if form.startswith(("server", "cloud")) else form
    )
    return f"nvidia-{kind}"


def device_levels(accelerator: Accelerator, profile: str) -> tuple[str, ...]:
    """Names of the levels that a device's shares of peak and bandwidth are summed over, for a profile.

    Its class and its generation, and both once more for ahead-of-time compilers, whose kernels are others.
    """
    names = (device_class(accelerator), *_steps(accelerator))
    return names + tuple(f"{name}:engine" for name in names) if profile == "engine" else names


@lru_cache(maxsize=8)
def graph_coefficients(catalog: Catalog) -> OperatorCoefficients:
    """The coefficients that all graphs of operators share."""
    calibration = catalog.calibrations[VISION]
    return resolve_coefficients(calibration.coefficients, calibration.levels)


@lru_cache(maxsize=4096)
def trace_work(catalog: Catalog, architecture: str, image_size: int) -> OperatorWork | None:
    """Work of a network that the catalog has traced, None where it has not."""
    trace = catalog.traces.find(architecture, image_size)
    return None if trace is None else OperatorWork.from_summary(trace.classes)


def find_trace(request: Request) -> OperatorTrace:
    """The trace of the request's network at its image size: its own, else the catalog's, else what published totals say.

    Raises
    ------
    MissingDataError
        Nobody has traced it.
    """
    vision = request.model.vision
    found = None
    if vision is not None:
        size = request.workload.image_size or vision.image_size
        if vision.trace is not None:
            found = resize_trace(vision.trace, size)
        elif vision.architecture is not None:
            found = request.catalog.traces.find(vision.architecture, size)
        if found is None:
            found = totals_trace(request.catalog, request.model, size)
    if found is None:
        raise MissingDataError(
            f"{request.model.name}: no operator trace of its architecture.",
            hint="Trace it with willitrun.interop.modules.model_from_module (extra 'torch') or "
            "willitrun.interop.onnx_graphs.model_from_onnx (extra 'onnx').",
        )
    return found


def work_of(request: Request, trace: OperatorTrace) -> OperatorWork:
    """Work of the request's trace; that of the catalog's traces is kept between calls."""
    vision = request.model.vision
    if vision is None or vision.trace is not None or trace.tool == TOTALS:
        return OperatorWork.from_summary(trace.classes)
    work = trace_work(request.catalog, trace.architecture, trace.image_size)
    assert work is not None
    return work


def device_generation(request: Request, view: MachineView) -> str:
    """Generation of the device that the request runs on, by which residuals are learnt."""
    if view.row.on_host:
        assert request.machine is not None
        return processor_generation(request.machine.host)
    return generation_of(used_accelerator(request, view).accelerator)


def residual_of(request: Request, view: MachineView, trace: OperatorTrace, profile: str) -> float:
    """Learnt log ratio of measured to predicted time of a trace's shape; zero away from data."""
    if trace.tool == TOTALS:
        return 0.0
    generation, vision = device_generation(request, view), request.model.vision
    if vision is None or vision.trace is None:
        key = (trace.architecture, trace.image_size, profile, generation)
        return _known_residual(request.catalog, *key)
    work = work_of(request, trace)
    return float(residuals_of(request.catalog, work, [trace.family], profile, [generation])[0, 0])


def trace_family(catalog: Catalog, model: Model, trace: OperatorTrace) -> str:
    """Family of a traced network by which residuals are learnt: its trace's own, else the catalog's."""
    if model.vision is not None and model.vision.trace is not None:
        return trace.family
    return catalog.traces.family(trace.architecture) or ""


def residuals_of(
    catalog: Catalog, work: OperatorWork, families: Sequence[str], profile: str, generations: Sequence[str]
) -> np.ndarray:
    """Learnt log ratios of rows of work on generations of devices, (rows, generations)."""
    table, execution = _residuals(catalog), RESIDUAL_OF_PROFILE[profile]
    return table.log_ratios(work_features(work), families, execution, generations)


@lru_cache(maxsize=8)
def _residuals(catalog: Catalog) -> ResidualTable:
    return resolve_residuals(catalog.calibrations[VISION].residuals)


@lru_cache(maxsize=4096)
def _known_residual(
    catalog: Catalog, architecture: str, image_size: int, profile: str, generation: str
) -> float:
    work = trace_work(catalog, architecture, image_size)
    assert work is not None
    family = catalog.traces.family(architecture) or ""
    return float(residuals_of(catalog, work, [family], profile, [generation])[0, 0])


def interval_task(profile: str, *, launch: bool, kind: str = "") -> str:
    """Key of a calibration's intervals: what residuals are learnt by, apart where the host takes a share of the time, and
    apart for kinds of device (`device_class`) that can be foretold less well than NVIDIA's cards.

    >>> interval_task("eager-nhwc", launch=False), interval_task("eager", launch=True)
    ('eager', 'eager-launch')
    >>> interval_task("engine", launch=False, kind="nvidia-board"), interval_task("eager", launch=False, kind="amd")
    ('engine@board', 'eager@other')
    """
    name = RESIDUAL_OF_PROFILE[profile].removesuffix("-nhwc")
    if name == "cpu":
        return name
    if launch and name in ("eager", "engine"):
        name += "-launch"
    if kind == "nvidia-board":
        return f"{name}@board"
    return name if not kind or kind.startswith("nvidia") else f"{name}@other"


def used_accelerator(request: Request, view: MachineView) -> InstalledAccelerator:
    """The accelerator that the request runs on."""
    machine = request.machine
    assert machine is not None
    return next(d for d in machine.accelerators if d.accelerator.id == view.device_ids[0])


def vision_scales(request: Request, view: MachineView, calibration: Calibration, profile: str) -> Scales:
    """Factors of the device's levels and of the host's class."""
    machine = request.machine
    assert machine is not None
    levels = calibration.levels
    host: tuple[str, ...] = ()
    if view.row.on_host:
        names: tuple[str, ...] = (processor_generation(machine.host),)
    else:
        names = device_levels(used_accelerator(request, view).accelerator, profile)
        eager = request.runtime.name == "pytorch" and profile.startswith(("eager", "train"))
        host = host_levels(machine, request.runtime.version if eager else None)

    def factor(term: str, among: tuple[str, ...]) -> float:
        table = levels.get(term, {})
        return math.exp(sum(table.get(name, 0.0) for name in among))

    return Scales(
        compute=factor("device.compute", names),
        memory=factor("device.memory", names),
        host=factor("host_scale", host),
        power=factor("device.power", names),
    )


def accelerator_rates(
    device: InstalledAccelerator, machine: Machine, precision: str, scales: Scales
) -> DeviceRates:
    """One row of rates of an accelerator in a precision; the fit reads devices through here as well."""
    accelerator = device.accelerator
    rates, _ = device_rates(device, machine)
    power = float(device.power_limit_w or accelerator.tdp or 0.0)
    return _one_row(
        precision_peaks(device, machine, precision),
        rates.memory_bytes_per_s,
        scales,
        cache_bytes=float(accelerator.l2_cache or 0),
        multiprocessors=float(accelerator.compute_units or 0),
        clock_hz=float(accelerator.boost_clock or 0.0),
        power_w=power * scales.power,
    )


def processor_rates(flop_per_s: float, bytes_per_s: float, scales: Scales) -> DeviceRates:
    """One row of rates of a host's processor."""
    return _one_row((flop_per_s, flop_per_s, flop_per_s), bytes_per_s, scales)


def profile_rates(request: Request, view: MachineView, profile: str) -> DeviceRates:
    """Rates of the device that the request uses, as the calibration scales them for a profile: derived once."""
    precision = request.workload.precision or "fp32"

    def derive() -> DeviceRates:
        scales = vision_scales(request, view, request.catalog.calibrations[VISION], profile)
        return graph_rates(request, view, precision, scales)

    return request.catalog.memo("graph-rates").get(
        (request.machine, view), (precision, profile, request.runtime.name, request.runtime.version), derive
    )


def graph_rates(request: Request, view: MachineView, precision: str, scales: Scales) -> DeviceRates:
    """One row of rates of the device that the request uses."""
    if view.row.on_host:
        return processor_rates(view.row.fp32, view.row.memory_bytes_per_s, scales)
    assert request.machine is not None
    return accelerator_rates(used_accelerator(request, view), request.machine, precision, scales)


def _one_row(
    peaks: tuple[float, float, float], bytes_per_s: float, scales: Scales, **device: float
) -> DeviceRates:
    fields = {
        "cache_bytes": 0.0,
        "multiprocessors": 0.0,
        "clock_hz": 0.0,
        "power_w": 0.0,
        **device,
        "conv_flops_per_s": peaks[0],
        "gemm_flops_per_s": peaks[1],
        "vector_flops_per_s": peaks[2],
        "bandwidth_bytes_per_s": bytes_per_s,
        "compute_scale": scales.compute,
        "memory_scale": scales.memory,
        "host_scale": scales.host,
        "link_bytes_per_s": math.inf,
    }
    return DeviceRates(**{name: np.array([value]) for name, value in fields.items()})


def graph_load(
    batch: float,
    precision: str,
    execution: str,
    *,
    layout: str = "nchw",
    host: bool,
    training: bool = False,
    parameters: float = 0.0,
    decode_images_per_s: float = math.inf,
    log_residual: float = 0.0,
) -> ImageLoad:
    """One row of load; inputs are counted as being on the device already."""
    act, wide, weight = PRECISION_BYTES[precision]
    profile = profile_of(execution, layout, host=host)
    if training and not host:
        profile = "train-nhwc" if layout == "nhwc" else "train"

    def column(value: float) -> np.ndarray:
        return np.array([float(value)])

    return ImageLoad(
        batch=column(batch),
        profile=np.array([PROFILES.index(profile)]),
        act_bytes=column(act),
        wide_bytes=column(wide),
        weight_bytes=column(min(act, weight)),
        autocast=column(precision.startswith("amp")),
        parameters=column(parameters),
        input_bytes=column(0.0),
        decode_images_per_s=column(decode_images_per_s),
        log_residual=column(log_residual),
    )
