"""One number for "how well does it run here": fit times speed against a floor, monotone in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FIT_FACTORS", "fit_score", "speed_score", "texts_per_s"]

FloatArray = NDArray[np.float64]

FIT_FACTORS = {"comfortable": 1.0, "tight": 0.8, "offload": 0.4, "will-not-run": 0.0, "unknown": 0.0}
"""What a tier leaves of the score: an order, spelt as numbers."""


def speed_score(rate: ArrayLike, floor: ArrayLike) -> FloatArray:
    """Share of the score that a speed earns: ``1 - 2^(-rate / floor)`` [1].

    A half at the floor of the workload, 0.94 at four times the floor, 0 where nothing moves. Increasing in the
    rate and decreasing in the floor; 1 where the workload has no floor; NaN where the rate is unknown.

    Parameters
    ----------
    rate, floor
        In the same unit; they broadcast.

    Examples
    --------
    >>> speed_score([7.0, 28.0], 7.0).tolist()
    [0.5, 0.9375]
    """
    speed, least = np.asarray(rate, dtype=np.float64), np.asarray(floor, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1.0 - np.exp2(-speed / least)
    return np.where(least > 0.0, share, np.where(np.isnan(speed), np.nan, 1.0))


def fit_score(fit: ArrayLike, *shares: ArrayLike) -> FloatArray:
    """Score from 0 to 100: ``100 x fit x min(shares)`` [1].

    Parameters
    ----------
    fit
        Factors of `FIT_FACTORS`.
    shares
        `speed_score` of every floor of the workload; without any, speed does not count.

    Notes
    -----
    Where no fit is left the score is 0 whatever the speed; where a speed is unknown the score is NaN.

    Examples
    --------
    >>> fit_score([1.0, 0.8, 0.0], [0.5, 0.5, np.nan]).tolist()
    [50.0, 40.0, 0.0]
    """
    factor = np.asarray(fit, dtype=np.float64)
    least: FloatArray = np.ones_like(factor)
    for share in shares:
        least = np.minimum(least, np.asarray(share, dtype=np.float64))
    return np.where(factor > 0.0, 100.0 * factor * least, 0.0)


def texts_per_s(prefill_tokens_per_s: ArrayLike, prompt_tokens: ArrayLike) -> FloatArray:
    """Texts that an encoder reads per second: tokens per second over tokens per text [1/s]."""
    found: FloatArray = np.asarray(prefill_tokens_per_s, dtype=np.float64) / np.asarray(prompt_tokens)
    return found
