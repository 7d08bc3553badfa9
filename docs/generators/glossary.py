"""Glossary: one page per term, one per category, and an index by letter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from generators.markup import (
    Page,
    Section,
    headline,
    link_text,
    page,
    places,
    rendered,
    source_links,
    table,
    toctree,
)
from willitrun import Catalog
from willitrun.records.knowledge import GlossaryEntry

SECTION = Section(
    "Glossary", "glossary/index", "Terms of the field, each with an example that the engine computes"
)

PARTS = (
    ("definition", ""),
    ("explanation", "## What it is"),
    ("example", "## Example"),
    ("workflow", "## In a workflow"),
)


def pages(catalog: Catalog) -> Iterator[Page]:
    """All pages of the glossary."""
    groups: defaultdict[str, list[GlossaryEntry]] = defaultdict(list)
    for entry in catalog.glossary.values():
        groups[entry.category].append(entry)
        yield page(f"glossary/{entry.id}.md", _term(entry, catalog))
    for category, entries in groups.items():
        entries.sort(key=lambda entry: entry.name.lower())
        rows = [[f"[{link_text(e.name)}]({e.id}.md)", rendered(e.definition, catalog)] for e in entries]
        yield page(
            f"glossary/in-{category}.md",
            [
                f"# {headline(category)}",
                "",
                *table(["term", "in one breath"], rows),
                "",
                *toctree([entry.id for entry in entries], hidden=True),
            ],
        )
    yield page("glossary/index.md", _index(groups))


def _index(groups: dict[str, list[GlossaryEntry]]) -> list[str]:
    everything = sorted((e for entries in groups.values() for e in entries), key=lambda e: e.name.lower())
    letters: defaultdict[str, list[str]] = defaultdict(list)
    for entry in everything:
        first = entry.name[0].upper()
        letters[first if first.isalpha() else "#"].append(f"[{link_text(entry.name)}]({entry.id}.md)")
    lines = [
        "# Glossary",
        "",
        f"{len(everything)} terms in {len(groups)} categories. Numbers in the examples are computed by the engine when this "
        'site is built. In Python: `load_catalog().glossary["kv-cache"]`; in a terminal: `willitrun glossary kv-cache`.',
        "",
        *toctree(f"in-{category}" for category in sorted(groups)),
        "",
        "## All terms",
        "",
    ]
    for letter, links in letters.items():
        lines += [f"**{letter}** " + ", ".join(links), ""]
    return lines


def _term(entry: GlossaryEntry, catalog: Catalog) -> list[str]:
    lines = [f"(glossary-{entry.id})=", f"# {entry.name}", ""]
    if entry.aliases:
        lines += [f"*Also:* {', '.join(entry.aliases)}", ""]
    for field, title in PARTS:
        text = getattr(entry, field)
        if text:
            lines += [title, ""] if title else []
            lines += [rendered(text, catalog), "", *places(entry, field, catalog)]
    facts = [f"- Category: [{headline(entry.category)}](in-{entry.category}.md)"]
    if entry.fields:
        facts.append("- Carried by: " + ", ".join(f"`{field}`" for field in entry.fields))
    if entry.related:
        links = (f"[{link_text(catalog.glossary[name].name)}]({name}.md)" for name in entry.related)
        facts.append("- Related: " + ", ".join(links))
    if entry.goes_wrong:
        links = (
            f"[{link_text(catalog.troubleshooting[name].name)}](../troubleshooting/{name}.md)"
            for name in entry.goes_wrong
        )
        facts.append("- What goes wrong: " + ", ".join(links))
    facts.append(f"- Sources: {source_links(entry, catalog)}")
    return [*lines, "## See also", "", *facts]
