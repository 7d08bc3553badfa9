"""Score the landed library on measured diffusion runs, through the public door.

Usage: ``python -m accuracy.vision.diffusion_landed --data ../shared/data`` prints median and mean error of the time
per step (per image over its steps where the source times whole images), by kind of source, device and model, and
how many measurements lie inside the 90 % interval. The calibration has seen these rows: in-sample figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.vision.diffusion import load_rows
from willitrun import Workload, estimate_speed
from willitrun.errors import WillItRunError

NAMES = {
    "sd-v1-4": "sd-1.5", "sd-v1-5": "sd-1.5", "sd-v2": "sd-2.1", "sd-v2-1": "sd-2.1", "sd-2-1-base": "sd-2.1",
    "sdxl-base": "sdxl", "sd3-medium": "sd3-medium", "sd3.5-large": "sd3.5-large", "flux.1-dev": "flux.1-dev",
    "pixart-alpha-1024": "pixart-alpha",
}  # fmt: skip
EXECUTIONS = {"eager": "eager", "compile": "compile", "engine": "tensorrt"}


def predict(row: pd.Series) -> tuple[float, float, float] | None:
    """Low, best and high estimate of the seconds of one step, None where the library has no answer."""
    load = Workload(
        batch_size=int(row["batch"] if row["batch"] > 0 else 1),
        steps=int(row["steps"]),
        image_size=int(row["size"]),
        precision=row["precision"],
        execution=EXECUTIONS[row["execution"]],
    )
    try:
        speed = estimate_speed(NAMES[row["model"]], row["device_id"], load, runtime="diffusers")
    except WillItRunError:
        return None
    if speed.iterations_per_s is None or speed.seconds_per_image is None:
        return None
    if not row["e2e"]:
        rate = speed.iterations_per_s
        return 1.0 / rate.high, 1.0 / rate.best, 1.0 / rate.low
    share = load.batch_size / row["steps"]
    whole = speed.seconds_per_image
    return whole.low * share, whole.best * share, whole.high * share


def score(data: Path) -> pd.DataFrame:
    """Rows with the predicted seconds of a step and the signed log error."""
    rows = load_rows(data)
    guided = rows["cfg"].eq(True) | rows["model"].str.startswith("flux")
    plain = rows["attention"].fillna("").ne("vanilla")
    rows = rows[rows["model"].isin(NAMES) & guided & plain].copy()
    found = [predict(row) for _, row in rows.iterrows()]
    rows = rows[[answer is not None for answer in found]].copy()
    rows[["low", "best", "high"]] = [answer for answer in found if answer is not None]
    rows["log_error"] = np.log(rows["best"] / rows["seconds_per_step"])
    rows["inside"] = rows["seconds_per_step"].between(rows["low"], rows["high"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    rows = score(parser.parse_args().data)
    rows["error"] = np.abs(np.expm1(rows["log_error"]))
    for crowd, label in ((False, "lab"), (True, "crowd")):
        part = rows[rows["crowd"].eq(crowd)]
        print(f"## {label}: {len(part)} rows")
        for by in ("device_class", "device_id", "model", "execution"):
            table = part.groupby(by).agg(
                n=("error", "size"), median=("error", "median"), mean=("error", "mean"),
                bias=("log_error", "median"), inside=("inside", "mean"),
            )  # fmt: skip
            print(table[table["n"] >= 3].round(3).to_string())
        print(
            f"all: median {part.error.median():.3f} mean {part.error.mean():.3f} inside {part.inside.mean():.3f}"
        )


if __name__ == "__main__":
    main()
