"""Datasets: splits, classes, size on disk."""

from __future__ import annotations

from collections.abc import Iterator

from generators.markup import Page, Section, page, table
from willitrun import Catalog
from willitrun.units import format_bytes

SECTION = Section("Datasets", "datasets", "Counts, classes and size on disk")

HEAD = ("dataset", "splits", "classes", "disk", "id")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    rows = (
        [
            record.name,
            ", ".join(f"{name} {count:,}" for name, count in record.splits.items()),
            record.classes or "",
            format_bytes(record.disk) if record.disk else "",
            f"`{record.id}`",
        ]
        for record in catalog.datasets.values()
    )
    yield page("datasets.md", ["# Datasets", "", *table(HEAD, rows)])
