"""From what the caller wrote to a complete fit tuple, with everything that was assumed on the record."""

from __future__ import annotations

from typing import Any, Literal

from willitrun.catalog import Catalog, load_catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.defaults import default_backend, default_quantization, default_runtime
from willitrun.estimators.obstacles import find_obstacles
from willitrun.estimators.workloads import (
    GRAPH_TASKS,
    complete_workload,
    format_of_precision,
    image_size_reason,
    in_format,
)
from willitrun.frozen import frozen, with_changes
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Quantization, Runtime, RuntimeProfile, Workload
from willitrun.records.results import Reason

__all__ = [
    "MemoryMode",
    "Request",
    "complete_request",
    "with_machine",
    "with_quantization_checked",
    "refuse_other_memory",
    "refuse_other_types",
    "with_runtime_checked",
    "with_runtime_fields",
]

MemoryMode = Literal["free", "idle", "nameplate"]


_LEFT_OPEN = Placement.model_construct(strategy=None)


@frozen
class Request:
    """A complete fit tuple.

    ``quantization`` is None for graph models, whose ``workload.precision`` says it all. ``blockers`` are
    reasons for which the combination cannot run whatever memory says; ``notes`` say what was assumed.
    """

    catalog: Catalog
    model: Model
    machine: Machine | None
    workload: Workload
    quantization: Quantization | None
    runtime: Runtime
    profile: RuntimeProfile
    placement: Placement
    memory: MemoryMode
    defaulted: tuple[str, ...]
    notes: tuple[Reason, ...]
    blockers: tuple[Reason, ...]
    quantization_open: bool = False
    """Nobody chose the format: the engine may take the best that is comfortable."""

    def rechecked(self) -> Request:
        """The same request with what stands in its way found anew."""
        blockers = find_obstacles(
            self.catalog,
            self.model,
            self.machine,
            self.workload,
            self.quantization,
            self.runtime,
            self.profile,
            self.placement,
        )
        return with_changes(self, blockers=blockers)

    def unplaced(self) -> Request:
        """The same request with its placement left to the runtime."""
        return with_changes(self, placement=_LEFT_OPEN).rechecked()

    def with_quantization(self, quantization: Quantization) -> Request:
        """The same request at another weight format."""
        return with_changes(self, quantization=quantization, quantization_open=False)


def complete_request(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
    without_machine: bool = False,
) -> Request:
    """Resolve names, fill defaults, and collect what stands in the way.

    Raises
    ------
    UnknownIdError, AmbiguousNameError
        A name leads to no record, or to several.
    InvalidWorkloadError
        The workload, the runtime's options or the placement contradict the model's task.
    """
    catalog = catalog or load_catalog()
    refuse_other_memory(memory)
    refuse_other_types(workload, quantization, runtime, placement)
    described = describe_model(model, catalog=catalog)
    place = _machine(machine, catalog, without_machine)
    # All but the workload follows from names and records: it is settled once for them.
    mode = "inference" if workload is None else workload.mode
    quantization = quantization or format_of_precision(described, workload)
    setting = catalog.memo("settings").get(
        (described, place),
        (quantization, runtime, placement, mode),
        lambda: _settle(described, place, quantization, runtime, placement, mode, catalog),
    )
    named = None if quantization is None or setting.quantization is None else setting.quantization.id
    task_workload, filled = complete_workload(
        described, in_format(described, workload, named), setting.profile.id
    )
    _refuse_foreign_dataset(described, task_workload, catalog)
    assumed = image_size_reason(task_workload, filled)
    return Request(
        catalog=catalog,
        model=described,
        machine=place,
        workload=task_workload,
        quantization=setting.quantization,
        runtime=setting.runtime,
        profile=setting.profile,
        placement=setting.placement,
        memory=memory,  # type: ignore[arg-type]
        defaulted=(*(f"workload.{name}" for name in filled), *setting.defaulted),
        notes=setting.notes if assumed is None else (assumed, *setting.notes),
        blockers=find_obstacles(
            catalog,
            described,
            place,
            task_workload,
            setting.quantization,
            setting.runtime,
            setting.profile,
            setting.placement,
        ),
        quantization_open=setting.quantization_open,
    )


