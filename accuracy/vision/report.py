"""Report the accuracy of the images-per-second model against METHOD's targets.

Usage: ``python -m accuracy.vision.report --data ../shared/data`` fits, holds out and prints what ``accuracy.vision.fit``
writes into ``REPORT.md``.

Every figure is out of sample: the row's model, family or device was not in the fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from accuracy.vision.anchored import anchored, term_shares
from accuracy.vision.trace_tables import TRACES
from willitrun.kernels.operator_work import MATMUL_KINDS, OPERATOR_CLASSES

if TYPE_CHECKING:
    from accuracy.vision.fit import Fitted, HeldOut

TARGETS = {
    ("unseen-model", "eager"): "4 / 9", ("unseen-model", "compile"): "6 / 11",
    ("unseen-family", "eager"): "5", ("unseen-family", "compile"): "7.5",
    ("unseen-device", "eager"): "10 (GeForce)", ("one-anchor", "eager"): "5",
    ("unseen-model", "cpu-compile"): "9", ("labs", "all"): "18",
}  # fmt: skip
REPORTED = ("unseen-model", "unseen-family", "unseen-device")
ANCHORS = ("resnet50", "vit_base_patch16_224", "efficientnet_b0")


def summary(error: np.ndarray) -> tuple[int, float, float, float]:
    """Return count, median and mean absolute percentage error, and the share within 20 %."""
    size = np.abs(np.expm1(error))
    return (
        len(error),
        float(np.median(size) * 100),
        float(size.mean() * 100),
        float((size < 0.2).mean() * 100),
    )


def baseline(frame: pd.DataFrame, fitted: Fitted, *, activations: bool) -> np.ndarray:
    """Return errors of what is commonly done: FLOPs over peak (and activation bytes over bandwidth), one constant."""
    work, rates, load = fitted.rows.work, fitted.rows.rates, fitted.rows.load
    seconds = load.batch * work.flops.sum(1) / rates.conv_flops_per_s
    if activations:
        matmul = [name.partition(".")[0] in MATMUL_KINDS for name in OPERATOR_CLASSES]
        outputs = work.act_elements[:, matmul].sum(1) / 2.0
        seconds = seconds + 4.0 * load.batch * outputs * load.act_bytes / rates.bandwidth_bytes_per_s
    error = np.log(seconds / frame["seconds"].to_numpy(float))
    return np.asarray(error - pd.Series(error).groupby(frame["profile"].to_numpy()).transform("median"))


def tables(
    gpu: Fitted,
    cpu: Fitted,
    held: Mapping[tuple[str, str], HeldOut],
    intervals: Mapping[str, Mapping[str, float]],
    variances: Mapping[str, float],
) -> list[str]:
    """Return the report as lines of Markdown, from the held-out errors by kind of device and tier, and the records'
    intervals and variances of anchors, which come from the same errors."""
    lines = [
        "# Images per second: accuracy out of sample",
        "",
        "Written by `python -m accuracy.vision.fit --data ../shared/data`, which writes the record that is shipped from the",
        "same folds; coverage is nested: that of each fold of models or families, of each device and of each class of devices by",
        "the interval that is made without it. Tiers that nothing was held out for take the row of the next wider one.",
        "",
        "| test | execution | rows | median % | mean % | within 20 % | owed |",
        "|---|---|---|---|---|---|---|",
    ]
    coverage = [
        "",
        "| interval | n | 90 % interval | coverage |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['n']:.0f} | x{row['low']:.2f} to x{row['high']:.2f} | {row['coverage']:.0%} |"
            for name, row in sorted(intervals.items())
            if row["n"]
        ),
    ]

    def add(test: str, execution: str, error: np.ndarray) -> None:
        n, median, mean, near = summary(error)
        owed = TARGETS.get((test, execution), "")
        lines.append(f"| {test} | {execution} | {n} | {median:.1f} | {mean:.1f} | {near:.0f} | {owed} |")

    for kind, fitted in (("gpu", gpu), ("cpu", cpu)):
        for tier in REPORTED:
            numbers, error = held[kind, tier].numbers, held[kind, tier].stated
            frame = fitted.rows.frame.iloc[numbers]
            ours = frame["source"].eq("timm").to_numpy()
            for profile in sorted(frame.loc[ours, "profile"].unique()):
                mine = ours & frame["profile"].eq(profile).to_numpy()
                if tier == "unseen-device" and profile in ("compile", "train", "train-nhwc"):
                    continue  # one device only: without it the execution has no data
                add(tier, profile, error[mine])
            if tier == "unseen-device":
                shares = term_shares(fitted.rows.take(numbers).stated(), fitted.free, fitted.theta)
                for label, names in (("one-anchor", ANCHORS[:1]), ("three-anchors", ANCHORS)):
                    moved = anchored(frame, error, shares, names, variances)
                    away = ~ours & np.isfinite(moved)
                    if away.any():
                        add(label, "labs", moved[away])
                    for profile in ("eager", "eager-nhwc", "cpu-compile"):
                        mine = ours & frame["profile"].eq(profile).to_numpy() & np.isfinite(moved)
                        if mine.any():
                            add(label, profile, moved[mine])
                if fitted is gpu:
                    labs = ~ours
                    add("labs", "all", error[labs])
                    for execution in ("eager", "engine"):
                        add("labs", execution, error[labs & frame["profile"].eq(execution).to_numpy()])
                    for name, rows in frame[labs].groupby("device_class"):
                        add("labs", f"{name}", error[labs][frame[labs].index.get_indexer(rows.index)])
    frame = gpu.rows.frame
    for name, activations in (("FLOPs / peak", False), ("FLOPs + activations", True)):
        error = baseline(frame, gpu, activations=activations)
        for profile in ("eager", "compile"):
            mine = frame["profile"].eq(profile).to_numpy() & frame["source"].eq("timm").to_numpy()
            n, median, mean, near = summary(error[mine])
            lines.append(
                f"| baseline: {name}, constant fitted | {profile} | {n} | {median:.1f} | {mean:.1f} | {near:.0f} | |"
            )
    return lines + coverage


def main() -> None:
    """Print the report."""
    # The fit writes its report from here.
    from accuracy.vision.fit import calibrate

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--traces", type=Path, default=TRACES)
    options = parser.parse_args()
    *_, lines = calibrate(options.data, options.traces)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
