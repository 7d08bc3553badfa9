"""Choose the strengths of the learnt residual by leaving families out.

Usage: ``python -m accuracy.vision.strengths --data ../shared/data`` prints, for each length scale, variance of a family
and noise of a model, the mean and the median absolute log error on families that neither the law nor the residual has
seen: the strengths in :mod:`accuracy.vision.residuals` are those of the least median. The law is refitted once per fold, the residual once
per fold and strength.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from accuracy.vision.fit import Fitted, fit_rows, fold_of
from accuracy.vision.observations import Observations, load_observations
from accuracy.vision.parameters import gpu_parameters
from accuracy.vision.residuals import Strengths, learn_residuals, residual_of, support_points
from accuracy.vision.solve import predict_seconds

LENGTHS, FAMILIES, NOISES = (0.8, 1.2, 1.8), (0.02, 0.05, 0.1), (0.2, 0.5, 1.0)
SWEPT = ("eager", "eager-nhwc", "compile")
"""Executions that are judged: those of inference with families enough."""

Fold = tuple[Observations, np.ndarray, Observations, np.ndarray]
"""Rows inside and outside of a fit, each with ``log(measured time / predicted time)`` of the law."""


def folds(full: Fitted) -> Iterator[Fold]:
    """Refit the law without each fold of families."""
    rows = full.rows
    fold = fold_of(rows.frame["family"])
    judged = rows.frame["source"].eq("timm") & rows.frame["profile"].isin(SWEPT)
    for number in np.unique(fold):
        law = fit_rows(
            rows.take(np.flatnonzero(fold != number)), full.free, full.residuals.points, start=full.theta
        )
        found = []
        for mine in (judged & (fold != number), judged & (fold == number)):
            part = rows.take(np.flatnonzero(mine))
            seconds = part.frame["seconds"].to_numpy(float)
            found += [part, np.log(seconds / predict_seconds(part.stated(), law.free, law.theta))]
        yield tuple(found)  # type: ignore[misc]


def main() -> None:
    """Print a table, best first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    rows = load_observations(parser.parse_args().data)
    rows = rows.take(np.flatnonzero(rows.frame["device_class"].ne("cpu")))
    full = fit_rows(rows, gpu_parameters(), support_points(rows.frame, rows.network))
    parts = list(folds(full))
    table = []
    for length, family, noise in itertools.product(LENGTHS, FAMILIES, NOISES):
        strengths = Strengths(length=length, family=family, noise=noise)
        points = support_points(rows.frame, rows.network, strengths)
        errors = []
        for inside, told, outside, error in parts:
            learnt = learn_residuals(inside.frame, inside.network, told, points, strengths)
            errors.append(np.abs(error - residual_of(learnt, outside.frame, outside.network)))
        found = np.concatenate(errors)
        table.append((found.mean(), np.median(found), strengths))
    print("| mean | median | strengths |\n|---|---|---|")
    for mean, median, strengths in sorted(table, key=lambda row: row[1]):
        print(f"| {mean:.4f} | {median:.4f} | {strengths} |")


if __name__ == "__main__":
    main()
