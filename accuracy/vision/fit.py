"""Fit the images-per-second model; write ``catalogs/calibrations/vision-speed.toml`` and ``REPORT.md`` beside this file.

Usage: ``python -m accuracy.vision.fit --data ../shared/data [--out catalogs/calibrations/vision-speed.toml]`` also writes
``image-anchors.toml``, how far own measurements reach.

The fit is one robust least-squares problem per kind of device (accelerators, host processors) with a prior on
every parameter, from the prior's means; intervals and report come from the same rows, which their fold did not see.
"""

from __future__ import annotations

import argparse
import datetime
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.vision.anchored import image_variances, term_shares
from accuracy.vision.conformal import (
    FEWEST_GROUPS,
    LARGEST,
    SMALLEST,
    conformal_interval,
    drawn_configurations,
    folded,
    nested_coverage,
    origin_weights,
)
from accuracy.vision.devices import load_hardware
from accuracy.vision.observations import Observations, load_observations
from accuracy.vision.parameters import Parameter, apply, cpu_parameters, gpu_parameters, unpack
from accuracy.vision.record import CalibrationRecord, digest, support_of, write_record
from accuracy.vision.report import tables
from accuracy.vision.residuals import learn_residuals, residual_of, residual_rows, support_points
from accuracy.vision.solve import STILL, predict_seconds, row_weights, solve
from accuracy.vision.totals import fit_law, sibling_table, totals_intervals
from accuracy.vision.trace_tables import TRACES
from willitrun.estimators.graph_intervals import interval_task
from willitrun.kernels.operator_residuals import ResidualTable
from willitrun.kernels.operators import predict_images, waits_for_host

FOLDS = 5
MOST_ROWS = 200
"""Rows of one file that enter the solve; the rest only teaches residuals and tests."""
TIERS = {
    "unseen-model": "near",
    "unseen-family": "unseen-model",
    "unseen-device": "unseen-device",
    "unseen-class": "unseen-class",
}
"""What was held out, and the support level of the library that it is the test of, from near to far: a user's model
is never sure to be one of the fit's, so `near` is a model that was held out, its family and device not."""
METHOD = (
    "per-operator-class roofline; Huber on log time, Gaussian prior per parameter, rows weighted by"
    " group size^-1/3; residual by Gaussian process on features of the work and by family, shrunk to zero; intervals group-conformal, one draw per configuration"
)
ANCHOR_METHOD = (
    "Variances of ln(measured / predicted) on one term of the time per level that two tuples may share, by restricted Gaussian likelihood over"
    " images per second of devices held out (inference; residuals clipped at 0.8, at most 120 rows per device, devices weighted by the inverse root of"
    " their rows): device, box (one device of one source), runtime with execution and precision, model family, configuration, and the same"
    " configuration on the same box; noise is a single run."
)


@dataclass
class Fitted:
    """A fit of one kind of device and the rows it stands on."""

    free: list[Parameter]
    theta: np.ndarray
    rows: Observations
    residuals: ResidualTable

    def log_errors(self, rows: Observations) -> tuple[np.ndarray, np.ndarray]:
        """Return ``log(measured rate / predicted rate)`` of rows, as one asks who states no version of the software,
        and as one who states it."""
        learned = residual_of(self.residuals, rows.frame, rows.network)
        rows = replace(rows, load=replace(rows.load, log_residual=learned))
        seconds = rows.frame["seconds"].to_numpy(float)
        open_, stated = (
            np.log(predict_seconds(asked, self.free, self.theta) / seconds) for asked in (rows, rows.stated())
        )
        return open_, stated


@dataclass
class HeldOut:
    """Log errors of rows whose model, family, device or class of devices the fit has not seen."""

    numbers: np.ndarray
    """Which rows of the fit's."""
    errors: np.ndarray
    """Without a version of the software; intervals are made of these."""
    stated: np.ndarray
    """With the version that the source states or its age tells, where the library tells eras apart."""


