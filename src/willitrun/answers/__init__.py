"""Questions in plain words: a small deterministic grammar, and the engine's answer in one paragraph."""

from __future__ import annotations

import re
from typing import Any

from willitrun.answers.cases import Case, sayable_machine, workload_of
from willitrun.answers.naming import NamedMachine, apple_of_memory, find_machines, find_model
from willitrun.answers.reading import Reading, read_memory, read_question
from willitrun.answers.replies import reply
from willitrun.answers.terms import difference_of, failure_of, term_of
from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.hardware.descriptions import describe_machine
from willitrun.hardware.detection import detect
from willitrun.planning.scans import scan
from willitrun.records.answers import Answer, Choice
from willitrun.records.machines import Machine
from willitrun.records.models import Model

__all__ = ["ask"]

LONGEST = 500
_DATASETS = {"imagenet": "imagenet-1k"}
_SPLITS = {"train": "train", "epoch": "train", "val": "validation"}
_NEEDS_NO_MACHINE = ("smallest-machine", "memory")


def ask(question: str, *, machine: Any = None, catalog: Catalog | None = None) -> Answer:
    """Answer a question in plain words.

    The parser is deterministic: names are looked up in the catalog, numbers by what stands beside them. What the
    question did not say is assumed as `assess` assumes it, and listed.

    Parameters
    ----------
    question
        Such as "can a 3060 12GB run llama 3.1 8b at 32k?". At most 500 characters.
    machine
        Where no machine is named: anything that `describe_machine` takes; None detects this one.
    catalog
        Where names are looked up; the default catalog if left out.

    Returns
    -------
    Answer
        Falsy, with ``intent`` "unclear" and a text that says what is missing, where no model was found in it.

    Raises
    ------
    InvalidWorkloadError
        The question is empty, too long, or asks what its model cannot do.

    Examples
    --------
    >>> from willitrun import ask
    >>> answer = ask("can a 3060 12GB run llama 3.1 8b at 32k?")
    >>> answer.model, answer.machines, answer.workload["context_tokens"], answer.verdict.feasible
    ('llama-3.1-8b', ('nvidia-geforce-rtx-3060-12gb',), 32768, True)
    """
    if not isinstance(question, str):
        raise InvalidWorkloadError(f"a question is text, got {type(question).__name__}.")
    if not question.strip() or len(question) > LONGEST:
        raise InvalidWorkloadError(f"a question has 1 to {LONGEST} characters, got {len(question)}.")
    catalog = catalog or load_catalog()
    text = re.sub(r"\s+", " ", question.lower()).strip()
    name, without_model, model_choice = find_model(text, catalog)
    reading = read_question(text, without_model)
    rivals, reading.rest = _rivals(name, text, reading.rest, catalog)
    named, rest, choices = find_machines(reading.rest, catalog)
    if model_choice is not None:
        choices = [model_choice, *choices]
    if reading.vram_gib is None and not named:
        reading.vram_gib = read_memory(reading)
    if (
        reading.vram_gib is not None
        and not named
        and (mac := apple_of_memory(text, reading.vram_gib, catalog))
    ):
        named = [NamedMachine(mac[0], memory_gib=reading.vram_gib)]
        choices = [*choices, mac[1]]
    if name is None and reading.intent == "models" and (named or machine is not None or reading.here):
        return _ranked(question, text, reading, named, choices, machine, catalog)
    if name is None:
        for explained in (term_of, difference_of, failure_of):
            if (words := explained(text, catalog)) is not None:
                return Answer(question=question, intent="term", text=words, value=None)
    if name is None:
        return _unclear(question, reading, named, choices, rest)
    model: Model = catalog.models[name]
    for word, dataset in _DATASETS.items():
        if word in text and model.task == "image-classification":
            reading.fields["dataset"] = dataset
            splits = catalog.datasets[dataset].splits
            said = [split for spelled, split in _SPLITS.items() if spelled in text and split in splits]
            if said:
                reading.fields["split"] = said[0]
    case = _case(text, reading, model, named, machine, catalog)
    if rivals or (len(reading.runtimes) > 1 and _CONTEST.search(text)):
        case.rivals = tuple(
            rival for rival in map(catalog.models.__getitem__, rivals) if rival.task == model.task
        )
        reading.intent = "comparison"
    paragraph = reply(case)
    if not named and machine is None and (unknown := _unknown_machine(reading, rest)):
        paragraph += f" “{unknown}” names no machine that is known."
    for choice in choices:
        others = f", not {' or '.join(choice.others)}" if choice.others else ""
        paragraph += f" “{choice.said}” was taken for {choice.taken}{others}."
    verdict = case.verdict
    return Answer(
        question=question,
        intent=reading.intent if reading.intent != "unclear" else "fit",
        text=paragraph,
        assumptions=tuple(dict.fromkeys([*case.assumptions, *reading.notes])),
        choices=tuple(choices),
        model=model.id,
        machines=tuple(device.id for device in named)
        or (verdict.inputs.accelerators if verdict is not None else ()),
        workload=verdict.inputs.workload
        if verdict is not None
        else case.workload.model_dump(exclude_defaults=True),
        quantization=verdict.inputs.quantization if verdict is not None else case.quantization,
        runtime=verdict.inputs.runtime.get("name") if verdict is not None else reading.runtime,
        value=case.value,
        verdict=verdict,
        links=verdict.links if verdict is not None else (),
    )


