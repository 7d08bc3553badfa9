"""Models: one page per task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from generators.markup import Page, Section, page, table, toctree
from willitrun import Catalog
from willitrun.units import format_count

SECTION = Section("Models", "models/index", "Architectures by task")

HEAD = ("model", "parameters", "active", "context", "licence", "id")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page per task, and their index."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for record in catalog.models.values():
        groups[record.task].append(record)
    for task, records in groups.items():
        ordered = sorted(records, key=lambda record: (record.family, record.name))
        yield page(f"models/{task}.md", [f"# {task}", "", *table(HEAD, map(_row, ordered))])
    counts = f"{len(catalog.models)} architectures."
    yield page("models/index.md", ["# Models", "", counts, "", *toctree(sorted(groups))])


def _row(record: Any) -> list[object]:
    transformer = record.transformer
    longest = transformer.max_position_embeddings if transformer else None
    return [
        record.name,
        format_count(record.parameters) if record.parameters else "",
        format_count(record.active_parameters) if record.active_parameters else "",
        f"{longest:,}" if longest else "",
        record.licence or "",
        f"`{record.id}`",
    ]
