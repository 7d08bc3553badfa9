"""Score the landed library on measured image throughputs, through the public door.

Usage: ``python -m accuracy.vision.landed --data ../shared/data [--every 1]`` asks ``estimate_speed`` for every
measured row as a user would write it. The calibration has seen these rows: in-sample figures, whose use is to show
what is lost between the fit and the answer (names, rates, defaults, intervals).
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.measurements import without_measurements
from accuracy.vision.observations import load_observations, stated_version
from accuracy.vision.trace_tables import TRACES
from willitrun import Runtime, WillItRunError, Workload, estimate_speed, load_catalog
from willitrun.catalog import Catalog

EXECUTIONS = {"compile": "compile", "cpu-compile": "compile", "engine": "tensorrt"}


def ask(row: pd.Series, catalog: Catalog) -> tuple[float, float, float, str] | str:
    """Low, best and high estimate of images per second and the support, or why there is none."""
    profile = str(row["profile"]).removesuffix("-nhwc")
    training = row["phase"] == "train"
    load = Workload(
        task="image-classification",
        batch_size=int(row["batch_size"]),
        image_size=int(row["size"]),
        precision=row["precision"],
        execution=EXECUTIONS.get(profile, "eager"),
        layout="nhwc" if row["layout"] == "nhwc" else "nchw",
        mode="full-finetune" if training else "inference",
    )
    on_host = row["device_class"] == "cpu"
    version = stated_version(str(row["source"]), row["torch_version"], profile)
    runtime = Runtime(name="tensorrt") if profile == "engine" else Runtime(name="pytorch", version=version)
    name = str(row["model"]) if row["source"] == "timm" else str(row["arch"])
    try:
        speed = estimate_speed(
            name,
            {"host": {"cpu": row["device"]}} if on_host else row["device_id"],
            load,
            runtime=runtime,
            catalog=catalog,
        )
    except WillItRunError as error:
        return f"{type(error).__name__}: {error}"
    found = speed.samples_per_s if training else speed.images_per_s
    if found is None:
        return "no speed: " + (speed.notes[0].message if speed.notes else "")
    return found.low, found.best, found.high, str(speed.support)


def score(
    data: Path, traces: Path = TRACES, *, every: int = 1, catalog: Catalog | None = None
) -> pd.DataFrame:
    """Rows with low, best and high estimate; rows without an answer are counted by reason."""
    rows = load_observations(data, traces).frame.iloc[::every].reset_index(drop=True)
    catalog = catalog or without_measurements(load_catalog())
    answers = [ask(row, catalog) for _, row in rows.iterrows()]
    lost = Counter(answer.partition("(")[0][:110] for answer in answers if isinstance(answer, str))
    for reason, count in lost.most_common(20):
        print(f"{count:6} without an answer: {reason}")
    rows = rows[[not isinstance(answer, str) for answer in answers]].copy()
    rows[["low", "best", "high", "support"]] = [answer for answer in answers if not isinstance(answer, str)]
    rows[["low", "best", "high"]] = rows[["low", "best", "high"]].astype(float)
    rows["log_error"] = np.log(rows["images_per_s"] / rows["best"])
    rows["error"] = (rows["best"] / rows["images_per_s"] - 1.0).abs()
    rows["inside"] = rows["images_per_s"].between(rows["low"], rows["high"])
    rows["lab"] = rows["source"].ne("timm")
    return rows


def summarise(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Count, median and mean absolute error, bias and coverage by group; one draw per configuration."""
    grouped = rows.groupby(by)
    return grouped.agg(
        n=("error", "size"), median=("error", "median"), mean=("error", "mean"),
        bias=("log_error", "median"), inside=("inside", "mean"),
    )  # fmt: skip


def main() -> None:
    """Print tables by execution, class of device, device and support."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("--every", type=int, default=1, help="ask every n-th row only")
    options = parser.parse_args()
    rows = score(options.data, options.traces, every=options.every)
    for by in (["lab", "profile"], ["lab", "device_class"], ["support"], ["device_id", "profile"]):
        table = summarise(rows, by)
        print(table[table["n"] >= 3].round(3).to_string(), "\n")


if __name__ == "__main__":
    main()
