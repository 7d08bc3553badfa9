"""Speech recognition as evaluated requests."""

from __future__ import annotations

from collections.abc import Sequence

from willitrun.estimators.evaluation import Evaluated, not_modelled
from willitrun.estimators.requests import Request

__all__ = ["evaluate_speech"]


def evaluate_speech(requests: Sequence[Request]) -> list[Evaluated]:
    """Speech is answered with unknown and a reason until encoder and decoder are wired to requests."""
    return [not_modelled(request, "speed-not-modelled", "Speech recognition is not wired to verdicts yet.") for request in requests]
