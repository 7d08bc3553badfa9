"""Pages and the Markdown that they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from willitrun import Catalog
from willitrun.expressions import render_text


@dataclass(frozen=True, slots=True)
class Page:
    """One generated page: its name under ``docs/catalog``, and its Markdown."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """How a family shows itself on the overview: its title, its first page, and one line about it."""

    title: str
    start: str
    about: str


def page(name: str, lines: Iterable[str]) -> Page:
    """A page from its lines."""
    return Page(name, "\n".join(lines))


def cell(text: object) -> str:
    """Text that can't break a table."""
    return (
        re.sub(r"(?<!\\)\|", r"\\|", str(text))
        .replace("\n", " ")
        .replace("<", "&lt;")
        .replace("\\&lt;", "&lt;")
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]


# What a reader would type: a flag, a call, a dotted or underscored name, a file, an environment variable.
_TYPED = re.compile(
    r"(?<![\w`/.-])(?:--?[a-z][\w-]*(?:=[\w.:/-]+)?|[A-Za-z_][\w.]*\([^()\s]*\)|[A-Za-z][\w.]*_[\w.]*\w|[A-Z][A-Z0-9]*_[A-Z0-9_]+(?:=\S*\w)?)"
)
_MARKUP = re.compile(r"[\\*$<|\[\]]")


def prose(text: str) -> str:
    """Plain prose as Markdown: nothing in it is taken for markup, and what one would type is set as code.

    >>> prose("memory_allocated climbs * <b> with --swa-full")
    '`memory_allocated` climbs \\\\* \\\\<b> with `--swa-full`'
    """
    parts, end = [], 0
    for match in _TYPED.finditer(text):
        parts += [_MARKUP.sub(r"\\\g<0>", text[end : match.start()]), f"`{match[0]}`"]
        end = match.end()
    return "".join([*parts, _MARKUP.sub(r"\\\g<0>", text[end:])])


def rendered(text: str, catalog: Catalog) -> str:
    """Prose of a record as Markdown, its expressions evaluated."""
    return prose(render_text(text, catalog))


def toctree(names: Iterable[str], *, depth: int = 1, hidden: bool = False) -> list[str]:
    """A list of pages below this one."""
    # A page below may hide its own list, which a deeper list above shows.
    shown = [":hidden:"] if hidden else [":includehidden:"] if depth > 1 else []
    options = [f":maxdepth: {depth}", *shown]
    return ["```{toctree}", *options, "", *names, "```"]


def link_text(text: str) -> str:
    """Text inside the brackets of a link."""
    return text.replace("[", "(").replace("]", ")").replace("|", "\\|")


def source_links(record: Any, catalog: Catalog) -> str:
    """Links to the sources of a record."""
    names = dict.fromkeys(citation.source for citations in record.cite.values() for citation in citations)
    return ", ".join(
        f"[{link_text(catalog.sources[name].title)}]({catalog.sources[name].url})"
        for name in names
        if name in catalog.sources
    )


def places(record: Any, statement: str, catalog: Catalog, indent: str = "") -> list[str]:
    """Where one statement was read; statements without a place of their own rest on the sources of the record."""
    found = [
        f"[{link_text(catalog.sources[citation.source].title)}]({catalog.sources[citation.source].url}), {prose(citation.at)}"
        for citation in record.cite.get(statement, ())
    ]
    return [f"{indent}Source: {'; '.join(found)}", ""] if found else []


def headline(word: str) -> str:
    """A category id as a title."""
    return word.replace("-", " ").capitalize()
