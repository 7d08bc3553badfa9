"""What stands in the way of a combination whatever memory says: task, format, context, system, vendor, placement."""

from __future__ import annotations

import math
from collections.abc import Iterator

from willitrun.catalog import Catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.defaults import BACKENDS, drives
from willitrun.estimators.inventory import parameters
from willitrun.estimators.workloads import (
    ENCODER_TASKS,
    GRAPH_TASKS,
    LLM_TASKS,
    PRECISION_OF_FORMAT,
    context_reason,
)
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.presentation import counted
from willitrun.records.recipes import Placement, Quantization, Runtime, RuntimeProfile, Workload
from willitrun.records.results import Reason
from willitrun.units import format_bytes

__all__ = ["find_obstacles", "memory_suffices"]


def find_obstacles(
    catalog: Catalog,
    model: Model,
    machine: Machine | None,
    workload: Workload,
    quantization: Quantization | None,
    runtime: Runtime,
    profile: RuntimeProfile,
    placement: Placement,
) -> tuple[Reason, ...]:
    """Reasons for which a combination cannot run, in the order of what a reader would change first."""
    of_model, of_machine = catalog.memo("obstacles").get(
        (model, machine, quantization, runtime, profile),
        None,
        lambda: _lasting(model, machine, quantization, runtime, profile),
    )
    too_long = context_reason(model, workload)
    if workload.mode != "inference" and not profile.trains:
        of_model = (_does_not_train(profile, workload), *of_model)
    found = (*of_model, *of_machine) if too_long is None else (*of_model, too_long, *of_machine)
    if machine is None or not placement.model_fields_set or workload.mode != "inference":
        return found
    if model.task in LLM_TASKS | ENCODER_TASKS:
        found = (*_of_options(placement, model, profile), *found)
    return (*found, *_of_placement(placement, model, machine, profile))


def _does_not_train(profile: RuntimeProfile, workload: Workload) -> Reason:
    return Reason.model_construct(
        code="task-not-supported-by-runtime",
        message=f"{profile.name} does not train: it runs what was trained.",
        numbers={"runtime": profile.id, "mode": workload.mode},
    )


def _of_placement(
    placement: Placement, model: Model, machine: Machine, profile: RuntimeProfile
) -> Iterator[Reason]:
    """What the placement asks for and the machine or the runtime does not have."""
    ranks = [placement.tp or 1, placement.pp or 1, placement.dp or 1]
    needed = max(math.prod(ranks), placement.ep or 1, len(placement.split or ()))
    have = len(machine.accelerators)
    if needed > max(have, 1):
        yield Reason(
            code="more-ranks-than-devices",
            message=f"The placement takes {counted(needed, 'device')}, and the machine has {have}.",
            numbers={"devices": have, "devices_needed": needed},
        )
    if have < 2:
        return
    for mode in _modes(placement):
        if not set(profile.multi_gpu) & _SAME.get(mode, {mode}):
            yield Reason(
                code="placement-not-supported-by-runtime",
                message=f"{profile.name} does not split by {mode}; it knows {', '.join(profile.multi_gpu) or 'one device'}.",
                numbers={"runtime": profile.id, "placement": mode},
            )
        elif (
            mode == "tensor"
            and model.transformer
            and model.transformer.model_type in profile.tensor_split_lacks
        ):
            yield Reason(
                code="placement-not-supported-by-runtime",
                message=f"{profile.name} does not split the tensors of {model.name}: it refuses its architecture, "
                f"{model.transformer.model_type}.",
                numbers={"runtime": profile.id, "placement": mode},
            )


_SAME = {"layer": {"layer", "pipeline"}, "pipeline": {"layer", "pipeline"}}
"""Stages of layers have two names."""


