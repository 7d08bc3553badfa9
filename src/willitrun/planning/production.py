"""What a machine produces: units of work per second, whatever the task."""

from __future__ import annotations

from typing import Any

from willitrun.estimators.evaluation import Evaluated
from willitrun.frozen import frozen
from willitrun.intervals import Interval
from willitrun.kernels.costs import SECONDS_PER_HOUR, request_seconds

__all__ = ["Work", "ends", "inverse", "work_of"]


@frozen
class Work:
    """What is produced: the unit, units per second, and for tokens what a request is."""

    unit: str
    units_per_s: Interval
    evidence: Any
    tokens: bool = False
    prompt: int = 0
    output: int = 0
    per_unit: float = 1.0
    """Items per unit."""
    item: str = "requests"


# Field of a speed -> unit of cost, its size in the field's unit of work, its items, what an item is.
_UNITS = {
    "images_per_s": ("thousand images", 1e3, 1e3, "images"),
    "samples_per_s": ("thousand texts", 1e3, 1e3, "texts"),
    "real_time_factor": ("hour of audio", SECONDS_PER_HOUR, 1.0, "hours of audio"),
}


def work_of(found: Evaluated) -> Work | None:
    """Units of work per second of a machine that is busy; None where nothing runs or no speed is known."""
    speed = found.speed_estimate() if found.tier not in ("will-not-run", "unknown") else None
    if speed is None:
        return None
    for name, (unit, size, items, item) in _UNITS.items():
        rate = getattr(speed, name)
        if rate is not None:
            return Work(unit, rate.scale(1.0 / size), speed.evidence, per_unit=items, item=item)
    throughput, prefill = speed.throughput_tokens_per_s, speed.prefill_tokens_per_s
    if throughput is None or prefill is None:
        return None
    load = found.request.workload
    prompt, output = load.prompt_tokens or 1, load.output_tokens or 1
    interleaved = found.request.profile.kv_policy == "pages"
    seconds = [
        float(request_seconds(prompt, output, read, write, interleaved=interleaved))
        for read, write in zip(ends(prefill), ends(throughput), strict=True)
    ]
    requests = 1e6 / output
    rates = Interval(*(1.0 / (one * requests) for one in seconds))
    return Work("million output tokens", rates, speed.evidence, True, prompt, output, requests)


def ends(interval: Interval) -> tuple[float, float, float]:
    """Low, best, high."""
    return interval.low, interval.best, interval.high


def inverse(what: Any, rate: Interval) -> Interval:
    """A quantity that falls with a rate, at its three estimates."""
    return Interval(what(rate.high), what(rate.best), what(rate.low), rate.level)