_CONTEST = re.compile(r"\bvs\b|\bversus\b|\bor\b|\bthan\b|\bcompare")
_ON = re.compile(r"\bon (?:an? |my |the )?([a-z]{3,}(?: [a-z0-9]+)*? ?\d[a-z0-9]*)\b")


def _rivals(name: str | None, text: str, rest: str, catalog: Catalog) -> tuple[list[str], str]:
    """Other models that a question sets against the first, by names that fit just one, and the text without them."""
    found: list[str] = []
    while name is not None and _CONTEST.search(text) and len(found) < 3:
        other, shorter, choice = find_model(rest, catalog)
        if other is None or choice is not None or other in (name, *found):
            break
        found.append(other)
        rest = shorter
    return found, rest


def _unknown_machine(reading: Reading, rest: str) -> str | None:
    """What a question says to run on and no record goes by: a product with a number."""
    if reading.vram_gib is not None or reading.ram_gib is not None:
        return None
    match = _ON.search(rest)
    return match[1] if match else None


def _case(
    text: str, reading: Reading, model: Model, named: list[NamedMachine], machine: Any, catalog: Catalog
) -> Case:
    load, notes = workload_of(reading, model)
    reading.notes += notes
    graph = reading.quantization if load.precision is None else None
    machines = _described(named, text, reading, catalog)
    case = Case(
        reading,
        model,
        machines[0] if machines else None,
        load,
        graph,
        reading.runtime,
        catalog,
        tuple(machines[1:]),
    )
    if machines or reading.vram_gib or reading.intent in _NEEDS_NO_MACHINE:
        return case
    case.machine = _elsewhere(reading, machine, catalog)
    if machine is None and reading.ram_gib is None:
        case.assumptions.append(f"this machine, {case.machine.name}")
    return case


def _described(named: list[NamedMachine], text: str, reading: Reading, catalog: Catalog) -> list[Machine]:
    """Cards joined by "and" or "+" are one machine; other several names are alternatives to compare."""
    if (
        len(named) > 1
        and not re.search(r"\bor\b|\bvs\b|versus|than|compare", text)
        and re.search(r"\band\b|\+", text)
    ):
        devices = [found.id for found in named for _ in range(found.count)]
        host = {"ram": f"{reading.ram_gib} GiB"} if reading.ram_gib else {}
        return [describe_machine({"accelerators": devices, "host": host}, catalog=catalog)]
    if len(named) > 1 and reading.intent in ("speed", "fit", "unclear", "smallest-machine"):
        reading.intent = "comparison"
    return [sayable_machine(found, reading.ram_gib, catalog, reading.notes) for found in named]


def _elsewhere(reading: Reading, machine: Any, catalog: Catalog) -> Machine:
    if machine is not None:
        return describe_machine(machine, catalog=catalog)
    if reading.ram_gib is not None:
        reading.notes.append("no graphics card was named, so it runs on the processor")
        return describe_machine({"host": {"ram": f"{reading.ram_gib} GiB"}}, catalog=catalog)
    return detect()


def _ranked(
    question: str,
    text: str,
    reading: Reading,
    named: list[NamedMachine],
    choices: list[Choice],
    machine: Any,
    catalog: Catalog,
) -> Answer:
    """The models that are worth running on a machine, by `scan`."""
    found = _described(named, text, reading, catalog)
    place = found[0] if found else _elsewhere(reading, machine, catalog)
    ranking = scan(place, catalog=catalog)
    best = [f"{row.model} at {row.quantization}" for row in ranking.fitting[:3]]
    head = f"{len(ranking.fitting)} of {len(ranking.ranked)} language models run comfortably and fast enough on {place.name}"
    told = f"{head}; the largest are {', '.join(best)}." if best else f"{head}."
    return Answer(
        question=question,
        intent="models",
        text=f"{told} `willitrun scan` lists them all.",
        choices=tuple(choices),
        machines=tuple(device.id for device in named),
        value=ranking.fitting[0].model if ranking.fitting else None,
    )


def _unclear(
    question: str, reading: Reading, named: list[NamedMachine], choices: list[Choice], rest: str
) -> Answer:
    where = f" The machine was read as {', '.join(found.id for found in named)}." if named else ""
    text = (
        f"No model was found in the question.{where} Name one as its publisher does, such as "
        "“llama 3.1 8b”, “resnet-50” or a Hub repository. What goes wrong is told by `willitrun diagnose LOG`, what words "
        "mean by `willitrun glossary WORD`."
    )
    words = tuple(word for word in re.findall(r"[a-z0-9.\-]{3,}", rest) if re.search(r"\d", word))
    return Answer(
        question=question,
        intent="unclear",
        text=text,
        choices=tuple(choices),
        unread=words,
        machines=tuple(found.id for found in named),
    )
