"""Fit what share of its limit a board draws while it works, by what binds it.

Usage: ``python -m accuracy.power`` prints the rows and writes ``catalogs/calibrations/power.toml``.

A share is a median of medians per device. The interval comes from leaving devices out: the widest ratios seen between a board and what the others say, since four boards allow no
quantile. No board draws more than its limit for long.
"""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

from accuracy.devices_out import by_device, central, left_out, residual
from accuracy.vision.record import CalibrationRecord, digest, write_record
from willitrun import Workload, describe_machine, estimate_speed

HERE = Path(__file__).parent
ROWS = HERE / "power.toml"
RECORD = HERE.parent / "catalogs" / "calibrations" / "power.toml"
_LOAD = ("concurrency", "prompt_tokens", "output_tokens", "batch_size", "steps")


def share_of(row: dict[str, Any]) -> tuple[str, str, float]:
    """Bound that the engine names, device, and watts over the limits of the boards."""
    count = row.get("count", 1)
    machine = describe_machine([row["machine"]] * count)
    limit = sum(device.accelerator.tdp or 0.0 for device in machine.accelerators)
    speed = estimate_speed(
        row["model"],
        machine,
        Workload(**{name: row[name] for name in _LOAD if name in row}),
        quantization=row.get("quantization"),
        runtime=row["runtime"],
        placement="tensor" if count > 1 else None,
    )
    return str(speed.bound), row["machine"], row["watts"] / limit


def main() -> None:
    """Fit and write."""
    rows = tomllib.loads(ROWS.read_text("utf-8"))["row"]
    found = [share_of(row) for row in rows]
    for row, (bound, device, value) in zip(rows, found, strict=True):
        print(f"{row['model']:45} {device:22} {bound:17} {value:6.2f} of its limit")
    shares = by_device((device, value) for _, device, value in found)
    ratios = [ratio for kept in left_out(shares).values() for ratio in kept]
    best = central(shares)
    low, high = best * min(ratios), min(1.0, best * max(ratios))
    print(f"share {best:.3f}, {low:.3f} to {high:.3f}")
    write_record(
        CalibrationRecord(
            id="power",
            kind="power",
            method="median over devices of published board power over the board's limit; bounds from leaving devices out (accuracy.power)",
            data_digest=digest(ROWS),
            n_rows=len(rows),
            n_configurations=len(rows),
            coefficients={"share": best, "share_low": low, "share_high": high},
            levels={},
            intervals={},
            residuals=[residual("board power", ratios)],
            support={"devices": sorted(shares)},
        ),
        RECORD,
        fitted=datetime.datetime.now(tz=datetime.UTC).date(),
    )


if __name__ == "__main__":
    main()
