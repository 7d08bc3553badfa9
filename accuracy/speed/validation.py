"""Out-of-sample log ratios: every row predicted by a fit that has not seen its group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from accuracy.speed.fitting import Regression, split_folds, weigh_rows
from accuracy.speed.observations import Observations
from accuracy.speed.prediction import predict_rates, select_rows

#: Held-out axis -> support tier that its residuals stand for.
AXIS_TIER = {
    "configuration": "near",
    "model": "unseen-model",
    "device": "unseen-device",
    "vendor_class": "unseen-class",
}


def cross_validate(
    observations: Observations,
    axis: str,
    *,
    start: np.ndarray,
    folds: int = 8,
    options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Return log(actual / predicted) of each row from a fit without the row's group on ``axis``.

    ``start`` is the full fit as starting point of the solver; the minimiser does not depend on it beyond the
    solver's tolerance.
    """
    groups = getattr(observations, axis)
    fold = split_folds(groups, weigh_rows(observations), min(folds, len(np.unique(groups))))
    ratio = np.full(len(observations), np.nan)
    full = Regression(observations, **(options or {}))
    position = {name: i for i, name in enumerate(full.names)}
    for number in np.unique(fold):
        train = select_rows(observations, fold != number)
        regression = Regression(train, **(options or {}))
        # Levels that only the held-out rows have do not exist in this fit; the others start where they were.
        initial = np.array([start[position[name]] for name in regression.names])
        solution = regression.unpack(regression.solve(start=initial, iterations=8))
        test = select_rows(observations, fold == number)
        predicted = predict_rates(test, solution.coefficients, solution.levels)
        ratio[fold == number] = np.log(test.actual / predicted)
    return ratio