def _modes(placement: Placement) -> list[str]:
    """Ways of splitting that a placement asks for; replicas can be started of any program."""
    asked = {
        "tensor": placement.strategy == "tensor" or (placement.tp or 1) > 1,
        "pipeline": placement.strategy in ("layer", "pipeline") or (placement.pp or 1) > 1,
        "expert": placement.strategy == "expert" or (placement.ep or 1) > 1,
    }
    return [mode for mode, wanted in asked.items() if wanted]


def _of_options(placement: Placement, model: Model, profile: RuntimeProfile) -> Iterator[Reason]:
    """Options of a placement that the runtime does not have, and experts that the model does not have."""
    options = (
        (
            "gpu_layers",
            "count of layers on the accelerator",
            placement.gpu_layers is not None and profile.cpu_offload in ("none", "experts-only"),
        ),
        (
            "cpu_moe_layers",
            "way to keep experts in host memory",
            bool(placement.cpu_moe_layers) and profile.cpu_offload not in ("experts", "experts-only"),
        ),
        (
            "split",
            "split of layers over devices",
            placement.split is not None and "layer" not in profile.multi_gpu,
        ),
        (
            "strategy",
            "back end for the host's processor",
            placement.strategy == "cpu" and "cpu" not in profile.backends,
        ),
    )
    for name, what, lacks in options:
        if lacks:
            yield Reason.model_construct(
                code="placement-not-supported-by-runtime",
                message=f"{profile.name} has no {what}.",
                numbers={"runtime": profile.id, "placement": name},
            )
    if (placement.ep or 1) > 1 and (model.transformer is None or not model.transformer.num_experts):
        yield Reason.model_construct(
            code="expert-parallel-without-experts",
            message=f"{model.name} is dense: it has no experts to spread over {placement.ep} ranks.",
            numbers={"ep": placement.ep or 1},
        )


def memory_suffices(need_bytes: float, available_bytes: float) -> Reason:
    """What memory has to say where something else stands in the way, and memory would do."""
    need, have = format_bytes(need_bytes), format_bytes(available_bytes)
    return Reason(
        code="memory-suffices",
        message=f"Memory is not what is missing: {need} of {have}.",
        numbers={"total_bytes": need_bytes, "available_bytes": available_bytes},
    )


def _lasting(
    model: Model,
    machine: Machine | None,
    quantization: Quantization | None,
    runtime: Runtime,
    profile: RuntimeProfile,
) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    """What no workload changes: of the model and its format, and of the machine."""
    found: list[Reason] = []
    if (contradiction := _contradiction(model)) is not None:
        found.append(contradiction)
    if model.task not in profile.tasks:
        found.append(
            Reason.model_construct(
                code="task-not-supported-by-runtime",
                message=f"{profile.name} does not do {model.task}.",
                numbers={"runtime": profile.id, "task": model.task},
            )
        )
    if quantization is not None and not _loads(profile, quantization):
        found.append(
            Reason.model_construct(
                code="format-not-supported-by-runtime",
                message=f"{profile.name} does not load {quantization.name}{_reads(profile, quantization)}.",
                numbers={"runtime": profile.id, "quantization": quantization.id},
            )
        )
    elif (
        quantization is not None and model.task in GRAPH_TASKS and quantization.id not in PRECISION_OF_FORMAT
    ):
        found.append(
            Reason.model_construct(
                code="format-not-supported-by-runtime",
                message=f"{quantization.name} is a format of language models' matrices; a network of operators is computed in "
                f"{', '.join(PRECISION_OF_FORMAT)}.",
                numbers={"runtime": profile.id, "quantization": quantization.id},
            )
        )
    of_model, found = tuple(found), []
    if machine is not None:
        system = machine.host.system
        if system is not None and system not in profile.systems:
            found.append(
                Reason.model_construct(
                    code="runtime-not-on-system",
                    message=f"{profile.name} does not run on {system}.",
                    numbers={"runtime": profile.id, "system": system},
                )
            )
        vendors = {device.accelerator.vendor for device in machine.accelerators}
        if machine.accelerators and runtime.backend != "cpu":
            usable = {vendor for vendor in vendors if runtime.backend in BACKENDS.get(vendor, ())}
            if not usable or (profile.vendors and not usable & set(profile.vendors)):
                # Where no back end of it does, none is named.
                how = f" ({runtime.backend})" if any(drives(profile, vendor) for vendor in vendors) else ""
                found.append(
                    Reason.model_construct(
                        code="runtime-not-on-vendor",
                        message=f"{profile.name}{how} does not run on devices of {', '.join(sorted(vendors))}.",
                        numbers={"runtime": profile.id, "backend": str(runtime.backend)},
                    )
                )
            if quantization is not None and runtime.backend == "cuda":
                found += _too_old(machine, quantization, profile)
        elif not machine.accelerators and "cpu" not in profile.backends:
            found.append(
                Reason.model_construct(
                    code="no-accelerator",
                    message=f"{profile.name} needs an accelerator and the machine has none.",
                    numbers={"runtime": profile.id},
                )
            )
    return of_model, tuple(found)


