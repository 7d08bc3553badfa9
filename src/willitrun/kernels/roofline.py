"""The roofline: what a device can reach at an arithmetic intensity (Williams, Waterman, Patterson 2009)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["attainable_flop_per_s", "workload_point"]

FloatArray = NDArray[np.float64]


def attainable_flop_per_s(
    intensity: ArrayLike, peak_flop_per_s: ArrayLike, memory_bytes_per_s: ArrayLike
) -> FloatArray:
    """Return ``min(peak, intensity x bandwidth)`` [FLOP/s].

    Parameters
    ----------
    intensity
        Operations per byte that is read [FLOP/byte].
    peak_flop_per_s
        Arithmetic peak [FLOP/s].
    memory_bytes_per_s
        Memory bandwidth [bytes/s].

    Examples
    --------
    >>> attainable_flop_per_s([1.0, 1000.0], 80e12, 1e12).tolist()
    [1000000000000.0, 80000000000000.0]
    """
    found: FloatArray = np.minimum(peak_flop_per_s, np.multiply(intensity, memory_bytes_per_s))
    return found


def workload_point(
    flop: ArrayLike, moved_bytes: ArrayLike, seconds: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return arithmetic intensity [FLOP/byte] and attained rate [FLOP/s] of work done in a time.

    Examples
    --------
    >>> tuple(float(value) for value in workload_point(16e9, 4e9, 0.008))
    (4.0, 2000000000000.0)
    """
    work = np.asarray(flop, dtype=np.float64)
    return work / np.asarray(moved_bytes), work / np.asarray(seconds)
