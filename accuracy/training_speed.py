"""Fit what share of its tensor peak a device reaches in a training step, and score it on devices left out.

Usage: ``python -m accuracy.training_speed`` prints the rows and writes ``catalogs/calibrations/llm-training.toml``.

One number is fitted: the median over devices of the median efficiencies that make predicted and published tokens/s agree.
The interval holds nine of ten rows of devices left out, and no less than every device's own median.
"""

from __future__ import annotations

import datetime
import statistics
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.devices_out import by_device, central, left_out, residual
from accuracy.vision.record import CalibrationRecord, digest, write_record
from willitrun import describe_machine
from willitrun.estimators.rates import device_rates
from willitrun.kernels.training_speed import StepWork, step_seconds, step_work

HERE = Path(__file__).parent
ROWS = HERE / "training_speed.toml"
RECORD = HERE.parent / "catalogs" / "calibrations" / "llm-training.toml"
NF4_BYTES = 0.5
ADAMW_BYTES = 2 + 4 + 8
"""Gradient in bf16, master weight, two moments."""
SHARDS = 8
"""Ranks that share weights and states in the runs on several devices."""


def work_of(row: dict[str, Any]) -> StepWork:
    """Work of a row's step on one rank."""
    full, quantized = row["mode"] == "full-finetune", row["mode"] == "qlora"
    count = row["parameters"]
    shards = SHARDS if row["source"] in ("mpt", "torchtitan") else 1
    return step_work(
        row["active_parameters"],
        tokens=row["context"] * row["batch"],
        context=row["context"],
        layers=row["layers"],
        query_width=row["query_width"],
        trains_weights=full,
        recomputes=row["recomputes"],
        stored_bytes=count * (NF4_BYTES if quantized else 2),
        dequantized_parameters=count if quantized else 0,
        updated_bytes=count * ADAMW_BYTES / shards if full else 0,
    )


def efficiency_of(row: dict[str, Any]) -> float:
    """Share of the peak at which the predicted step takes the published time."""
    machine = describe_machine(row["device"])
    rates, _ = device_rates(machine.accelerators[0], machine)
    seconds = row["context"] * row["batch"] / row["tokens_per_s"]
    parts = step_seconds(
        work_of(row), flop_per_s=rates.fp16, bytes_per_s=rates.memory_bytes_per_s, efficiency=1.0
    )
    return float((parts[0] + parts[1]) / (seconds - parts[2] - parts[3]))


def main() -> None:
    """Fit and write."""
    rows = tomllib.loads(ROWS.read_text("utf-8"))["row"]
    found = by_device((row["device"], efficiency_of(row)) for row in rows)
    for device, values in found.items():
        print(
            f"{device:24} {len(values):3} rows, efficiency {min(values):.2f} to {max(values):.2f}, "
            f"median {statistics.median(values):.3f}"
        )
    ratios = [ratio for kept in left_out(found).values() for ratio in kept]
    best = central(found)
    medians = [statistics.median(values) / best for values in found.values()]
    low = min(float(np.quantile(ratios, 0.05)), *medians)
    high = max(float(np.quantile(ratios, 0.95)), *medians)
    inside = statistics.mean(low <= ratio <= high for ratio in ratios)
    errors = residual("training step", ratios)
    print(
        f"efficiency {best:.3f}, x{low:.2f} to x{high:.2f}, holds {inside:.0%}; seconds of devices left out: "
        f"median {errors['median']:.1%}, mean {errors['mean']:.1%}"
    )
    write_record(
        CalibrationRecord(
            id="llm-training",
            kind="llm-training",
            method="median over devices of the share of the tensor peak in published training runs; bounds from leaving devices out (accuracy.training_speed)",
            data_digest=digest(ROWS),
            n_rows=len(rows),
            n_configurations=len(rows),
            coefficients={"efficiency": best},
            levels={},
            intervals={"training_step_s": {"low": 1.0 / high, "high": 1.0 / low}},
            residuals=[errors],
            support={"devices": sorted(found)},
        ),
        RECORD,
        fitted=datetime.datetime.now(tz=datetime.UTC).date(),
    )


if __name__ == "__main__":
    main()
