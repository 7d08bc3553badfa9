"""Sources: where facts were read, under which licence."""

from __future__ import annotations

from collections.abc import Iterator

from generators.markup import Page, Section, link_text, page, table
from willitrun import Catalog

SECTION = Section("Sources", "sources", "Where every fact was read, under which licence")

HEAD = ("source", "publisher", "kind", "licence")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    rows = (
        [f"[{link_text(source.title)}]({source.url})", source.publisher, source.kind, source.licence or ""]
        for source in catalog.sources.values()
    )
    yield page("sources.md", ["# Sources", "", f"{len(catalog.sources)} sources.", "", *table(HEAD, rows)])
