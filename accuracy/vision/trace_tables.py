"""The tables of traces in ``catalogs/traces``: what of a trace is a row, and how rows become a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from willitrun.interop.tracing import OperatorTrace
from willitrun.kernels.operator_work import WORK_COLUMNS

__all__ = ["COUNTS", "KEYS", "TRACES", "class_rows", "counts", "write_table", "write_tables"]

TRACES = Path(__file__).resolve().parents[2] / "catalogs" / "traces"
"""Where the tables are."""

KEYS = ("arch", "image_size")
"""What a trace is found by; videos also by their frames."""

COUNTS = ("parameters", "buffers", "macs", "n_ops", "peak_elements", "peak_autocast_bytes")
"""Totals of a trace, in the order of the columns."""


def counts(trace: OperatorTrace) -> dict[str, int]:
    """Totals of a trace by column."""
    return {name: round(getattr(trace, name)) for name in COUNTS}


def class_rows(trace: OperatorTrace, key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per operator class, each beginning with what the trace is found by."""
    return [
        {**key, "class": name, **{column: round(value) for column, value in row.items()}}
        for name, row in trace.summary.items()
    ]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a table."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tables(
    name: str,
    columns: Sequence[str],
    heads: Iterable[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
    *,
    keys: Sequence[str] = KEYS,
    folder: Path = TRACES,
) -> None:
    """Write ``<name>-models.csv``, one row per trace, and ``<name>.csv``, one per trace and operator class."""
    write_table(folder / f"{name}-models.csv", columns, heads)
    write_table(folder / f"{name}.csv", (*keys, "class", *WORK_COLUMNS), rows)