def fit_rows(
    rows: Observations,
    free: list[Parameter],
    points: np.ndarray,
    *,
    start: np.ndarray | None = None,
    iterations: int = 300,
) -> Fitted:
    """Fit parameters and family residuals on rows."""
    frame = rows.frame
    order = pd.Series(
        [zlib.crc32(f"{a}{s}".encode()) for a, s in zip(frame["arch"], frame["size"], strict=True)]
    )
    groups = [
        frame[c].fillna("").astype(str)
        for c in ("source", "device_id", "profile", "precision", "torch_version")
    ]
    thin = rows.take(np.flatnonzero(order.groupby(groups).rank(method="first") <= MOST_ROWS))
    weights, asked = row_weights(thin), thin.stated()
    if start is None:
        start = laws_first(asked, free, weights)
        theta = solve(asked, free, weights=weights, start=start, iterations=iterations, still=STILL)
    else:
        theta = solve(asked, free, weights=weights, start=start, iterations=iterations)
    error = np.log(rows.frame["seconds"].to_numpy(float) / predict_seconds(rows.stated(), free, theta))
    return Fitted(free, theta, rows, learn_residuals(rows.frame, rows.network, error, points))


def laws_first(rows: Observations, free: list[Parameter], weights: np.ndarray) -> np.ndarray:
    """Return a solution in which all devices and engines are alike, to start from.

    From the prior's means, what classes of devices differ by goes into whichever law moves first, and stays there: an
    optimum that is not the least.
    """
    alike = np.array([not (p.key.startswith("device.") or p.profiles == "engine") for p in free])
    theta = np.array([p.start for p in free])
    theta[alike] = solve(
        rows, [p for p, one in zip(free, alike, strict=True) if one], weights=weights, iterations=100
    )
    return theta


def fold_of(names: pd.Series) -> np.ndarray:
    """Assign names to folds, stable between runs."""
    return np.array([zlib.crc32(str(name).encode()) % FOLDS for name in names])


def held_out_errors(full: Fitted, tier: str, *, iterations: int = 40) -> HeldOut:
    """Predict rows without the model, family or device they belong to.

    Every fold is refitted from the full solution until it stands: its own optimum, which from the prior's means is
    found less well.
    """
    frame = full.rows.frame
    if tier == "unseen-model":
        groups = fold_of(frame["signature"])
    elif tier == "unseen-family":
        groups = fold_of(frame["family"])
    else:
        column = "device_id" if tier == "unseen-device" else "device_class"
        counts = frame[column].value_counts()
        # Devices with few rows leave together with others, which only makes the test harder.
        small = {
            name: f"fold {zlib.crc32(name.encode()) % FOLDS}" for name in counts.index if counts[name] < 500
        }
        groups = frame[column].replace(small).astype("category").cat.codes.to_numpy()
    numbers, errors, stated = [], [], []
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        outside = np.flatnonzero(groups != group)
        if not len(outside):
            continue
        fitted = fit_rows(
            full.rows.take(outside), full.free, full.residuals.points, start=full.theta, iterations=iterations
        )
        numbers.append(inside)
        for found, values in zip((errors, stated), fitted.log_errors(full.rows.take(inside)), strict=True):
            found.append(values)
    return HeldOut(*(np.concatenate(found) for found in (numbers, errors, stated)))


def outline(fitted: Fitted, held: HeldOut) -> str:
    """Median, mean and bias by source and execution."""
    frame = fitted.rows.frame.iloc[held.numbers]
    error = np.abs(np.expm1(held.stated))
    table = frame.assign(lab=frame["source"].ne("timm"), log=held.stated, error=error)
    grouped = table.groupby(["lab", "profile"])
    found = grouped.agg(
        n=("error", "size"), median=("error", "median"), mean=("error", "mean"), bias=("log", "median")
    )
    return str(found.round(3).to_string())


UNITS = {
    "unseen-model": "signature",
    "unseen-family": "family",
    "unseen-device": "device_id",
    "unseen-class": "device_class",
}
"""What a tier holds out, of which its intervals are made and scored."""
FEWEST_DEVICES = 5
"""Devices of a kind below which it has no interval of its own: it takes, and adds to, that of all kinds."""


