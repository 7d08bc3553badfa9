"""Pareto fronts: points that no other point beats in every respect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[Sequence[float]] | NDArray[np.float64]) -> tuple[int, ...]:
    """Indices of the points that no other one dominates; every coordinate is to be small.

    Of points alike the first is kept. Given in order of the first coordinate, the front comes in that order.

    Examples
    --------
    >>> pareto_front([(1, 9), (2, 5), (3, 7), (4, 1)])
    (0, 1, 3)
    """
    table = np.asarray(points, dtype=np.float64)
    kept = []
    for i, point in enumerate(table):
        no_worse = (table <= point).all(axis=1)
        better = (table < point).any(axis=1)
        earlier_alike = (table[:i] == point).all(axis=1).any() if i else False
        if not (no_worse & better).any() and not earlier_alike:
            kept.append(i)
    return tuple(kept)
