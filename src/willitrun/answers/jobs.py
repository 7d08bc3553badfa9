"""Questions about a job of so many items: how long all of them take."""

from __future__ import annotations

from willitrun.answers.cases import Case, judged
from willitrun.answers.fits import fit_answer
from willitrun.answers.wording import memory_text, speed_text, subject
from willitrun.estimators.workloads import ASR_TASKS, LLM_TASKS
from willitrun.planning.batches import plan_batch
from willitrun.units import format_duration

__all__ = ["job_answer"]

_HOUR_S = 3600.0


def _counted(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.3g}"


def job_answer(case: Case) -> str:
    """How long a job takes on the machine, at as many items at a time as do most where nobody says how many."""
    amount, machine = case.reading.amount, case.machine
    assert amount is not None
    assert machine is not None
    load = case.workload
    if case.model.task in ASR_TASKS and amount < 1.0:
        # A recording shorter than an hour has as many windows as it has.
        load = load.model_copy(update={"audio_s": amount * _HOUR_S})
    plan = plan_batch(
        case.model, machine, load, items=amount, quantization=case.quantization, **case.options()
    )
    option = plan.options[0]
    if option.hours is None:
        return fit_answer(case)
    if option.in_flight:
        taken = {"concurrency" if case.model.task in LLM_TASKS else "batch_size": option.in_flight}
        case.workload = load.model_copy(update=taken)
    verdict = judged(case)
    case.value = option.hours.best
    least, best, most = (
        format_duration(hours * _HOUR_S) for hours in (option.hours.low, option.hours.best, option.hours.high)
    )
    how = f", {option.in_flight} at a time" if (option.in_flight or 1) > 1 else ""
    slow = " Below what its use needs to be practical." if verdict.practical is False else ""
    return (
        f"{_counted(amount)} {plan.unit} take {best} ({least} to {most}) by {subject(case, verdict)} on {machine.name}{how}; "
        f"loading and reading are not counted.{speed_text(verdict, case) or slow} It {memory_text(verdict)}. "
        f"`willitrun batch-plan {case.model.id} --items {amount:g}` counts energy and money too."
    )
