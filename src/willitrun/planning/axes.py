"""The axes of a sweep, lowered once per distinct value instead of once per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from willitrun.catalog import Catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.evaluation import from_error
from willitrun.estimators.llm_evaluation import Prepared, prepare
from willitrun.estimators.llm_machines import MachineView, WorkloadRow, machine_row, parallel, workload_row
from willitrun.estimators.requests import Request, complete_request, with_machine
from willitrun.estimators.support import support_of
from willitrun.estimators.workloads import ENCODER_TASKS, LLM_TASKS, complete_workload
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Reason

__all__ = ["Axes", "Slot", "Unit", "build_axes"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One machine with one placement, as one unit uses it."""

    view: MachineView
    parallelism: tuple[int, int, int, int]
    placement: Placement
    level: str
    evidence: str
    blocked: str
    """Reason code of what stands in the way whatever memory says; empty if nothing does."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One model at one format on one runtime, with its slots and loads."""

    request: Request
    prepared: Prepared | None
    problem: Reason | None
    slots: tuple[Slot, ...]
    loads: tuple[WorkloadRow, ...]
    workloads: tuple[Workload, ...]
    requests: tuple[Request, ...]
    """One request per slot, with the first workload."""


@dataclass(frozen=True, slots=True)
class Axes:
    """A lowered sweep. Rows are ordered unit by unit, then machine, placement, workload."""

    catalog: Catalog
    units: tuple[Unit, ...]
    machines: tuple[str, ...]
    n_placements: int
    n_workloads: int

    @property
    def rows_per_unit(self) -> int:
        """Rows of one unit."""
        return len(self.machines) * self.n_placements * self.n_workloads

    def __len__(self) -> int:
        return len(self.units) * self.rows_per_unit


def build_axes(
    *,
    models: Sequence[Any],
    machines: Sequence[Any],
    workloads: Sequence[Workload],
    quantizations: Sequence[str | None],
    runtimes: Sequence[str | Runtime | None],
    placements: Sequence[str | Placement | None],
    catalog: Catalog,
) -> Axes:
    """Describe and lower every distinct value of every axis."""
    described = [describe_machine(machine, catalog=catalog) for machine in machines]
    views: dict[tuple[Any, ...], tuple[MachineView, tuple[int, int, int, int]]] = {}
    units = []
    for reference in models:
        model = describe_model(reference, catalog=catalog)
        for quantization in quantizations:
            for runtime in runtimes:
                base = complete_request(
                    model,
                    described[0],
                    workloads[0],
                    quantization=quantization,
                    runtime=runtime,
                    catalog=catalog,
                )
                units.append(_unit(base, described, workloads, placements, views))
    return Axes(
        catalog, tuple(units), tuple(machine.name for machine in described), len(placements), len(workloads)
    )


def _unit(
    base: Request,
    machines: Sequence[Machine],
    workloads: Sequence[Workload],
    placements: Sequence[str | Placement | None],
    views: dict[tuple[Any, ...], tuple[MachineView, tuple[int, int, int, int]]],
) -> Unit:
    filled = tuple(complete_workload(base.model, workload)[0] for workload in workloads)
    requests: list[Request] = []
    for number, machine in enumerate(machines):
        for placement in placements:
            chosen = (
                placement
                if isinstance(placement, Placement)
                else Placement.model_validate({"strategy": placement})
            )
            moved = base if number == 0 else with_machine(base, machine)
            requests.append(replace(moved, placement=chosen))
    language = base.model.task in LLM_TASKS or base.model.task in ENCODER_TASKS
    if not language or base.workload.mode != "inference":
        return Unit(base, None, None, (), (), filled, tuple(requests))
    try:
        prepared = prepare(base)
    except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
        return Unit(base, None, from_error(base, error).reason, (), (), filled, tuple(requests))
    slots = tuple(_slot(request, number // len(placements), views) for number, request in enumerate(requests))
    loads = tuple(workload_row(replace(base, workload=workload)) for workload in filled)
    return Unit(base, prepared, None, slots, loads, filled, tuple(requests))


def _slot(
    request: Request,
    machine: int,
    views: dict[tuple[Any, ...], tuple[MachineView, tuple[int, int, int, int]]],
) -> Slot:
    transformer = request.model.transformer
    heads = transformer.num_attention_heads if transformer is not None else None
    key = (machine, request.profile.id, request.runtime.backend, repr(request.placement), heads)
    if key not in views:
        view = machine_row(request)
        views[key] = (view, parallel(request, len(view.available)))
    view, ranks = views[key]
    support = support_of(request, view.device_ids, "llm-speed")
    blockers = [reason.code for reason in request.blockers if reason.code != "context-above-trained-maximum"]
    if heads is not None and ranks[0] > 1 and heads % ranks[0]:
        blockers.insert(0, "tensor-parallel-does-not-divide")
    return Slot(
        view, ranks, request.placement, support.level, support.evidence, blockers[0] if blockers else ""
    )


def available_matrix(slots: Sequence[Slot]) -> np.ndarray:
    """Room by device, padded with zeros, int64 of shape (slots, devices)."""
    width = max(len(slot.view.available) for slot in slots)
    table = np.zeros((len(slots), width), dtype=np.int64)
    for number, slot in enumerate(slots):
        table[number, : len(slot.view.available)] = slot.view.available
    return table
