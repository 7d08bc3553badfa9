"""What a question was taken for: the fit tuple, the verdict on it, and what was assumed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from willitrun.answers.naming import NamedMachine
from willitrun.answers.reading import Reading, precision_of
from willitrun.catalog import Catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.workloads import GRAPH_TASKS, LLM_TASKS
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import Verdict
from willitrun.verdicts import assess

__all__ = ["Case", "default_format", "format_name", "judged", "sayable_machine", "workload_of"]

# What an image model counts as a batch, a chat model counts as sequences.
_FIELDS_OF = {
    True: {"batch_size", "image_size", "mode", "dataset", "split"},
    False: {"context_tokens", "prompt_tokens", "output_tokens", "concurrency", "mode", "batch_size"},
}
_ASSUMED = {
    "workload.context_tokens": "{context_tokens:,} tokens of context",
    "workload.prompt_tokens": "a prompt of {prompt_tokens:,} tokens",
    "workload.output_tokens": "an answer of {output_tokens:,} tokens",
    "workload.batch_size": "batch {batch_size}",
    "workload.image_size": "{image_size} pixels",
    "workload.precision": "precision {precision}",
    "workload.steps": "{steps} steps",
    "workload.frames": "{frames} frames",
    "quantization": "weights in {quantization}",
    "runtime": "{runtime}",
}


@dataclass(slots=True)
class Case:
    """The fit tuple that a question was taken for, and what it did not say."""

    reading: Reading
    model: Model
    machine: Machine | None
    workload: Workload
    quantization: str | None
    runtime: str | Runtime | None
    catalog: Catalog
    others: tuple[Machine, ...] = ()
    rivals: tuple[Model, ...] = ()
    assumptions: list[str] = field(default_factory=list)
    value: float | int | str | None = None
    verdict: Verdict | None = None

    def options(self) -> dict[str, Any]:
        """Keyword arguments that every question of the library takes."""
        return {"runtime": self.runtime, "catalog": self.catalog}


def sayable_machine(named: NamedMachine, ram_gib: int | None, catalog: Catalog, notes: list[str]) -> Machine:
    """A named machine with the memory that was said for it and for its host."""
    host = {"ram": f"{ram_gib} GiB"} if ram_gib else {}
    if named.host:
        return describe_machine({"host": {"memory": named.id, **host}}, catalog=catalog)
    device = {"id": named.id, "count": named.count}
    if named.memory_gib:
        try:
            wish = {**device, "memory": f"{named.memory_gib} GiB"}
            return describe_machine({"accelerators": [wish], "host": host}, catalog=catalog)
        except WillItRunError:
            if ram_gib is None and not catalog.accelerators[named.id].unified_memory:
                notes.append(
                    f"{named.memory_gib} GB, which {named.id} is not made with, was taken for the host's RAM"
                )
                host = {"ram": f"{named.memory_gib} GiB"}
            else:
                notes.append(f"{named.id} is not made with {named.memory_gib} GiB; its own memory was taken")
    return describe_machine({"accelerators": [device], "host": host}, catalog=catalog)


def workload_of(reading: Reading, model: Model) -> tuple[Workload, list[str]]:
    """The workload of a question for a model, and what of it does not apply."""
    image = model.task in GRAPH_TASKS
    fields = {name: value for name, value in reading.fields.items() if name in _FIELDS_OF[image]}
    if "mode" not in reading.fields and model.task in LLM_TASKS and "batch_size" in fields:
        batch = fields.pop("batch_size")
        fields.setdefault("concurrency", batch)
    if model.task in ("text-to-image", "text-to-video"):
        fields = {
            name: value
            for name, value in reading.fields.items()
            if name in ("steps", "frames", "image_size", "batch_size")
        }
    if image and (precision := precision_of(reading.quantization)):
        fields["precision"] = precision
    prompt, context = fields.get("prompt_tokens"), fields.get("context_tokens")
    if prompt and not context:
        fields["context_tokens"] = prompt + 1024
    dropped = [name for name in reading.fields if name not in fields and name not in ("batch_size", "mode")]
    return Workload(**fields), [f"{name} does not apply to {model.name}" for name in dropped]


def judged(case: Case) -> Verdict:
    """The verdict on a case, which keeps it and what it assumed."""
    verdict = assess(
        case.model, case.machine, case.workload, quantization=case.quantization, **case.options()
    )
    case.verdict = verdict
    values = {
        **verdict.inputs.workload,
        "quantization": format_name(verdict.inputs.quantization),
        "runtime": verdict.inputs.runtime.get("name"),
    }
    chat = case.model.task in LLM_TASKS and verdict.inputs.workload.get("mode", "inference") == "inference"
    for name in verdict.inputs.defaulted:
        if name in ("workload.prompt_tokens", "workload.output_tokens") and not chat:
            continue
        if (template := _ASSUMED.get(name)) and values.get(name.rpartition(".")[2]) is not None:
            case.assumptions.append(template.format_map(values))
    case.assumptions += [
        f"a host with {reason.message.partition('assumed: ')[2].rstrip('.')}"
        for reason in verdict.reasons
        if reason.code == "assumed-host" and verdict.tier in ("offload", "unknown")
    ]
    return verdict


def format_name(quantization: str | None) -> str | None:
    """GGUF formats are written in capitals."""
    return quantization.upper() if quantization and re.match(r"i?q\d|tq", quantization) else quantization


def default_format(case: Case) -> str | None:
    """The format to ask about where nobody named one and one must be; None where the model's own is meant."""
    if case.model.task not in LLM_TASKS or case.workload.mode != "inference":
        return None
    if case.runtime is not None:
        name = case.runtime if isinstance(case.runtime, str) else case.runtime.name
        if "gguf" not in case.catalog.resolve("runtime", name.partition(":")[0]).containers:
            return None
    case.assumptions.append("weights in Q4_K_M")
    return "q4_k_m"
