"""The smooth maximum and its shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.smoothing import hard_maximum_shares, share_factor, smooth_maximum

times = st.floats(1e-9, 1e3)


@given(st.lists(times, min_size=1, max_size=5))
def test_lies_between_largest_and_sum(values: list[float]) -> None:
    parts = [np.array([value]) for value in values]
    maximum = float(smooth_maximum(*parts)[0])
    assert max(values) * (1 - 1e-12) <= maximum <= sum(values) * (1 + 1e-12)


@given(st.lists(times, min_size=1, max_size=5))
def test_shares_sum_to_the_maximum(values: list[float]) -> None:
    parts = [np.array([value]) for value in values]
    maximum = smooth_maximum(*parts)
    total = sum(part * share_factor(part, maximum) for part in parts)
    np.testing.assert_allclose(total, maximum, rtol=1e-12)


@given(times, times, st.floats(1.0, 100.0))
def test_grows_with_each_part(first: float, second: float, factor: float) -> None:
    before = smooth_maximum(np.array([first]), np.array([second]))
    after = smooth_maximum(np.array([first * factor]), np.array([second]))
    assert after[0] >= before[0] * (1 - 1e-12)


def test_known_value() -> None:
    # (3^4 + 4^4)^(1/4) = 337^(1/4)
    assert smooth_maximum(np.array([3.0]), np.array([4.0]))[0] == pytest.approx(337**0.25, rel=1e-15)


def test_zero_times_have_zero_shares() -> None:
    zero = np.zeros(2)
    maximum = smooth_maximum(zero, zero)
    np.testing.assert_array_equal(zero * share_factor(zero, maximum), zero)


def test_broadcasts_a_single_row_against_a_block() -> None:
    block = smooth_maximum(np.array([1.0]), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(block, [1.0, 2**0.25, 17**0.25])


def test_hard_maximum_gives_the_loser_nothing() -> None:
    first, second = hard_maximum_shares(np.array([1.0, 5.0]), np.array([2.0, 4.0]))
    assert first.tolist() == [0.0, 5.0]
    assert second.tolist() == [2.0, 0.0]
