"""Write a calibration record as TOML."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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


def digest(*paths: Path) -> str:
    """Return the SHA-256 of files, in order."""
    state = hashlib.sha256()
    for path in paths:
        state.update(path.read_bytes())
    return "sha256:" + state.hexdigest()


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
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
    for row in record.residuals:
        lines += ["", "[[residuals]]", *(f"{k} = {_value(v)}" for k, v in row.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
