"""Classifiers, detectors and other graphs of operators: requests to rows, rows to blocks, blocks to results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.datasets import dataset_reasons, decode_rate
from willitrun.estimators.evaluation import Evaluated, from_error
from willitrun.estimators.graph_packing import graph_reasons, pack_graph_memory, pack_graph_speed
from willitrun.estimators.llm_machines import MachineView, machine_row, on_host
from willitrun.estimators.overheads import allocator_factors, runtime_overhead
from willitrun.estimators.rates import device_rates
from willitrun.estimators.requests import Request
from willitrun.estimators.support import Support, interval_of, support_of
from willitrun.intervals import Interval
from willitrun.kernels.graph_block import GraphBlock, GraphMemory, assess_graphs
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
from willitrun.kernels.placement import TIERS
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.recipes import Placement
from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Tier
from willitrun.records.traces import OperatorTrace

__all__ = ["EvaluatedGraph", "evaluate_graphs", "precision_peaks", "profile_of"]

CALIBRATION = "vision-speed"

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
class PreparedGraph:
    """A request lowered to rows."""

    request: Request
    trace: OperatorTrace
    view: MachineView
    profile: int
    peaks: tuple[float, float, float]
    units: float
    clock_hz: float
    power_w: float
    cache_bytes: float
    compute_scale: float
    memory_scale: float
    host_scale: float
    overhead: tuple[int, int, int]
    allocator_share: float
    decode_per_s: float
    has_trace: bool


@lru_cache(maxsize=8)
def _coefficients(catalog: Catalog) -> OperatorCoefficients:
    calibration = catalog.calibrations[CALIBRATION]
    return resolve_coefficients(calibration.coefficients, calibration.levels)


@lru_cache(maxsize=2048)
def _work(trace_key: tuple[str, int], catalog: Catalog) -> OperatorWork:
    trace = catalog.traces.find(*trace_key)
    assert trace is not None
    return OperatorWork.from_summary(trace.classes)


@lru_cache(maxsize=8)
def _residuals(catalog: Catalog) -> ResidualTable:
    return resolve_residuals(catalog.calibrations[CALIBRATION].residuals)


@lru_cache(maxsize=4096)
def log_residual(catalog: Catalog, architecture: str, image_size: int, profile: str) -> float:
    """Learnt log ratio of measured to predicted time of a trace's shape; zero away from data."""
    features = work_features(_work((architecture, image_size), catalog))
    family = catalog.traces.family(architecture) or ""
    return float(_residuals(catalog).log_ratio(features, [family], RESIDUAL_OF_PROFILE[profile])[0])


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


def prepare_graph(request: Request) -> PreparedGraph:
    """Rows of one request.

    Raises
    ------
    MissingDataError
        No trace of the architecture, or no rates of the device.
    """
    vision = request.model.vision
    workload = request.workload
    if vision is None or vision.architecture is None:
        raise MissingDataError(
            f"{request.model.name}: no operator trace of its architecture.",
            hint="Trace it with willitrun.interop.tracing (extra 'torch').",
        )
    size = workload.image_size or vision.image_size
    trace = request.catalog.traces.find(vision.architecture, size)
    if trace is None:
        raise MissingDataError(
            f"{request.model.name}: the catalog has no operator trace of {vision.architecture!r}.",
            hint="Trace it with willitrun.interop.tracing (extra 'torch').",
        )
    machine = request.machine
    assert machine is not None
    view = machine_row(request)
    host = on_host(request)
    calibration = request.catalog.calibrations[CALIBRATION]
    precision = workload.precision or "fp32"
    scale = 1.0
    if host:
        peaks = (view.row.fp32, view.row.fp32, view.row.fp32)
        units = clock = power = cache = 0.0
        kind = "cpu"
    else:
        device = next(d for d in machine.accelerators if d.accelerator.id == view.device_ids[0])
        peaks = precision_peaks(device, machine, precision)
        accelerator = device.accelerator
        units = float(accelerator.compute_units or 0)
        clock = float(accelerator.boost_clock or 0.0)
        power = float(device.power_limit_w or accelerator.tdp or 0.0)
        cache = float(accelerator.l2_cache or 0)
        kind = device_class(accelerator)
        scale = math.exp(calibration.levels.get("host_scale", {}).get(host_class(request), 0.0))
    profile = profile_of(workload.execution or "eager", workload.layout or "nchw", host=host)
    return PreparedGraph(
        request=request,
        trace=trace,
        view=view,
        profile=PROFILES.index(profile),
        peaks=peaks,
        units=units,
        clock_hz=clock,
        power_w=power,
        cache_bytes=cache,
        compute_scale=math.exp(calibration.levels.get("device.compute", {}).get(kind, 0.0)),
        memory_scale=math.exp(calibration.levels.get("device.memory", {}).get(kind, 0.0)),
        host_scale=scale,
        overhead=runtime_overhead(request, host=host),
        allocator_share=allocator_factors(request)[2] - 1.0,
        decode_per_s=decode_rate(request),
        has_trace=trace.scaled_from is None,
    )


