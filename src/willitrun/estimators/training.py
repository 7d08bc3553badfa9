"""Training and fine-tuning: states, gradients and activations as an evaluated request."""

from __future__ import annotations

from willitrun.estimators.evaluation import Unknown, not_modelled
from willitrun.estimators.requests import Request

__all__ = ["evaluate_training"]


def evaluate_training(request: Request) -> Unknown:
    """Training is answered with unknown and a reason until its kernels are wired to requests."""
    return not_modelled(request, "memory-not-modelled", f"{request.workload.mode} is not wired to verdicts yet.")
