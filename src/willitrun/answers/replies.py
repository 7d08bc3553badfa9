"""From a question that was read to the engine's answer in one paragraph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from willitrun.answers.cases import Case
from willitrun.answers.fits import fit_answer, memory_answer, speed_answer
from willitrun.answers.jobs import job_answer
from willitrun.answers.searches import SEARCHES
from willitrun.answers.wording import interval_text
from willitrun.estimators.workloads import ASR_TASKS, LLM_TASKS

__all__ = ["reply"]


def reply(case: Case) -> str:
    """The paragraph that answers, assumptions at its end."""
    text = (job_answer if _is_job(case) else _REPLIES.get(case.reading.intent, fit_answer))(case)
    text += _power_text(case) if case.reading.power else ""
    if case.reading.money and case.machine is not None:
        text += f" What it costs to own, rent or call: `{_cost_command(case)}`."
    said = [*case.assumptions, *case.reading.notes]
    return text + (f" Assumed: {'; '.join(dict.fromkeys(said))}." if said else "")


def _is_job(case: Case) -> bool:
    """Whether so many items are to be gone through, on a machine: audio by the hour, all else by the piece."""
    reading = case.reading
    by_hour = reading.amount_unit == "hour"
    return (
        reading.amount is not None
        and case.machine is not None
        and reading.intent in ("speed", "fit", "unclear")
        and case.workload.mode == "inference"
        and case.workload.dataset is None
        and by_hour == (case.model.task in ASR_TASKS)
    )


def _power_text(case: Case) -> str:
    speed = case.verdict.speed if case.verdict is not None else None
    energy = speed.energy_j_per_unit if speed is not None else None
    if energy is None:
        return " How much energy it takes is not known: no source says the board's limit, or boards wait for each other."
    assert speed is not None
    each = next(noun for rate, noun in _PER.items() if getattr(speed, rate) is not None)
    return f" It takes {interval_text('energy_j_per_unit', energy)} for each {each}."


# What energy is told for, as `estimators.energy` takes it.
_PER = {
    "throughput_tokens_per_s": "output token",
    "images_per_s": "picture",
    "samples_per_s": "text",
    "real_time_factor": "second of audio",
}


def _cost_command(case: Case) -> str:
    """The command line that counts the money of what was judged."""
    assert case.machine is not None
    devices = case.verdict.inputs.accelerators if case.verdict is not None else ()
    on = f" --on {','.join(devices)}" if devices else ""
    quantization = case.verdict.inputs.quantization if case.verdict is not None else None
    weights = f" -q {quantization}" if quantization and case.model.task in LLM_TASKS else ""
    return f"willitrun cost {case.model.id}{on}{weights}"


_REPLIES: Mapping[str, Callable[[Case], str]] = {
    "fit": fit_answer,
    "speed": speed_answer,
    "memory": memory_answer,
    **SEARCHES,
}
