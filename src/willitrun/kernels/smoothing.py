"""Smooth maximum of competing times, and the exact split of its value into shares.

Two resources that work at the same time cost about as much as the slower of the two, and a little more where
they are close. The p-norm says so with one number; its shares add up to it exactly (Euler's theorem on a
homogeneous function of degree one), so an explanation never has to invent a remainder.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import maximum, where

FloatArray = NDArray[np.float64]

#: Exponent of the smooth maximum. Four squares and square roots, no ``np.power``.
ORDER = 4


def smooth_maximum(*times_s: FloatArray) -> FloatArray:
    """Return the p-norm (p = 4) of times that overlap [s].

    ``t = (sum t_i^4)^(1/4)``. Never less than the largest time and never more than the sum. Times must be
    non-negative.

    >>> round(float(smooth_maximum(np.array([3.0]), np.array([1.0]))[0]), 4)
    3.0092
    """
    total: FloatArray = _fourth_power(times_s[0])
    for time in times_s[1:]:
        total = total + _fourth_power(time)
    result: FloatArray = np.sqrt(np.sqrt(total))
    return result


def _fourth_power(values: FloatArray) -> FloatArray:
    square = values * values
    # In place where it is a column: a new one would push others out of the cache.
    square *= square
    return square


def share_factor(time_s: FloatArray, maximum_s: FloatArray) -> FloatArray:
    """Return ``(t_i / t)^3``, the factor that turns a time inside a smooth maximum into its share.

    ``share_i = t_i (t_i / t)^(p - 1)`` and the shares sum to ``t``. A part of ``t_i`` (bytes of one tensor
    class, say) is multiplied by the same factor. Where the maximum is zero the factor is zero.

    >>> t = smooth_maximum(np.array([3.0]), np.array([1.0]))
    >>> parts = 3.0 * share_factor(np.array([3.0]), t) + 1.0 * share_factor(np.array([1.0]), t)
    >>> bool(abs(parts[0] - t[0]) < 1e-12)
    True
    """
    ratio = time_s / maximum(maximum_s, np.finfo(np.float64).tiny)
    result: FloatArray = ratio * ratio
    result *= ratio
    return result


def hard_maximum_shares(first_s: FloatArray, second_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the two shares of ``max(first, second)``: the losing side has share 0, a tie goes to the first.

    >>> [a.tolist() for a in hard_maximum_shares(np.array([1.0, 2.0]), np.array([3.0, 2.0]))]
    [[0.0, 2.0], [3.0, 0.0]]
    """
    first_wins = first_s >= second_s
    return where(first_wins, first_s, 0.0), where(first_wins, 0.0, second_s)
