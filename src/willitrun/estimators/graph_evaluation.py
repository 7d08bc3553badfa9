"""Classifiers, detectors and other graphs of operators: requests to rows, rows to blocks, blocks to results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from willitrun.errors import MissingDataError
from willitrun.estimators.datasets import dataset_reasons, decode_rate
from willitrun.estimators.evaluation import Evaluated, from_error
from willitrun.estimators.graph_packing import graph_reasons, pack_graph_memory, pack_graph_speed
from willitrun.estimators.graph_rates import (
    PRECISION_BYTES,
    device_class,
    find_trace,
    graph_coefficients,
    graph_rates,
    interval_task,
    profile_of,
    residual_of,
    used_accelerator,
    vision_scales,
    work_of,
)
from willitrun.estimators.graph_totals import TOTALS, totals_peak, widened_by_totals
from willitrun.estimators.llm_machines import MachineView, machine_row, on_host
from willitrun.estimators.overheads import allocator_slack, runtime_overhead
from willitrun.estimators.requests import Request
from willitrun.estimators.support import Support, interval_of, support_of
from willitrun.intervals import Interval
from willitrun.kernels.graph_block import GraphBlock, GraphMemory, assess_graphs
from willitrun.kernels.operator_inputs import PROFILES, DeviceRates, ImageLoad
from willitrun.kernels.operator_work import OperatorWork
from willitrun.kernels.operators import BOUNDS
from willitrun.kernels.placement import TIERS
from willitrun.records.recipes import Placement
from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Tier
from willitrun.records.traces import OperatorTrace

__all__ = ["EvaluatedGraph", "PreparedGraph", "evaluate_graphs", "prepare_graph", "run_graphs"]

CALIBRATION = "vision-speed"


@dataclass(frozen=True, slots=True)
class PreparedGraph:
    """A request lowered to rows."""

    request: Request
    trace: OperatorTrace
    view: MachineView
    profile: int
    rates: DeviceRates
    overhead: tuple[int, int, int]
    allocator_share: float
    decode_per_s: float
    has_trace: bool

    @property
    def fastest_peak(self) -> float:
        """The highest arithmetic peak that the precision may use [FLOP/s]."""
        rates = self.rates
        return float(max(rates.conv_flops_per_s[0], rates.gemm_flops_per_s[0], rates.vector_flops_per_s[0]))


def prepare_graph(request: Request) -> PreparedGraph:
    """Rows of one request.

    Raises
    ------
    MissingDataError
        No trace of the architecture, or no rates of the device.
    """
    workload = request.workload
    trace = find_trace(request)
    view = machine_row(request)
    host = on_host(request)
    profile = profile_of(workload.execution or "eager", workload.layout or "nchw", host=host)
    spread = totals_peak(request.catalog)[1] if trace.tool == TOTALS else 1.0
    scales = vision_scales(request, view, request.catalog.calibrations[CALIBRATION], profile)
    return PreparedGraph(
        request=request,
        trace=trace,
        view=view,
        profile=PROFILES.index(profile),
        rates=graph_rates(request, view, workload.precision or "fp32", scales),
        overhead=runtime_overhead(request, host=host),
        allocator_share=(1.0 + allocator_slack(request)[1]) * spread - 1.0,
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
    rates = DeviceRates(
        **{
            field.name: np.concatenate([getattr(row.rates, field.name) for row in rows])
            for field in fields(DeviceRates)
        }
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
            [residual_of(row.request, row.view, row.trace, PROFILES[row.profile]) for row in rows]
        ),
    )
    work = OperatorWork.stack([work_of(row.request, row.trace) for row in rows])
    return assess_graphs(
        memory,
        ints([max(row.view.available) for row in rows])[:, None],
        ints([row.view.row.host_available for row in rows]),
        np.array([row.view.row.unified for row in rows]),
        work,
        rates,
        load,
        graph_coefficients(catalog),
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
        return Placement.model_construct(strategy="cpu" if self.prepared.view.row.on_host else "single")

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
        more = ("vision-totals",) if self.from_totals else ()
        return (CALIBRATION, *more, "memory", "system-reserve")

    @property
    def from_totals(self) -> bool:
        """Whether the work is spread from published totals, since nobody traced the network."""
        return self.prepared.trace.tool == TOTALS

    def activation(self) -> Interval:
        """Live activations, their holes included [bytes]."""
        best = float(self.block.activation[self.place])
        low = totals_peak(self.request.catalog)[0] if self.from_totals else 1.0
        return Interval(best * low, best, best * (1.0 + self.prepared.allocator_share))

    def total(self) -> Interval:
        """Memory on the device [bytes]."""
        layout, place, activation = self.block.layout, self.place, self.activation()
        return Interval(
            float(layout.total_low[place].sum()) - (activation.best - activation.low),
            float(layout.total[place].sum()),
            float(layout.total_high[place].sum()),
        )

    def interval_task(self) -> str:
        """Key of the calibration's intervals: the execution, apart where the host bounds it and by kind of device.

        A kind without measurements of this execution takes the interval of all.
        """
        launch = BOUNDS[int(self.block.speed.bound[self.place])] == "launch"
        row, intervals = self.prepared, self.request.catalog.calibrations[CALIBRATION].intervals
        on_host = row.view.row.on_host
        kind = "" if on_host else device_class(used_accelerator(self.request, row.view).accelerator)
        task = interval_task(PROFILES[row.profile], launch=launch, kind=kind)
        return task if f"{task}/unseen-device" in intervals else task.partition("@")[0]

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
        task, shift = self.interval_task(), self.support.shift("images")
        rate = interval_of(calibration, task, self.support.level, best, shift=shift)
        if self.from_totals:
            low, high = widened_by_totals(
                calibration.intervals, task, rate.low / rate.best, rate.high / rate.best
            )
            rate = Interval(rate.best * low, rate.best, rate.best * high)
        return "images_per_s", rate

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
