"""Group-split conformal intervals on the log ratio of measured and predicted rate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

SMALLEST = 20
"""Configurations below which a tier inherits the next wider one."""


LARGEST = 60
"""Configurations that one device of one source adds to the interval of unseen devices: a user's device is one of
many, so a source that swept two cards over 2,000 models may not outvote the others."""


def one_draw(
    frame: pd.DataFrame, error: np.ndarray, seed: int = 7, most_per_device: int | None = None
) -> np.ndarray:
    """Draw one error per configuration (model, device, execution, batch band): repeats are not evidence.

    ``most_per_device`` bounds how many configurations a device of a source adds.
    """
    band = np.log2(frame["batch_size"].to_numpy(float)).round()
    key = frame["arch"] + "|" + frame["device_id"] + "|" + frame["profile"] + "|" + frame["precision"]
    table = pd.DataFrame({"key": key + "|" + pd.Series(band, index=frame.index).astype(str), "error": error})
    table["origin"] = frame["source"] + "|" + frame["device_id"]
    drawn = table.groupby("key").sample(1, random_state=seed)
    if most_per_device is not None:
        drawn = drawn.sample(frac=1.0, random_state=seed).groupby("origin").head(most_per_device)
    return drawn["error"].to_numpy()


def widened(low: float, high: float, devices: int) -> tuple[float, float]:
    """Make an interval symmetric where it rests on one or two devices, whose side of the truth is chance.

    >>> widened(0.5, 1.2, 2), widened(0.5, 1.2, 3)
    ((0.5, 2.0), (0.5, 1.2))
    """
    if devices > 2:
        return low, high
    side = max(1.0 / low, high)
    return 1.0 / side, side


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
