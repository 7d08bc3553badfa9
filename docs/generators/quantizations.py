"""Quantizations: block layouts and bits per weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generators.links import listed, measured_link, terms
from generators.markup import Page, Section, link_text, page, source_links, table
from willitrun import Catalog

SECTION = Section("Quantizations", "quantizations", "Weight formats: block layouts and bits per weight")

HEAD = (
    ("format", "quantization"), ("kind", ""), ("block", "group-size"), ("bits per weight", "bits-per-weight"), ("exact", ""),
    ("read by", "runtime-engine"), ("sources", ""), ("measured", ""), ("id", ""),
)  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    readers = {record.id: _readers(record, catalog) for record in catalog.quantizations.values()}
    rows = [_row(record, readers[record.id], catalog) for record in catalog.quantizations.values()]
    yield page(
        "quantizations.md",
        [
            "# Quantizations",
            "",
            "How weights are stored. A mix stores different tensors in different block formats; *exact* says that the layout alone gives "
            "the size of a file to the byte. Which [runtime](runtimes.md) reads it decides what it is worth on a "
            "[device](hardware/index.md).",
            "",
            *table(terms(HEAD, catalog), rows),
        ],
    )


def _readers(record: Any, catalog: Catalog) -> list[str]:
    return [
        f"[{link_text(runtime.name)}](runtimes.md)"
        for runtime in catalog.runtimes.values()
        if record.id in runtime.formats
        or (not runtime.formats and set(record.container) & set(runtime.containers))
    ][:4]


def _row(record: Any, readers: list[str], catalog: Catalog) -> list[object]:
    block, bits = listed(record.mix_of), record.nominal_bits or ""
    if record.block_weights and record.block_bytes:
        block = f"{record.block_weights} weights in {record.block_bytes} bytes"
        bits = f"{8 * record.block_bytes / record.block_weights:.4g}"
    name = (
        f"[{link_text(record.name)}](glossary/{record.id}.md)"
        if record.id in catalog.glossary
        else record.name
    )
    return [
        name,
        record.kind,
        block,
        bits,
        record.exact,
        listed(readers),
        source_links(record, catalog),
        measured_link(record, "quantization", catalog),
        f"`{record.id}`",
    ]
