"""Write a calibration record as TOML."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from willitrun.kernels.llm_levels import classify_memory

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class CalibrationRecord:
    """What a fit ships: coefficients, levels, intervals and learnt residuals, never the data."""

    id: str
    kind: str
    method: str
    data_digest: str
    n_rows: int
    n_configurations: int
    coefficients: dict[str, float]
    levels: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, float]]
    residuals: list[dict[str, Any]] = field(default_factory=list)
    support: dict[str, list[str]] = field(default_factory=dict)


def digest(*paths: Path) -> str:
    """Return the SHA-256 of files, in order."""
    state = hashlib.sha256()
    for path in paths:
        state.update(path.read_bytes())
    return "sha256:" + state.hexdigest()


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, float):
        return f"{value:.6g}" if "." in f"{value:.6g}" or "e" in f"{value:.6g}" else f"{value:.1f}"
    return json.dumps(value)


def write_record(record: CalibrationRecord, path: Path, *, fitted: datetime.date) -> None:
    """Write the record; keys are sorted so that a refit reads as a diff."""
    lines = [f"{name} = {_value(getattr(record, name))}" for name in ("id", "kind", "method")]
    lines += [f"fitted = {fitted.isoformat()}"]
    lines += [
        f"{name} = {_value(getattr(record, name))}" for name in ("data_digest", "n_rows", "n_configurations")
    ]
    lines += ["", "[coefficients]"]
    lines += [f"{json.dumps(key)} = {_value(value)}" for key, value in sorted(record.coefficients.items())]
    for name, table in (("levels", record.levels), ("intervals", record.intervals)):
        for key, row in sorted(table.items()):
            inner = ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in row.items())
            if f"[{name}]" not in lines:
                lines += ["", f"[{name}]"]
            lines.append(f"{json.dumps(key)} = {{ {inner} }}")
    if record.support:
        lines += ["", "[support]", *(f"{key} = {json.dumps(names)}" for key, names in record.support.items())]
    for row in record.residuals:
        lines += ["", "[[residuals]]", *(f"{k} = {_value(v)}" for k, v in row.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def support_of(frame: pd.DataFrame, hardware: pd.DataFrame) -> dict[str, list[str]]:
    """What the fit has seen: devices and families of the dense tables, classes of every device with 20 rows.

    Only devices that were swept over whole families count as seen: a dozen rows of a lab say little of a device.
    """
    swept = frame[frame["source"] == "timm"]
    counts = frame["device_id"].value_counts()
    known = [name for name in counts.index if counts[name] >= 20 and name in hardware.index]
    classes = {
        f"{str(hardware.loc[name, 'vendor']).lower()}/{classify_memory(str(hardware.loc[name, 'mem_type']))}"
        for name in known
    }
    return {
        "devices": sorted(
            name if name in hardware.index else f"host:{name}" for name in swept["device_id"].unique()
        ),
        "families": sorted(str(name) for name in swept["family"].dropna().unique()),
        "classes": sorted(classes | {"cpu/ddr"}),
    }