def refuse_other_memory(memory: object) -> None:
    """Which memory counts is one of three words.

    Raises
    ------
    InvalidWorkloadError
        It is not.
    """
    if memory not in ("free", "idle", "nameplate"):
        raise InvalidWorkloadError(f"memory is 'free', 'idle' or 'nameplate', got {memory!r}.")


def refuse_other_types(workload: object, quantization: object, runtime: object, placement: object) -> None:
    """A mapping is no recipe: what it would mean is said by the recipe's own fields.

    Raises
    ------
    InvalidWorkloadError
        One of them is of another type.
    """
    for what, value, kinds in (
        ("workload", workload, (Workload,)),
        ("quantization", quantization, (str,)),
        ("runtime", runtime, (str, Runtime)),
        ("placement", placement, (str, Placement)),
    ):
        if value is not None and not isinstance(value, kinds):
            wanted = " or ".join("a name" if kind is str else f"a {kind.__name__}" for kind in kinds)
            kind = kinds[-1].__name__
            hint = f"Write {kind}(...) with the fields, such as {_SUCH_AS[kind]}." if kind in _SUCH_AS else ""
            raise InvalidWorkloadError(f"{what} is {wanted}, got {type(value).__name__}.", hint=hint)


_SUCH_AS = {
    "Workload": "Workload(context_tokens=8192)",
    "Runtime": "Runtime(name='llama.cpp', n_ubatch=1024)",
    "Placement": "Placement(tp=2)",
}


@frozen
class _Setting:
    """What a request takes beside model, machine and workload, with what was assumed."""

    quantization: Quantization | None
    quantization_open: bool
    runtime: Runtime
    profile: RuntimeProfile
    placement: Placement
    defaulted: tuple[str, ...]
    notes: tuple[Reason, ...]


def _settle(
    model: Model,
    machine: Machine | None,
    quantization: str | None,
    runtime: str | Runtime | None,
    placement: str | Placement | None,
    mode: str,
    catalog: Catalog,
) -> _Setting:
    defaulted: list[str] = []
    notes = [] if machine is None else _host_note(machine)
    asked_runtime = _runtime(runtime)
    format_open = False
    if quantization is None:
        defaulted.append("quantization")
        if mode == "inference":
            quantization, format_open = default_quantization(model, asked_runtime, catalog)
        elif model.task not in GRAPH_TASKS:
            quantization = "nf4" if mode == "qlora" else "bf16"
    record = None if quantization is None else catalog.resolve("quantization", quantization)
    if asked_runtime is None:
        defaulted.append("runtime")
        training = mode != "inference" and model.task not in GRAPH_TASKS
        suits = "transformers" if training else default_runtime(model, record, machine, catalog)
        asked_runtime = Runtime.model_construct(name=suits)
        what = model.task if record is None else "GGUF formats" if format_open else record.id
        notes.append(
            Reason.model_construct(
                code="assumed-runtime",
                message=f"Nobody named a runtime; {asked_runtime.name} suits {what}.",
                numbers={"runtime": asked_runtime.name},
            )
        )
    profile = catalog.resolve("runtime", asked_runtime.name)
    completed = asked_runtime.model_copy(
        update={"name": profile.id, "backend": asked_runtime.backend or default_backend(profile, machine)}
    )
    if machine is not None and asked_runtime.backend is None and completed.backend == "cpu":
        notes = [*_undriven(machine, profile), *notes]
    asked_placement = _placement(placement)
    # Equal recipes become one record, so that what follows from it for one model is found again for the next.
    recipes = catalog.memo("recipes")
    return _Setting(
        quantization=record,
        quantization_open=format_open,
        runtime=recipes.get((), completed, lambda: completed),
        profile=profile,
        placement=recipes.get((), asked_placement, lambda: asked_placement),
        defaulted=tuple(defaulted),
        notes=tuple(notes),
    )


