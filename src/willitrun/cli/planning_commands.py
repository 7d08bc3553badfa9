"""``willitrun scan | chips | compare | score | best-runtime``: questions about many models or machines."""

from __future__ import annotations

import json
from html import escape as escape_html
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.markup import escape
from rich.table import Table

import willitrun
from willitrun.cli import options as opt
from willitrun.cli.errors import print_json, reporting_errors
from willitrun.cli.rendering import console
from willitrun.records.presentation import Presented
from willitrun.records.rankings import SCAN_HEAD

__all__ = ["planning_app"]

planning_app = typer.Typer()

TaskOption = Annotated[
    list[str] | None,
    typer.Option("--task", help="Task; repeat for several; 'all' for all. Default: language models."),
]
TierOption = Annotated[str, typer.Option("--tier", help="Least tier: comfortable, tight, offload.")]
MostOption = Annotated[int, typer.Option("--most", "-n", help="How many rows to show.")]
ColumnsOption = Annotated[
    list[str] | None, typer.Option("--quant", "-q", help="Weight formats, best first; repeat.")
]


def show(result: Presented, as_json: bool, html: Path | None = None) -> None:
    """A result as JSON, or its sentence and its rows; and as a page where one is asked for."""
    write_page(result, html)
    if as_json:
        print_json(result)
        return
    out = console()
    out.print(escape(result.summary()), style="bold")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    # A string to share has no spaces to break at, and is of no use when it is cut off.
    table.add_column(overflow="fold")
    for key, value in result.rows():
        table.add_row(escape(key), escape(value))
    out.print(table)


class Page(Protocol):
    """What makes a page: a sentence and a body."""

    def summary(self) -> str:
        """One sentence, the title."""

    def _repr_html_(self) -> str: ...


def write_page(result: Page, html: Path | None) -> None:
    """What a notebook shows, as a page that stands alone."""
    if html is None:
        return
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape_html(result.summary())}</title>{result._repr_html_()}</html>\n"
    )
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--html: {html} cannot be written: {error.strerror}") from None


@planning_app.command()
@reporting_errors
def scan(
    on: opt.MachineOption = None,
    task: TaskOption = None,
    tier: TierOption = "comfortable",
    order_by: Annotated[str | None, typer.Option("--by", help="size, score, speed or prior.")] = None,
    prior: Annotated[
        typer.FileText | None, typer.Option(help="JSON file of quality by model id; it orders the list.")
    ] = None,
    quant: ColumnsOption = None,
    context: opt.ContextOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    runtime: opt.RuntimeOption = None,
    memory: opt.MemoryOption = "free",
    most: MostOption = 20,
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """Rank all models of the catalog on a machine. Exit code 1 if none qualifies."""
    found = willitrun.scan(
        opt.machine_argument(on),
        opt.workload_argument(context=context, concurrency=concurrency),
        task=None if task is None else "all" if task == ["all"] else task,
        tier=tier,  # type: ignore[arg-type]
        order_by=order_by,  # type: ignore[arg-type]
        prior=_prior(prior),
        quantizations=quant,
        runtime=runtime,
        memory=memory,
    )
    write_page(found, html)
    if as_json:
        print_json(found)
    else:
        out = console()
        out.print(escape(found.summary()), style="bold")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in SCAN_HEAD:
            table.add_column(name)
        for row in found.fitting[:most]:
            table.add_row(*(escape(cell) for cell in row.cells()))
        out.print(table)
    raise typer.Exit(0 if found.fitting else 1)


def _prior(file: typer.FileText | None) -> dict[str, float] | None:
    if file is None:
        return None
    try:
        found = json.load(file)
    except ValueError as error:
        raise typer.BadParameter(f"the prior is no JSON: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(value, int | float) for value in found.values()):
        raise typer.BadParameter("a prior is a JSON object of model ids and numbers")
    return {str(name): float(value) for name, value in found.items()}


@planning_app.command()
@reporting_errors
def chips(
    on: opt.MachineOption = None,
    memory: opt.MemoryOption = "free",
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """What a machine is good for, as labels."""
    show(willitrun.chips(opt.machine_argument(on), memory=memory), as_json, html)


@planning_app.command()
@reporting_errors
def score(
    model: opt.ModelArgument,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    context: opt.ContextOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    runtime: opt.RuntimeOption = None,
    memory: opt.MemoryOption = "free",
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """How well a model runs on a machine, from 0 to 100. Its quality has no part in it."""
    load = opt.workload_argument(context=context, concurrency=concurrency, batch=batch)
    show(
        willitrun.score(
            model, opt.machine_argument(on), load, quantization=quant, runtime=runtime, memory=memory
        ),
        as_json,
        html,
    )


@planning_app.command(name="best-runtime")
@reporting_errors
def best_runtime(
    model: opt.ModelArgument,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    context: opt.ContextOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    memory: opt.MemoryOption = "free",
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """Which runtime suits a model on a machine, and why. Exit code 1 if none does."""
    load = opt.workload_argument(context=context, concurrency=concurrency, batch=batch)
    found = willitrun.best_runtime(model, opt.machine_argument(on), load, quantization=quant, memory=memory)
    show(found, as_json, html)
    raise typer.Exit(0 if found.runtime is not None else 1)


@planning_app.command()
@reporting_errors
def compare(
    contenders: Annotated[list[str], typer.Argument(help="Two or more machines (or what --of says).")],
    of: Annotated[str, typer.Option(help="machines, models, quantizations or runtimes.")] = "machines",
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model for all.")] = None,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    context: opt.ContextOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    runtime: opt.RuntimeOption = None,
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """Compare side by side, and say why one wins. A machine of several cards: rtx-3090,rtx-3090."""
    sides = [opt.machine_argument([side]) for side in contenders] if of == "machines" else contenders
    asked = any(value not in (None, 1) for value in (context, concurrency, batch))
    load = opt.workload_argument(context=context, concurrency=concurrency, batch=batch) if asked else None
    show(
        willitrun.compare(
            *sides,
            of=of,  # type: ignore[arg-type]
            model=model,
            machine=opt.machine_argument(on),
            workloads=load,
            quantization=quant,
            runtime=runtime,
        ),
        as_json,
        html,
    )
