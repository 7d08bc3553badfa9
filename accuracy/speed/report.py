"""Report the out-of-sample accuracy of the LLM speed calibration as markdown.

``python -m accuracy.speed.report --data ../shared/data [--residuals held-out.npz] [--output report.md]``

Without ``--residuals`` (written by `accuracy.speed.fit`) the cross-validation runs again. Without the data folder the
table comes from the residuals that the calibration file carries.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.speed.baselines import bandwidth_baseline, roofline_baseline
from accuracy.speed.fitting import Regression, split_folds, weigh_rows
from accuracy.speed.observations import Observations, load_observations, thin_rows
from accuracy.speed.scores import Score, measured_quantity, score_ratios, split_tasks
from accuracy.speed.validation import AXIS_TIER, cross_validate

CALIBRATION = Path("catalogs/calibrations/llm-speed.toml")
AXES = ("device", "model", "source")


def format_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a markdown table."""
    names = list(header)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _cells(score: Score) -> list[str]:
    return [
        f"{score.rows}",
        f"{score.configurations}",
        f"{100 * score.median:.1f}",
        f"{100 * score.mean:.1f}",
        f"{100 * score.p90:.1f}",
        f"{100 * score.within_20:.0f}",
        f"{100 * score.bias:+.1f}",
    ]


HEADER = (
    "task",
    "predictor",
    "rows",
    "configurations",
    "median APE %",
    "mean %",
    "p90 %",
    "within 20 %",
    "bias %",
)


def format_axis(observations: Observations, held_out: dict[str, np.ndarray], axis: str) -> str:
    """Return the table of one held-out axis: the calibrated model and the two baselines on the same folds."""
    groups = getattr(observations, axis)
    fold = split_folds(groups, weigh_rows(observations), min(8, len(np.unique(groups))))
    predictors = {
        "calibrated": held_out[axis],
        "bandwidth x constant": bandwidth_baseline(observations, fold),
        "two-constant roofline": roofline_baseline(observations, fold),
    }
    rows = []
    for task, keep in split_tasks(observations).items():
        if not keep.any():
            continue
        for name, ratio in predictors.items():
            own = measured_quantity(observations.phase, ratio)
            score = score_ratios(own[keep], observations.configuration[keep])
            rows.append([task, name, *_cells(score)])
    return format_table(HEADER, rows)


def format_intervals(calibration: dict[str, Any]) -> str:
    """Return the interval table: classes of spread by phase and support, with split-half coverage out of sample."""
    rows = []
    for key, interval in calibration["intervals"].items():
        phase, tier = key.split("/")
        width = (interval["high"] / interval["low"]) ** 0.5
        rows.append(
            [phase, tier, f"x{interval['low']:.2f}", f"x{interval['high']:.2f}", f"x{width:.2f}",
             str(interval["n"]), f"{100 * interval['coverage']:.1f}"]
        )  # fmt: skip
    return format_table(
        ("phase", "support", "low", "high", "half width", "configurations", "coverage % on the other half"),
        rows,
    )


WORST_HEAD = """# The worst twenty configurations on a device never seen

Written by `python -m accuracy.speed.report --data ../shared/data --worst accuracy/speed/worst.md`; do not edit by hand.
The last column follows from the data by `name_cause`, not from looking at the row.

"""
#: Fewer configurations of a program and vendor than this on other devices say little about one that is held out.
FEW_ALIKE = 8
#: Two measurements of one configuration that differ by more than this factor explain an error of that size.
DISAGREE = 1.4


def name_cause(observations: Observations, ratio: np.ndarray, row: int) -> str:
    """Why a row may be predicted badly when its device is held out, from what the data says of it.

    In this order: what others measured on the same device, model, format and runtime; how much there is to learn from
    on other devices; what the machine's facts are assumed from; whether its other rows are off alike.
    """
    device, vendor = observations.device[row], observations.vendor_class[row]
    first = np.searchsorted(observations.row, np.arange(len(observations)))
    engine = np.stack([observations.codes[axis][first] for axis in ("runtime", "backend", "format")])
    same_program = (engine[:2] == engine[:2, row : row + 1]).all(axis=0)
    phase = observations.phase == observations.phase[row]
    here = phase & (observations.device == device)
    twin = here & same_program & (observations.model == observations.model[row])
    twin &= (engine[2] == engine[2, row]) & (observations.configuration != observations.configuration[row])
    own = np.median(ratio[observations.configuration == observations.configuration[row]])
    if twin.any():
        other = float(np.exp(np.median(ratio[twin]) - own))
        if max(other, 1.0 / other) > DISAGREE:
            return f"another measurement of it is x{other:.2f} of this one"
    alike = phase & same_program & (observations.vendor_class == vendor) & (observations.device != device)
    known = len(np.unique(observations.configuration[alike]))
    if known < FEW_ALIKE:
        return f"{known} configurations of its program on other devices of {vendor}"
    if str(vendor).startswith("cpu"):
        return "memory and cores are taken by series; how many channels are filled and what else runs is not stated"
    rest = here & (observations.configuration != observations.configuration[row])
    if rest.any():
        level = float(np.exp(-np.median(ratio[rest])))
        if abs(np.log(level)) < np.log(1.25):
            return f"the device's other rows are at x{level:.2f}: the model, the format or this run"
        return f"the whole device is off: its other rows are at x{level:.2f}"
    return "the device's only configuration"


