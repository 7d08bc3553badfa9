"""How well published totals alone (MACs, parameters, image size) do: the law of what cards leave out, and the
interval of models without a trace.

Usage: ``python -m accuracy.vision.totals [--out catalogs/calibrations/vision-totals.toml]`` fits the law over the
catalog's traces of convolutional networks; its interval of speed is part of ``accuracy.vision.fit``.
"""

from __future__ import annotations

import argparse
import datetime
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.vision.conformal import conformal_interval, drawn_configurations, folded, nested_coverage
from accuracy.vision.observations import Observations, load_traces
from accuracy.vision.parameters import apply
from accuracy.vision.record import CalibrationRecord, digest, write_record
from accuracy.vision.residuals import EXECUTION
from accuracy.vision.trace_tables import TRACES
from willitrun.kernels.operator_totals import spread_totals, total_from_siblings
from willitrun.kernels.operator_work import MATMUL_KINDS, OPERATOR_CLASSES, OperatorWork
from willitrun.kernels.operators import predict_images

QUANTITIES = ("activations", "streamed", "operators", "peak_elements", "peak_autocast_bytes")
_MATMUL = np.array(
    [name.partition(".")[0] in (*MATMUL_KINDS, "conv_dw", "sdpa", "sdpa_mask") for name in OPERATOR_CLASSES]
)
_CONVOLUTION = np.array([name.startswith(("conv_kxk", "conv_1x1", "conv_grp")) for name in OPERATOR_CLASSES])


def sibling_table(folder: Path = TRACES) -> pd.DataFrame:
    """Totals of all traced networks that are convolutional for nine tenths of their arithmetic."""
    models, work, _ = load_traces(folder)
    rows = []
    for row in models.itertuples():
        block = OperatorWork.from_summary(work[(row.arch, row.image_size)])
        flops, elements = block.flops[0], block.act_elements[0]
        if flops[_CONVOLUTION].sum() < 0.9 * flops.sum():
            continue
        totals = (
            elements[_MATMUL].sum() / 2.0,
            elements[~_MATMUL].sum(),
            row.n_ops,
            row.peak_elements,
            row.peak_autocast_bytes,
        )
        rows.append((row.arch, row.family, row.macs, row.parameters, row.image_size, *totals))
    return pd.DataFrame(rows, columns=["arch", "family", "macs", "parameters", "image_size", *QUANTITIES])


def fit_law(table: pd.DataFrame) -> dict[str, float]:
    """Least squares on logarithms, one law per quantity.

    A larger image means as many kernels and elements in proportion to its area, whatever the network: the laws are
    of MACs per pixel and parameters, and the power of the image size follows from them.
    """
    area = 2.0 * np.log(table["image_size"].to_numpy(float))
    design = np.column_stack(
        [np.ones(len(table)), np.log(table["macs"]) - area, np.log(table["parameters"].to_numpy(float))]
    )
    law = {}
    for quantity in QUANTITIES:
        power = 0.0 if quantity == "operators" else 1.0
        value = np.log(table[quantity].to_numpy(float)) - power * area
        (one, macs, parameters), *_ = np.linalg.lstsq(design, value, rcond=None)
        law |= {
            f"{quantity}.one": float(one),
            f"{quantity}.macs": float(macs),
            f"{quantity}.parameters": float(parameters),
            f"{quantity}.image_size": float(2.0 * (power - macs)),
        }
    return law


def law_intervals(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Factors of each law with whole families held out."""
    found = {}
    for quantity in QUANTITIES:
        errors, families = [], []
        for family, rows in table.groupby("family"):
            law = fit_law(table[table["family"] != family])
            told = total_from_siblings(law, quantity, rows["macs"], rows["parameters"], rows["image_size"])
            errors.append(np.log(rows[quantity].to_numpy(float) / told))
            families += [family] * len(rows)
        error = np.concatenate(errors)
        low, high = conformal_interval(error, folded(pd.Series(families)))
        found[quantity] = {"low": low, "high": high, "n": len(error)}
    return found


def totals_errors(
    rows: Observations, law: dict[str, float], shared: dict[str, float], levels: dict[str, dict[str, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers and ``log(measured rate / predicted rate)`` from published totals, as the library does it."""
    frame = rows.frame
    flops = rows.work.flops
    convolutional = flops[:, _CONVOLUTION].sum(1) >= 0.9 * flops.sum(1)
    found = np.flatnonzero(frame["source"].eq("timm").to_numpy() & convolutional)
    parameters = rows.frame["parameters"].to_numpy(float)[found]
    macs, size = flops[found].sum(1) / 2.0, frame["size"].to_numpy(float)[found]
    told = {name: total_from_siblings(law, name, macs, parameters, size) for name in QUANTITIES}
    work = spread_totals(
        macs,
        told["activations"],
        parameters,
        told["operators"],
        passes=told["streamed"] / told["activations"],
    )
    part = rows.take(found)
    resolved, coefficients = apply(replace(part, work=work), shared, levels)
    predicted = predict_images(resolved.work, resolved.rates, resolved.load, coefficients).seconds
    return found, np.log(predicted / part.frame["seconds"].to_numpy(float))


def totals_intervals(
    rows: Observations, law: dict[str, float], shared: dict[str, float], levels: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return conformal intervals of the ``no-trace`` tier by execution."""
    found, error = totals_errors(rows, law, shared, levels)
    frame = rows.frame.iloc[found]
    execution = frame["profile"].map(EXECUTION).str.removesuffix("-nhwc").to_numpy()
    table = {}
    for name in np.unique(execution):
        mine = execution == name
        drawn = drawn_configurations(frame[mine], error[mine])
        values, groups = drawn["error"].to_numpy(), folded(drawn["family"])
        low, high = conformal_interval(values, groups)
        covered = nested_coverage(values, groups)
        table[f"{name}/no-trace"] = {"low": low, "high": high, "n": len(drawn), "coverage": covered}
        print(f"no-trace {name}: median error {np.median(np.abs(np.expm1(error[mine]))):.3f}")
    return table


def main() -> None:
    """Fit the law and write its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("--out", type=Path, default=TRACES.parent / "calibrations" / "vision-totals.toml")
    options = parser.parse_args()
    table = sibling_table(options.traces)
    record = CalibrationRecord(
        id="vision-totals", kind="vision-speed",
        method="log-linear law of traced convolutional networks (nine tenths of the arithmetic in convolutions that are"
        " not depthwise) on MACs per pixel and parameters; intervals with whole families held out",
        data_digest=digest(options.traces / "timm-models.csv"),
        n_rows=len(table), n_configurations=table["arch"].nunique(),
        coefficients=fit_law(table), levels={}, intervals=law_intervals(table),
    )  # fmt: skip
    fitted_on = datetime.date.fromisoformat(os.environ.get("FIT_DATE", datetime.date.today().isoformat()))
    write_record(record, options.out, fitted=fitted_on)
    print(f"{len(table)} traces of {record.n_configurations} networks -> {options.out}")


if __name__ == "__main__":
    main()
