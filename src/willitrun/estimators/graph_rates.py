"""A device and a load as rows of the operator roofline, for graphs that are parts of something larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.estimators.graph_evaluation import (
    PRECISION_BYTES,
    device_class,
    host_class,
    precision_peaks,
    profile_of,
)
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.kernels.operator_inputs import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    resolve_coefficients,
)
from willitrun.kernels.operator_work import OperatorWork
from willitrun.records.knowledge import Calibration

__all__ = ["Scales", "graph_coefficients", "graph_load", "graph_rates", "trace_work", "vision_scales"]

VISION = "vision-speed"


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors on what a device sustains, from a calibration [1]."""

    compute: float
    memory: float
    host: float


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