def _too_old(machine: Machine, quantization: Quantization, profile: RuntimeProfile) -> Iterator[Reason]:
    """Cards of a generation for which the runtime has no kernels of the format."""
    least = profile.least_capability.get(quantization.id, 0.0)
    for device in machine.accelerators:
        stated = device.compute_capability or device.accelerator.compute_capability
        if stated is not None and float(stated) < least:
            yield Reason.model_construct(
                code="format-not-supported-by-runtime",
                message=f"{profile.name} runs {quantization.name} from compute capability {least} on; "
                f"{device.accelerator.name} has {stated}.",
                numbers={
                    "runtime": profile.id,
                    "quantization": quantization.id,
                    "compute_capability": stated,
                    "compute_capability_needed": least,
                },
            )
            return


CONTRADICTION = 0.2
"""Share of elements by which a file may differ from its architecture's tensors: a policy, and no fact. Rules for new
relatives of a family miss a few small tensors, a truncated or mislabelled file misses layers. Of the catalog's models
without vision, which state their parameters, the rules miss 9 % at most (per-layer embeddings of Gemma 3n) and 2 % of
all others; twice that is let pass, and `tests/estimators/test_obstacles.py` holds the rules to half of it."""
_ASIDE = frozenset({"vision", "audio", "prediction"})
_WHOLE_FORMATS = frozenset({"f32", "f16", "bf16"})


def _contradiction(model: Model) -> Reason | None:
    """A checkpoint whose tensors are not those of the architecture that it declares."""
    table, config = model.tensors, model.transformer
    if table is None or config is None:
        return None
    kept = [(form, elements) for role, form, _, elements, _ in table.rows if role not in _ASIDE]
    if table.source != "gguf" and not {form for form, _ in kept} <= _WHOLE_FORMATS:
        return None  # packed integers do not say how many weights they hold
    stored = sum(elements for _, elements in kept)
    try:
        declared = parameters(config.model_copy(update={"vision": None}))
    except WillItRunError:
        return None
    # A tied matrix may be stored twice.
    twice = declared + config.vocab_size * config.hidden_size
    if declared * (1 - CONTRADICTION) <= stored <= twice * (1 + CONTRADICTION):
        return None
    return Reason(
        code="checkpoint-contradicts-architecture",
        message=f"{model.name} declares {config.model_type} of {declared / 1e9:.4g} billion parameters and its file holds "
        f"{stored / 1e9:.4g} billion: it is incomplete, or of another model. Describe the whole file, or the model by its name.",
        numbers={"parameters": declared, "parameters_stored": stored},
    )


def _reads(profile: RuntimeProfile, quantization: Quantization) -> str:
    """What it reads instead, where the file's container is what it lacks."""
    if set(profile.containers) & set(quantization.container):
        return ""
    return f"; it reads {', '.join(profile.containers)}"


def _loads(profile: RuntimeProfile, quantization: Quantization) -> bool:
    if not set(profile.containers) & set(quantization.container):
        return False
    return not profile.formats or quantization.id in profile.formats
