"""Units: one parser, exact, refusing what has no unit or the wrong one."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.errors import UnitError
from willitrun.units import (
    format_bytes,
    format_count,
    format_duration,
    format_rate,
    parse_bytes,
    parse_quantity,
    parse_rate,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24 GiB", 24 * 2**30),
        ("24 GB", 24 * 10**9),
        ("24GiB", 24 * 2**30),
        ({"value": 24564, "unit": "MiB"}, 24564 * 2**20),
        ("1.5 KiB", 1536),
        (7, 7),
    ],
)
def test_bytes(text: object, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "bad",
    [
        "24",
        "24 gib",
        "GiB",
        "",
        "24 GHz",
        "nan GiB",
        -1,
        True,
        None,
        {"value": 1},
        {"value": "x", "unit": "GiB"},
    ],
)
def test_refusals(bad: object) -> None:
    with pytest.raises((UnitError, ValueError)) as caught:
        parse_bytes(bad)
    assert str(caught.value)


def test_gib_and_gb_differ() -> None:
    assert parse_bytes("24 GiB") - parse_bytes("24 GB") == 24 * (2**30 - 10**9)


def test_decimal_fractions_are_exact() -> None:
    assert parse_quantity("1008.1 GB/s", "bytes_per_s") == Fraction(10081, 10) * 10**9


def test_rates() -> None:
    assert parse_rate("82.58 TFLOP/s", "flop_per_s") == 82.58e12
    assert parse_rate(5.0, "hertz") == 5.0
    with pytest.raises(UnitError):
        parse_rate(float("inf"), "hertz")
    with pytest.raises(UnitError):
        parse_rate("5 GB/s", "flop_per_s")


@given(st.integers(min_value=0, max_value=2**60))
def test_formatted_bytes_parse_back_within_rounding(size: int) -> None:
    parsed = parse_bytes(format_bytes(size).replace(",", ""))
    assert abs(parsed - size) <= max(1, 0.006 * size)


def test_formats() -> None:
    assert format_rate(1.008e12, "B/s") == "1.01 TB/s"
    assert format_count(8_030_261_248) == "8.03 B"
    assert format_duration(7500) == "2.08 h"
    assert format_bytes(-(2**30)) == "-1 GiB"
