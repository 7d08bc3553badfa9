"""How numbers show themselves."""

from __future__ import annotations

import pytest

from willitrun import Interval
from willitrun.records.presentation import format_interval


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(30.0, 40.0, 70.0), "40 images/s (30 images/s to 70 images/s)"),
        (Interval(0.5, 0.9, 1.3), "1.11 s per image (769 ms to 2 s)"),
        (Interval.exact(0.1), "10 s per image"),
    ],
)
def test_what_takes_longer_than_a_second_is_told_by_its_time(interval: Interval, shown: str) -> None:
    assert format_interval("images_per_s", interval) == shown
