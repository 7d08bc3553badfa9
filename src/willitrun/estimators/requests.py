"""From what the caller wrote to a complete fit tuple, with everything that was assumed on the record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from willitrun.catalog import Catalog, load_catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.workloads import (
    ASR_TASKS,
    DIFFUSION_TASKS,
    ENCODER_TASKS,
    GRAPH_TASKS,
    LLM_TASKS,
    complete_workload,
    context_reason,
)
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Quantization, Runtime, RuntimeProfile, Workload
from willitrun.records.results import Reason

__all__ = [
    "GGUF_LADDER",
    "MemoryMode",
    "Request",
    "complete_request",
    "with_machine",
    "with_quantization_checked",
    "with_runtime_checked",
]

MemoryMode = Literal["free", "idle", "nameplate"]

GGUF_LADDER = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k")
"""Formats tried from best to smallest when nobody chose one."""

_BACKENDS: dict[str, tuple[str, ...]] = {
    "nvidia": ("cuda", "vulkan"),
    "amd": ("rocm", "vulkan"),
    "intel": ("sycl", "xpu", "openvino", "vulkan"),
    "apple": ("metal",),
    "google": ("tpu",),
    "qualcomm": ("vulkan",),
}


@dataclass(frozen=True, slots=True)
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
        blockers = _blockers(
            self.model, self.machine, self.workload, self.quantization, self.runtime, self.profile
        )
        return replace(self, blockers=blockers)

    def with_quantization(self, quantization: Quantization) -> Request:
        """The same request at another weight format."""
        return replace(self, quantization=quantization, quantization_open=False)


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
    if memory not in ("free", "idle", "nameplate"):
        raise InvalidWorkloadError(f"memory is 'free', 'idle' or 'nameplate', got {memory!r}.")
    described = describe_model(model, catalog=catalog)
    place = _machine(machine, catalog, without_machine)
    task_workload, filled = complete_workload(described, workload)
    _refuse_foreign_dataset(described, task_workload, catalog)
    defaulted = [f"workload.{name}" for name in filled]
    notes: list[Reason] = []
    if place is not None:
        notes += _host_note(place)

    asked_runtime = _runtime(runtime)
    format_open = False
    if quantization is None:
        defaulted.append("quantization")
        if task_workload.mode == "inference":
            quantization, format_open = _default_quantization(described, asked_runtime, catalog)
        elif described.task not in GRAPH_TASKS:
            quantization = "nf4" if task_workload.mode == "qlora" else "bf16"
    record = None if quantization is None else catalog.resolve("quantization", quantization)
    if asked_runtime is None:
        defaulted.append("runtime")
        training = task_workload.mode != "inference" and described.task not in GRAPH_TASKS
        suits = "transformers" if training else _default_runtime(described, record, place, catalog)
        asked_runtime = Runtime(name=suits)
        what = described.task if record is None else "GGUF formats" if format_open else record.id
        notes.append(
            Reason(
                code="assumed-runtime",
                message=f"Nobody named a runtime; {asked_runtime.name} suits {what}.",
                numbers={"runtime": asked_runtime.name},
            )
        )
    profile = catalog.resolve("runtime", asked_runtime.name)
    asked_runtime = asked_runtime.model_copy(
        update={"name": profile.id, "backend": asked_runtime.backend or _backend(profile, place)}
    )
    return Request(
        catalog=catalog,
        model=described,
        machine=place,
        workload=task_workload,
        quantization=record,
        runtime=asked_runtime,
        profile=profile,
        placement=_placement(placement),
        memory=memory,  # type: ignore[arg-type]
        defaulted=tuple(defaulted),
        notes=tuple(notes),
        blockers=_blockers(described, place, task_workload, record, asked_runtime, profile),
        quantization_open=format_open,
    )


def _refuse_foreign_dataset(model: Model, workload: Workload, catalog: Catalog) -> None:
    """A dataset of pictures says nothing about a chat model."""
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


def _host_note(machine: Machine) -> list[Reason]:
    if not machine.assumptions:
        return []
    return [
        Reason(
            code="assumed-host",
            message=f"Nobody described the rest of the machine; assumed: {', '.join(machine.assumptions)}.",
        )
    ]


def with_machine(request: Request, machine: Machine) -> Request:
    """The same request on another machine."""
    backend = request.runtime.backend
    if backend == "cpu" and machine.accelerators:
        backend = _backend(request.profile, machine)
    runtime = request.runtime.model_copy(update={"backend": backend})
    return replace(request, machine=machine, runtime=runtime).rechecked()


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
    runtime = Runtime(name=name, backend=_backend(profile, request.machine))
    return replace(request, runtime=runtime, profile=profile).rechecked()


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
    return placement if isinstance(placement, Placement) else Placement(strategy=placement)


def _default_quantization(model: Model, runtime: Runtime | None, catalog: Catalog) -> tuple[str | None, bool]:
    """The checkpoint's own format; else, for GGUF-capable runtimes, open: the best that is comfortable."""
    if model.task in GRAPH_TASKS:
        return None, False
    own = model.quantization
    if model.origin or own not in ("bf16", "f16", "f32"):
        return own, False
    if model.task not in LLM_TASKS:
        return own, False
    if runtime is not None and "gguf" not in catalog.resolve("runtime", runtime.name).containers:
        return own, False
    if model.transformer is None:
        return own, False
    return GGUF_LADDER[0], True


