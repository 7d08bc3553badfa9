"""How well published totals alone (MACs, activations, parameters) do: the interval of models without a trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.vision.conformal import conformal_interval, one_draw
from accuracy.vision.observations import Observations
from accuracy.vision.parameters import apply
from accuracy.vision.residuals import EXECUTION
from willitrun.kernels.operator_totals import spread_totals
from willitrun.kernels.operators import predict_images

KERNELS_PER_MILLION_ACTIVATIONS = 12.0
"""Median over traces; card authors publish activations but no kernel counts."""


def totals_errors(
    rows: Observations, data: Path, shared: dict[str, float], levels: dict[str, dict[str, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers and ``log(measured rate / predicted rate)`` from published totals."""
    published = pd.read_csv(
        data / "timm_speed.csv", usecols=["model", "img_size", "gmacs", "macts_m", "param_count_m"]
    )
    published = published.dropna().assign(size=lambda t: t["img_size"].astype(int))
    table = published.drop_duplicates(["model", "size"]).set_index(["model", "size"])
    frame = rows.frame
    keys = pd.MultiIndex.from_arrays([frame["model"], frame["size"]])
    found = np.flatnonzero(frame["source"].eq("timm").to_numpy() & keys.isin(table.index))
    values = table.loc[keys[found]]
    matmuls = rows.work.padded_flops[found]
    convolution = matmuls[:, :9].sum(1) > 0.5 * matmuls.sum(
        1
    )  # a card says whether it is a CNN or a transformer
    activations = values["macts_m"].to_numpy() * 1e6
    work = spread_totals(
        values["gmacs"].to_numpy() * 1e9,
        activations,
        values["param_count_m"].to_numpy() * 1e6,
        activations * 1e-6 * KERNELS_PER_MILLION_ACTIVATIONS,
        convolution=convolution.astype(float),
    )
    part = rows.take(found)
    resolved, coefficients = apply(replace(part, work=work), shared, levels)
    predicted = predict_images(resolved.work, resolved.rates, resolved.load, coefficients).seconds
    return found, np.log(predicted / part.frame["seconds"].to_numpy(float))


def totals_intervals(
    rows: Observations, data: Path, shared: dict[str, float], levels: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return conformal intervals of the ``no-trace`` tier by execution."""
    found, error = totals_errors(rows, data, shared, levels)
    frame = rows.frame.iloc[found]
    execution = frame["profile"].map(EXECUTION).str.removesuffix("-nhwc").to_numpy()
    table = {}
    for name in np.unique(execution):
        mine = execution == name
        drawn = one_draw(frame[mine], error[mine])
        low, high = conformal_interval(drawn)
        covered = float(((drawn >= np.log(low)) & (drawn <= np.log(high))).mean())
        table[f"{name}/no-trace"] = {"low": low, "high": high, "n": len(drawn), "coverage": covered}
        print(f"no-trace {name}: median error {np.median(np.abs(np.expm1(error[mine]))):.3f}")
    return table
