"""Robust, regularised least squares on log(measured / predicted) time."""

from __future__ import annotations

import numpy as np

from accuracy.vision.observations import Observations
from accuracy.vision.parameters import Parameter, apply, unpack
from willitrun.kernels.operator_work import MATMUL_KINDS, OPERATOR_CLASSES
from willitrun.kernels.operators import ClassShares, predict_images, predict_shares

STILL = 1e-6
"""Relative gain of a step at which a solution from nothing stands."""
STILL_NEAR = 3e-5
"""The same of a solution that starts from another's."""

HUBER = 0.15
"""Residual at which a row starts to count linearly: three times the noise between torch versions."""


def predict_seconds(observations: Observations, free: list[Parameter], theta: np.ndarray) -> np.ndarray:
    """Predict seconds per batch of every row, without learnt residuals."""
    rows, table = apply(observations, *unpack(free, theta))
    return predict_images(rows.work, rows.rates, rows.load, table).seconds


def row_weights(observations: Observations, power: float = 1.0 / 3.0) -> np.ndarray:
    """Weight rows so that a device with thousands of rows does not drown one with fifty.

    The power is a trade: from 1/4 to 2/5, laboratories on devices held out err by less (18.3 to 17.8 %), timm's two cards
    held out by more where channels are last (7.3 to 8.3 %).
    """
    frame = observations.frame
    group = frame.groupby(["source", "device_id", "profile", "precision"])["seconds"].transform("size")
    return group.to_numpy(float) ** -power


def _classes_of(key: str) -> np.ndarray | None:
    """Columns of the operator classes whose share of peak or of bandwidth a parameter is, None if it is no such."""
    term, _, rest = key.partition(".")
    if term not in ("compute", "memory"):
        return None
    found = []
    for column, name in enumerate(OPERATOR_CLASSES):
        kind = name.partition(".")[0]
        group = ("conv" if kind.startswith("conv") else "matmul") if kind in MATMUL_KINDS else kind
        if rest in (name, kind, group):
            found.append(column)
    return np.array(found, int)


def _known_slopes(
    shares: ClassShares, seconds: np.ndarray, parameter: Parameter, rows: np.ndarray
) -> np.ndarray | None:
    """``d ln seconds / d parameter`` of rows where the kernel tells it, None where it must be tried."""
    term, _, rest = parameter.key.partition(".")
    classes = _classes_of(parameter.key)
    if classes is not None:
        part: np.ndarray = getattr(shares, term)[np.ix_(classes, rows)].sum(0)
        return -part / seconds[rows]
    if term == "device" and rest in ("compute", "memory"):
        whole: np.ndarray = getattr(shares, rest)[:, rows].sum(0)
        return -whole / seconds[rows]
    if term == "host_scale":
        return shares.host[rows] / seconds[rows]
    if term == "floor_us":
        floor: np.ndarray = shares.floor[:, rows].sum(0)
        return floor / seconds[rows]
    return None


def _is_known(parameter: Parameter) -> bool:
    term, _, rest = parameter.key.partition(".")
    known = term in ("host_scale", "floor_us") or (term == "device" and rest in ("compute", "memory"))
    return known or _classes_of(parameter.key) is not None


def _touched(observations: Observations, parameter: Parameter) -> np.ndarray:
    """Rows whose prediction depends on a parameter."""
    frame = observations.frame
    if parameter.key.startswith("device."):
        return np.array([parameter.profiles in names for names in frame["levels"]])
    if parameter.key == "host_scale":
        return np.array([parameter.profiles in names for names in frame["hosts"]])
    rows = np.ones(len(frame), bool)
    if parameter.profiles is not None:
        rows &= frame["profile"].isin(parameter.profiles.split()).to_numpy()
    return rows


def solve(
    observations: Observations,
    free: list[Parameter],
    *,
    weights: np.ndarray | None = None,
    start: np.ndarray | None = None,
    ridge: float = 1.0,
    iterations: int = 30,
    still: float | None = None,
) -> np.ndarray:
    """Fit by damped Gauss-Newton steps with Huber weights and a Gaussian prior on every parameter.

    Parameters
    ----------
    ridge
        Strength of the prior: the residual noise [log] that one row of weight 1 is trusted to, squared.
    still
        Relative gain of a step at which the solution stands; by default what suits the start.
    """
    prior = np.array([p.start for p in free])
    sigma = np.array([p.sigma for p in free])
    if still is None:
        still = STILL if start is None else STILL_NEAR
    theta = prior.copy() if start is None else start.copy()
    weights = row_weights(observations) if weights is None else weights
    target = np.log(observations.frame["seconds"].to_numpy(float))
    reached = [np.flatnonzero(_touched(observations, parameter)) for parameter in free]
    blocks = {
        column: observations.take(reached[column])
        for column, parameter in enumerate(free)
        if not _is_known(parameter)
    }
    lam = ridge * 0.06**2 * 4.0

    def residuals(values: np.ndarray) -> np.ndarray:
        return np.log(predict_seconds(observations, free, values)) - target

    def objective(error: np.ndarray, values: np.ndarray) -> float:
        size = np.abs(error)
        loss = np.where(size < HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))
        return float((weights * loss).sum() + 0.5 * lam * (((values - prior) / sigma) ** 2).sum())

    error = residuals(theta)
    value = objective(error, theta)
    damping = 1e-2
    for _ in range(iterations):
        jacobian = np.zeros((len(error), len(free)))
        rows, table = apply(observations, *unpack(free, theta))
        shares = predict_shares(rows.work, rows.rates, rows.load, table)
        seconds = np.exp(error + target)
        for column, (parameter, index) in enumerate(zip(free, reached, strict=True)):
            known = _known_slopes(shares, seconds, parameter, index)
            if known is not None:
                jacobian[index, column] = known
            elif len(index):
                step = theta.copy()
                step[column] += 1e-4
                moved = np.log(predict_seconds(blocks[column], free, step)) - target[index]
                jacobian[index, column] = (moved - error[index]) / 1e-4
        robust = weights / np.maximum(1.0, np.abs(error) / HUBER)
        hessian = jacobian.T @ (jacobian * robust[:, None]) + np.diag(lam / sigma**2)
        gradient = jacobian.T @ (robust * error) + lam * (theta - prior) / sigma**2
        gained = 0.0
        while damping < 1e4:
            trial = theta - np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
            trial_error = residuals(trial)
            trial_value = objective(trial_error, trial)
            if trial_value < value:
                gained = (value - trial_value) / value
                theta, error, value = trial, trial_error, trial_value
                damping = max(damping / 4, 1e-5)
                break
            damping *= 4
        if gained < still:
            break
    return theta
