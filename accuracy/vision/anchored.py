"""What own measurements of images per second are worth, by the equations that `calibrate` uses.

The variances of ln(measured / predicted) per level that two configurations may share are estimated from errors of
devices held out, and shipped in ``catalogs/calibrations/image-anchors.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from accuracy.speed.anchored import SEED, estimate_variances
from accuracy.vision.observations import Observations
from accuracy.vision.parameters import Parameter, apply, unpack
from willitrun.estimators.calibration_anchors import LEVELS
from willitrun.kernels.anchors import reach
from willitrun.kernels.operators import predict_images

LARGEST = 0.8
"""Log ratios beyond this are outliers and count as this far."""


def term_shares(rows: Observations, free: list[Parameter], theta: np.ndarray) -> np.ndarray:
    """Return the shares of the terms in the predicted time of each row, (rows, terms)."""
    resolved, table = apply(rows, *unpack(free, theta))
    speed = predict_images(resolved.work, resolved.rates, resolved.load, table)
    return speed.terms / speed.seconds[:, None]


def image_variances(frame: pd.DataFrame, error: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    """Return the coefficients of the record: variances by level, and the noise, of rows without training."""
    asked = frame["phase"].ne("train").to_numpy()
    table = frame[asked].reset_index(drop=True)
    found = estimate_variances(
        error[asked],
        level_codes(table),
        np.random.default_rng(SEED),
        shares=shares[asked],
        largest=LARGEST,
    )
    return {f"images.{name}": value for name, value in found.items()}


def level_codes(frame: pd.DataFrame) -> np.ndarray:
    """Return the codes of rows on the levels of `calibration_anchors`, shape (n, levels)."""
    device = frame["device_id"].astype(str)
    box = device + "@" + frame["source"].astype(str)
    execution = frame["profile"].str.removesuffix("-nhwc") + ":" + frame["precision"].astype(str)
    configuration = (
        device
        + "|"
        + frame["arch"]
        + "|"
        + frame["size"].astype(str)
        + "|"
        + frame["profile"]
        + "|"
        + execution
    )
    names = {
        "device": device,
        "box": box,
        "runtime": device + "|" + execution,
        "family": device + "|" + frame["family"].fillna(frame["arch"]).astype(str),
        "configuration": configuration,
        "run": box + "|" + configuration,
    }
    return np.column_stack([pd.factorize(names[level])[0] for level in LEVELS])


def anchored(
    frame: pd.DataFrame,
    error: np.ndarray,
    shares: np.ndarray,
    names: tuple[str, ...],
    variances: Mapping[str, float],
) -> np.ndarray:
    """Correct rows of a device and execution by measured anchors on it, as `calibrate` does; NaN without an anchor."""
    table = frame.reset_index(drop=True)
    codes = level_codes(table)
    levels, noise = np.array([variances[f"images.{level}"] for level in LEVELS]), variances["images.noise"]
    corrected = np.full(len(table), np.nan)
    for _, rows in table.groupby(
        ["source", "device_id", "profile", "precision", "torch_version"], dropna=False
    ):
        found = rows[rows["arch"].isin(names)].drop_duplicates("arch").index
        rest = rows.index.difference(found)
        if len(found) and len(rest):
            near = reach(error[found], codes[found], codes[rest], levels, noise, shares[found])
            corrected[rest] = error[rest] - near.at(shares[rest]).mean
    return corrected
