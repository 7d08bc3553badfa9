"""Questions for the best, the largest, the smallest: what the engine searches for, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

from willitrun.answers.capacities import (
    best_format_of_capacity,
    context_of_capacity,
    count_of_capacity,
    runtime_of_capacity,
)
from willitrun.answers.cases import Case, default_format, format_name, judged
from willitrun.answers.contests import comparison_answer
from willitrun.answers.fits import fit_answer
from willitrun.answers.wording import latency_text, machine_name, memory_text, speed_text, subject
from willitrun.estimators.inverse import (
    best_quantization,
    largest_batch,
    largest_concurrency,
    largest_context,
    smallest_machine,
)
from willitrun.estimators.workloads import GRAPH_TASKS
from willitrun.hardware.descriptions import describe_machine
from willitrun.planning.prices import quote_purchase
from willitrun.planning.runtime_choices import best_runtime
from willitrun.records.recipes import Workload

__all__ = ["SEARCHES"]


def _smallest(case: Case) -> str:
    chosen = case.quantization or default_format(case)
    if case.reading.cheap:
        return _cheapest(case, chosen)
    name = smallest_machine(case.model, None, case.workload, quantization=chosen, **case.options())
    if name is None:
        return f"No single card of the catalog holds {case.model.name} comfortably; it takes several, or a smaller format."
    case.machine = describe_machine(name, catalog=case.catalog)
    case.quantization = chosen
    case.value = name
    verdict = judged(case)
    return (
        f"The card with the least memory on which {subject(case, verdict)} runs comfortably is {case.machine.name}: "
        f"it {memory_text(verdict)}.{speed_text(verdict, case)}"
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
    verdict = judged(case)
    return (
        f"The cheapest single card of which a source says the price, and on which {subject(case, verdict)} runs comfortably, is "
        f"{case.machine.name} at {quote.text()}: it {memory_text(verdict)}.{speed_text(verdict, case)} {advice}"
    )


def _best_format(case: Case) -> str:
    if case.machine is None:
        return best_format_of_capacity(case)
    name = best_quantization(case.model, case.machine, case.workload, **case.options())
    case.value = name
    if name is None:
        case.quantization = "q4_k_m"
        return f"No GGUF format is comfortable. {fit_answer(case)}"
    case.quantization = name
    verdict = judged(case)
    return f"{format_name(name)} is the best format that is comfortable: {subject(case, verdict)} {memory_text(verdict)}.{speed_text(verdict, case)}"


def _context(case: Case) -> str:
    if case.machine is None:
        return context_of_capacity(case)
    chosen = case.quantization or default_format(case)
    most = largest_context(case.model, case.machine, case.workload, quantization=chosen, **case.options())
    case.value, case.quantization = most, chosen
    if most is None:
        return f"No context is comfortable. {fit_answer(case)}"
    case.workload = case.workload.model_copy(update={"context_tokens": most})
    verdict = judged(case)
    trained = case.model.transformer.max_position_embeddings if case.model.transformer else None
    why = "all that the model was trained for" if trained == most else "the most that is comfortable"
    return f"{most:,} tokens, {why}: {subject(case, verdict)} {memory_text(verdict)} on {machine_name(case)}."


def _counted(find: Callable[..., int | None], noun: str, name: str) -> Callable[[Case], str]:
    def answered(case: Case) -> str:
        if case.machine is None:
            return count_of_capacity(case, name, noun)
        chosen = (
            case.quantization if case.model.task in GRAPH_TASKS else case.quantization or default_format(case)
        )
        load = case.workload.model_copy(update={name: Workload.model_fields[name].default})
        options = case.options() | ({"quantization": chosen} if chosen else {})
        asked = latency_text(case.reading.latencies) if name == "concurrency" else ""
        if asked:
            options["targets"] = case.reading.latencies
        most = find(case.model, case.machine, load, **options)
        case.value, case.quantization = most, chosen
        if most is None:
            if asked:
                alone = judged(case)
                told = f"{subject(case, alone)} {memory_text(alone)} on {machine_name(case)}"
                return f"Not even one keeps {asked}: {told}.{speed_text(alone, case)}"
            return f"Not even one is comfortable. {fit_answer(case)}"
        case.workload = case.workload.model_copy(update={name: most})
        verdict = judged(case)
        return f"{most:,} {noun}{f' keep {asked}' if asked else ''}: {subject(case, verdict)} {memory_text(verdict)} on {machine_name(case)}.{speed_text(verdict, case)}"

    return answered


def _runtime(case: Case) -> str:
    if case.machine is None:
        return runtime_of_capacity(case)
    found = best_runtime(
        case.model, case.machine, case.workload, quantization=case.quantization, catalog=case.catalog
    )
    case.value = found.runtime
    if found.runtime is None:
        return f"No runtime suits {case.model.name} on {machine_name(case)}: {' '.join(found.why)}"
    case.runtime, case.quantization = found.runtime, found.quantization
    verdict = judged(case)
    name = case.catalog.runtimes[found.runtime].name
    return f"{name} suits {subject(case, verdict)} on {machine_name(case)} best. {' '.join(found.why)}"


SEARCHES: Mapping[str, Callable[[Case], str]] = {
    "smallest-machine": _smallest,
    "best-quantization": _best_format,
    "largest-context": _context,
    "largest-batch": _counted(largest_batch, "images a batch", "batch_size"),
    "largest-concurrency": _counted(largest_concurrency, "sequences at once", "concurrency"),
    "best-runtime": _runtime,
    "comparison": comparison_answer,
}
