"""Group-split conformal intervals on the log ratio of measured and predicted rate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

SMALLEST = 20
"""Configurations below which a tier inherits the next wider one."""


def one_draw(frame: pd.DataFrame, error: np.ndarray, seed: int = 7) -> np.ndarray:
    """Draw one error per configuration (model, device, execution, batch band): repeats are not evidence."""
    band = np.log2(frame["batch_size"].to_numpy(float)).round()
    key = frame["arch"] + "|" + frame["device_id"] + "|" + frame["profile"] + "|" + frame["precision"]
    table = pd.DataFrame({"key": key + "|" + pd.Series(band, index=frame.index).astype(str), "error": error})
    return table.groupby("key")["error"].sample(1, random_state=seed).to_numpy()


def conformal_interval(error: np.ndarray, coverage: float = 0.9) -> tuple[float, float]:
    """Return factors (low, high) on the predicted rate that hold at the coverage, each side for itself.

    Parameters
    ----------
    error
        ``log(measured rate / predicted rate)`` of configurations outside of the fit.

    Examples
    --------
    >>> low, high = conformal_interval(np.linspace(-1.0, 1.0, 199))
    >>> round(math.log(low), 2), round(math.log(high), 2)
    (-0.9, 0.9)
    """
    ordered = np.sort(error)
    n = len(ordered)
    tail = (1.0 - coverage) / 2.0
    below = max(math.floor((n + 1) * tail) - 1, 0)
    above = min(math.ceil((n + 1) * (1.0 - tail)) - 1, n - 1)
    return float(np.exp(ordered[below])), float(np.exp(ordered[above]))