def _refuse_foreign_dataset(model: Model, workload: Workload, catalog: Catalog) -> None:
    """A dataset of pictures says nothing about a chat model, and one has no split that nobody made."""
    if workload.dataset is None:
        if workload.split is not None:
            raise InvalidWorkloadError("split names a part of a dataset, and no dataset is named.")
        return
    dataset = catalog.resolve("dataset", workload.dataset)
    if dataset.task != model.task and not {dataset.task, model.task} <= GRAPH_TASKS:
        raise InvalidWorkloadError(
            f"{model.name} does {model.task}, {dataset.name} is for {dataset.task}.",
            hint="Leave dataset out, or choose another model.",
        )
    if workload.split is not None and workload.split not in dataset.splits:
        raise InvalidWorkloadError(
            f"{dataset.name} has no split {workload.split!r}.",
            hint=f"It has {', '.join(dataset.splits) or 'no split whose size a source states'}.",
        )


def _undriven(machine: Machine, profile: RuntimeProfile) -> list[Reason]:
    """That the processor computes although there are accelerators."""
    names = list(dict.fromkeys(device.accelerator.name for device in machine.accelerators))
    if not names:
        return []
    unknown = any(device.accelerator.vendor == "generic" for device in machine.accelerators)
    return [
        Reason.model_construct(
            code="accelerator-not-driven",
            message=f"{profile.name} has no back end for {', '.join(names)}: the processor computes, in the host's memory."
            + (" Describe the device with its vendor, such as 'nvidia'." if unknown else ""),
            numbers={"runtime": profile.id},
        )
    ]


def _host_note(machine: Machine) -> list[Reason]:
    if not machine.assumptions:
        return []
    return [
        Reason.model_construct(
            code="assumed-host",
            message=f"Nobody described the rest of the machine; assumed: {', '.join(machine.assumptions)}.",
        )
    ]


def with_machine(request: Request, machine: Machine) -> Request:
    """The same request on another machine, by the back end that drives it where nobody chose another than that."""
    runtime = request.runtime
    if runtime.backend == default_backend(request.profile, request.machine):
        backend = default_backend(request.profile, machine)
        if backend != runtime.backend:
            runtime = with_runtime_fields(request, backend=backend).runtime
    return with_changes(request, machine=machine, runtime=runtime).rechecked()


def with_runtime_fields(request: Request, **fields: Any) -> Request:
    """The same request with options of its runtime changed, unchecked. Alike changes give one record."""
    runtime = request.catalog.memo("runtime-fields").get(
        (request.runtime,), tuple(fields.items()), lambda: request.runtime.model_copy(update=fields)
    )
    return with_changes(request, runtime=runtime)


def with_quantization_checked(request: Request, name: str) -> Request | None:
    """The same request at another weight format, None if the catalog has no such format."""
    if name not in request.catalog.quantizations:
        return None
    return request.with_quantization(request.catalog.quantizations[name]).rechecked()


def with_runtime_checked(request: Request, name: str) -> Request | None:
    """The same request on another runtime, None if the catalog has no such runtime."""
    if name not in request.catalog.runtimes:
        return None
    profile = request.catalog.runtimes[name]
    runtime = request.catalog.memo("runtimes").get(
        (profile, request.machine),
        None,
        lambda: Runtime.model_construct(name=name, backend=default_backend(profile, request.machine)),
    )
    load = request.workload
    if "workload.execution" in request.defaulted:
        load, _ = complete_workload(request.model, load.model_copy(update={"execution": None}), name)
    return with_changes(request, runtime=runtime, profile=profile, workload=load).rechecked()


def _machine(machine: Any, catalog: Catalog, without_machine: bool) -> Machine | None:
    if machine is not None:
        return describe_machine(machine, catalog=catalog)
    if without_machine:
        return None
    from willitrun.hardware.detection import detect

    return detect()


def _runtime(runtime: str | Runtime | None) -> Runtime | None:
    """``"llama.cpp:vulkan"`` is a runtime and a back end."""
    if not isinstance(runtime, str):
        return runtime
    name, _, backend = runtime.partition(":")
    return Runtime(name=name, backend=backend or None)


def _placement(placement: str | Placement | None) -> Placement:
    if placement is None:
        return _LEFT_OPEN
    return placement if isinstance(placement, Placement) else Placement(strategy=placement)
