"""``willitrun card`` and ``willitrun changes``: what a device is, and what changed between two catalogs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from willitrun import load_catalog
from willitrun.cards import HardwareCard, hardware_card
from willitrun.catalog import Catalog, open_catalog
from willitrun.changes import ChangeDigest, digest_changes
from willitrun.cli import options as opt
from willitrun.cli.rendering import console
from willitrun.records.differences import RecordChange

__all__ = ["card", "changes", "render_change"]

CURRENT = "current"
MOST_LINES = 40
_ANSWERS = {
    "yes": "green",
    "tight": "yellow",
    "offload": "yellow",
    "slow": "yellow",
    "no": "red",
    "unknown": "magenta",
}


def card(
    device: Annotated[str, typer.Argument(help="An id, alias, or the name a driver reports.")],
    workload: Annotated[
        list[str] | None,
        typer.Option("--workload", help="Workload records to try; repeat it. Default: the common ones."),
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Specifications only: try no workload.")] = False,
    as_json: opt.JsonOption = False,
) -> None:
    """What a device is, with sources, by which names it goes, and what it runs."""
    found = hardware_card(device, workloads=[] if bare else workload)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        console().print(render_card(found))


def changes(
    old: Annotated[str, typer.Argument(help="A catalogs folder, a checkout, a wheel, or 'current'.")],
    new: Annotated[
        str, typer.Argument(help="The same; default: the catalogs of this installation.")
    ] = CURRENT,
    verdicts: Annotated[bool, typer.Option(help="Judge common workloads under both.")] = True,
    as_json: opt.JsonOption = False,
) -> None:
    """What changed between two versions of the catalogs: models, hardware, limits, verdicts."""
    digest = digest_changes(_catalog(old), _catalog(new), verdicts=verdicts)
    if as_json:
        typer.echo(digest.model_dump_json(indent=2))
    else:
        console().print(render_digest(digest))


def _catalog(place: str) -> Catalog:
    return load_catalog() if place == CURRENT else open_catalog(place)


def _grid(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    return table


def render_card(found: HardwareCard) -> RenderableType:
    """Specifications, names, workloads, doubts."""
    specs = _grid("Specifications")
    specs.add_column(no_wrap=True)
    specs.add_column(style="dim")
    for fact in found.facts:
        said = "; ".join(f"{source.title} ({source.basis})" for source in fact.sources)
        specs.add_row(fact.label, escape(fact.text), escape(said))
    names = _grid("Goes by")
    names.add_column()
    names.add_row("names", escape(", ".join(found.names)))
    if found.pci_ids:
        names.add_row("PCI ids", ", ".join(found.pci_ids))
    if found.confused_with:
        names.add_row("shares one with", escape(", ".join(found.confused_with)))
        names.add_row("told apart by", ", ".join(found.told_apart_by) or "nothing: detection asks back")
    parts: list[RenderableType] = [Text(found.name, style="bold"), specs, names]
    if found.chips:
        runs = _grid(f"Runs (assumed: {'; '.join(found.assumptions)})" if found.assumptions else "Runs")
        for _ in range(3):
            runs.add_column()
        for chip in found.chips:
            model = f"{chip.model} {chip.quantization or ''}".strip()
            runs.add_row(
                escape(chip.label),
                escape(model),
                Text(chip.answer, style=_ANSWERS.get(chip.answer, "")),
                escape(chip.why),
            )
        parts.append(runs)
    if found.measurements:
        parts.append(Text(f"{len(found.measurements)} catalogued measurements.", style="dim"))
    parts += [Text(f"Note: {flag}", style="dim") for flag in found.flags]
    return Group(*parts)


def render_change(change: RecordChange) -> str:
    """One line: what happened to a record."""
    head = f"{change.what:8} {change.kind}:{change.id}"
    if change.what != "changed":
        return f"{head}  {change.name}"
    fields = [f"{found.field}: {_short(found.old)} -> {_short(found.new)}" for found in change.fields]
    return f"{head}  {'; '.join(fields)}"


def _short(value: object) -> str:
    if value is None:
        return "absent"
    if isinstance(value, dict) and {"value", "unit"} == set(value):
        return f"{value['value']} {value['unit']}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def render_digest(digest: ChangeDigest) -> RenderableType:
    """Counts, then models, hardware, limits of runtimes and formats, knowledge, verdicts."""
    difference = digest.difference
    parts: list[RenderableType] = [Text(digest.summary(), style="bold")]
    groups = (
        ("Models", ("model", "checkpoint")),
        ("Hardware", ("accelerator", "host", "interconnect")),
        ("Limits: runtimes, formats, workloads", ("runtime", "quantization", "workload")),
        ("Calibrations and measurements", ("calibration", "measurement")),
        ("Knowledge and sources", ("dataset", "glossary", "troubleshooting", "reason", "source")),
    )
    for title, kinds in groups:
        found = difference.of_kind(*kinds)
        if not found:
            continue
        parts.append(Text(f"\n{title}: {len(found)}", style="bold"))
        for change in found[:MOST_LINES]:
            note = "  (sources only)" if change.sources_only else ""
            parts.append(Text(f"  {render_change(change)}{note}"))
        if len(found) > MOST_LINES:
            parts.append(Text(f"  and {len(found) - MOST_LINES} more (--json lists them)", style="dim"))
    if digest.verdicts:
        table = _grid("\nVerdicts")
        for _ in range(3):
            table.add_column()
        for verdict in digest.verdicts:
            table.add_row(
                f"{verdict.workload}, {verdict.model}", verdict.machine, verdict.old, f"-> {verdict.new}"
            )
        parts.append(table)
    return Group(*parts)
