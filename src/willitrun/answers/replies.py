"""From a question that was read to the engine's answer in one paragraph."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from willitrun.answers.naming import NamedMachine
from willitrun.answers.reading import Reading, precision_of
from willitrun.catalog import Catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.inverse import (
    best_quantization,
    largest_batch,
    largest_concurrency,
    largest_context,
    smallest_machine,
)
from willitrun.estimators.memory import estimate_memory
from willitrun.estimators.workloads import GRAPH_TASKS, LLM_TASKS
from willitrun.hardware.descriptions import describe_machine
from willitrun.intervals import Interval
from willitrun.planning.prices import quote_purchase
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.presentation import format_field
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import Verdict
from willitrun.units import format_bytes
from willitrun.verdicts import assess

__all__ = ["Case", "reply", "sayable_machine"]

# What an image model counts as a batch, a chat model counts as sequences.
_FIELDS_OF = {
    True: {"batch_size", "image_size", "mode", "dataset"},
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
_TIERS = {
    "comfortable": "Yes, comfortably",
    "tight": "Yes, but tightly",
    "offload": "Only with a part of it in host memory",
    "will-not-run": "No",
    "unknown": "That is undecided",
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


def reply(case: Case) -> str:
    """The paragraph that answers, assumptions at its end."""
    text = _REPLIES.get(case.reading.intent, _fit)(case)
    said = [*case.assumptions, *case.reading.notes]
    return text + (f" Assumed: {'; '.join(dict.fromkeys(said))}." if said else "")


def _judged(case: Case) -> Verdict:
    verdict = assess(
        case.model, case.machine, case.workload, quantization=case.quantization, **case.options()
    )
    case.verdict = verdict
    values = {
        **verdict.inputs.workload,
        "quantization": _format_name(verdict.inputs.quantization),
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


def _format_name(quantization: str | None) -> str | None:
    """GGUF formats are written in capitals."""
    return quantization.upper() if quantization and re.match(r"i?q\d|tq", quantization) else quantization


def _interval(name: str, value: Interval) -> str:
    best = format_field(name, value.best)
    if value.is_exact:
        return best
    return f"{best} (90 % interval {format_field(name, value.low)} to {format_field(name, value.high)})"


def _subject(case: Case, verdict: Verdict) -> str:
    weights = _format_name(verdict.inputs.quantization)
    model = f"{case.model.name} at {weights}" if weights else case.model.name
    load = verdict.inputs.workload
    parts = [model]
    if load.get("context_tokens") and case.model.task in LLM_TASKS:
        parts.append(f"with {load['context_tokens']:,} tokens of context")
    if load.get("concurrency", 1) > 1:
        parts.append(f"for {load['concurrency']} sequences at once")
    if load.get("batch_size") and case.model.task in GRAPH_TASKS:
        parts.append(f"at batch {load['batch_size']}")
    return " ".join(parts)


def _memory_of(verdict: Verdict) -> str:
    if verdict.memory is None:
        return ""
    room = [device.available_bytes for device in verdict.memory.per_device]
    need = format_bytes(verdict.memory.total_bytes.best)
    if room and None not in room:
        return f"needs {need} of the {format_bytes(float(sum(filter(None, room))))} that are available"
    return f"needs {need}"


def _speed_of(verdict: Verdict, case: Case) -> str:
    speed = verdict.speed
    if speed is None:
        return ""
    wanted = []
    if case.reading.first_token:
        wanted.append(("time_to_first_token_s", "the first token comes after"))
    if case.reading.prefill:
        wanted.append(("prefill_tokens_per_s", "it reads prompts at"))
    head = speed.headline()
    if head is not None:
        wanted.append(_headline(head, case))
    if case.workload.concurrency > 1:
        wanted.append(("throughput_tokens_per_s", "all sequences together get"))
    lines = [
        f"{lead} {_interval(name, value)}"
        for name, lead in wanted
        if (value := getattr(speed, name)) is not None
    ]
    if not lines:
        return ""
    told = "; ".join(lines)
    bound = f", bound by {speed.bound}" if speed.bound else ""
    return f" {told[0].upper()}{told[1:]}{bound}."


def _headline(head: tuple[str, Interval], case: Case) -> tuple[str, str]:
    """The field that tells the speed, and the words before its value: below one picture a second, seconds a picture."""
    if head[0] == "images_per_s" and head[1].best < 1:
        return "seconds_per_image", "it takes per picture"
    verbs = {
        "decode_tokens_per_s": "it generates",
        "seconds_per_image": "it takes per video",
        "training_step_s": "a training step takes",
    }
    default = "it classifies" if case.model.task == "image-classification" else "it does"
    return head[0], verbs.get(head[0], default)


def _fit(case: Case) -> str:
    if case.machine is None:
        return _against_capacity(case)
    verdict = _judged(case)
    case.value = verdict.tier
    text = f"{_TIERS[verdict.tier]}: {_subject(case, verdict)} {_memory_of(verdict)} on {case.machine.name}."
    if verdict.tier in ("will-not-run", "unknown") and verdict.reasons:
        text = f"{_TIERS[verdict.tier]}: {_subject(case, verdict)} on {case.machine.name}. {verdict.reasons[0].message}"
    text += _speed_of(verdict, case) if verdict.feasible else ""
    if case.reading.target_per_s and verdict.speed is not None and (head := verdict.speed.headline()):
        reaches = "reaches" if head[1].best >= case.reading.target_per_s else "stays below"
        text += (
            f" The best estimate {reaches} the {case.reading.target_per_s:g} per second that were asked for."
        )
    if verdict.tier in ("offload", "will-not-run") and verdict.remedies:
        text += f" What would help first: {verdict.remedies[0].message.rstrip('.')}."
    return text


def _against_capacity(case: Case) -> str:
    """Only an amount of memory was named: it is compared, and no speed can be told."""
    found = estimate_memory(
        case.model,
        None,
        case.workload,
        quantization=case.quantization or _default_format(case),
        **case.options(),
    )
    room = float((case.reading.vram_gib or 0) * 2**30)
    case.value = (
        "comfortable"
        if found.total_bytes.high <= room
        else "tight"
        if found.total_bytes.best <= room
        else "will-not-run"
    )
    case.assumptions.append("speed depends on the card, and only its memory was named")
    return (
        f"{_TIERS[str(case.value)]}: {case.model.name} needs {_interval('total_bytes', found.total_bytes)}, "
        f"and the card has {format_bytes(room)} less what the system keeps."
    )


def _default_format(case: Case) -> str | None:
    if case.model.task not in LLM_TASKS or case.workload.mode != "inference":
        return None
    if case.runtime is not None:
        name = case.runtime if isinstance(case.runtime, str) else case.runtime.name
        if "gguf" not in case.catalog.resolve("runtime", name.partition(":")[0]).containers:
            return None
    case.assumptions.append("weights in Q4_K_M")
    return "q4_k_m"


def _speed(case: Case) -> str:
    if case.machine is None:
        return _against_capacity(case)
    verdict = _judged(case)
    head = verdict.speed.headline() if verdict.speed is not None else None
    if head is None or not verdict.feasible:
        return _fit(case)
    case.value = head[1].best
    return f"{_subject(case, verdict)} on {case.machine.name}.{_speed_of(verdict, case)} It {_memory_of(verdict)}."


def _memory(case: Case) -> str:
    if case.machine is not None:
        verdict = _judged(case)
        if verdict.memory is not None:
            case.value = verdict.memory.total_bytes.best
            parts = ", ".join(
                f"{term.name} {format_field('bytes', term.value)}"
                for term in verdict.memory.terms
                if term.value
            )
            return f"{_subject(case, verdict)} {_memory_of(verdict)} on {case.machine.name}: {parts}."
    found = estimate_memory(
        case.model,
        None,
        case.workload,
        quantization=case.quantization or _default_format(case),
        **case.options(),
    )
    case.value = found.total_bytes.best
    parts = ", ".join(
        f"{term.name} {format_field('bytes', term.value)}" for term in found.terms if term.value
    )
    return f"{case.model.name} needs {_interval('total_bytes', found.total_bytes)}: {parts}."


def _smallest(case: Case) -> str:
    chosen = case.quantization or _default_format(case)
    if case.reading.cheap:
        return _cheapest(case, chosen)
    name = smallest_machine(case.model, None, case.workload, quantization=chosen, **case.options())
    if name is None:
        return f"No single card of the catalog holds {case.model.name} comfortably; it takes several, or a smaller format."
    case.machine = describe_machine(name, catalog=case.catalog)
    case.quantization = chosen
    case.value = name
    verdict = _judged(case)
    return (
        f"The card with the least memory on which {_subject(case, verdict)} runs comfortably is {case.machine.name}: "
        f"it {_memory_of(verdict)}.{_speed_of(verdict, case)}"
    )


def _cheapest(case: Case, chosen: str | None) -> str:
    """Of single cards with a sourced price, the cheapest that does it comfortably."""
    today = date.today()
    quotes = {name: quote_purchase(name, case.catalog, today=today) for name in case.catalog.accelerators}
    priced = sorted((quote.usd, name) for name, quote in quotes.items() if quote is not None)
    name = next(
        (
            name
            for _, name in priced
            if smallest_machine(case.model, [name], case.workload, quantization=chosen, **case.options())
        ),
        None,
    )
    advice = f"`recommend` weighs several cards, speed and rents: willitrun recommend {case.model.id}."
    if name is None:
        return f"No single card with a sourced price holds {case.model.name} comfortably. {advice}"
    quote = quotes[name]
    assert quote is not None
    case.machine = describe_machine(name, catalog=case.catalog)
    case.quantization = chosen
    case.value = name
    verdict = _judged(case)
    return (
        f"The cheapest single card of which a source says the price, and on which {_subject(case, verdict)} runs comfortably, is "
        f"{case.machine.name} at {quote.text()}: it {_memory_of(verdict)}.{_speed_of(verdict, case)} {advice}"
    )


def _best_format(case: Case) -> str:
    name = best_quantization(case.model, case.machine, case.workload, **case.options())
    case.value = name
    if name is None:
        case.quantization = "q4_k_m"
        return f"No GGUF format is comfortable. {_fit(case)}"
    case.quantization = name
    verdict = _judged(case)
    return f"{_format_name(name)} is the best format that is comfortable: {_subject(case, verdict)} {_memory_of(verdict)}.{_speed_of(verdict, case)}"


def _context(case: Case) -> str:
    chosen = case.quantization or _default_format(case)
    most = largest_context(case.model, case.machine, case.workload, quantization=chosen, **case.options())
    case.value, case.quantization = most, chosen
    if most is None:
        return f"No context is comfortable. {_fit(case)}"
    case.workload = case.workload.model_copy(update={"context_tokens": most})
    verdict = _judged(case)
    trained = case.model.transformer.max_position_embeddings if case.model.transformer else None
    why = "all that the model was trained for" if trained == most else "the most that is comfortable"
    return f"{most:,} tokens, {why}: {_subject(case, verdict)} {_memory_of(verdict)} on {_name(case)}."


def _counted(find: Callable[..., int | None], noun: str, name: str) -> Callable[[Case], str]:
    def answered(case: Case) -> str:
        chosen = (
            case.quantization
            if case.model.task in GRAPH_TASKS
            else case.quantization or _default_format(case)
        )
        load = case.workload.model_copy(update={name: Workload.model_fields[name].default})
        options = case.options() | ({"quantization": chosen} if chosen else {})
        most = find(case.model, case.machine, load, **options)
        case.value, case.quantization = most, chosen
        if most is None:
            return f"Not even one is comfortable. {_fit(case)}"
        case.workload = case.workload.model_copy(update={name: most})
        verdict = _judged(case)
        return f"{most:,} {noun}: {_subject(case, verdict)} {_memory_of(verdict)} on {_name(case)}.{_speed_of(verdict, case)}"

    return answered


def _comparison(case: Case) -> str:
    machines = [machine for machine in (case.machine, *case.others) if machine is not None]
    if len(machines) < 2:
        return _fit(case)
    rows = []
    for machine in machines:
        case.machine = machine
        verdict = _judged(case)
        head = verdict.speed.headline() if verdict.speed is not None and verdict.feasible else None
        rows.append((head[1].best if head else 0.0, head, machine.name, verdict))
    rows.sort(key=lambda row: -row[0])
    case.verdict, case.value = rows[0][3], rows[0][3].inputs.accelerators[0]
    told = [
        f"{name} {format_field(*_best(head))}" if head else f"{name} {verdict.tier}"
        for _, head, name, verdict in rows
    ]
    return f"{rows[0][2]} is faster for {_subject(case, rows[0][3])}: {', '.join(told)}."


def _best(head: tuple[str, Any]) -> tuple[str, float]:
    return head[0], head[1].best


def _name(case: Case) -> str:
    return case.machine.name if case.machine is not None else "this machine"


_REPLIES: dict[str, Callable[[Case], str]] = {
    "fit": _fit,
    "speed": _speed,
    "memory": _memory,
    "smallest-machine": _smallest,
    "best-quantization": _best_format,
    "largest-context": _context,
    "largest-batch": _counted(largest_batch, "images a batch", "batch_size"),
    "largest-concurrency": _counted(largest_concurrency, "sequences at once", "concurrency"),
    "comparison": _comparison,
}
