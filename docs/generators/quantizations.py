"""Quantizations: block layouts and bits per weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generators.markup import Page, Section, page, table
from willitrun import Catalog

SECTION = Section("Quantizations", "quantizations", "Weight formats: block layouts and bits per weight")

HEAD = ("format", "kind", "block", "bits per weight", "exact", "id")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    yield page(
        "quantizations.md", ["# Quantizations", "", *table(HEAD, map(_row, catalog.quantizations.values()))]
    )


def _row(record: Any) -> list[object]:
    block, bits = "", record.nominal_bits or ""
    if record.block_weights and record.block_bytes:
        block = f"{record.block_weights} weights in {record.block_bytes} bytes"
        bits = f"{8 * record.block_bytes / record.block_weights:.4g}"
    return [record.name, record.kind, block, bits, record.exact, f"`{record.id}`"]
