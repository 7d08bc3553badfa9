"""Learn the residual of the operator roofline: a Gaussian process on features of the work, and family constants.

Strengths are chosen by leaving models (by cost signature) and families out; the process vanishes away from data.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from willitrun.kernels.operator_residuals import RESIDUAL_OF_PROFILE, ResidualTable, work_features
from willitrun.kernels.operator_work import OperatorWork

EXECUTION = RESIDUAL_OF_PROFILE
LENGTH = 0.8
FAMILY_VARIANCE = 0.5
NOISE = 0.2
MOST_POINTS = 350
LEAST_MODELS = 100
"""Executions with fewer models than this have no residual."""
CLIP = 0.6


def _kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    distance = (left**2).sum(1)[:, None] + (right**2).sum(1)[None, :] - 2.0 * left @ right.T
    return np.asarray(np.exp(np.maximum(distance, 0.0) / (-2.0 * LENGTH**2)))


def _pivots(kernel: np.ndarray, most: int) -> list[int]:
    """Choose support points by pivoted Cholesky: each is where the others explain least."""
    left = np.ones(len(kernel))
    factor = np.zeros((len(kernel), most))
    chosen: list[int] = []
    for column in range(min(most, len(kernel))):
        pivot = int(np.argmax(left))
        if left[pivot] < 1e-6:
            break
        chosen.append(pivot)
        factor[:, column] = (kernel[:, pivot] - factor[:, :column] @ factor[pivot, :column]) / np.sqrt(
            left[pivot]
        )
        left = np.maximum(left - factor[:, column] ** 2, 0.0)
        left[chosen] = 0.0
    return chosen


def _regress(
    near: np.ndarray, among: np.ndarray, target: np.ndarray, family: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """Fit smooth part and family constants to each other's rest (backfitting), both with their prior."""
    normal = near.T @ near + NOISE * among + 1e-6 * np.eye(len(among))
    names, place = np.unique(family, return_inverse=True)
    size = np.bincount(place)
    constants = np.zeros(len(names))
    weights = np.zeros(near.shape[1])
    for _ in range(25):
        weights = np.linalg.solve(normal, near.T @ (target - constants[place]))
        rest = np.bincount(place, target - near @ weights)
        constants = rest / (size + NOISE / FAMILY_VARIANCE)
    return weights, {str(name): float(value) for name, value in zip(names, constants, strict=True)}


def support_points(frame: pd.DataFrame, work: OperatorWork) -> np.ndarray:
    """Choose the features on which the process is supported, over all (architecture, size) of rows."""
    first = frame.reset_index(drop=True).drop_duplicates(["arch", "size"]).index.to_numpy()
    features = work_features(_rows(work, first))
    return np.round(features[_pivots(_kernel(features, features), MOST_POINTS)], 3)


def learn_residuals(
    frame: pd.DataFrame, work: OperatorWork, log_ratio: np.ndarray, points: np.ndarray
) -> ResidualTable:
    """Learn residuals from rows; each (architecture, size) counts once per execution.

    Parameters
    ----------
    log_ratio
        ``log(measured time / predicted time)`` of every row.
    points
        From :func:`support_points`.
    """
    table = pd.DataFrame(
        {
            "key": (frame["arch"] + "|" + frame["size"].astype(str)).to_numpy(),
            "family": frame["family"].to_numpy(),
            "execution": frame["profile"].map(EXECUTION).to_numpy(),
            "error": log_ratio,
            "row": np.arange(len(frame)),
        }
    )
    table = table[frame["source"].eq("timm").to_numpy()]
    first = table.groupby("key")["row"].first()
    place = {key: i for i, key in enumerate(first.index)}
    features = work_features(_rows(work, first.to_numpy()))
    support = _kernel(features, points)
    among_points = _kernel(points, points)
    weights: dict[str, np.ndarray] = {}
    families: dict[str, dict[str, float]] = {}
    for execution, rows in table.groupby("execution"):
        grouped = rows.groupby("key")
        target = grouped["error"].median().clip(-CLIP, CLIP)
        if len(target) < LEAST_MODELS:
            continue
        index = np.array([place[key] for key in target.index])
        weights[str(execution)], families[str(execution)] = _regress(
            support[index], among_points, target.to_numpy(), grouped["family"].first().to_numpy()
        )
    return ResidualTable(points, LENGTH, weights, families)


def residual_of(table: ResidualTable, frame: pd.DataFrame, work: OperatorWork) -> np.ndarray:
    """Return the learnt log ratio of every row."""
    features = work_features(work)
    result = np.zeros(len(frame))
    execution = frame["profile"].map(EXECUTION).to_numpy()
    families = frame["family"].astype(str).to_numpy()
    for name in np.unique(execution):
        rows = np.flatnonzero(execution == name)
        result[rows] = table.log_ratio(features[rows], list(families[rows]), str(name))
    return result


def residual_rows(*tables: ResidualTable) -> list[dict[str, object]]:
    """Return tables on the same support points as rows of a calibration record."""
    table = tables[0]
    rows: list[dict[str, object]] = [
        {"kind": "points", "length": table.length, "features": np.round(table.points, 3).tolist()}
    ]
    weights = {name: values for each in tables for name, values in each.weights.items()}
    families = {name: values for each in tables for name, values in each.families.items()}
    for execution, values in sorted(weights.items()):
        rows.append({"kind": "weights", "execution": execution, "values": np.round(values, 5).tolist()})
        rows += [
            {"kind": "family", "execution": execution, "family": family, "log_ratio": value}
            for family, value in sorted(families[execution].items())
        ]
    return rows


def _rows(work: OperatorWork, index: np.ndarray) -> OperatorWork:
    return OperatorWork(**{name: getattr(work, name)[index] for name in OperatorWork.__dataclass_fields__})
