"""What own measurements of images per second are worth, by the equations that `calibrate` uses.

The variances of ln(measured / predicted) per level that two configurations may share are those that the library ships.
"""

from __future__ import annotations

import tomllib

import numpy as np
import pandas as pd

from accuracy.vision.trace_tables import TRACES
from willitrun.estimators.calibration_anchors import LEVELS
from willitrun.kernels.anchors import condition


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


def anchored(frame: pd.DataFrame, error: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Correct rows of a device and execution by measured anchors on it, as `calibrate` does; NaN without an anchor."""
    table = frame.reset_index(drop=True)
    codes = level_codes(table)
    shipped = tomllib.loads((TRACES.parent / "calibrations" / "anchors.toml").read_text("utf-8"))[
        "coefficients"
    ]
    levels = np.array([shipped[f"images.{level}"] for level in LEVELS])
    corrected = np.full(len(table), np.nan)
    for _, rows in table.groupby(
        ["source", "device_id", "profile", "precision", "torch_version"], dropna=False
    ):
        found = rows[rows["arch"].isin(names)].drop_duplicates("arch").index
        rest = rows.index.difference(found)
        if len(found) and len(rest):
            moved = condition(error[found], codes[found], codes[rest], levels, shipped["images.noise"])
            corrected[rest] = error[rest] - moved.mean
    return corrected
