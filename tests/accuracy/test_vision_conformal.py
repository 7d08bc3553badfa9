"""Intervals of images per second hold for a group (a device, a family) that nobody has seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("pandas")
from accuracy.vision.conformal import conformal_interval, nested_coverage


def devices(count: int, generator: np.random.Generator, apart: float = 0.3) -> list[np.ndarray]:
    """Log errors of devices that differ from each other by more than their models do."""
    return [generator.normal(generator.normal(0.0, apart), 0.15, 30) for _ in range(count)]


@pytest.mark.parametrize("count", [4, 12])
def test_a_new_device_lies_inside_as_often_as_the_interval_says(count: int) -> None:
    generator = np.random.default_rng(count)
    inside, naive = [], []
    for _ in range(600):
        *known, new = devices(count + 1, generator)
        errors, group = np.concatenate(known), np.repeat(np.arange(count), 30)
        low, high = np.log(conformal_interval(errors, group))
        inside.append(np.mean((new >= low) & (new <= high)))
        below, above = np.quantile(errors, [0.05, 0.95])
        naive.append(np.mean((new >= below) & (new <= above)))
    assert 0.86 < np.mean(inside) < 0.95
    assert np.mean(inside) > np.mean(naive) + 0.01


def test_nested_coverage_tells_what_a_new_device_would_find() -> None:
    generator = np.random.default_rng(5)
    found = [
        nested_coverage(np.concatenate(devices(10, generator)), np.repeat(np.arange(10), 30))
        for _ in range(20)
    ]
    assert 0.85 < np.mean(found) < 0.95


def test_two_devices_give_a_symmetric_interval() -> None:
    errors = np.concatenate([np.full(30, -0.5), np.full(30, 0.1)])
    low, high = conformal_interval(errors, np.repeat([0, 1], 30))
    assert low * high == pytest.approx(1.0)
    assert math.log(high) >= 0.5
