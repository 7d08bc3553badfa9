"""The axes of a sweep, lowered once per distinct value instead of once per row."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence, Sized
from dataclasses import replace
from typing import Any

from willitrun.catalog import Catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import (
    InvalidWorkloadError,
    MissingDataError,
    UnsupportedArchitectureError,
    UnsupportedFormatError,
)
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.evaluation import from_error
from willitrun.estimators.llm_lowering import Prepared, prepare
from willitrun.estimators.llm_machines import workload_row
from willitrun.estimators.replicas import replicas_asked
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.support import support_of
from willitrun.estimators.workloads import (
    ENGINES,
    GRAPH_TASKS,
    LLM_TASKS,
    complete_workload,
    format_of_precision,
    in_format,
    is_language,
    trained_context,
)
from willitrun.frozen import frozen
from willitrun.hardware.descriptions import describe_machine
from willitrun.kernels.columns import Columns, columns_of
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Reason

__all__ = ["Axes", "Loads", "Slot", "Unit", "build_axes", "kinds_of", "refuse_empty", "refuse_lone"]


@frozen
class Slot:
    """One machine with one placement, as one unit uses it."""

    request: Request
    prepared: Prepared | None
    problem: Reason | None
    """A gap in the facts that makes every load unknown."""
    level: str
    evidence: str
    blocked: str
    """Reason code of what stands in the way whatever memory says; empty if nothing does."""
    anchored: bool = False
    """Whether measurements on these very devices have a say."""


@frozen(eq=False)
class Loads:
    """The workloads of a sweep as a model fills them, and as columns; models that fill them alike share one."""

    workloads: tuple[Workload, ...]
    columns: Columns | None
    """None where the task has no rows of its own."""


@frozen
class Unit:
    """One model at one format on one runtime: a slot per machine and placement, and the loads.

    A graph of operators has no slots: its requests differ between kinds of machines only.
    """

    slots: tuple[Slot, ...]
    loads: Loads
    by_kind: tuple[Request, ...] = ()
    """Of a graph: a request per kind of machine and placement."""
    quantization: str | None = None
    runtime: str | Runtime | None = None
    """Format and runtime as they were asked for, or a format to choose from."""

    @property
    def request(self) -> Request:
        """The request of the first machine: model and format are those of all of them."""
        return self.slots[0].request if self.slots else self.by_kind[0]


@frozen
class Axes:
    """A lowered sweep. Rows are ordered unit by unit, then machine, placement, workload."""

    catalog: Catalog
    units: tuple[Unit, ...]
    choices: tuple[int, ...]
    """Units per model, format and runtime asked for: several where the format is open, from best to smallest."""
    machines: tuple[str, ...]
    described: tuple[Machine, ...]
    kinds: tuple[int, ...]
    """Kind of each machine: what decides which runtime and back end suit a model, and what cannot run."""
    workloads: tuple[Workload, ...]
    """As they were asked for."""
    placements: tuple[str | Placement | None, ...]

    @property
    def n_placements(self) -> int:
        """Placements of each machine."""
        return len(self.placements)

    @property
    def n_workloads(self) -> int:
        """Loads of each line."""
        return len(self.workloads)

    def requests_of(self, unit: Unit, line: int) -> list[Request]:
        """The requests of one line of a unit, completed for its own machine."""
        machine, placement = divmod(line, self.n_placements)
        completed = complete_request(
            unit.request.model,
            self.described[machine],
            unit.loads.workloads[0],
            quantization=unit.quantization,
            runtime=unit.runtime,
            placement=self.placements[placement],
            catalog=self.catalog,
        )
        return [replace(completed, workload=load).rechecked() for load in unit.loads.workloads]

    def request_at(self, unit: Unit, line: int) -> Request:
        """What a line of a unit was lowered from."""
        machine, placement = divmod(line, self.n_placements)
        if unit.slots:
            return unit.slots[line].request
        return unit.by_kind[self.kinds[machine] * self.n_placements + placement]

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
    """Describe and lower every distinct value of every axis; the workloads share a mode."""
    described = [describe_machine(machine, catalog=catalog) for machine in machines]
    kinds = kinds_of(described)
    first_of_kind = [described[kinds.index(kind)] for kind in range(max(kinds, default=-1) + 1)]
    lowered: dict[Hashable, Loads] = {}
    units: list[Unit] = []
    choices = []
    for reference in models:
        model = describe_model(reference, catalog=catalog)
        graph = model.task in GRAPH_TASKS
        _refuse_mixed_formats(model, workloads, quantizations)
        for quantization in quantizations:
            for runtime in runtimes:
                formats = _formats(model, described[0], workloads[0], quantization, runtime, catalog)
                choices.append(len(formats))
                for chosen in formats:
                    requests = tuple(
                        complete_request(
                            model,
                            machine,
                            workloads[0],
                            quantization=chosen,
                            runtime=runtime,
                            placement=placement,
                            catalog=catalog,
                        )
                        for machine in (first_of_kind if graph else described)
                        for placement in placements
                    )
                    engine = requests[0].profile.id if requests[0].profile.id in ENGINES else ""
                    record = requests[0].quantization
                    named = record.id if graph and quantization is not None and record is not None else None
                    if (key := (_fills_alike(model, workloads), engine, named)) not in lowered:
                        lowered[key] = _lower_loads(model, workloads, engine, named)
                    loads = lowered[key]
                    slots = () if graph else tuple(_slot(request, loads) for request in requests)
                    units.append(Unit(slots, loads, requests if graph else (), chosen, runtime))
    names = tuple(machine.name for machine in described)
    return Axes(
        catalog,
        tuple(units),
        tuple(choices),
        names,
        tuple(described),
        kinds,
        tuple(workloads),
        tuple(placements),
    )


def kinds_of(machines: Sequence[Machine]) -> tuple[int, ...]:
    """Kind of each machine, numbered as they come.

    Vendors in their order and the system decide which runtime and back end suit a model, and what cannot run.
    """
    known: dict[tuple[object, ...], int] = {}
    found = []
    for machine in machines:
        vendors = tuple(dict.fromkeys(device.accelerator.vendor for device in machine.accelerators))
        found.append(known.setdefault((vendors, machine.host.system), len(known)))
    return tuple(found)


def refuse_empty(**axes: Sequence[Any]) -> None:
    """An axis is a list with something in it; a string would be taken letter by letter.

    Raises
    ------
    InvalidWorkloadError
        It is not.
    """
    for name, values in axes.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sized) or not len(values):
            raise InvalidWorkloadError(f"{name} is a list with something in it, got {values!r}.")


def refuse_lone(**axes: object) -> None:
    """Choices are given as a list, or not at all; a string would be taken letter by letter.

    Raises
    ------
    InvalidWorkloadError
        One of them is neither None nor a list.
    """
    for name, values in axes.items():
        if values is not None and (isinstance(values, str | bytes) or not isinstance(values, Iterable)):
            raise InvalidWorkloadError(
                f"{name} is a list, got {type(values).__name__}.", hint=f"Pass {name}=[{values!r}]."
            )


def _refuse_mixed_formats(
    model: Model, workloads: Sequence[Workload], quantizations: Sequence[str | None]
) -> None:
    """Formats are an axis of their own: precisions that mean several weight formats would hide another."""
    if None in quantizations and len({format_of_precision(model, load) for load in workloads}) > 1:
        raise InvalidWorkloadError(
            f"The workloads' precisions mean several weight formats of {model.name}.",
            hint="Leave precision out and name formats: quantizations=['f16', 'f32'].",
        )


def _fills_alike(model: Model, workloads: Sequence[Workload]) -> Hashable:
    """What decides how a model fills a workload: models that agree on it share their loads."""
    transformer = model.transformer
    if model.task in GRAPH_TASKS and transformer is None:
        return model.task, model.vision.image_size if model.vision is not None else None
    if model.task not in LLM_TASKS or transformer is None:
        return model.id
    # The trained maximum only decides where nobody names a context.
    left_open = any(load.context_tokens is None for load in workloads)
    return model.task, trained_context(model) if left_open else None, transformer.vision


def _lower_loads(
    model: Model, workloads: Sequence[Workload], runtime: str, quantization: str | None
) -> Loads:
    filled = tuple(
        complete_workload(model, in_format(model, workload, quantization), runtime)[0]
        for workload in workloads
    )
    if not is_language(model) or any(load.mode != "inference" for load in filled):
        return Loads(filled, None)
    return Loads(filled, columns_of([workload_row(model, load) for load in filled]))


def _formats(
    model: Model,
    machine: Machine,
    workload: Workload,
    quantization: str | None,
    runtime: str | Runtime | None,
    catalog: Catalog,
) -> tuple[str | None, ...]:
    """The format that was asked for, or those to choose from where nobody chose and the model has none of its own."""
    if quantization is not None:
        return (quantization,)
    request = complete_request(model, machine, workload, runtime=runtime, catalog=catalog)
    return GGUF_LADDER if request.quantization_open else (None,)


def _slot(request: Request, loads: Loads) -> Slot:
    if loads.columns is None or replicas_asked(request) > 1:
        return Slot(request, None, None, "", "", "")
    try:
        prepared = prepare(request)
    except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
        # How many tokens an image takes may be what is missing: then it depends on the load.
        lasting = not any(load.images for load in loads.workloads)
        return Slot(request, None, from_error(request, error).reason if lasting else None, "", "", "")
    support = support_of(request, prepared.machine.device_ids, "llm-speed")
    blockers = [reason.code for reason in request.blockers if reason.code != "context-above-trained-maximum"]
    if not prepared.lowered.divides:
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
