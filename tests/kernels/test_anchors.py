"""Shrinkage of measurements near by: properties that hold whatever the variances are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.anchors import condition, narrowing, reach

variance = st.floats(1e-4, 0.2)
ratio = st.floats(-1.0, 1.0)


@given(ratio, variance, variance, variance)
def test_one_anchor_is_shrunk_towards_zero(r: float, device: float, family: float, noise: float) -> None:
    found = condition(
        np.array([r]), np.array([[1, 1]]), np.array([[1, 1]]), np.array([device, family]), noise
    )
    expected = r * (device + family) / (device + family + noise)
    assert found.mean[0] == pytest.approx(expected, abs=1e-12)
    assert abs(found.mean[0]) <= abs(r)
    assert 0.0 <= narrowing(found, noise)[0] <= 1.0


@given(ratio, variance, variance, variance)
def test_what_shares_less_moves_less(r: float, device: float, family: float, noise: float) -> None:
    targets = np.array([[1, 1], [1, 2], [2, 3]])
    found = condition(np.array([r]), np.array([[1, 1]]), targets, np.array([device, family]), noise)
    near, far, other = np.abs(found.mean)
    assert near >= far >= other == 0.0
    assert found.variance[0] <= found.variance[1] <= found.variance[2] == pytest.approx(found.prior)


@given(ratio, variance, variance, st.integers(1, 8))
def test_more_anchors_that_agree_move_further_and_narrow(
    r: float, device: float, noise: float, count: int
) -> None:
    def after(n: int) -> tuple[float, float]:
        found = condition(
            np.full(n, r), np.ones((n, 1), dtype=int), np.ones((1, 1), dtype=int), np.array([device]), noise
        )
        return abs(float(found.mean[0])), float(narrowing(found, noise)[0])

    fewer, more = after(count), after(count + 1)
    assert more[0] >= fewer[0] - 1e-12
    assert more[1] <= fewer[1] + 1e-12


def test_no_anchor_changes_nothing() -> None:
    found = condition(
        np.zeros(0), np.zeros((0, 2), dtype=int), np.array([[1, 2]]), np.array([0.1, 0.2]), 0.01
    )
    assert found.mean.tolist() == [0.0]
    assert narrowing(found, 0.01).tolist() == [1.0]


def test_an_unknown_level_shares_nothing() -> None:
    unknown = np.array([[-1]])
    assert condition(np.array([0.5]), unknown, unknown, np.array([0.1]), 0.01).mean[0] == 0.0


@given(ratio, variance, variance, st.floats(0.0, 1.0))
def test_an_anchor_moves_the_terms_that_it_measured(
    r: float, device: float, noise: float, share: float
) -> None:
    """What was measured where the host decides says nothing of a pass that the device decides."""
    one = np.ones((1, 1), dtype=int)
    found = reach(np.array([r]), one, one, np.array([device]), noise, np.array([[1.0, 0.0]]))
    same, part, other = (found.at(np.array([[s, 1.0 - s]])) for s in (1.0, share, 0.0))
    alone = condition(np.array([r]), one, one, np.array([device]), noise)
    assert same.mean[0] == pytest.approx(alone.mean[0], abs=1e-12)
    assert same.variance[0] == pytest.approx(alone.variance[0], abs=1e-12)
    assert part.mean[0] == pytest.approx(share * same.mean[0], abs=1e-12)
    assert other.mean[0] == 0.0
    assert narrowing(other, noise)[0] == 1.0
