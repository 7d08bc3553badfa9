"""Learn the residual of the operator roofline: a Gaussian process on features of the work, and family constants.

Strengths are chosen by leaving models (by cost signature) and families out; the process vanishes away from data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from willitrun.kernels.operator_residuals import RESIDUAL_OF_PROFILE, ResidualTable, nearness, work_features
from willitrun.kernels.operator_work import OperatorWork

EXECUTION = RESIDUAL_OF_PROFILE


@dataclass(frozen=True)
class Strengths:
    """How far the residual reaches; chosen with :mod:`accuracy.vision.strengths`.

    Attributes
    ----------
    length
        Length scale of the process, in units of the features.
    family
        Prior variance of a family's constant, relative to the process.
    noise
        Variance of a single model, likewise.
    own
        Prior variance of what one generation of devices adds, relative to what all share.
    """

    length: float = 1.2
    family: float = 0.02
    noise: float = 1.0
    own: float = 0.5


CHOSEN = Strengths()
MOST_POINTS = 350
LEAST_MODELS = 100
"""Executions with fewer models than this have no residual."""
CLIP = 0.6


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
    near: np.ndarray,
    among: np.ndarray,
    target: np.ndarray,
    family: np.ndarray,
    group: np.ndarray,
    strengths: Strengths,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """Fit smooth parts and family constants, shared and by group, to each other's rest, each with its prior.

    Joint ridge regression: ``[shared | group 1 | group 2 ...]``, the groups' prior variance a share of the
    shared one.
    """
    groups = [str(name) for name in np.unique(group)]
    names, place = np.unique(family, return_inverse=True)
    # The last column is what no family in particular has.
    member = np.concatenate([np.eye(len(names))[place], np.ones((len(place), 1))], axis=1)
    inside = [np.ones(len(target)), *((group == name).astype(float) for name in groups)]
    variance = [1.0, *(strengths.own for _ in groups)]
    columns = [near * one[:, None] for one in inside] + [member * one[:, None] for one in inside]
    design = np.concatenate(columns, axis=1)
    points, families = near.shape[1], len(names) + 1
    prior = np.zeros((design.shape[1], design.shape[1]))
    for block, share in enumerate(variance):
        at = slice(block * points, (block + 1) * points)
        prior[at, at] = among / share
        start = len(variance) * points + block * families
        prior[start : start + families, start : start + families] = np.eye(families) / (
            strengths.family * share
        )
    normal = design.T @ design + strengths.noise * prior + 1e-6 * np.eye(design.shape[1])
    solved = np.linalg.solve(normal, design.T @ target)
    weights, constants = {}, {}
    for block, name in enumerate(("", *groups)):
        weights[name] = solved[block * points : (block + 1) * points]
        start = len(variance) * points + block * families
        found = solved[start : start + families]
        constants[name] = {
            str(key): float(value)
            for key, value in zip((*names, ""), found, strict=True)
            if abs(value) > 5e-4
        }
    return weights, constants


def support_points(frame: pd.DataFrame, work: OperatorWork, strengths: Strengths = CHOSEN) -> np.ndarray:
    """Choose the features on which the process is supported, over all (architecture, size) of rows."""
    first = frame.reset_index(drop=True).drop_duplicates(["arch", "size"]).index.to_numpy()
    features = work_features(_rows(work, first))
    return np.round(features[_pivots(nearness(features, features, strengths.length), MOST_POINTS)], 3)


def learn_residuals(
    frame: pd.DataFrame,
    work: OperatorWork,
    log_ratio: np.ndarray,
    points: np.ndarray,
    strengths: Strengths = CHOSEN,
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
            "generation": frame["generation"].to_numpy(),
            "error": log_ratio,
            "row": np.arange(len(frame)),
        }
    )
    table = table[frame["source"].eq("timm").to_numpy()]
    first = table.groupby("key")["row"].first()
    place = {key: i for i, key in enumerate(first.index)}
    features = work_features(_rows(work, first.to_numpy()))
    support = nearness(features, points, strengths.length)
    among_points = nearness(points, points, strengths.length)
    weights: dict[str, np.ndarray] = {}
    families: dict[str, dict[str, float]] = {}
    for execution, rows in table.groupby("execution"):
        grouped = rows.groupby(["key", "generation"])
        target = grouped["error"].median().clip(-CLIP, CLIP)
        if rows["key"].nunique() < LEAST_MODELS:
            continue
        index = np.array([place[key] for key, _ in target.index])
        found, constants = _regress(
            support[index],
            among_points,
            target.to_numpy(),
            grouped["family"].first().to_numpy(),
            target.index.get_level_values("generation").to_numpy(),
            strengths,
        )
        for name in found:
            key = f"{execution}:{name}" if name else str(execution)
            weights[key], families[key] = found[name], constants[name]
    return ResidualTable(points, strengths.length, weights, families)


def residual_of(table: ResidualTable, frame: pd.DataFrame, work: OperatorWork) -> np.ndarray:
    """Return the learnt log ratio of every row."""
    features = work_features(work)
    result = np.zeros(len(frame))
    execution = frame["profile"].map(EXECUTION).to_numpy()
    generation = frame["generation"].to_numpy()
    families = frame["family"].astype(str).to_numpy()
    for name, group in {*zip(execution, generation, strict=True)}:
        rows = np.flatnonzero((execution == name) & (generation == group))
        result[rows] = table.log_ratio(features[rows], list(families[rows]), str(name), str(group))
    return result


def residual_rows(*tables: ResidualTable) -> list[dict[str, object]]:
    """Return tables on the same support points as rows of a calibration record."""
    table = tables[0]
    rows: list[dict[str, object]] = [
        {"kind": "points", "length": table.length, "features": np.round(table.points, 3).tolist()}
    ]  # fmt: skip
    weights = {name: values for each in tables for name, values in each.weights.items()}
    families = {name: values for each in tables for name, values in each.families.items()}
    for execution, values in sorted(weights.items()):
        rows.append({"kind": "weights", "execution": execution, "values": np.round(values, 5).tolist()})
        ratios = {family: round(value, 4) for family, value in sorted(families[execution].items())}
        rows.append({"kind": "families", "execution": execution, "log_ratios": ratios})
    return rows


def _rows(work: OperatorWork, index: np.ndarray) -> OperatorWork:
    return OperatorWork(**{name: getattr(work, name)[index] for name in OperatorWork.__dataclass_fields__})
