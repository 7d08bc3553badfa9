"""One number from few devices, and what leaving each of them out says of it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["by_device", "central", "left_out", "residual"]


def by_device(found: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    """Values of each device."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for device, value in found:
        values[device].append(value)
    return dict(values)


def central(found: Mapping[str, Sequence[float]]) -> float:
    """Median over devices of their medians, so that one with many rows does not speak for all."""
    return statistics.median(statistics.median(values) for values in found.values())


def left_out(found: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Each device's values over what the other devices say."""
    return {
        device: [
            value / central({name: kept for name, kept in found.items() if name != device})
            for value in values
        ]
        for device, values in found.items()
    }


def residual(task: str, ratios: Sequence[float]) -> dict[str, Any]:
    """Residual row of a record: errors of what the others predict, one measured value over it at a time."""
    errors = [abs(1 / ratio - 1) for ratio in ratios]
    return {
        "held_out": "device",
        "task": task,
        "rows": len(errors),
        "configurations": len(errors),
        "median": round(statistics.median(errors), 3),
        "mean": round(statistics.mean(errors), 3),
        "p90": round(float(np.quantile(errors, 0.9)), 3),
    }
