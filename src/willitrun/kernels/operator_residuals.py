"""Learnt residual of the operator roofline: a smooth function of a trace's shape that vanishes away from data.

The residual is a Gaussian-process mean on features of the work (which classes dominate, how large kernels are),
with a kernel ``exp(-d^2 / (2 l^2))`` of the distance d, plus a constant per model family, both shrunk to zero: once for all
devices, and once more for what a generation of devices adds. It has no parameter for a single model or card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.operator_work import OPERATOR_CLASSES, OperatorWork

__all__ = [
    "FEATURES",
    "RESIDUAL_OF_PROFILE",
    "ResidualTable",
    "nearness",
    "resolve_residuals",
    "work_features",
]

Array = NDArray[np.float64]

_KINDS = tuple(dict.fromkeys(name.partition(".")[0] for name in OPERATOR_CLASSES))
FEATURES = (*_KINDS, "seconds_per_kernel", "intensity", "elements_per_kernel")
"""Names of the features, in the order of the columns of :func:`work_features`."""

RESIDUAL_OF_PROFILE = {
    "eager": "eager", "eager-nhwc": "eager-nhwc", "compile": "compile",
    "compile-nhwc": "compile", "engine": "engine", "cpu": "cpu", "cpu-compile": "cpu", "cpu-engine": "cpu",
    "train": "train", "train-nhwc": "train-nhwc",
}  # fmt: skip
"""Which execution's residual a profile takes."""

# A nominal accelerator turns work into shares of time; only ratios matter.
_FLOPS_PER_S = 100e12
_ELEMENTS_PER_S = 450e9
_MEMBERSHIP = np.array(
    [[name.partition(".")[0] == kind for kind in _KINDS] for name in OPERATOR_CLASSES], float
)


def work_features(work: OperatorWork) -> Array:
    """Describe the shape of work by numbers of comparable scale.

    Returns
    -------
    ndarray, shape (rows, ``len(FEATURES)``)
        Square roots of the shares of nominal time by operator kind (times three), and logarithms of the mean
        kernel time, of the arithmetic intensity and of the elements per kernel.
    """
    seconds = np.maximum(
        work.padded_flops / _FLOPS_PER_S, (work.act_elements + work.act32_elements) / _ELEMENTS_PER_S
    )
    total = np.maximum(seconds.sum(1, keepdims=True), 1e-12)
    shares = np.sqrt(seconds / total @ _MEMBERSHIP) * 3.0
    kernels = np.maximum(work.kernels.sum(1), 1.0)
    elements = np.maximum(work.act_elements.sum(1), 1.0)
    scale = np.stack(
        [
            np.log(total[:, 0] / kernels * 1e9) * 0.5,
            np.log(np.maximum(work.flops.sum(1), 1.0) / elements) * 0.7,
            np.log(elements / kernels) * 0.3,
        ],
        axis=1,
    )
    return np.concatenate([shares, scale], axis=1)


@frozen
class ResidualTable:
    """Residuals by execution, and by execution on a generation of devices.

    Attributes
    ----------
    points
        Features of the support points; (points, features).
    length
        Length scale of the kernel, in units of the features.
    weights
        Weights of the points; (points,) each. Under ``execution`` what all devices share, under
        ``execution:generation`` what a generation adds to it.
    families
        Log ratio by family, under the same keys, relative to that of no family in particular, which goes by the
        empty name; families without data are absent and count zero.
    """

    points: Array
    length: float
    weights: Mapping[str, Array]
    families: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def log_ratio(
        self, features: Array, families: Sequence[str], execution: str, generation: str = ""
    ) -> Array:
        """Return log(measured time / predicted time) of rows of features.

        Executions without weights have no residual; a generation without any has what all share.
        """
        return self.log_ratios(features, families, execution, (generation,))[:, 0]

    def log_ratios(
        self, features: Array, families: Sequence[str], execution: str, generations: Sequence[str]
    ) -> Array:
        """Return the log ratios of rows of features on several generations, (rows, generations)."""
        smooth: Array | None = None

        def residual(key: str) -> Array:
            nonlocal smooth
            constants = self.families.get(key, {})
            common = constants.get("", 0.0)
            found = np.array(
                [common + (constants.get(family, 0.0) if family else 0.0) for family in families]
            )
            if key in self.weights:
                if smooth is None:
                    smooth = self._nearness(features)
                found += smooth @ self.weights[key]
            return found

        shared = residual(execution)
        return np.stack([shared + residual(f"{execution}:{name}") for name in generations], axis=1)

    def _nearness(self, features: Array) -> Array:
        return nearness(features, self.points, self.length)


def nearness(left: Array, right: Array, length: float) -> Array:
    """Return the kernel of rows of features with each other, (rows of left, rows of right).

    Examples
    --------
    >>> nearness(np.zeros((1, 2)), np.array([[0.0, 0.0], [3.0, 4.0]]), 5.0).round(3).tolist()
    [[1.0, 0.607]]
    """
    distance = (left * left).sum(1)[:, None] + (right * right).sum(1)[None, :] - 2.0 * left @ right.T
    return np.asarray(np.exp(np.maximum(distance, 0.0) / (-2.0 * length**2)))


def resolve_residuals(rows: Sequence[Mapping[str, Any]]) -> ResidualTable:
    """Lay out the residual rows of a calibration record.

    Parameters
    ----------
    rows
        One row ``{"kind": "points", "length", "features"}``, rows ``{"kind": "weights", "execution", "values"}``
        and rows ``{"kind": "families", "execution", "log_ratios"}``.
    """
    points, length = np.zeros((0, len(FEATURES))), 1.0
    weights: dict[str, Array] = {}
    families: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["kind"] == "points":
            points, length = np.array(row["features"], dtype=float), float(row["length"])
        elif row["kind"] == "weights":
            weights[row["execution"]] = np.array(row["values"], dtype=float)
        else:
            families[row["execution"]] = dict(row["log_ratios"])
    return ResidualTable(points, length, weights, families)
