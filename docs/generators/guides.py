"""Buyer guides, answered by the engine when the site is built: tables, a picture, date and assumptions."""

from __future__ import annotations

from collections.abc import Iterator

from generators.markup import Page, Section, page, rendered, table, toctree
from willitrun import Catalog
from willitrun.guides import answer_guide
from willitrun.interop.plot import guide_heat_map
from willitrun.records.guides import GuideReport
from willitrun.units import format_bytes

SECTION = Section(
    "Buyer guides", "guides/index", "Best GPU, laptop, Mac: computed, dated, with every assumption"
)


def pages(catalog: Catalog) -> Iterator[Page]:
    """A page and a picture per guide, and their index."""
    for guide in catalog.guides.values():
        report = answer_guide(guide, catalog=catalog)
        yield Page(f"guides/{guide.id}.svg", _svg(report))
        yield page(
            f"guides/{guide.id}.md",
            [
                f"# {guide.name}",
                "",
                f"**{guide.question}** {rendered(guide.introduction, catalog)}",
                "",
                f"*Computed {report.day} by willitrun from catalog {report.catalog_version}; `willitrun guide {guide.id}` "
                "computes it anew. Prices are left out: they change daily, and `willitrun recommend` takes yours.*",
                "",
                "## Where to start",
                "",
                *table(
                    ["workload", "least memory that is comfortable", "fastest", "most work per watt"],
                    [
                        [
                            workload,
                            machine,
                            report.fastest[workload],
                            report.frugal.get(workload, "no board power is published"),
                        ]
                        for workload, machine in report.least.items()
                    ],
                ),
                "",
                "## Everything at a glance",
                "",
                f"![{guide.question} Every workload on every machine, by tier.]({guide.id}.svg)",
                "",
                *_details(report),
                "",
                "## What was assumed",
                "",
                *(f"- {text}" for text in report.assumptions),
                "- Speeds are best estimates; their 90 % intervals are as wide as the [accuracy tables](../accuracy/index.md) say.",
                "- Power is the board power of the data sheet, not a measurement.",
            ],
        )
    yield page(
        "guides/index.md",
        [
            "# Buyer guides",
            "",
            "Answers of the engine, not opinions: which machine runs which workload, and how fast. Each guide is a record of "
            "machines and workloads; the numbers are computed when this site is built.",
            "",
            *toctree(catalog.guides),
        ],
    )


def _svg(report: GuideReport) -> str:
    import io

    out = io.StringIO()
    guide_heat_map(report).save(out, format="svg")
    return out.getvalue()


def _details(report: GuideReport) -> Iterator[str]:
    for workload in dict.fromkeys(row.workload for row in report.rows_):
        rows = [row for row in report.rows_ if row.workload == workload]
        yield f"## {workload}"
        yield ""
        yield f"{rows[0].model}{' at ' + rows[0].quantization if rows[0].quantization else ''}."
        yield ""
        yield from table(
            ["machine", "tier", "speed", "memory needed", "board power"],
            [
                [
                    row.machine,
                    row.tier,
                    row.cell().partition(", ")[2],
                    format_bytes(row.total_bytes) if row.total_bytes else "",
                    f"{row.tdp:.0f} W" if row.tdp else "",
                ]
                for row in rows
            ],
        )
        yield ""
