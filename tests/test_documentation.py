"""The documentation names everything public, and the pages that are generated can be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import willitrun

DOCS = Path(__file__).resolve().parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not part of this distribution", allow_module_level=True)


def test_every_public_name_is_documented() -> None:
    text = (DOCS / "reference" / "api.md").read_text("utf-8")
    named = set(re.findall(r"auto(?:function|class):: willitrun\.(\w+)", text))
    assert named == set(willitrun.__all__) - {"__version__"}
    for name in named:
        assert getattr(willitrun, name).__doc__, name


def test_every_page_is_in_a_section() -> None:
    for folder in ("tutorials", "how-to", "explanation", "reference"):
        assert (DOCS / folder / "index.md").is_file()


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The families of generated pages, importable."""
    monkeypatch.syspath_prepend(DOCS)


@pytest.mark.usefixtures("generators")
def test_every_report_has_a_page_of_its_own() -> None:
    from generators.accuracy import REPORTS, pages

    names = [page.name for page in pages(willitrun.load_catalog())]
    assert len(set(names)) == len(names) == len(list(REPORTS.glob("*/*.md"))) + 1


@pytest.mark.usefixtures("generators")
def test_the_page_of_a_term_shows_where_its_statements_were_read() -> None:
    from generators.glossary import pages
    from generators.markup import prose

    catalog = willitrun.load_catalog()
    texts = {page.name: page.text for page in pages(catalog)}
    read = [
        (entry.id, field, citation)
        for entry in catalog.glossary.values()
        for field, citations in entry.cite.items()
        if field != "*"
        for citation in citations
    ]
    assert read
    for name, field, citation in read:
        assert getattr(catalog.glossary[name], field), (name, field)
        assert citation.at, (name, field)
        shown = f"({catalog.sources[citation.source].url}), {prose(citation.at)}"
        assert shown in texts[f"glossary/{name}.md"], (name, field)


@pytest.mark.usefixtures("generators")
def test_every_kernel_is_on_a_method_page() -> None:
    from generators.methods import ESTIMATORS

    shown = {kernel for _, _, kernels, *_ in ESTIMATORS for kernel in kernels}
    existing = {path.stem for path in (Path(willitrun.__file__).parent / "kernels").glob("*.py")} - {
        "__init__"
    }
    assert shown <= existing
    # What only packs columns, calls numpy or joins the parts of others has no equation of its own.
    assert existing - shown <= {
        "columns", "elementwise", "graph_block", "llm_block", "llm_ground", "llm_runtime", "operator_totals", "operator_work",
    }  # fmt: skip
    fitted = {name for _, _, _, names, _ in ESTIMATORS for name in names}
    assert fitted == set(willitrun.load_catalog().calibrations)
