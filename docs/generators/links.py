"""Links between the generated pages: to terms, troubleshooting, sources, measurements and directories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from generators.markup import link_text
from willitrun import Catalog


def term(name: str, text: str, catalog: Catalog, *, up: int = 0) -> str:
    """A link to a glossary term; a term that does not exist is an error of the page, not of the reader."""
    return f"[{link_text(text)}]({'../' * up}glossary/{catalog.glossary[name].id}.md)"


def terms(head: Sequence[tuple[str, str]], catalog: Catalog, *, up: int = 0) -> list[str]:
    """Heads of a table: texts, those with a term as links to it."""
    return [term(name, text, catalog, up=up) if name else text for text, name in head]


def cited(record: Any, field: str, catalog: Catalog) -> str:
    """Where a fact was read: a link to the source, under the basis of the value."""
    citations = record.citations(field)
    return ", ".join(
        f"[{citation.basis}]({catalog.sources[citation.source].url})"
        for citation in citations[:2]
        if citation.source in catalog.sources
    )


@lru_cache(maxsize=4)
def measured(catalog: Catalog, field: str) -> Counter[str]:
    """How many measurements name each accelerator, model, runtime or quantization."""
    return Counter(str(catalog.measurements.raw(name).get(field, "")) for name in catalog.measurements)


def measured_link(record: Any, field: str, catalog: Catalog, *, up: int = 0) -> str:
    """A link to the measurements of a record, with their number; empty where there are none."""
    count = measured(catalog, field)[record.id]
    return f"[{count}]({'../' * up}measurements/index.md)" if count else ""


def listed(texts: Iterable[str]) -> str:
    """Texts in one cell."""
    return ", ".join(text for text in texts if text)
