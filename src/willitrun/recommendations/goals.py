"""What a machine has to reach, and what it misses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from willitrun.errors import InvalidWorkloadError, UnknownIdError
from willitrun.estimators.evaluation import Evaluated
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.intervals import Interval
from willitrun.records.presentation import format_field
from willitrun.records.results import SpeedEstimate, Tier
from willitrun.verdicts import workload_profile

__all__ = ["LESS_IS_MORE", "Goal", "merit", "misses_of", "refuse_foreign_targets"]

LESS_IS_MORE = ("time_to_first_token_s", "time_per_output_token_s", "seconds_per_image", "training_step_s")


@frozen
class Goal:
    targets: dict[str, float]
    tier: Tier
    budget_usd: float | None
    rent_usd: float | None
    power_w: float | None
    noise: float

    @classmethod
    def of(
        cls,
        targets: Mapping[str, float] | None,
        tier: Tier,
        budget_usd: float | None,
        rent_usd: float | None,
        power_w: float | None,
        noise: float,
    ) -> Goal:
        if tier not in ("comfortable", "tight", "offload"):
            raise UnknownIdError("tier", str(tier), ("comfortable", "tight", "offload"))
        wanted = dict(targets or {})
        for name, value in wanted.items():
            if name not in SpeedEstimate.model_fields or not name.endswith(("_s", "_per_image", "_factor")):
                raise InvalidWorkloadError(
                    f"{name!r} is no rate or time of a SpeedEstimate.",
                    hint="For example decode_tokens_per_s, images_per_s, time_to_first_token_s.",
                )
            if not value > 0:
                raise InvalidWorkloadError(f"the target {name} is above 0, got {value!r}.")
        for name, limit in (
            ("budget_usd", budget_usd),
            ("rent", rent_usd),
            ("power_w", power_w),
            ("noise", noise),
        ):
            if limit is not None and not 0 <= limit < float("inf"):
                raise InvalidWorkloadError(f"{name} is a number >= 0, got {limit!r}.")
        return cls(wanted, tier, budget_usd, rent_usd, power_w, noise)

    def text(self, request: Request) -> str:
        asked = [
            f"{name} {'<=' if name in LESS_IS_MORE else '>='} {value:g}"
            for name, value in self.targets.items()
        ]
        return ", ".join([request.model.id, *asked, self.tier])

    def all_targets(self, request: Request) -> dict[str, float]:
        profile = workload_profile(request)
        floors = dict(profile.floor) if profile is not None else {}
        return floors | self.targets


def refuse_foreign_targets(goal: Goal, judged: Iterable[Evaluated]) -> None:
    """A rate that no estimate of the model has cannot be a target.

    Raises
    ------
    InvalidWorkloadError
        There is one.
    """
    speeds = [(found, speed) for found in judged if (speed := found.speed_estimate()) is not None]
    known = {
        name
        for _, speed in speeds
        for name in type(speed).model_fields
        if isinstance(getattr(speed, name), Interval)
    }
    for name in goal.targets:
        if known and name not in known:
            request = speeds[0][0].request
            raise InvalidWorkloadError(
                f"{request.model.name} does {request.model.task}, which has no {name}.",
                hint=f"It has {', '.join(sorted(known))}.",
            )


def merit(found: Evaluated, goal: Goal) -> tuple[float, ...]:
    """Meeting the goal first; then the tier; then how near to the targets. Formats come best first, so that ties
    keep the better format."""
    misses = misses_of(found, goal)
    return (not misses, min(TIER_ORDER[found.tier], TIER_ORDER[goal.tier]), -len(misses))


def misses_of(found: Evaluated, goal: Goal, *, low: bool = False) -> tuple[str, ...]:
    """What is missing for the goal, at the best estimate or at the low end."""
    if TIER_ORDER[found.tier] < TIER_ORDER[goal.tier]:
        reason = next(iter((*found.request.blockers, *found.reasons)), None)
        return (f"{found.tier}: {reason.message}" if reason is not None else found.tier,)
    missing = []
    speed = found.speed_estimate()
    for name, wanted in goal.all_targets(found.request).items():
        value: Interval | None = getattr(speed, name, None)
        less = name in LESS_IS_MORE
        if value is None:
            missing.append(f"{name} is unknown")
            continue
        got = (value.high if less else value.low) if low else value.best
        if got > wanted if less else got < wanted:
            missing.append(f"{format_field(name, got)}, {format_field(name, wanted)} is wanted")
    return tuple(missing)
