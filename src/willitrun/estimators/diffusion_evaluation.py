"""Diffusion pipelines as evaluated requests."""

from __future__ import annotations

from collections.abc import Sequence

from willitrun.estimators.evaluation import Evaluated, not_modelled
from willitrun.estimators.requests import Request

__all__ = ["evaluate_diffusion"]


def evaluate_diffusion(requests: Sequence[Request]) -> list[Evaluated]:
    """Pipelines are answered with unknown and a reason until their stages are wired to requests."""
    return [not_modelled(request, "speed-not-modelled", "Diffusion pipelines are not wired to verdicts yet.") for request in requests]
