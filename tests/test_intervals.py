"""Intervals: ordered, shifted, scaled, and nothing else."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun import Interval

numbers = st.floats(min_value=-1e15, max_value=1e15, allow_nan=False)


@given(st.tuples(numbers, numbers, numbers), numbers, st.floats(min_value=0, max_value=1e6))
def test_shift_and_scale_keep_the_order(values: tuple[float, float, float], by: float, factor: float) -> None:
    low, best, high = sorted(values)
    interval = Interval(low, best, high)
    for moved in (interval.shift(by), interval.scale(factor)):
        assert moved.low <= moved.best <= moved.high
        assert moved.level == 0.9


@pytest.mark.parametrize("values", [(2, 1, 3), (1, 3, 2), (float("nan"), 1, 2)])
def test_disorder_is_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError):
        Interval(*values)


def test_no_interval_arithmetic() -> None:
    with pytest.raises(TypeError):
        Interval.exact(1) + Interval.exact(2)  # type: ignore[operator]
    with pytest.raises(ValueError):
        Interval.exact(1).scale(-1)


def test_pickles_and_contains() -> None:
    interval = Interval(1, 2, 3)
    assert pickle.loads(pickle.dumps(interval)) == interval
    assert 3 in interval
    assert 4 not in interval
    assert Interval.exact(5).is_exact
