"""Costs by hand, and what must never happen: a cheaper price that costs more, a longer life that costs more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.costs import (
    break_even_hours,
    cost_per_unit,
    energy_per_unit_kwh,
    energy_usd_per_s,
    owned_usd_per_s,
    request_seconds,
    token_usd,
)
from willitrun.planning.fronts import pareto_front

PRICE = st.floats(min_value=0.0, max_value=1e6)
POWER = st.floats(min_value=0.0, max_value=1e4)
RATE = st.floats(min_value=1e-3, max_value=1e6)
SHARE = st.floats(min_value=0.01, max_value=1.0)


def test_by_hand() -> None:
    # 1,500 USD over 3 years at half use, 0.5 kW at 0.20 USD/kWh: 0.1141 + 0.1 USD/h.
    busy = float(owned_usd_per_s(1500.0, years=3, utilisation=0.5, power_w=500.0, usd_per_kwh=0.2)) * 3600
    assert busy == pytest.approx(1500 / (3 * 8766 * 0.5) + 0.1)
    # While idle for as long as it works, at 50 W, it adds 0.01 USD to every busy hour.
    idle = (
        float(
            owned_usd_per_s(
                1500.0, years=3, utilisation=0.5, power_w=500.0, usd_per_kwh=0.2, idle_power_w=50.0
            )
        )
        * 3600
    )
    assert idle - busy == pytest.approx(0.01)
    assert float(token_usd(0.05, 0.08, 512, 128)) == pytest.approx(512 * 0.05e-6 + 128 * 0.08e-6)
    assert float(request_seconds(1000, 100, 2000.0, 50.0, interleaved=False)) == pytest.approx(0.5 + 2.0)
    assert float(request_seconds(1000, 100, 2000.0, 50.0, interleaved=True)) == pytest.approx(2.0)
    assert float(energy_per_unit_kwh(360.0, 1.0)) == pytest.approx(1e-4)
    assert math.isinf(float(cost_per_unit(1.0, 0.0)))


@given(PRICE, PRICE, POWER, SHARE)
def test_a_cheaper_price_never_costs_more(a: float, b: float, power: float, use: float) -> None:
    low, high = sorted((a, b))

    def own(price: float) -> float:
        return float(owned_usd_per_s(price, years=3, utilisation=use, power_w=power, usd_per_kwh=0.2))

    assert own(low) <= own(high)
    assert float(energy_usd_per_s(power, low)) <= float(energy_usd_per_s(power, high))
    rent = 1e-4
    assert float(break_even_hours(low, rent, 5e-5)) <= float(break_even_hours(high, rent, 5e-5))


@given(PRICE, POWER, SHARE, SHARE)
def test_more_use_never_costs_more_per_busy_second(price: float, power: float, a: float, b: float) -> None:
    low, high = sorted((a, b))

    def own(use: float) -> float:
        return float(
            owned_usd_per_s(
                price, years=3, utilisation=use, power_w=power, usd_per_kwh=0.2, idle_power_w=power / 10
            )
        )

    assert own(high) <= own(low) * (1 + 1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int, int]]) -> None:
    front = pareto_front(points)

    def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    for i, point in enumerate(points):
        dominated = any(beats(other, point) for other in points)
        assert (i in front) <= (not dominated)
        if not dominated:
            assert any(points[j] == point for j in front)
