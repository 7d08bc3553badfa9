"""From a question that was read to the engine's answer in one paragraph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from willitrun.answers.cases import Case
from willitrun.answers.fits import fit_answer, memory_answer, speed_answer
from willitrun.answers.searches import SEARCHES

__all__ = ["reply"]


def reply(case: Case) -> str:
    """The paragraph that answers, assumptions at its end."""
    text = _REPLIES.get(case.reading.intent, fit_answer)(case)
    if case.reading.money and case.machine is not None:
        text += f" What it costs to own, rent or call: `willitrun cost {case.model.id}`."
    said = [*case.assumptions, *case.reading.notes]
    return text + (f" Assumed: {'; '.join(dict.fromkeys(said))}." if said else "")


_REPLIES: Mapping[str, Callable[[Case], str]] = {
    "fit": fit_answer,
    "speed": speed_answer,
    "memory": memory_answer,
    **SEARCHES,
}
