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
    return drawn_configurations(frame, error, seed, most_per_device)["error"].to_numpy()


def drawn_configurations(
    frame: pd.DataFrame, error: np.ndarray, seed: int = 7, most_per_device: int | None = None
) -> pd.DataFrame:
    """Return the errors that :func:`one_draw` draws, with the source and the device of a source that each is of."""
    band = np.log2(frame["batch_size"].to_numpy(float)).round()
    key = frame["arch"] + "|" + frame["device_id"] + "|" + frame["profile"] + "|" + frame["precision"]
    table = pd.DataFrame({"key": key + "|" + pd.Series(band, index=frame.index).astype(str), "error": error})
    table["source"] = frame["source"]
    table["origin"] = frame["source"] + "|" + frame["device_id"]
    drawn = table.groupby("key").sample(1, random_state=seed)
    if most_per_device is not None:
        drawn = drawn.sample(frac=1.0, random_state=seed).groupby("origin").head(most_per_device)
    return drawn


def origin_weights(drawn: pd.DataFrame) -> np.ndarray:
    """Weights by which a device of a source counts with the root of its configurations: laboratories differ more
    from each other than models do within one."""
    return np.asarray(drawn.groupby("origin")["error"].transform("size").to_numpy(float) ** -0.5)


def covered_by_half(error: np.ndarray, seed: int = 3) -> float:
    """Share of one half of the configurations inside the interval of the other half."""
    order = np.random.default_rng(seed).permutation(len(error))
    mine, other = error[order[: len(order) // 2]], error[order[len(order) // 2 :]]
    low, high = conformal_interval(mine if len(mine) else other)
    return float(((other >= np.log(low)) & (other <= np.log(high))).mean())


def covered_by_others(drawn: pd.DataFrame) -> float:
    """Share of configurations inside the interval of all other sources; NaN for fewer than three sources, of which
    two would each stand for all."""
    if drawn["source"].nunique() < 3:
        return math.nan
    inside = []
    for source in drawn["source"].unique():
        mine = drawn["source"].eq(source).to_numpy()
        if (~mine).sum() < SMALLEST:
            continue
        low, high = conformal_interval(drawn["error"][~mine].to_numpy(), weight=origin_weights(drawn[~mine]))
        inside += drawn["error"][mine].between(np.log(low), np.log(high)).tolist()
    return float(np.mean(inside)) if inside else math.nan


def widened(low: float, high: float, devices: int) -> tuple[float, float]:
    """Make an interval symmetric where it rests on one or two devices, whose side of the truth is chance.

    >>> widened(0.5, 1.2, 2), widened(0.5, 1.2, 3)
    ((0.5, 2.0), (0.5, 1.2))
    """
    if devices > 2:
        return low, high
    side = max(1.0 / low, high)
    return 1.0 / side, side


def conformal_interval(
    error: np.ndarray, coverage: float = 0.9, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """Return factors (low, high) on the predicted rate that hold at the coverage, each side for itself.

    Parameters
    ----------
    error
        ``log(measured rate / predicted rate)`` of configurations outside of the fit.
    weight
        How much each counts; all alike where nobody says.

    Examples
    --------
    >>> low, high = conformal_interval(np.linspace(-1.0, 1.0, 199))
    >>> round(math.log(low), 2), round(math.log(high), 2)
    (-0.9, 0.9)
    """
    order = np.argsort(error)
    ordered = error[order]
    mass = np.ones(len(error)) if weight is None else weight[order]
    # One more configuration, the one that is asked for, lies anywhere.
    share = np.cumsum(mass) / (mass.sum() + mass.mean())
    tail = (1.0 - coverage) / 2.0
    below = max(int(np.searchsorted(share, tail + 1e-12, "right")) - 1, 0)
    above = min(int(np.searchsorted(share, 1.0 - tail - 1e-12, "left")), len(ordered) - 1)
    return float(np.exp(ordered[below])), float(np.exp(ordered[above]))
