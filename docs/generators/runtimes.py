"""Runtimes: what they read and where they run."""

from __future__ import annotations

from collections.abc import Iterator

from generators.markup import Page, Section, page, table
from willitrun import Catalog

SECTION = Section("Runtimes", "runtimes", "What reads which format, and where it runs")

HEAD = ("runtime", "reads", "back ends", "offload to host", "id")


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    rows = (
        [runtime.name, ", ".join(runtime.containers), ", ".join(runtime.backends), runtime.cpu_offload, f"`{runtime.id}`"]
        for runtime in catalog.runtimes.values()
    )  # fmt: skip
    yield page("runtimes.md", ["# Runtimes", "", *table(HEAD, rows)])
