"""A number with its calibrated interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Interval"]


@dataclass(frozen=True, slots=True, repr=False)
class Interval:
    """Low, best and high estimate of one quantity.

    Only `shift` and `scale` are defined: the interval of a sum is not the sum of the endpoints, so
    intervals of totals come from their own calibration, never from arithmetic on parts.

    Parameters
    ----------
    low, best, high
        ``low <= best <= high``, all in the unit that the field's name carries.
    level
        Probability that the truth lies inside [1].

    Examples
    --------
    >>> Interval(90.0, 100.0, 120.0).scale(2.0)
    Interval(180, 200, 240, level=0.9)
    >>> Interval.exact(5).width
    0
    """

    low: float
    best: float
    high: float
    level: float = 0.9

    def __post_init__(self) -> None:
        # Comparisons with NaN are false: a sound interval passes with two of them.
        if self.low <= self.best <= self.high and 0.0 < self.level <= 1.0:
            return
        for name in ("low", "best", "high", "level"):
            if math.isnan(getattr(self, name)):
                raise ValueError(f"Interval.{name} is not a number")
        if not self.low <= self.best <= self.high:
            raise ValueError(f"Interval needs low <= best <= high, got {self.low}, {self.best}, {self.high}")
        raise ValueError(f"Interval.level is a probability, got {self.level}")

    @classmethod
    def exact(cls, value: float) -> Interval:
        """An interval of zero width: the rule is known, not estimated."""
        return cls(value, value, value, 1.0)

    @property
    def width(self) -> float:
        """``high - low``, in the unit of the quantity."""
        return self.high - self.low

    @property
    def is_exact(self) -> bool:
        """Whether the interval has zero width."""
        return self.low == self.high

    def shift(self, by: float) -> Interval:
        """The interval moved by a known amount."""
        return Interval(self.low + by, self.best + by, self.high + by, self.level)

    def scale(self, by: float) -> Interval:
        """The interval multiplied by a known factor >= 0."""
        if by < 0:
            raise ValueError(f"an interval is scaled by a factor >= 0, got {by}")
        return Interval(self.low * by, self.best * by, self.high * by, self.level)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __repr__(self) -> str:
        return f"Interval({self.low:g}, {self.best:g}, {self.high:g}, level={self.level:g})"


Interval.__module__ = "willitrun"