def intervals_of(full: Fitted, errors: dict[str, HeldOut]) -> dict[str, dict[str, float]]:
    """Return conformal intervals by execution and tier; tiers that nothing was held out for inherit the next wider one.

    Rows are predicted as one asks who states no version of the software, and tiers of unseen devices are balanced by
    device and source; so they hold what laboratories differ by. Models are held out where devices were swept over
    them: elsewhere a model takes most of its device's rows along, and its tiers are those of an unseen device.
    """
    table: dict[str, dict[str, float]] = {}
    frame = full.rows.frame
    tasks = interval_tasks(full)
    swept = frame["source"].eq("timm").to_numpy()
    for task in np.unique(tasks):
        wider: dict[str, float] | None = None
        of_task = tasks == task
        devices = frame.loc[of_task, "device_id"].nunique()
        for tier, level in reversed(TIERS.items()):
            if tier not in errors:
                continue
            far = tier.endswith(("device", "class"))
            if far and devices == 1:
                continue  # without its only device the execution has no data; eager's interval stands in below
            numbers, values = errors[tier].numbers, errors[tier].errors
            mine = of_task[numbers]
            if not far:
                mine &= swept[numbers]
            if mine.sum() >= SMALLEST or (wider is None and mine.any()):
                drawn = drawn_configurations(
                    frame.iloc[numbers[mine]], values[mine], most_per_device=LARGEST if far else None
                )
                wider = interval_row(drawn, tier, weight=origin_weights(drawn) if far else None)
            if wider is not None:
                table[f"{task}/{level}"] = wider
    for name in [key for key in table if key.startswith("eager/unseen-")]:
        for task in np.unique(tasks):
            table.setdefault(f"{task}/{name.partition('/')[2]}", {**table[name], "n": 0})
    return table


def interval_row(drawn: pd.DataFrame, tier: str, weight: np.ndarray | None) -> dict[str, float]:
    """Return factors and nested coverage of errors, by the groups that a tier holds out; by devices where those are few."""
    unit = UNITS[tier] if drawn[UNITS[tier]].nunique() >= FEWEST_GROUPS else "device_id"
    error, group = drawn["error"].to_numpy(), folded(drawn[unit])
    finer = folded(drawn["device_id"]) if unit == "device_class" else None
    low, high = conformal_interval(error, group, weight, finer=finer)
    covered = nested_coverage(error, group, weight, finer=finer)
    return {"low": low, "high": high, "n": len(drawn), "coverage": covered}


def interval_tasks(full: Fitted) -> np.ndarray:
    """Key of every row's interval: its execution, apart where the host takes a share of the predicted time."""
    resolved, coefficients = apply(full.rows, *unpack(full.free, full.theta))
    launch = waits_for_host(predict_images(resolved.work, resolved.rates, resolved.load, coefficients))
    frame = full.rows.frame
    found = np.array(
        [
            interval_task(profile, launch=bool(host), kind=str(kind))
            for profile, host, kind in zip(frame["profile"], launch, frame["device_class"], strict=True)
        ]
    )
    devices = frame["device_id"].groupby(found).nunique()
    few = [name for name in devices.index if "@" in name and devices[name] < FEWEST_DEVICES]
    return np.array([name.partition("@")[0] if name in few else name for name in found])


def merge(gpu: Fitted, cpu: Fitted) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Join both fits: shared values are the accelerators', host processors cancel them in their levels."""
    shared, levels = unpack(gpu.free, gpu.theta)
    _, own = unpack(cpu.free, cpu.theta)
    profiles = ("cpu", "cpu-compile", "cpu-engine")
    for key in {*shared, *own}:
        if key in ("link_share", "saturation.conv", "saturation.gemm", "flops_per_joule", "cache_gain"):
            continue
        level = levels.setdefault(key, {})
        if key.startswith("device."):
            level |= own.get(key, {})  # of processors; accelerators have other names
            continue
        for profile in profiles:
            value = own.get(key, {}).get(profile, 0.0) - shared.get(key, 0.0)
            if value:
                level[profile] = value
    return shared, levels


