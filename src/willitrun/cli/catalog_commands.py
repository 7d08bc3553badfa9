"""``willitrun catalog ...``: check, build, schema, find, show."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from willitrun.catalog import load_catalog
from willitrun.catalog.checking import check_catalog
from willitrun.catalog.indexing import build_index
from willitrun.catalog.layout import KINDS, record_class
from willitrun.cli.rendering import console, report_error
from willitrun.errors import WillItRunError

__all__ = ["catalog_app"]

catalog_app = typer.Typer(help="The data: check it, build its index, look things up.", no_args_is_help=True)


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
