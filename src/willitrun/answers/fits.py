"""Does it run, how fast, in how much memory: the verdict in words."""

from __future__ import annotations

from willitrun.answers.capacities import fit_of_capacity, need_of
from willitrun.answers.cases import Case, default_format, judged
from willitrun.answers.wording import TIER_WORDS, interval_text, memory_text, speed_text, subject
from willitrun.errors import MissingDataError
from willitrun.estimators.workloads import complete_workload
from willitrun.records.presentation import format_field
from willitrun.records.results import Verdict

__all__ = ["fit_answer", "memory_answer", "speed_answer"]


def fit_answer(case: Case) -> str:
    """Whether it runs, in how much memory and how fast, and what would help where it does not."""
    if case.machine is None:
        return fit_of_capacity(case)
    verdict = judged(case)
    case.value = verdict.tier
    slow = verdict.feasible and (verdict.practical is False or _misses(verdict, case))
    lead = "It runs, but slowly" if slow else TIER_WORDS[verdict.tier]
    text = f"{lead}: {subject(case, verdict)} {memory_text(verdict)} on {case.machine.name}."
    if verdict.tier in ("will-not-run", "unknown") and verdict.reasons:
        text = f"{TIER_WORDS[verdict.tier]}: {subject(case, verdict)} on {case.machine.name}. {verdict.reasons[0].message}"
    text += speed_text(verdict, case) if verdict.feasible else ""
    text += _target_text(verdict, case)
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
    told = f"{subject(case, verdict)} on {case.machine.name}.{speed_text(verdict, case)}{_target_text(verdict, case)}"
    return f"{told} It {memory_text(verdict)}."


def _rate(verdict: Verdict) -> tuple[str, float, float, float] | None:
    """The field that tells the speed, and its three estimates as a rate."""
    head = verdict.speed.headline() if verdict.speed is not None else None
    if head is None:
        return None
    name, rate = head
    if name in ("seconds_per_image", "training_step_s"):
        return name, 1.0 / rate.high, 1.0 / rate.best, 1.0 / rate.low
    return name, rate.low, rate.best, rate.high


def _misses(verdict: Verdict, case: Case) -> bool:
    """Whether the best estimate is below the rate that was asked for."""
    rate = _rate(verdict)
    return rate is not None and rate[2] < (case.reading.target_per_s or 0.0)


def _target_text(verdict: Verdict, case: Case) -> str:
    """Whether the rate that was asked for is reached, and how surely."""
    target, rate = case.reading.target_per_s, _rate(verdict)
    if rate is None or not target:
        return ""
    name, low, best, high = rate
    asked = f"the {target:g} times real time" if name == "real_time_factor" else f"the {target:g} per second"
    if low >= target:
        return f" Even the low end reaches {asked} that were asked for."
    if high < target:
        return f" Even the high end stays below {asked} that were asked for."
    reaches = "reaches" if best >= target else "stays below"
    return f" The best estimate {reaches} {asked} that were asked for; the interval lies on both sides."


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
    chosen = case.quantization or default_format(case)
    found = need_of(case, quantization=chosen)
    case.value = found.total_bytes.best
    parts = ", ".join(
        f"{term.name} {format_field('bytes', term.value)}" for term in found.terms if term.value
    )
    told = f"{case.model.name} needs {interval_text('total_bytes', found.total_bytes)}: {parts}."
    return told + _of_training(case, chosen) if case.workload.mode != "inference" else told


def _of_training(case: Case, chosen: str | None) -> str:
    """What recomputing would leave of the memory for training, and the load that was assumed."""
    load, filled = complete_workload(case.model, case.workload)
    case.assumptions += [
        text
        for field, text in (
            ("context_tokens", f"sequences of {load.context_tokens or 0:,} tokens"),
            ("batch_size", f"batch {load.batch_size}"),
        )
        if field in filled
    ]
    if "gradient_checkpointing" not in filled or load.gradient_checkpointing == "full":
        return ""
    lighter = case.workload.model_copy(update={"gradient_checkpointing": "full"})
    try:
        need = need_of(case, workload=lighter, quantization=chosen)
    except MissingDataError:
        # What is computed again is not modelled for networks of pictures.
        return ""
    case.assumptions.append("activations are kept for the backward pass")
    return f" With activations computed again (gradient_checkpointing='full') it is {interval_text('total_bytes', need.total_bytes)}."
