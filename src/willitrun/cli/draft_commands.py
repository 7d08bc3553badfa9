"""``willitrun catalog new``: draft a record from a config.json or a specification sheet, for a person to review."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from willitrun.cli.rendering import report_error
from willitrun.errors import WillItRunError
from willitrun.interop.accelerator_drafts import draft_accelerator, read_sheet
from willitrun.interop.model_drafts import draft_model
from willitrun.interop.toml_text import render_toml

__all__ = ["draft_app"]

draft_app = typer.Typer(
    help="Draft a record for review: TOML on standard output, doubts on standard error.", no_args_is_help=True
)

SourceOption = Annotated[str, typer.Option("--source", help="Id of the source record that the draft cites.")]
PlaceOption = Annotated[str, typer.Option("--at", help="Place inside the source: a page, a table, a commit.")]
MOST_BYTES = 1 << 20


def _read(file: Path) -> str:
    if not file.is_file():
        report_error(f"there is no file {str(file)!r}")
        raise typer.Exit(2)
    if file.stat().st_size > MOST_BYTES:
        report_error(f"{file} has more than {MOST_BYTES >> 20} MiB: it is no config.json and no sheet")
        raise typer.Exit(2)
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        report_error(f"{file} is not UTF-8 text")
        raise typer.Exit(2) from None


@draft_app.command()
def model(
    config: Annotated[Path, typer.Argument(help="A config.json as Hugging Face publishes it.")],
    repository: Annotated[str, typer.Option("--repository", help="OWNER/NAME of the publisher.")],
    source: SourceOption,
    at: PlaceOption = "",
) -> None:
    """A model record from a config.json; an architecture that is not known is refused."""
    try:
        fields = json.loads(_read(config))
        if not isinstance(fields, dict):
            raise ValueError("it holds no mapping of keys")
        record = draft_model(fields, repository=repository, source=source, at=at)
    except WillItRunError as error:
        report_error(error)
        raise typer.Exit(1) from None
    except ValueError as error:
        report_error(f"{config} is no config.json: {error}")
        raise typer.Exit(2) from None
    sys.stdout.write(render_toml("model", record))


@draft_app.command()
def accelerator(
    sheet: Annotated[Path, typer.Argument(help="Text with one 'Label: value' a line.")],
    vendor: Annotated[str, typer.Option("--vendor", help="nvidia, amd, intel, apple, ...")],
    form: Annotated[str, typer.Option("--form", help="desktop, laptop, workstation, server-pcie, ...")],
    source: SourceOption,
    kind: Annotated[str, typer.Option("--kind")] = "gpu",
    basis: Annotated[str, typer.Option("--basis", help="vendor or secondary.")] = "vendor",
    at: PlaceOption = "",
) -> None:
    """An accelerator record from a specification sheet."""
    fields, unread = read_sheet(_read(sheet).splitlines())
    try:
        record, doubts = draft_accelerator(
            fields, vendor=vendor, kind=kind, form=form, source=source, basis=basis, at=at
        )
    except ValueError as error:  # what the schema refuses, it says by field
        report_error(f"{sheet}: {error}")
        raise typer.Exit(1) from None
    sys.stdout.write(render_toml("accelerator", record))
    for line in unread:
        sys.stderr.write(f"not read: {line}\n")
    for doubt in doubts:
        sys.stderr.write(f"contradiction: {doubt}\n")
