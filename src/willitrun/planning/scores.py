"""`score`: how well a model runs on a machine, as one number with a published definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from willitrun.catalog import Catalog
from willitrun.estimators.evaluation import evaluate_one
from willitrun.estimators.requests import Request, complete_request
from willitrun.kernels.scores import FIT_FACTORS, fit_score, speed_score
from willitrun.records.rankings import ScoreCard
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.records.results import Tier
from willitrun.verdicts import best_comfortable, workload_profile

__all__ = ["is_practical", "score", "score_of"]


def score(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
) -> ScoreCard:
    """Score from 0 to 100 of how well a model runs on a machine; the model's quality has no part in it.

    ``score = 100 x fit x speed`` with ``fit`` 1 (comfortable), 0.8 (tight), 0.4 (offload), 0 (will not run), and
    ``speed = 1 - 2^(-rate / floor)``, the least over the floors of the workload (`workloads.toml`).
    A better tier or a faster machine never lowers it, a higher floor never raises it.

    Parameters
    ----------
    model, machine, workload, quantization, runtime, placement, memory, catalog
        As for `assess`.

    Examples
    --------
    >>> score("llama-3.1-8b", "rtx-4090", quantization="q4_k_m").score > 99
    True
    >>> score("llama-3.1-405b", "rtx-4090", quantization="q4_k_m").score
    0.0
    """
    request = complete_request(
        model,
        machine,
        workload,
        quantization=quantization,
        runtime=runtime,
        placement=placement,
        memory=memory,
        catalog=catalog,
    )
    if request.quantization_open:
        request = best_comfortable(request)
    found = evaluate_one(request)
    speed = found.speed_estimate() if found.tier not in ("will-not-run", "unknown") else None
    head = speed.headline() if speed is not None else None
    floors = floors_of(request)
    rates = {name: value.best for name in floors if (value := getattr(speed, name, None)) is not None}
    return ScoreCard(
        score=score_of(found.tier, rates, floors),
        tier=found.tier,
        fit=FIT_FACTORS[found.tier],
        speed=_speed(rates, floors),
        headline=head[0] if head is not None else "",
        rate=head[1].best if head is not None else None,
        floor=floors.get(head[0]) if head is not None else None,
        practical=is_practical(found.tier, rates, floors),
    )


def floors_of(request: Request) -> dict[str, float]:
    """Floors of the request's workload by name of the rate."""
    profile = workload_profile(request)
    return dict(profile.floor) if profile is not None else {}


def score_of(tier: Tier, rates: Mapping[str, float], floors: Mapping[str, float]) -> float | None:
    """The score from a tier, rates and floors; None where it runs and a speed is unknown, or nothing is known."""
    if tier == "unknown":
        return None
    speed = _speed(rates, floors)
    if tier != "will-not-run" and speed is None:
        return None
    return float(fit_score(FIT_FACTORS[tier], 0.0 if speed is None else speed))


def _speed(rates: Mapping[str, float], floors: Mapping[str, float]) -> float | None:
    shares = [float(speed_score(rates[name], floor)) for name, floor in floors.items() if name in rates]
    if len(shares) < len(floors):
        return None
    return min(shares, default=1.0)


def is_practical(tier: Tier, rates: Mapping[str, float], floors: Mapping[str, float]) -> bool | None:
    """Whether every floor is reached; None where a speed is unknown."""
    if tier == "will-not-run":
        return False
    if tier == "unknown" or not floors or any(name not in rates for name in floors):
        return None
    return all(rates[name] >= floor for name, floor in floors.items())
