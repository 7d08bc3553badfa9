"""A device and a load as rows of the operator roofline, for graphs that are parts of something larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.rates import device_rates
from willitrun.estimators.requests import Request
from willitrun.kernels.operator_inputs import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    resolve_coefficients,
)
from willitrun.kernels.operator_work import OperatorWork
from willitrun.records.accelerators import Accelerator
from willitrun.records.knowledge import Calibration
from willitrun.records.machines import InstalledAccelerator, Machine

__all__ = ["Scales", "graph_coefficients", "graph_load", "graph_rates", "trace_work", "vision_scales"]

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


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors on what a device sustains, from a calibration [1]."""

    compute: float
    memory: float
    host: float


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
    half = rates.bf16 if precision.endswith("bf16") and not math.isnan(rates.bf16) else rates.fp16
    half = rates.fp32 if math.isnan(half) else half
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


def host_class(request: Request) -> str:
    """Class of the host by the device's form: one host operation takes longer on servers and laptops."""
    machine = request.machine
    assert machine is not None
    if not machine.accelerators:
        return "desktop"
    form = machine.accelerators[0].accelerator.form
    if form.startswith(("server", "cloud")):
        return "server"
    if form.startswith("laptop"):
        return "laptop"
    return "board" if form in ("unified-soc", "sbc") else "desktop"


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


@lru_cache(maxsize=8)
def graph_coefficients(catalog: Catalog) -> OperatorCoefficients:
    """The coefficients that all graphs of operators share."""
    calibration = catalog.calibrations[VISION]
    return resolve_coefficients(calibration.coefficients, calibration.levels)


@lru_cache(maxsize=512)
def trace_work(catalog: Catalog, architecture: str, image_size: int) -> OperatorWork | None:
    """Work of a traced network, None where nobody has traced it."""
    trace = catalog.traces.find(architecture, image_size)
    return None if trace is None else OperatorWork.from_summary(trace.classes)


def device_kind(request: Request, view: MachineView) -> str:
    """Class of the device by which calibrations tell devices apart."""
    machine = request.machine
    assert machine is not None
    if view.row.on_host:
        return "cpu"
    used = next(d for d in machine.accelerators if d.accelerator.id == view.device_ids[0])
    return device_class(used.accelerator)


def vision_scales(request: Request, view: MachineView, calibration: Calibration) -> Scales:
    """Factors of the device's and of the host's class."""
    kind = device_kind(request, view)
    levels = calibration.levels
    host = 0.0 if view.row.on_host else levels.get("host_scale", {}).get(host_class(request), 0.0)
    return Scales(
        compute=math.exp(levels.get("device.compute", {}).get(kind, 0.0)),
        memory=math.exp(levels.get("device.memory", {}).get(kind, 0.0)),
        host=math.exp(host),
    )


def graph_rates(request: Request, view: MachineView, precision: str, scales: Scales) -> DeviceRates:
    """One row of rates of the device that the request uses."""
    machine = request.machine
    assert machine is not None
    units = clock = power = cache = 0.0
    if view.row.on_host:
        peaks = (view.row.fp32, view.row.fp32, view.row.fp32)
    else:
        device = next(d for d in machine.accelerators if d.accelerator.id == view.device_ids[0])
        peaks = precision_peaks(device, machine, precision)
        accelerator = device.accelerator
        units = float(accelerator.compute_units or 0)
        clock = float(accelerator.boost_clock or 0.0)
        power = float(device.power_limit_w or accelerator.tdp or 0.0)
        cache = float(accelerator.l2_cache or 0)

    def column(value: float) -> np.ndarray:
        return np.array([value])

    return DeviceRates(
        conv_flops_per_s=column(peaks[0]),
        gemm_flops_per_s=column(peaks[1]),
        vector_flops_per_s=column(peaks[2]),
        bandwidth_bytes_per_s=column(view.row.memory_bytes_per_s),
        cache_bytes=column(cache),
        multiprocessors=column(units),
        clock_hz=column(clock),
        power_w=column(power),
        compute_scale=column(scales.compute),
        memory_scale=column(scales.memory),
        host_scale=column(scales.host),
        link_bytes_per_s=column(math.inf),
    )


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
        log_residual=column(0.0),
    )