def fit_everything(data: Path, traces: Path = TRACES) -> tuple[Fitted, Fitted]:
    """Fit accelerators and host processors."""
    rows = load_observations(data, traces)
    host = rows.frame["device_class"].eq("cpu").to_numpy()
    points = support_points(rows.frame, rows.network)
    gpu = fit_rows(rows.take(np.flatnonzero(~host)), gpu_parameters(), points)
    cpu = fit_rows(rows.take(np.flatnonzero(host)), cpu_parameters(), points)
    return gpu, cpu


def calibrate(data: Path, traces: Path = TRACES) -> tuple[CalibrationRecord, CalibrationRecord, list[str]]:
    """Fit, hold out, and return the record, that of anchors, and the report, which rest on the same held-out errors."""
    gpu, cpu = fit_everything(data, traces)
    intervals: dict[str, dict[str, float]] = {}
    held: dict[tuple[str, str], HeldOut] = {}
    for kind, fitted in (("gpu", gpu), ("cpu", cpu)):
        errors = {}
        for tier in TIERS:
            if fitted is cpu and tier == "unseen-class":
                continue
            errors[tier] = held[kind, tier] = held_out_errors(fitted, tier)
            print(f"{kind} {tier}\n{outline(fitted, errors[tier])}", flush=True)
        intervals |= intervals_of(fitted, errors)
    shared, levels = merge(gpu, cpu)
    law = fit_law(sibling_table(traces))
    for fitted in (gpu, cpu):
        intervals |= totals_intervals(fitted.rows, law, shared, levels)
    frame = pd.concat([gpu.rows.frame, cpu.rows.frame])
    record = CalibrationRecord(
        id="vision-speed", kind="vision-speed", method=METHOD,
        data_digest=digest(data / "timm_speed.csv", data / "vision_speed.csv", data / "hardware.csv"),
        n_rows=len(frame), n_configurations=int(frame.groupby(["arch", "size", "device_id", "profile"]).ngroups),
        coefficients=shared, levels=levels, intervals=intervals, residuals=residual_rows(gpu.residuals, cpu.residuals),
        support=support_of(frame, load_hardware(data)),
    )  # fmt: skip
    anchors = anchor_record(gpu, held["gpu", "unseen-device"], record.data_digest)
    return record, anchors, tables(gpu, cpu, held, intervals, anchors.coefficients)


def anchor_record(gpu: Fitted, held: HeldOut, data_digest: str) -> CalibrationRecord:
    """How far a measurement of images reaches, from errors of devices held out."""
    rows = gpu.rows.take(held.numbers)
    inference = rows.frame[rows.frame["phase"].ne("train")]
    variances = image_variances(rows.frame, held.stated, term_shares(rows.stated(), gpu.free, gpu.theta))
    return CalibrationRecord(
        id="image-anchors", kind="anchors", method=ANCHOR_METHOD, data_digest=data_digest, n_rows=len(inference),
        n_configurations=int(inference.groupby(["arch", "size", "device_id", "profile"]).ngroups),
        coefficients=variances, levels={}, intervals={},
    )  # fmt: skip


def main() -> None:
    """Write the record and the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("--out", type=Path, default=TRACES.parent / "calibrations" / "vision-speed.toml")
    parser.add_argument("--anchors", type=Path, default=TRACES.parent / "calibrations" / "image-anchors.toml")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent / "REPORT.md")
    options = parser.parse_args()
    record, anchors, lines = calibrate(options.data, options.traces)
    fitted_on = datetime.date.fromisoformat(os.environ.get("FIT_DATE", datetime.date.today().isoformat()))
    write_record(record, options.out, fitted=fitted_on)
    write_record(anchors, options.anchors, fitted=fitted_on)
    options.report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(
        f"{record.n_rows} rows, {record.n_configurations} configurations -> {options.out}, {options.report}"
    )


if __name__ == "__main__":
    main()
