"""Evaluate complete requests: one array call per group of alike requests, packed when somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.requests import Request
from willitrun.estimators.workloads import (
    ASR_TASKS,
    DIFFUSION_TASKS,
    GRAPH_TASKS,
    is_language,
)
from willitrun.frozen import frozen
from willitrun.records.recipes import Placement
from willitrun.records.results import Reason, Tier

if TYPE_CHECKING:
    from willitrun.intervals import Interval
    from willitrun.records.results import MemoryEstimate, SpeedEstimate

__all__ = ["Evaluated", "Unknown", "evaluate", "evaluate_one"]


class Evaluated(Protocol):
    """What is known of one request after evaluation."""

    @property
    def request(self) -> Request:
        """The request."""

    @property
    def tier(self) -> Tier:
        """The tier."""

    @property
    def placement(self) -> Placement:
        """What lies where."""

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Reasons that the evaluation found, the binding one first."""

    @property
    def cites(self) -> tuple[str, ...]:
        """Sources of the measurements that the speed rests on."""

    @property
    def calibrations(self) -> tuple[str, ...]:
        """Calibrations that were used."""

    def total(self) -> Interval | None:
        """Memory on the accelerators [bytes]."""

    def headline(self) -> tuple[str, Interval] | None:
        """Name and value of the speed that answers "how fast"."""

    def memory_estimate(self) -> MemoryEstimate | None:
        """The memory estimate, None where it is unknown."""

    def speed_estimate(self) -> SpeedEstimate | None:
        """The speed estimate, None where it is unknown."""


@frozen
class Unknown:
    """A request that can't be computed, and why. Nothing is guessed."""

    request: Request
    reason: Reason
    tier: Tier = "unknown"

    @property
    def placement(self) -> Placement:
        """As asked."""
        return self.request.placement

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why nothing is known."""
        return (self.reason,)

    @property
    def cites(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def calibrations(self) -> tuple[str, ...]:
        """None."""
        return ()

    def total(self) -> Interval | None:
        """Unknown."""
        return None

    def headline(self) -> tuple[str, Interval] | None:
        """Unknown."""
        return None

    def memory_estimate(self) -> MemoryEstimate | None:
        """Unknown."""
        return None

    def speed_estimate(self) -> SpeedEstimate | None:
        """Unknown."""
        return None


def evaluate_one(request: Request) -> Evaluated:
    """Evaluate one request."""
    return evaluate([request])[0]


def evaluate(requests: Sequence[Request]) -> list[Evaluated]:
    """Evaluate requests, in order. A request that cannot be computed is `Unknown` with a reason."""
    if not requests:
        return []
    task = requests[0].model.task
    if is_language(requests[0].model):
        return _evaluate_language(requests)
    if task in GRAPH_TASKS:
        from willitrun.estimators.graph_evaluation import evaluate_graphs

        return evaluate_graphs(requests)
    if task in DIFFUSION_TASKS:
        from willitrun.estimators.diffusion_evaluation import evaluate_diffusion

        return evaluate_diffusion(requests)
    if task in ASR_TASKS or task == "text-to-speech":
        from willitrun.estimators.speech_evaluation import evaluate_speech

        return evaluate_speech(requests)
    return [
        not_modelled(request, "memory-not-modelled", f"{task} is not modelled yet.") for request in requests
    ]


def not_modelled(request: Request, code: str, message: str) -> Unknown:
    """An unknown with a reason of its own."""
    return Unknown(
        request, Reason.model_construct(code=code, message=message, numbers={"task": request.model.task})
    )


def from_error(
    request: Request, error: MissingDataError | UnsupportedArchitectureError | UnsupportedFormatError
) -> Unknown:
    """A gap in the facts is an unknown verdict that says which field of which record is missing."""
    return Unknown(
        request, Reason.model_construct(code="memory-not-modelled", message=str(error), see=error.see)
    )


def _evaluate_language(requests: Sequence[Request]) -> list[Evaluated]:
    from willitrun.estimators.llm_evaluation import evaluate_llm

    several = [
        number
        for number, request in enumerate(requests)
        if request.placement.strategy == "data" or request.placement.dp is not None
    ]
    if not several:
        return evaluate_llm(requests)
    from willitrun.estimators.replicas import evaluate_replicas, replicas_asked

    found: dict[int, Evaluated] = {
        number: evaluate_replicas(requests[number])
        for number in several
        if replicas_asked(requests[number]) > 1
    }
    alone = [number for number in range(len(requests)) if number not in found]
    found.update(zip(alone, evaluate_llm([requests[number] for number in alone]), strict=True))
    return [found[number] for number in range(len(requests))]
