"""Questions that set two things against each other: machines, models or runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from willitrun.answers.cases import Case, format_name, judged
from willitrun.answers.fits import fit_answer
from willitrun.answers.wording import machine_name, subject
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.planning.alike import at_one_format
from willitrun.records.presentation import format_field
from willitrun.records.results import Verdict

__all__ = ["comparison_answer"]

_SLOWER_IS_MORE = ("seconds_per_image", "training_step_s")


def comparison_answer(case: Case) -> str:
    """Which is faster, at one weight format where nobody named one; the verdict that is left is the winner's."""
    field, sides, names = _sides(case)
    if len(sides) < 2:
        return fit_answer(case)

    def on_each() -> list[Verdict]:
        found = []
        for side in sides:
            setattr(case, field, side)
            found.append(judged(case))
        return found

    verdicts = on_each()
    if case.quantization is None and (field != "model" or _of_the_ladder(verdicts)):
        verdicts = _alike(case, verdicts, on_each)
    order = sorted(range(len(sides)), key=lambda place: -_rate(verdicts[place]))
    first = order[0]
    setattr(case, field, sides[first])
    case.verdict = verdicts[first]
    case.value = case.verdict.inputs.accelerators[0] if field == "machine" else names[first]
    told = ", ".join(f"{names[place]} {_told(case, verdicts[place], field)}" for place in order)
    what = "" if field == "model" else f" for {subject(case, verdicts[first])}"
    where = "" if field == "machine" else f" on {machine_name(case)}"
    return f"{names[first]} is faster{what}{where}: {told}."


def _sides(case: Case) -> tuple[str, list[Any], list[str]]:
    """What is compared: the field of the case, what it may be, and the names."""
    if case.rivals:
        models = [case.model, *case.rivals]
        return "model", models, [model.name for model in models]
    machines = [machine for machine in (case.machine, *case.others) if machine is not None]
    if len(machines) < 2 and case.machine is not None and len(case.reading.runtimes) > 1:
        names = [case.catalog.resolve("runtime", name).name for name in case.reading.runtimes]
        return "runtime", list(case.reading.runtimes), names
    return "machine", machines, [machine.name for machine in machines]


def _alike(case: Case, verdicts: list[Verdict], on_each: Callable[[], list[Verdict]]) -> list[Verdict]:
    def again(name: str) -> list[Verdict]:
        case.quantization, case.assumptions = name, []
        return on_each()

    said = case.assumptions
    found, common = at_one_format(verdicts, again, case.catalog)
    if common is None:
        case.quantization, case.assumptions = None, said
    else:
        case.quantization = common
        case.assumptions = [f"weights in {format_name(common)} on all of them", *case.assumptions]
    return found


def _of_the_ladder(verdicts: list[Verdict]) -> bool:
    """Whether the formats are those that were taken for lack of a named one, which any of the models may have."""
    return all(verdict.inputs.quantization in GGUF_LADDER for verdict in verdicts)


def _rate(verdict: Verdict) -> float:
    head = verdict.speed.headline() if verdict.speed is not None and verdict.feasible else None
    if head is None or head[1].best <= 0.0:
        return 0.0
    return 1.0 / head[1].best if head[0] in _SLOWER_IS_MORE else head[1].best


def _told(case: Case, verdict: Verdict, field: str) -> str:
    head = verdict.speed.headline() if verdict.speed is not None and verdict.feasible else None
    weights = format_name(verdict.inputs.quantization)
    own = f" at {weights}" if weights and (field == "model" or case.quantization is None) else ""
    return (format_field(head[0], head[1].best) if head else verdict.tier) + own
