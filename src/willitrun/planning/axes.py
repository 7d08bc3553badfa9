"""The axes of a sweep, lowered once per distinct value instead of once per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from willitrun.catalog import Catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import (
    InvalidWorkloadError,
    MissingDataError,
    UnsupportedArchitectureError,
    UnsupportedFormatError,
)
from willitrun.estimators.evaluation import from_error
from willitrun.estimators.llm_evaluation import Prepared, prepare
from willitrun.estimators.llm_machines import MachineView, WorkloadRow, machine_row, workload_row
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.support import support_of
from willitrun.estimators.workloads import ENCODER_TASKS, LLM_TASKS, complete_workload
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Reason

__all__ = ["Axes", "Slot", "Unit", "build_axes"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One machine with one placement, as one unit uses it."""

    request: Request
    prepared: Prepared | None
    problem: Reason | None
    level: str
    evidence: str
    blocked: str
    """Reason code of what stands in the way whatever memory says; empty if nothing does."""
    anchored: bool = False
    """Whether measurements on these very devices have a say."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One model at one format on one runtime: a slot per machine and placement, and the loads."""

    slots: tuple[Slot, ...]
    loads: tuple[WorkloadRow, ...]
    workloads: tuple[Workload, ...]

    @property
    def request(self) -> Request:
        """The request of the first slot: model and format are those of all of them."""
        return self.slots[0].request


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
    views: dict[tuple[Any, ...], MachineView] = {}
    units = []
    for reference in models:
        model = describe_model(reference, catalog=catalog)
        filled = tuple(complete_workload(model, workload)[0] for workload in workloads)
        for quantization in quantizations:
            for runtime in runtimes:
                requests = [
                    complete_request(
                        model,
                        machine,
                        workloads[0],
                        quantization=quantization,
                        runtime=runtime,
                        placement=placement,
                        catalog=catalog,
                    )
                    for machine in described
                    for placement in placements
                ]
                slots = tuple(
                    _slot(closed(request), number // len(placements), views)
                    for number, request in enumerate(requests)
                )
                language = model.task in LLM_TASKS or model.task in ENCODER_TASKS
                loads = (
                    tuple(workload_row(replace(requests[0], workload=load)) for load in filled)
                    if language
                    else ()
                )
                units.append(Unit(slots, loads, filled))
    names = tuple(machine.name for machine in described)
    return Axes(catalog, tuple(units), names, len(placements), len(workloads))


def closed(request: Request) -> Request:
    """A sweep compares formats: one has to be named where the model has none of its own.

    Raises
    ------
    InvalidWorkloadError
        Nobody named a format and the model has none of its own.
    """
    if request.quantization_open:
        raise InvalidWorkloadError(
            f"{request.model.name} has no weight format of its own.",
            hint="Name formats: quantizations=['q4_k_m', 'q8_0'].",
        )
    return request


def _slot(request: Request, machine: int, views: dict[tuple[Any, ...], MachineView]) -> Slot:
    language = request.model.task in LLM_TASKS or request.model.task in ENCODER_TASKS
    if not language or request.workload.mode != "inference":
        return Slot(request, None, None, "", "", "")
    transformer = request.model.transformer
    heads = transformer.num_attention_heads if transformer is not None else None
    key = (machine, request.profile.id, request.runtime, request.placement, heads)
    try:
        if key not in views:
            views[key] = machine_row(request)
        prepared = prepare(request, view=views[key])
    except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
        return Slot(request, None, from_error(request, error).reason, "", "", "")
    support = support_of(request, prepared.machine.device_ids, "llm-speed")
    blockers = [reason.code for reason in request.blockers if reason.code != "context-above-trained-maximum"]
    ranks = prepared.parallelism[0]
    if heads is not None and ranks > 1 and heads % ranks:
        blockers.insert(0, "tensor-parallel-does-not-divide")
    return Slot(
        request,
        prepared,
        None,
        support.level,
        support.evidence,
        blockers[0] if blockers else "",
        support.anchors is not None,
    )


def available_matrix(slots: Sequence[Prepared]) -> np.ndarray:
    """Room by device, padded with zeros, int64 of shape (slots, devices)."""
    width = max(len(slot.machine.available) for slot in slots)
    table = np.zeros((len(slots), width), dtype=np.int64)
    for number, slot in enumerate(slots):
        table[number, : len(slot.machine.available)] = slot.machine.available
    return table
