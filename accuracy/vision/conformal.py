"""Group-conformal intervals on the log ratio of measured and predicted rate.

What is asked for is a new model, device or class of devices, not another configuration of a known one; errors within
a group are alike. So the quantiles over all configurations are moved until groups lie in the interval of all other
groups (conformalised quantiles, Romano, Patterson and Candes, "Conformalized Quantile Regression", NeurIPS 2019,
https://arxiv.org/abs/1905.03222, with groups left out in turn instead of one split), and coverage is that of groups
which neither quantiles nor their move have seen.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import pandas as pd

from accuracy.speed.conformal import weighted_quantile

LEVEL = 0.9
SMALLEST = 20
"""Configurations below which a tier inherits the next wider one."""
FEWEST_GROUPS = 3
"""Groups below which nobody knows which side of the truth the next one falls on: such intervals are symmetric."""
MOST_GROUPS = 20
"""Groups beyond which they are left out by folds."""
FOLDS = 12
LARGEST = 60
"""Configurations that one device of one source adds to the interval of unseen devices: a user's device is one of
many, so a source that swept two cards over 2,000 models may not outvote the others."""


def drawn_configurations(
    frame: pd.DataFrame, error: np.ndarray, seed: int = 7, most_per_device: int | None = None
) -> pd.DataFrame:
    """Draw one error per configuration (model, device, execution, batch band): repeats are not evidence.

    The rows come with their errors and the ``origin`` of each, a device of a source; ``most_per_device`` bounds how
    many configurations an origin adds.
    """
    band = np.log2(frame["batch_size"].to_numpy(float)).round()
    key = frame["arch"] + "|" + frame["device_id"] + "|" + frame["profile"] + "|" + frame["precision"]
    table = frame[["source", "device_id", "device_class", "family", "signature"]].assign(
        key=key + "|" + pd.Series(band, index=frame.index).astype(str),
        error=error,
        origin=frame["source"] + "|" + frame["device_id"],
    )
    drawn = table.groupby("key").sample(1, random_state=seed)
    if most_per_device is not None:
        drawn = drawn.sample(frac=1.0, random_state=seed).groupby("origin").head(most_per_device)
    return drawn


def origin_weights(drawn: pd.DataFrame) -> np.ndarray:
    """Weights by which a device of a source counts with the root of its configurations: laboratories differ more
    from each other than models do within one."""
    return np.asarray(drawn.groupby("origin")["error"].transform("size").to_numpy(float) ** -0.5)


def folded(names: pd.Series) -> np.ndarray:
    """Groups as they are left out: each by itself, many in folds that are stable between runs.

    >>> folded(pd.Series(["a", "b", "a"])).tolist()
    ['a', 'b', 'a']
    """
    groups = names.astype(str)
    if groups.nunique() > MOST_GROUPS:
        groups = groups.map(lambda name: f"fold {zlib.crc32(name.encode()) % FOLDS}")
    return groups.to_numpy()


def conformal_interval(
    error: np.ndarray,
    group: np.ndarray,
    weight: np.ndarray | None = None,
    level: float = LEVEL,
    *,
    finer: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return factors (low, high) on the predicted rate that hold at the level for a group that was not seen.

    Parameters
    ----------
    error
        ``log(measured rate / predicted rate)`` of configurations outside of the fit.
    group
        What each belongs to, and is left out with.
    weight
        How much each counts in the quantiles; all alike where nobody says.
    finer
        Groups inside of the groups, left out in turn as well: a device of an unseen class is an unseen device too, and
        of classes there are few.

    Examples
    --------
    >>> spread = np.linspace(-1.0, 1.0, 199)
    >>> low, high = conformal_interval(spread, np.arange(199) % 10)
    >>> round(math.log(low), 2), round(math.log(high), 2)
    (-0.9, 0.9)

    Groups that differ by more than their spread widen it.

    >>> low, high = conformal_interval(spread + (np.arange(199) % 4), np.arange(199) % 4)
    >>> math.log(high) > 4.0
    True
    """
    weight = np.ones(len(error)) if weight is None else weight
    names = np.unique(group)
    if len(names) < FEWEST_GROUPS:
        error = np.abs(error)
    low, high = _quantiles(error, weight, level, len(names))
    outside = []
    for unit in (group,) if finer is None else (group, finer):
        for name in np.unique(unit):
            mine = unit == name
            if not mine.all():
                below, above = _quantiles(error[~mine], weight[~mine], level, len(names))
                outside.append(np.maximum(below - error[mine], error[mine] - above))
    if outside:
        scores = np.sort(np.concatenate(outside))
        # One more configuration, the one that is asked for, lies anywhere.
        place = math.ceil(level * (len(scores) + 1)) - 1
        low, high = low - scores[min(place, len(scores) - 1)], high + scores[min(place, len(scores) - 1)]
    if len(names) < FEWEST_GROUPS:
        low = -high
    return float(np.exp(min(low, 0.0))), float(np.exp(max(high, 0.0)))


def _quantiles(error: np.ndarray, weight: np.ndarray, level: float, groups: int) -> tuple[float, float]:
    """Both sides of the middle share, or the upper of one that is symmetric."""
    if groups < FEWEST_GROUPS:
        return -math.inf, weighted_quantile(error, weight, level)
    tail = (1.0 - level) / 2.0
    return weighted_quantile(error, weight, tail), weighted_quantile(error, weight, 1.0 - tail)


def nested_coverage(
    error: np.ndarray,
    group: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    finer: np.ndarray | None = None,
) -> float:
    """Share of configurations inside the interval that is made without their group; NaN for a single group.

    Examples
    --------
    >>> spread = np.linspace(-1.0, 1.0, 200)
    >>> nested_coverage(spread, np.arange(200) % 10)
    0.91
    >>> nested_coverage(spread, np.zeros(200))
    nan
    """
    weight = np.ones(len(error)) if weight is None else weight
    names = np.unique(group)
    if len(names) < 2:
        return math.nan
    inside = np.zeros(len(error), dtype=bool)
    for name in names:
        mine = group == name
        inner = None if finer is None else finer[~mine]
        low, high = conformal_interval(error[~mine], group[~mine], weight[~mine], finer=inner)
        inside[mine] = (error[mine] >= math.log(low)) & (error[mine] <= math.log(high))
    return float(inside.mean())