def run_graphs(rows: Sequence[PreparedGraph]) -> GraphBlock:
    """One array call."""
    catalog = rows[0].request.catalog
    sizes = [PRECISION_BYTES[row.request.workload.precision or "fp32"] for row in rows]
    amp = np.array([(row.request.workload.precision or "").startswith("amp") for row in rows])
    batch = np.array([row.request.workload.batch_size or 1 for row in rows], dtype=np.int64)
    n = len(rows)

    def ints(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    memory = GraphMemory(
        parameters=ints([row.trace.parameters for row in rows]),
        buffers=ints([row.trace.buffers for row in rows]),
        weight_bytes=ints([size[2] for size in sizes]),
        activation_bytes=ints([size[0] for size in sizes]),
        peak_elements=ints([row.trace.peak_elements for row in rows]),
        peak_autocast_bytes=ints([row.trace.peak_autocast_bytes for row in rows]),
        autocast=amp,
        batch=batch,
        overhead=ints([row.overhead[1] for row in rows]),
        overhead_low=ints([row.overhead[0] for row in rows]),
        overhead_high=ints([row.overhead[2] for row in rows]),
        activation_high_share=np.array([row.allocator_share for row in rows]),
    )
    peaks = np.array([row.peaks for row in rows])
    rates = DeviceRates(
        conv_flops_per_s=peaks[:, 0],
        gemm_flops_per_s=peaks[:, 1],
        vector_flops_per_s=peaks[:, 2],
        bandwidth_bytes_per_s=np.array([row.view.row.memory_bytes_per_s for row in rows]),
        cache_bytes=np.array([row.cache_bytes for row in rows]),
        multiprocessors=np.array([row.units for row in rows]),
        clock_hz=np.array([row.clock_hz for row in rows]),
        power_w=np.array([row.power_w for row in rows]),
        compute_scale=np.array([row.compute_scale for row in rows]),
        memory_scale=np.array([row.memory_scale for row in rows]),
        host_scale=np.array([row.host_scale for row in rows]),
        link_bytes_per_s=np.full(n, np.inf),
    )
    load = ImageLoad(
        batch=batch.astype(np.float64),
        profile=np.array([row.profile for row in rows]),
        act_bytes=np.array([float(size[0]) for size in sizes]),
        wide_bytes=np.array([float(size[1]) for size in sizes]),
        # Under autocast kernels read the half-precision copy of a weight.
        weight_bytes=np.array([float(min(size[0], size[2])) for size in sizes]),
        autocast=amp.astype(np.float64),
        parameters=np.zeros(n),
        input_bytes=np.array(
            [3.0 * row.trace.image_size**2 * size[1] for row, size in zip(rows, sizes, strict=True)]
        ),
        decode_images_per_s=np.array([row.decode_per_s for row in rows]),
        log_residual=np.array(
            [
                log_residual(catalog, row.trace.architecture, row.trace.image_size, PROFILES[row.profile])
                for row in rows
            ]
        ),
    )
    work = OperatorWork.stack(
        [_work((row.trace.architecture, row.trace.image_size), catalog) for row in rows]
    )
    return assess_graphs(
        memory,
        ints([max(row.view.available) for row in rows])[:, None],
        ints([row.view.row.host_available for row in rows]),
        np.array([row.view.row.unified for row in rows]),
        work,
        rates,
        load,
        _coefficients(catalog),
    )


def evaluate_graphs(requests: Sequence[Request]) -> list[Evaluated]:
    """Evaluate image-model requests in one block."""
    results: list[Evaluated | None] = [None] * len(requests)
    members: list[tuple[int, PreparedGraph]] = []
    for number, request in enumerate(requests):
        if request.workload.mode != "inference":
            from willitrun.estimators.training import evaluate_training

            results[number] = evaluate_training(request)
            continue
        try:
            members.append((number, prepare_graph(request)))
        except MissingDataError as error:
            results[number] = from_error(request, error)
    if members:
        block = run_graphs([row for _, row in members])
        for place, (number, row) in enumerate(members):
            results[number] = EvaluatedGraph(row, block, place)
    return [result for result in results if result is not None]


@dataclass(frozen=True)
class EvaluatedGraph:
    """One row of an evaluated block."""

    prepared: PreparedGraph
    block: GraphBlock
    place: int

    @property
    def request(self) -> Request:
        """The request."""
        return self.prepared.request

    @cached_property
    def tier(self) -> Tier:
        """Tier by memory; whatever stands in the way makes it `will-not-run`."""
        if self.request.blockers:
            return "will-not-run"
        return TIERS[int(self.block.layout.tier[self.place])]  # type: ignore[return-value]

    @property
    def placement(self) -> Placement:
        """One device, or the host."""
        return Placement(strategy="cpu" if self.prepared.view.row.on_host else "single")

    @cached_property
    def support(self) -> Support:
        """How far this case lies from the calibration data."""
        return support_of(self.request, self.prepared.view.device_ids, CALIBRATION)

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Why this tier, what binds the speed, and remarks on the machine and the dataset."""
        return (
            *graph_reasons(self),
            *dataset_reasons(self.request, self.headline()),
            *self.prepared.view.reasons,
            *self.support.reasons,
        )

    @property
    def cites(self) -> tuple[str, ...]:
        """Measurements that the speed rests on."""
        return self.support.cites

    @property
    def calibrations(self) -> tuple[str, ...]:
        """Calibrations that were used."""
        return (CALIBRATION, "memory", "system-reserve")

    def total(self) -> Interval:
        """Memory on the device [bytes]."""
        layout, place = self.block.layout, self.place
        return Interval(
            float(layout.total_low[place].sum()),
            float(layout.total[place].sum()),
            float(layout.total_high[place].sum()),
        )

    def interval_task(self) -> str:
        """Key of the calibration's intervals."""
        return PROFILES[self.prepared.profile].removesuffix("-nhwc")

    @cached_property
    def is_calibrated(self) -> bool:
        """Whether runs of this way of execution were measured: without them there is no interval."""
        intervals = self.request.catalog.calibrations[CALIBRATION].intervals
        return any(name.startswith(f"{self.interval_task()}/") for name in intervals)

    def headline(self) -> tuple[str, Interval] | None:
        """Images per second; None where nothing of the kind was measured."""
        if not self.is_calibrated:
            return None
        calibration = self.request.catalog.calibrations[CALIBRATION]
        best = float(self.block.speed.images_per_s[self.place])
        shift = self.support.shift("images")
        return "images_per_s", interval_of(
            calibration, self.interval_task(), self.support.level, best, shift=shift
        )

    @cached_property
    def _memory(self) -> MemoryEstimate:
        return pack_graph_memory(self)

    @cached_property
    def _speed(self) -> SpeedEstimate | None:
        return pack_graph_speed(self)

    def memory_estimate(self) -> MemoryEstimate:
        """The memory estimate with terms."""
        return self._memory

    def speed_estimate(self) -> SpeedEstimate | None:
        """The speed estimate with terms."""
        return self._speed
