"""Datasets: splits, classes, size on disk."""

from __future__ import annotations

from collections.abc import Iterator

from generators.links import terms
from generators.markup import Page, Section, page, prose, source_links, table
from willitrun import Catalog
from willitrun.units import format_bytes

SECTION = Section("Datasets", "datasets", "Counts, classes and size on disk")

HEAD = (
    ("dataset", "imagenet"), ("splits", "validation-set"), ("classes", ""), ("disk", "gib"), ("note", ""), ("sources", ""),
    ("id", ""),
)  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    rows = [
        [
            record.name,
            ", ".join(f"{name} {count:,}" for name, count in record.splits.items()),
            record.classes or "",
            format_bytes(record.disk) if record.disk else "",
            prose(record.note),
            source_links(record, catalog),
            f"`{record.id}`",
        ]
        for record in catalog.datasets.values()
    ]
    text = (
        "What a [model](models/index.md) is run over: `Workload(dataset=..., split=...)` makes a full pass of it, bounded by the device, "
        "by decoding and by disk."
    )
    yield page("datasets.md", ["# Datasets", "", text, "", *table(terms(HEAD, catalog), rows)])
