"""Robust, regularised least squares on log(measured / predicted) time."""

from __future__ import annotations

import numpy as np

from accuracy.vision.observations import Observations
from accuracy.vision.parameters import Parameter, apply, unpack
from willitrun.kernels.operator_work import OPERATOR_CLASSES
from willitrun.kernels.operators import predict_images

KINDS = {name.partition(".")[0] for name in OPERATOR_CLASSES} | set(OPERATOR_CLASSES)

HUBER = 0.15
"""Residual at which a row starts to count linearly: three times the noise between torch versions."""


def predict_seconds(observations: Observations, free: list[Parameter], theta: np.ndarray) -> np.ndarray:
    """Predict seconds per batch of every row, without learnt residuals."""
    rows, table = apply(observations, *unpack(free, theta))
    return predict_images(rows.work, rows.rates, rows.load, table).seconds


def row_weights(observations: Observations, power: float = 0.25) -> np.ndarray:
    """Weight rows so that a device with thousands of rows does not drown one with fifty."""
    frame = observations.frame
    group = frame.groupby(["source", "device_id", "profile", "precision"])["seconds"].transform("size")
    return group.to_numpy(float) ** -power


_TERMS = ("compute", "memory")
_CLASS_TERMS = {f"{term}.{kind}" for term in _TERMS for kind in KINDS}


def _reach(parameter: Parameter) -> str:
    """What decides which rows a parameter moves: parameters of equal reach share the selection."""
    term, _, rest = parameter.key.partition(".")
    kind = rest if parameter.key in _CLASS_TERMS or term in ("device", "host_scale") else ""
    return f"{term if kind or term == 'host_scale' else ''}:{kind}:{parameter.profiles}"


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
    if parameter.key in _CLASS_TERMS:
        kind = parameter.key.partition(".")[2]
        columns = [
            i for i, name in enumerate(OPERATOR_CLASSES) if name == kind or name.startswith(f"{kind}.")
        ]
        rows &= observations.work.kernels[:, columns].sum(1) > 0
    return rows


def solve(
    observations: Observations,
    free: list[Parameter],
    *,
    weights: np.ndarray | None = None,
    start: np.ndarray | None = None,
    ridge: float = 1.0,
    iterations: int = 30,
) -> np.ndarray:
    """Fit by damped Gauss-Newton steps with Huber weights and a Gaussian prior on every parameter.

    Parameters
    ----------
    ridge
        Strength of the prior: the residual noise [log] that one row of weight 1 is trusted to, squared.
    """
    prior = np.array([p.start for p in free])
    sigma = np.array([p.sigma for p in free])
    theta = prior.copy() if start is None else start.copy()
    weights = row_weights(observations) if weights is None else weights
    target = np.log(observations.frame["seconds"].to_numpy(float))
    blocks: dict[str, tuple[np.ndarray, Observations]] = {}
    keys = []
    for parameter in free:
        key = _reach(parameter)
        if key not in blocks:
            index = np.flatnonzero(_touched(observations, parameter))
            blocks[key] = (index, observations if len(index) == len(target) else observations.take(index))
        keys.append(key)
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
        for column, key in enumerate(keys):
            index, block = blocks[key]
            if len(index):
                step = theta.copy()
                step[column] += 1e-4
                moved = np.log(predict_seconds(block, free, step)) - target[index]
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
        if gained < 2e-4:
            break
    return theta