def _default_runtime(
    model: Model, quantization: Quantization | None, machine: Machine | None, catalog: Catalog
) -> str:
    if model.task in GRAPH_TASKS:
        return "pytorch"
    if model.task in DIFFUSION_TASKS:
        return "diffusers"
    if model.task in ASR_TASKS or model.task in ENCODER_TASKS or model.task == "text-to-speech":
        if quantization is not None and quantization.container == ("gguf",):
            return "whisper.cpp" if model.task in ASR_TASKS else "llama.cpp"
        return "transformers"
    if quantization is None:
        return "transformers"
    if "gguf" in quantization.container and quantization.kind in ("gguf-type", "gguf-mix"):
        return "llama.cpp"
    if quantization.kind == "mlx":
        return "mlx"
    if quantization.kind == "exl":
        return "exllamav3" if "exl3" in quantization.container else "exllamav2"
    if quantization.kind == "bitsandbytes":
        return "transformers"
    vendors = {device.accelerator.vendor for device in machine.accelerators} if machine else set()
    if vendors & {"nvidia", "amd"}:
        return "vllm"
    if "gguf" in quantization.container:
        return "llama.cpp"
    return "transformers"


def _backend(profile: RuntimeProfile, machine: Machine | None) -> Any:
    if machine is None:
        return profile.backends[0]
    for device in machine.accelerators:
        for backend in _BACKENDS.get(device.accelerator.vendor, ()):
            if backend in profile.backends:
                if backend == "rocm" and machine.host.system == "windows" and "vulkan" in profile.backends:
                    return "vulkan"
                return backend
    return "cpu" if "cpu" in profile.backends else profile.backends[0]


def _blockers(
    model: Model,
    machine: Machine | None,
    workload: Workload,
    quantization: Quantization | None,
    runtime: Runtime,
    profile: RuntimeProfile,
) -> tuple[Reason, ...]:
    found: list[Reason] = []
    if model.task not in profile.tasks:
        found.append(
            Reason(
                code="task-not-supported-by-runtime",
                message=f"{profile.name} does not do {model.task}.",
                numbers={"runtime": profile.id, "task": model.task},
            )
        )
    if quantization is not None and not _loads(profile, quantization):
        found.append(
            Reason(
                code="format-not-supported-by-runtime",
                message=f"{profile.name} does not load {quantization.name}; it reads {', '.join(profile.containers)}.",
                numbers={"runtime": profile.id, "quantization": quantization.id},
            )
        )
    too_long = context_reason(model, workload)
    if too_long is not None:
        found.append(too_long)
    if machine is not None:
        system = machine.host.system
        if system is not None and system not in profile.systems:
            found.append(
                Reason(
                    code="runtime-not-on-system",
                    message=f"{profile.name} does not run on {system}.",
                    numbers={"runtime": profile.id, "system": system},
                )
            )
        vendors = {device.accelerator.vendor for device in machine.accelerators}
        if machine.accelerators and runtime.backend != "cpu":
            usable = {vendor for vendor in vendors if runtime.backend in _BACKENDS.get(vendor, ())}
            if not usable or (profile.vendors and not usable & set(profile.vendors)):
                found.append(
                    Reason(
                        code="runtime-not-on-vendor",
                        message=f"{profile.name} ({runtime.backend}) does not run on {', '.join(sorted(vendors))}.",
                        numbers={"runtime": profile.id, "backend": str(runtime.backend)},
                    )
                )
        elif not machine.accelerators and "cpu" not in profile.backends:
            found.append(
                Reason(
                    code="no-accelerator",
                    message=f"{profile.name} needs an accelerator and the machine has none.",
                    numbers={"runtime": profile.id},
                )
            )
    return tuple(found)


def _loads(profile: RuntimeProfile, quantization: Quantization) -> bool:
    if not set(profile.containers) & set(quantization.container):
        return False
    return not profile.formats or quantization.id in profile.formats