def format_worst(observations: Observations, ratio: np.ndarray, count: int = 20) -> str:
    """Return the configurations with the largest median error when their device is held out, and why."""
    first = np.searchsorted(observations.row, np.arange(len(observations)))
    names, member = np.unique(observations.configuration, return_inverse=True)
    middle = np.array([np.median(ratio[member == i]) for i in range(len(names))])
    rows = []
    for index in np.argsort(-np.abs(middle))[:count]:
        row = int(np.flatnonzero(member == index)[0])
        rows.append(
            [
                *names[index].split("|"),
                f"x{np.exp(-middle[index]):.2f}",
                f"{observations.rates.memory_bytes_per_s[first[row]] / 1e9:.0f}",
                name_cause(observations, ratio, row),
            ]
        )
    header = ("phase", "source", "device", "count", "model", "format", "runtime", "backend",
              "predicted / measured", "GB/s", "why")  # fmt: skip
    return format_table(header, rows)


def format_calibration(calibration: dict[str, Any]) -> str:
    """Return the out-of-sample table that the calibration file carries."""
    rows = [
        [row["held_out"], row["task"], str(row["rows"]), str(row["configurations"]),
         *(f"{100 * row[name]:.1f}" for name in ("median", "mean", "p90", "within_20", "bias"))]
        for row in calibration["residuals"]
    ]  # fmt: skip
    return format_table(("held out", *HEADER[:1], *HEADER[2:]), rows)


def main() -> None:
    """Score and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with llm_speed.csv and its neighbours")
    parser.add_argument("--residuals", type=Path, help="held-out log ratios written by accuracy.speed.fit")
    parser.add_argument("--calibration", type=Path, default=CALIBRATION)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worst", type=Path, help="also write the table of the worst configurations alone")
    arguments = parser.parse_args()
    calibration = tomllib.loads(arguments.calibration.read_text(encoding="utf-8"))
    parts = ["# Accuracy of LLM speed", "", f"{calibration['method']}", ""]
    if arguments.data is None or not arguments.data.is_dir():
        parts += ["The measurements are not here; these are the figures of the calibration file.", ""]
        parts += [format_calibration(calibration)]
    else:
        observations = thin_rows(load_observations(arguments.data))
        held_out = _held_out(observations, arguments.residuals)
        parts += [f"{len(observations)} rows, {len(np.unique(observations.configuration))} configurations; every "
                  "configuration weighs the same; error is |predicted / measured - 1|.", ""]  # fmt: skip
        for axis in AXES:
            parts += [
                f"## Leave one {axis} out (grouped folds)",
                "",
                format_axis(observations, held_out, axis),
                "",
            ]
        parts += [
            "## Intervals at 90 %",
            "",
            format_intervals(calibration),
            "",
        ]
        parts += ["## Worst twenty configurations on a device never seen", ""]
        worst = format_worst(observations, held_out["device"])
        if arguments.worst is not None:
            arguments.worst.write_text(WORST_HEAD + worst + "\n", encoding="utf-8")
        parts += [worst, "", "## Rows left out", ""]
        ordered = sorted(observations.skipped.items(), key=lambda item: -item[1])
        parts += [format_table(("reason", "rows"), ([reason, str(count)] for reason, count in ordered))]
    text = "\n".join(parts) + "\n"
    print(text)
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text, encoding="utf-8")


def _held_out(observations: Observations, path: Path | None) -> dict[str, np.ndarray]:
    if path is not None and path.exists():
        with np.load(path) as saved:
            held_out = {name: saved[name] for name in saved.files}
        if all(len(ratio) == len(observations) for ratio in held_out.values()):
            return held_out
    solution = Regression(observations).solve()
    return {axis: cross_validate(observations, axis, start=solution) for axis in (*AXIS_TIER, "source")}


if __name__ == "__main__":
    main()
