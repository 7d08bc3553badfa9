"""``willitrun catalog ...``: check, build, new, schema, find, show, diff, sources, report."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from willitrun.catalog import load_catalog, open_catalog
from willitrun.catalog.checking import check_catalog
from willitrun.catalog.indexing import build_index
from willitrun.catalog.layout import KINDS, record_class
from willitrun.catalog.upkeep import STALE_DAYS, review_catalog
from willitrun.cli.directory_commands import render_change
from willitrun.cli.draft_commands import draft_app
from willitrun.cli.rendering import console, report_error
from willitrun.errors import WillItRunError

__all__ = ["catalog_app"]

catalog_app = typer.Typer(help="The data: check it, build its index, look things up.", no_args_is_help=True)
catalog_app.add_typer(draft_app, name="new")

JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@catalog_app.command()
def check() -> None:
    """Validate every record, reference and citation, and the freshness of the index."""
    report = check_catalog(load_catalog())
    out = console()
    for line in report.problems:
        out.print(escape(line), style="red", soft_wrap=True)
    counts = ", ".join(f"{count} {KINDS[kind].attribute}" for kind, count in report.counts.items() if count)
    out.print(escape(counts))
    out.print(f"{report.cited_facts} of {report.facts} facts cited; by basis: {dict(report.by_basis)}")
    for fact in ("accelerator.memory_bandwidth", "accelerator.peaks"):
        out.print(f"{fact}: {report.two_sources[fact]} of {report.stated[fact]} have a second source")
    out.print("sound" if report.sound else f"{len(report.problems)} problems", style="bold")
    raise typer.Exit(0 if report.sound else 1)


@catalog_app.command()
def build() -> None:
    """Regenerate the look-up index beside the authored files."""
    root = load_catalog().root
    if not isinstance(root, Path):
        report_error("the index is built in a checkout, not in an installed package")
        raise typer.Exit(2)
    try:
        changed = build_index(root)
    except WillItRunError as error:
        report_error(error)
        raise typer.Exit(1) from None
    sys.stdout.write(f"{len(changed)} index files changed\n")


@catalog_app.command()
def schema(kind: Annotated[str, typer.Argument(help="accelerator, model, quantization, ...")]) -> None:
    """Print the JSON Schema of a kind of record."""
    if kind not in KINDS:
        report_error(f"no kind is called {kind!r}; kinds: {', '.join(KINDS)}")
        raise typer.Exit(2)
    sys.stdout.write(json.dumps(record_class(kind).model_json_schema(), indent=2) + "\n")


@catalog_app.command()
def find(text: str) -> None:
    """Records of any kind that go by a name like this."""
    for hit in load_catalog().find(text):
        sys.stdout.write(f"{hit.kind:16} {hit.id:40} {hit.name}\n")


@catalog_app.command()
def show(kind: str, name: str) -> None:
    """One record with its sources, as JSON."""
    try:
        record = load_catalog().resolve(kind, name)
    except (WillItRunError, KeyError) as error:
        report_error(error)
        raise typer.Exit(2) from None
    sys.stdout.write(record.model_dump_json(indent=2, exclude_none=True) + "\n")


@catalog_app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A catalogs folder, a checkout, or a wheel.")],
    new: Annotated[str | None, typer.Argument(help="The same; default: these catalogs.")] = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only these kinds; repeat it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Records added, removed and changed, field by field. Exit code 1 if anything differs."""
    try:
        found = open_catalog(old).diff(
            open_catalog(new) if new is not None else load_catalog(), kinds=tuple(kind or ())
        )
    except WillItRunError as error:
        report_error(error)
        raise typer.Exit(2) from None
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        for change in found.changes:
            sys.stdout.write(render_change(change) + "\n")
        sys.stdout.write(found.summary() + "\n")
    raise typer.Exit(1 if found.changes else 0)


@catalog_app.command()
def sources(
    source: Annotated[str | None, typer.Argument(help="An id: what rests on it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The sources with licence, date, and how many facts rest on them."""
    report = review_catalog(load_catalog())
    found = [use for use in report.sources if source is None or use.id == source]
    if not found:
        report_error(f"no source is called {source!r}")
        raise typer.Exit(2)
    if as_json:
        sys.stdout.write("[" + ",\n".join(use.model_dump_json() for use in found) + "]\n")
        return
    for use in found:
        sys.stdout.write(
            f"{use.id:36} {use.facts:6} facts, {use.alone:6} alone  {use.kind:13} {use.retrieved}  {use.licence or 'no licence stated'}\n"
        )
        if source is not None:
            sys.stdout.write(f"{use.title}, {use.publisher}, {use.url}\n")
            sys.stdout.writelines(f"  {name}\n" for name in use.records)


@catalog_app.command()
def report(
    stale_days: Annotated[int, typer.Option(help="A source read longer ago is stale [days].")] = STALE_DAYS,
    as_json: JsonOption = False,
) -> None:
    """What needs another look: stale sources, flagged records, facts that one source carries alone."""
    found = review_catalog(load_catalog(), today=date.today(), stale_days=stale_days)
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
        return
    out = console()
    out.print(escape(found.summary()), style="bold")
    stale = [use for use in found.sources if use.stale]
    out.print(f"\nStale sources (older than {stale_days} days): {len(stale)}")
    for use in stale:
        out.print(escape(f"  {use.id}: {use.age_days} days, {use.facts} facts"))
    out.print("\nFacts on one source, and on secondary sources only, by field")
    for key in sorted(found.facts, key=lambda name: -found.single_source.get(name, 0))[:40]:
        total, single, secondary = (
            counts.get(key, 0) for counts in (found.facts, found.single_source, found.secondary_only)
        )
        out.print(escape(f"  {key:44} {single:5} of {total:5} on one source, {secondary:5} secondary only"))
    out.print(f"\nRecords with flags: {len(found.doubts)}")
    for doubt in found.doubts[:40]:
        out.print(escape(f"  {doubt.kind}:{doubt.id}: {'; '.join(doubt.flags)}"), soft_wrap=True)
    if len(found.doubts) > 40:
        out.print(f"  and {len(found.doubts) - 40} more (--json lists them)", style="dim")
