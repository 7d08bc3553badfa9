"""The overview of all generated pages: one card per family."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from generators.markup import Page, Section, page, toctree
from generators.registry import families
from willitrun import Catalog

# What people look for first comes first; a family that is not named here follows by title.
ORDER = (
    "Buyer guides",
    "Glossary",
    "Troubleshooting",
    "Hardware",
    "Models",
    "Runtimes",
    "Quantizations",
    "Datasets",
)


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    sections = [
        section
        for name in families()
        if isinstance(section := getattr(import_module(f"generators.{name}"), "SECTION", None), Section)
    ]
    sections.sort(key=lambda s: (ORDER.index(s.title) if s.title in ORDER else len(ORDER), s.title))
    cards = []
    for section in sections:
        cards += [
            f":::{{grid-item-card}} {section.title}",
            f":link: {section.start}",
            ":link-type: doc",
            "",
            section.about,
            ":::",
            "",
        ]
    yield page(
        "index.md",
        [
            "# Catalog",
            "",
            f"Generated from catalog {catalog.version} (digest `{catalog.digest[:12]}`) and from the engine that reads it. "
            "The same records are at hand offline: `willitrun.load_catalog()`.",
            "",
            "::::{grid} 1 2 2 3",
            ":gutter: 3",
            "",
            *cards,
            "::::",
            "",
            *toctree([section.start for section in sections], hidden=True),
        ],
    )
