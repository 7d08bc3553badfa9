"""Classifiers, detectors and other graphs of operators: requests to rows, rows to blocks, blocks to results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from willitrun.errors import MissingDataError
from willitrun.estimators.calibration_anchors import Shift
from willitrun.estimators.datasets import dataset_reasons
from willitrun.estimators.evaluation import Evaluated, from_error
from willitrun.estimators.graph_intervals import interval_key, narrowed, spread_factors, spread_kind
from willitrun.estimators.graph_packing import graph_reasons, pack_graph_memory, pack_graph_speed
from willitrun.estimators.graph_rates import profile_of, profile_rates
from willitrun.estimators.graph_sides import (
    DeviceRow,
    NetworkRow,
    device_row,
    meet,
    network_row,
    pass_row,
    stack_rates,
)
from willitrun.estimators.graph_totals import TOTALS
from willitrun.estimators.graph_traces import find_trace, residual_of, work_of
from willitrun.estimators.llm_machines import MachineView, machine_row, on_host
from willitrun.estimators.ready import where_it_runs
from willitrun.estimators.requests import Request
from willitrun.estimators.support import LEVELS, Support, support_of
from willitrun.frozen import derived, frozen
from willitrun.intervals import Interval
from willitrun.kernels.columns import at, columns_of, devices_at, numbers_of_row
from willitrun.kernels.elementwise import numbers_of
from willitrun.kernels.graph_block import GraphBlock
from willitrun.kernels.operator_inputs import DeviceRates
from willitrun.kernels.operator_work import OperatorWork
from willitrun.kernels.operators import ImageSpeed, waits_for_host
from willitrun.kernels.placement import TIERS
from willitrun.records.recipes import Placement
from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Tier
from willitrun.records.traces import OperatorTrace

__all__ = [
    "EvaluatedGraph",
    "PreparedGraph",
    "evaluate_graphs",
    "prepare_graph",
    "run_graphs",
    "term_shares",
]

CALIBRATION = "vision-speed"


def term_shares(speed: ImageSpeed, place: int) -> np.ndarray:
    """Shares of the terms in the time of one pass, (terms,)."""
    parts = np.array([float(at(share, place)) for share in speed.shares])
    total: np.ndarray = parts / parts.sum()
    return total


@frozen
class PreparedGraph:
    """A request lowered to rows."""

    request: Request
    trace: OperatorTrace
    view: MachineView
    profile: str
    network: NetworkRow
    device: DeviceRow
    rates: DeviceRates

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
    return PreparedGraph(
        request=request,
        trace=trace,
        view=view,
        profile=profile,
        network=network_row(request, trace),
        device=device_row(request, view),
        rates=profile_rates(request, view, profile),
    )


def run_graphs(rows: Sequence[PreparedGraph]) -> GraphBlock:
    """One array call; one row by itself as numbers, through the same formulas."""
    if len(rows) == 1:
        return _run_alone(rows[0])
    return meet(
        columns_of([row.network for row in rows]),
        OperatorWork.stack([work_of(row.request, row.trace) for row in rows]),
        columns_of([row.device for row in rows]),
        stack_rates([row.rates for row in rows]),
        columns_of([pass_row(row.request.workload, row.profile) for row in rows]),
        np.array([residual_of(row.request, row.view, row.trace, row.profile) for row in rows]),
        rows[0].request.catalog,
    )


def _run_alone(row: PreparedGraph) -> GraphBlock:
    catalog = row.request.catalog
    rates = catalog.memo("graph-rates-of-one", most=1024).get(
        (row.rates,), None, lambda: numbers_of(row.rates)
    )
    return meet(
        numbers_of_row(row.network),
        work_of(row.request, row.trace).of_one_row(),
        numbers_of_row(row.device),
        rates,
        numbers_of_row(pass_row(row.request.workload, row.profile)),
        np.float64(residual_of(row.request, row.view, row.trace, row.profile)),  # type: ignore[arg-type]
        catalog,
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


@frozen
class EvaluatedGraph:
    """One row of an evaluated block."""

    prepared: PreparedGraph
    block: GraphBlock
    place: int

    @property
    def request(self) -> Request:
        """The request."""
        return self.prepared.request

    @derived
    def tier(self) -> Tier:
        """Tier by memory; whatever stands in the way makes it `will-not-run`."""
        if self.request.blockers:
            return "will-not-run"
        return TIERS[int(at(self.block.layout.tier, self.place))]  # type: ignore[return-value]

    @property
    def placement(self) -> Placement:
        """One device, or the host."""
        return Placement.model_construct(strategy="cpu" if self.prepared.view.row.on_host else "single")

    @derived
    def support(self) -> Support:
        """How far this case lies from the calibration data."""
        return support_of(self.request, self.prepared.view.device_ids, CALIBRATION)

    @derived
    def reasons(self) -> tuple[Reason, ...]:
        """Why this tier, what binds the speed, and remarks on the machine and the dataset."""
        return (
            *graph_reasons(self),
            *dataset_reasons(self.request, self.headline() if self.tier != "will-not-run" else None),
            *self.prepared.view.reasons,
            *where_it_runs(self.tier, *self.support.reasons),
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
        block, place = self.block, self.place
        ends = (block.activation_low, block.activation, block.activation_high)
        return Interval(*(float(at(end, place)) for end in ends))

    def total(self) -> Interval:
        """Memory on the device [bytes]."""
        layout, place = self.block.layout, self.place
        ends = (layout.total_low, layout.total, layout.total_high)
        return Interval(*(float(sum(devices_at(end, place))) for end in ends))

    @derived
    def _launch(self) -> bool:
        return bool(at(waits_for_host(self.block.speed), self.place))

    @derived
    def _kind(self) -> str:
        row = self.prepared
        return spread_kind(row.request, row.view)

    @derived
    def shift(self) -> Shift:
        """How measurements near by move the speed: by the terms of its time, as far as theirs say something of them."""
        return self.support.shift_images(term_shares(self.block.speed, self.place))

    def interval_task(self) -> str:
        """Key of the calibration's intervals."""
        calibration = self.request.catalog.calibrations[CALIBRATION]
        return interval_key(calibration, self.prepared.profile, launch=self._launch, kind=self._kind)

    @derived
    def is_calibrated(self) -> bool:
        """Whether runs of this way of execution were measured: without them there is no interval."""
        return bool(np.isfinite(self._factors).all())

    @derived
    def _factors(self) -> np.ndarray:
        row, level = self.prepared, LEVELS.index(self.support.level)
        factors = spread_factors(self.request.catalog, row.profile, self._kind)[int(self._launch), level]
        return narrowed(self.request.catalog, row.profile, factors, self.shift.narrowing, self.from_totals)

    def headline(self) -> tuple[str, Interval] | None:
        """Images per second; None where nothing of the kind was measured."""
        return self._headline

    @derived
    def _headline(self) -> tuple[str, Interval] | None:
        if not self.is_calibrated:
            return None
        best = float(at(self.block.speed.images_per_s, self.place)) * self.shift.factor
        low, high = self._factors.tolist()
        return "images_per_s", Interval(best * low, best, best * high)

    @derived
    def _memory(self) -> MemoryEstimate:
        return pack_graph_memory(self)

    @derived
    def _speed(self) -> SpeedEstimate | None:
        return pack_graph_speed(self)

    def memory_estimate(self) -> MemoryEstimate:
        """The memory estimate with terms."""
        return self._memory

    def speed_estimate(self) -> SpeedEstimate | None:
        """The speed estimate with terms."""
        return self._speed
