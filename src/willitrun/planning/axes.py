"""The axes of a sweep, lowered once per distinct value instead of once per row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

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
from willitrun.estimators.llm_machines import workload_row
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.support import support_of
from willitrun.estimators.workloads import (
    ENCODER_TASKS,
    ENGINES,
    LLM_TASKS,
    complete_workload,
    trained_context,
)
from willitrun.hardware.descriptions import describe_machine
from willitrun.kernels.columns import Columns, columns_of
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Reason

__all__ = ["Axes", "Slot", "Unit", "build_axes", "refuse_empty"]


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


@dataclass(frozen=True, slots=True, eq=False)
class Loads:
    """The workloads of a sweep as a model fills them, and as columns; models that fill them alike share one."""

    workloads: tuple[Workload, ...]
    columns: Columns | None
    """None where the task has no rows of its own."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One model at one format on one runtime: a slot per machine and placement, and the loads."""

    slots: tuple[Slot, ...]
    loads: Loads

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
    refuse_empty(models=models, machines=machines, workloads=workloads)
    described = [describe_machine(machine, catalog=catalog) for machine in machines]
    lowered: dict[Hashable, Loads] = {}
    units = []
    for reference in models:
        model = describe_model(reference, catalog=catalog)
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
                engine = requests[0].profile.id if requests[0].profile.id in ENGINES else ""
                if (key := (_fills_alike(model), engine)) not in lowered:
                    lowered[key] = _lower_loads(model, workloads, engine)
                slots = tuple(_slot(closed(request)) for request in requests)
                units.append(Unit(slots, lowered[key]))
    names = tuple(machine.name for machine in described)
    return Axes(catalog, tuple(units), names, len(placements), len(workloads))


def refuse_empty(**axes: Sequence[Any]) -> None:
    """An axis is a list with something in it; a string would be taken letter by letter.

    Raises
    ------
    InvalidWorkloadError
        It is not.
    """
    for name, values in axes.items():
        if isinstance(values, str) or not len(values):
            raise InvalidWorkloadError(f"{name} is a list with something in it, got {values!r}.")


def _fills_alike(model: Model) -> Hashable:
    """What decides how a model fills a workload: models that agree on it share their loads."""
    transformer = model.transformer
    if model.task not in LLM_TASKS or transformer is None:
        return model.id
    return model.task, trained_context(model), transformer.vision


def _lower_loads(model: Model, workloads: Sequence[Workload], runtime: str) -> Loads:
    filled = tuple(complete_workload(model, workload, runtime)[0] for workload in workloads)
    if model.task not in LLM_TASKS and model.task not in ENCODER_TASKS:
        return Loads(filled, None)
    return Loads(filled, columns_of([workload_row(model, load) for load in filled]))


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


def _slot(request: Request) -> Slot:
    language = request.model.task in LLM_TASKS or request.model.task in ENCODER_TASKS
    if not language or request.workload.mode != "inference":
        return Slot(request, None, None, "", "", "")
    transformer = request.model.transformer
    heads = transformer.num_attention_heads if transformer is not None else None
    try:
        prepared = prepare(request)
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
