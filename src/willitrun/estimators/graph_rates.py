"""A device and a load as rows of the operator roofline, for graphs that are parts of something larger."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.estimators.graph_devices import (
    device_levels,
    host_levels,
    processor_generation,
    used_accelerator,
)
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.rates import device_rates
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.operator_inputs import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    resolve_coefficients,
)
from willitrun.records.calibrations import Calibration
from willitrun.records.machines import InstalledAccelerator, Machine

__all__ = [
    "PRECISION_BYTES",
    "Scales",
    "VISION",
    "accelerator_rates",
    "graph_coefficients",
    "graph_load",
    "graph_rates",
    "precision_peaks",
    "processor_rates",
    "profile_of",
    "profile_rates",
    "vision_scales",
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


@lru_cache(maxsize=8)
def graph_coefficients(catalog: Catalog) -> OperatorCoefficients:
    """The coefficients that all graphs of operators share."""
    calibration = catalog.calibrations[VISION]
    return resolve_coefficients(calibration.coefficients, calibration.levels)


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
