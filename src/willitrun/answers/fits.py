"""Does it run, how fast, in how much memory: the verdict in words."""

from __future__ import annotations

from willitrun.answers.capacities import fit_of_capacity, need_of
from willitrun.answers.cases import Case, default_format, judged
from willitrun.answers.wording import TIER_WORDS, interval_text, memory_text, speed_text, subject
from willitrun.records.presentation import format_field

__all__ = ["fit_answer", "memory_answer", "speed_answer"]


def fit_answer(case: Case) -> str:
    """Whether it runs, in how much memory and how fast, and what would help where it does not."""
    if case.machine is None:
        return fit_of_capacity(case)
    verdict = judged(case)
    case.value = verdict.tier
    slow = verdict.feasible and verdict.practical is False
    lead = "It runs, but slowly" if slow else TIER_WORDS[verdict.tier]
    text = f"{lead}: {subject(case, verdict)} {memory_text(verdict)} on {case.machine.name}."
    if verdict.tier in ("will-not-run", "unknown") and verdict.reasons:
        text = f"{TIER_WORDS[verdict.tier]}: {subject(case, verdict)} on {case.machine.name}. {verdict.reasons[0].message}"
    text += speed_text(verdict, case) if verdict.feasible else ""
    if case.reading.target_per_s and verdict.speed is not None and (head := verdict.speed.headline()):
        reaches = "reaches" if head[1].best >= case.reading.target_per_s else "stays below"
        text += (
            f" The best estimate {reaches} the {case.reading.target_per_s:g} per second that were asked for."
        )
    if verdict.tier in ("offload", "will-not-run") and verdict.remedies:
        text += f" What would help first: {verdict.remedies[0].message.rstrip('.')}."
    return text


def speed_answer(case: Case) -> str:
    """How fast it runs, if it does."""
    if case.machine is None:
        return fit_of_capacity(case)
    verdict = judged(case)
    head = verdict.speed.headline() if verdict.speed is not None else None
    if head is None or not verdict.feasible:
        return fit_answer(case)
    case.value = head[1].best
    return f"{subject(case, verdict)} on {case.machine.name}.{speed_text(verdict, case)} It {memory_text(verdict)}."


def memory_answer(case: Case) -> str:
    """How much memory it takes, part by part."""
    if case.machine is not None:
        verdict = judged(case)
        if verdict.memory is not None:
            case.value = verdict.memory.total_bytes.best
            parts = ", ".join(
                f"{term.name} {format_field('bytes', term.value)}"
                for term in verdict.memory.terms
                if term.value
            )
            return f"{subject(case, verdict)} {memory_text(verdict)} on {case.machine.name}: {parts}."
    found = need_of(case, quantization=case.quantization or default_format(case))
    case.value = found.total_bytes.best
    parts = ", ".join(
        f"{term.name} {format_field('bytes', term.value)}" for term in found.terms if term.value
    )
    return f"{case.model.name} needs {interval_text('total_bytes', found.total_bytes)}: {parts}."
