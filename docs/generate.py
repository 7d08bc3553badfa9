"""Write the catalog pages under ``docs/_generated`` from the records: they can't drift from the data."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from willitrun import load_catalog
from willitrun.expressions import render_text
from willitrun.records.knowledge import GlossaryEntry, TroubleshootingEntry
from willitrun.units import format_bytes, format_count, format_rate

OUT = Path(__file__).resolve().parent / "_generated"
CATALOG = load_catalog()


def write(name: str, lines: Iterable[str]) -> None:
    """One page."""
    file = OUT / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cell(text: object) -> str:
    """Text that can't break a table."""
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def table(head: list[str], rows: Iterable[list[object]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]


def sources(record: Any) -> str:
    """Links to the sources of a record."""
    names = dict.fromkeys(citation.source for citations in record.cite.values() for citation in citations)
    return ", ".join(
        f"[{CATALOG.sources[name].title}]({CATALOG.sources[name].url})"
        for name in names
        if name in CATALOG.sources
    )


def glossary() -> None:
    """One page per category, terms with anchors."""
    groups: defaultdict[str, list[GlossaryEntry]] = defaultdict(list)
    for entry in CATALOG.glossary.values():
        groups[entry.category].append(entry)
    for category, entries in groups.items():
        lines = [f"# {category.replace('-', ' ').capitalize()}", ""]
        for entry in sorted(entries, key=lambda item: item.name.lower()):
            lines += [
                f"(glossary-{entry.id})=",
                f"## {entry.name}",
                "",
                render_text(entry.definition, CATALOG),
                "",
            ]
            lines += [render_text(entry.explanation, CATALOG), ""]
            if entry.example:
                lines += [f"**Example.** {render_text(entry.example, CATALOG)}", ""]
            if entry.workflow:
                lines += [f"**In a workflow.** {render_text(entry.workflow, CATALOG)}", ""]
            if entry.fields:
                lines += ["Carried by: " + ", ".join(f"`{field}`" for field in entry.fields), ""]
            if entry.related:
                lines += [
                    "Related: "
                    + ", ".join(f"[{CATALOG.glossary[i].name}](#glossary-{i})" for i in entry.related),
                    "",
                ]
            if entry.goes_wrong:
                links = ", ".join(
                    f"[{CATALOG.troubleshooting[i].name}](#troubleshooting-{i})" for i in entry.goes_wrong
                )
                lines += [f"What goes wrong: {links}", ""]
            lines += [f"Sources: {sources(entry)}", ""]
        write(f"glossary/{category}.md", lines)
    index = ["# Glossary", "", f"{len(CATALOG.glossary)} terms; numbers in examples are computed by the engine.", "",
             "```{toctree}", ":maxdepth: 1", "", *sorted(groups), "```"]  # fmt: skip
    write("glossary/index.md", index)


def troubleshooting() -> None:
    """One page per category."""
    groups: defaultdict[str, list[TroubleshootingEntry]] = defaultdict(list)
    for entry in CATALOG.troubleshooting.values():
        groups[entry.category].append(entry)
    for category, entries in groups.items():
        lines = [f"# {category.replace('-', ' ').capitalize()}", ""]
        for entry in sorted(entries, key=lambda item: item.name.lower()):
            lines += [
                f"(troubleshooting-{entry.id})=",
                f"## {entry.name}",
                "",
                f"*{entry.severity}.* {render_text(entry.summary, CATALOG)}",
                "",
            ]
            for cause in entry.causes:
                check = f" Check: {cause.check}" if cause.check else ""
                command = f" `{cause.command}`" if cause.command else ""
                lines.append(f"- **Cause.** {cause.cause}{check}{command}")
            for fix in entry.fixes:
                command = f" `{fix.command}`" if fix.command and "\n" not in fix.command else ""
                effect = f" {render_text(fix.effect, CATALOG)}" if fix.effect else ""
                lines.append(f"- **Fix.** {render_text(fix.fix, CATALOG)}{command}{effect}")
            lines += [f"- **Does not help.** {end}" for end in entry.dead_ends]
            lines += ["", f"Sources: {sources(entry)}", ""]
        write(f"troubleshooting/{category}.md", lines)
    index = ["# Troubleshooting", "", f"{len(CATALOG.troubleshooting)} failures; `willitrun diagnose log.txt` finds them in a log.", "",
             "```{toctree}", ":maxdepth: 1", "", *sorted(groups), "```"]  # fmt: skip
    write("troubleshooting/index.md", index)


def hardware() -> None:
    """One page per vendor, and the hosts."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for record in CATALOG.accelerators.values():
        groups[record.vendor].append(record)
    head = [
        "device",
        "memory",
        "bandwidth",
        "FP16 tensor (FP32 acc.)",
        "INT8",
        "power",
        "basis of bandwidth",
        "id",
    ]
    for vendor, records in groups.items():
        rows: list[list[object]] = []
        for record in records:
            basis = record.citations("memory_bandwidth")
            rows.append([
                record.name,
                format_bytes(record.memory_marketed or record.memory) if record.memory_marketed or record.memory else "shared",
                format_rate(record.memory_bandwidth, "B/s") if record.memory_bandwidth else "",
                format_rate(record.peaks.fp16_tensor, "FLOP/s") if record.peaks.fp16_tensor else "",
                format_rate(record.peaks.int8, "OP/s") if record.peaks.int8 else "",
                f"{record.tdp:.0f} W" if record.tdp else "",
                basis[0].basis if basis and record.memory_bandwidth else "",
                f"`{record.id}`",
            ])  # fmt: skip
        write(
            f"hardware/{vendor}.md",
            [f"# {vendor.upper() if len(vendor) <= 3 else vendor.capitalize()}", "", *table(head, rows)],
        )
    hosts = [
        [h.name, format_rate(h.memory_bandwidth, "B/s") if h.memory_bandwidth else "", f"`{h.id}`"]
        for h in CATALOG.hosts.values()
    ]
    write("hardware/hosts.md", ["# Hosts", "", *table(["platform", "memory bandwidth", "id"], hosts)])
    write("hardware/index.md", ["# Hardware", "", f"{len(CATALOG.accelerators)} accelerators, {len(CATALOG.hosts)} host platforms.", "",
                                "```{toctree}", ":maxdepth: 1", "", *sorted(groups), "hosts", "```"])  # fmt: skip


def models() -> None:
    """One page per task."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for record in CATALOG.models.values():
        groups[record.task].append(record)
    for task, records in groups.items():
        rows: list[list[object]] = [
            [
                record.name,
                format_count(record.parameters) if record.parameters else "",
                format_count(record.active_parameters) if record.active_parameters else "",
                f"{record.transformer.max_position_embeddings:,}"
                if record.transformer and record.transformer.max_position_embeddings
                else "",
                record.licence or "",
                f"`{record.id}`",
            ]
            for record in sorted(records, key=lambda item: (item.family, item.name))
        ]
        write(
            f"models/{task}.md",
            [f"# {task}", "", *table(["model", "parameters", "active", "context", "licence", "id"], rows)],
        )
    write(
        "models/index.md",
        [
            "# Models",
            "",
            f"{len(CATALOG.models)} architectures.",
            "",
            "```{toctree}",
            ":maxdepth: 1",
            "",
            *sorted(groups),
            "```",
        ],
    )


def small_pages() -> None:
    """Runtimes, quantizations, datasets, sources."""
    write("runtimes.md", ["# Runtimes", "", *table(
        ["runtime", "reads", "back ends", "offload to host", "id"],
        ([r.name, ", ".join(r.containers), ", ".join(r.backends), r.cpu_offload, f"`{r.id}`"] for r in CATALOG.runtimes.values()),
    )])  # fmt: skip
    write("quantizations.md", ["# Quantizations", "", *table(
        ["format", "kind", "block", "bits per weight", "exact", "id"],
        ([q.name, q.kind, f"{q.block_weights} weights in {q.block_bytes} bytes" if q.block_weights else "",
          f"{8 * q.block_bytes / q.block_weights:.4g}" if q.block_weights and q.block_bytes else q.nominal_bits or "", q.exact, f"`{q.id}`"]
         for q in CATALOG.quantizations.values()),
    )])  # fmt: skip
    write("datasets.md", ["# Datasets", "", *table(
        ["dataset", "splits", "classes", "disk", "id"],
        ([d.name, ", ".join(f"{k} {v:,}" for k, v in d.splits.items()), d.classes or "", format_bytes(d.disk) if d.disk else "", f"`{d.id}`"]
         for d in CATALOG.datasets.values()),
    )])  # fmt: skip
    write("sources.md", ["# Sources", "", f"{len(CATALOG.sources)} sources.", "", *table(
        ["source", "publisher", "kind", "licence"],
        ([f"[{s.title.replace('[', '(').replace(']', ')')}]({s.url})", s.publisher, s.kind, s.licence or ""] for s in CATALOG.sources.values()),
    )])  # fmt: skip


def accuracy() -> None:
    """The reports that ``make accuracy`` writes, as they are."""
    folder = Path(__file__).resolve().parent.parent / "accuracy"
    names = []
    for part in ("memory", "speed", "vision"):
        for file in sorted((folder / part).glob("*.md")):
            text = file.read_text("utf-8")
            title = [] if text.startswith("# ") else [f"# Accuracy of {part}", ""]
            write(f"accuracy/{part}.md", [*title, text])
            names.append(part)
    lines = [
        "# Accuracy",
        "",
        "Prediction against measurement, out of sample unless a table says otherwise.",
        "",
    ]
    write("accuracy/index.md", [*lines, "```{toctree}", ":maxdepth: 1", "", *names, "```"])


def main() -> None:
    """All pages."""
    shutil.rmtree(OUT, ignore_errors=True)
    glossary()
    troubleshooting()
    hardware()
    models()
    small_pages()
    accuracy()


if __name__ == "__main__":
    main()
