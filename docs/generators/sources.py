"""Sources: where facts were read, under which licence, and how much rests on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from generators.markup import Page, Section, headline, link_text, page, table
from willitrun import Catalog
from willitrun.catalog.upkeep import SourceUse, review_catalog

SECTION = Section("Sources", "sources", "Where every fact was read, under which licence")

HEAD = ("source", "publisher", "licence", "read on", "facts", "alone", "records", "id")
PAGES = {
    "accelerator": "hardware/index.md", "host": "hardware/hosts.md", "interconnect": "hardware/links.md",
    "model": "models/index.md", "checkpoint": "models/index.md", "quantization": "quantizations.md", "runtime": "runtimes.md",
    "dataset": "datasets.md", "glossary": "glossary/index.md", "troubleshooting": "troubleshooting/index.md",
}  # fmt: skip


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page: a table per kind of source."""
    report = review_catalog(catalog)
    kinds: defaultdict[str, list[SourceUse]] = defaultdict(list)
    for use in report.sources:
        kinds[use.kind].append(use)
    lines = [
        "# Sources",
        "",
        f"{len(report.sources)} sources carry {sum(report.facts.values()):,} facts; {sum(report.single_source.values()):,} of them rest on "
        "one source. *Facts* counts those that cite a source, *alone* those that nothing else supports. Blogs and shops are no sources. "
        "`willitrun catalog sources ID` lists the records that rest on one; `willitrun catalog report` what needs another look.",
        "",
    ]
    for kind, uses in kinds.items():
        lines += [f"## {headline(kind)}", "", *table(HEAD, map(_row, uses)), ""]
    yield page("sources.md", lines)


def _row(use: SourceUse) -> list[object]:
    counts: defaultdict[str, int] = defaultdict(int)
    for name in use.records:
        counts[name.partition(":")[0]] += 1
    records = ", ".join(
        f"[{count} {kind}]({PAGES[kind]})" if kind in PAGES else f"{count} {kind}"
        for kind, count in counts.items()
    )
    return [
        f"[{link_text(use.title)}]({use.url})",
        use.publisher,
        use.licence or "",
        use.retrieved,
        use.facts,
        use.alone,
        records,
        f"`{use.id}`",
    ]
