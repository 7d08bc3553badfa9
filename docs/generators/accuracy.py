"""Accuracy: the reports that ``make accuracy`` writes, as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from generators.markup import Page, Section, page, toctree
from willitrun import Catalog

SECTION = Section("Accuracy", "accuracy/index", "Prediction against measurement, out of sample")

REPORTS = Path(__file__).resolve().parents[2] / "accuracy"
INTRODUCTION = "Prediction against measurement, out of sample unless a table says otherwise."


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page per report, and their index."""
    names = []
    for file in sorted(REPORTS.glob("*/*.md")):
        # The report is the page of its part; what stands beside it has a page of its own.
        part = (
            file.parent.name if file.stem.lower() == "report" else f"{file.parent.name}-{file.stem.lower()}"
        )
        text = file.read_text("utf-8")
        title = [] if text.startswith("# ") else [f"# Accuracy of {part}", ""]
        yield page(f"accuracy/{part}.md", [*title, text])
        names.append(part)
    yield page("accuracy/index.md", ["# Accuracy", "", INTRODUCTION, "", *toctree(names)])
