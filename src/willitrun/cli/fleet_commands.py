"""``willitrun fleet``: what runs on which host of an inventory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape as escape_html
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

import willitrun
from willitrun.catalog import load_catalog
from willitrun.cli import options as opt
from willitrun.cli.errors import reporting_errors
from willitrun.cli.planning_commands import write_page
from willitrun.cli.rendering import console
from willitrun.errors import UnknownIdError
from willitrun.frozen import frozen
from willitrun.hardware.inventories import read_inventory
from willitrun.planning.fleets import count_scenarios, plan_blocks
from willitrun.planning.reductions import counted, reduce_together
from willitrun.planning.tables import PlanTable
from willitrun.records.presentation import format_field

__all__ = ["fleet_app"]

fleet_app = typer.Typer()

_CHAT = "chat"
_TIERS = ("comfortable", "tight", "offload")
_HEAD = ("host", "model", "format", "context", "tier", "speed", "memory")
_SHOWN = ("machine", "model", "quantization", "context_tokens", "tier", "decode_tokens_per_s", "total_bytes", "available_bytes")  # fmt: skip


@fleet_app.command()
@reporting_errors
def fleet(
    inventory: Annotated[
        Path,
        typer.Argument(
            help="A folder of captures, or a file of captures, descriptions or build strings a line."
        ),
    ],
    model: Annotated[list[str], typer.Option("--model", "-m", help="A model; repeat.")],
    quant: Annotated[
        list[str] | None,
        typer.Option("--quant", "-q", help="Weight formats to try; repeat. Default: q8_0, q6_k, q4_k_m."),
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option("--context", "-c", help="Context; repeat. Default: 8192.")
    ] = None,
    tier: Annotated[
        str, typer.Option("--tier", help="Least tier: comfortable, tight, offload.")
    ] = "comfortable",
    speed: Annotated[
        float | None, typer.Option(help="Least tokens/s of one sequence. Default: what a chat needs.")
    ] = None,
    most: Annotated[int, typer.Option("--most", "-n", help="How many rows to show.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rows as JSON lines.")] = False,
    html: opt.HtmlOption = None,
) -> None:
    """What runs where: of each host and model the largest weights that reach tier and speed. Exit code 1 if nothing does."""
    if tier not in _TIERS:
        raise UnknownIdError("tier", tier, _TIERS)
    machines = read_inventory(inventory)
    floor = load_catalog().workloads[_CHAT].floor["decode_tokens_per_s"] if speed is None else speed
    contexts = [count for text in context or ["8192"] if (count := opt.tokens(text)) is not None]
    axes = (model, machines, quant or ["q8_0", "q6_k", "q4_k_m"], willitrun.Workload.grid(contexts=contexts))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("judging", total=count_scenarios(*axes))
        found = reduce_together(
            plan_blocks(
                models=axes[0],
                machines=axes[1],
                quantizations=axes[2],
                workloads=axes[3],
                progress=lambda rows: progress.advance(task, rows),
            ),
            best=lambda rows: _fast(rows.filter(rows.at_least(tier)), floor).best_by(
                ["machine", "model", "context_tokens"], "weights_bytes"
            ),
            tiers=lambda rows: counted(rows, ["tier"]),
        )
    report = _Report.of(found["best"], found["tiers"], [machine.name for machine in machines], tier, floor)
    write_page(report, html)
    if as_json:
        for number in range(len(report.best)):
            row = report.best.row(number)
            typer.echo(json.dumps({name: row[name] for name in _SHOWN}))
        raise typer.Exit(0 if len(report.best) else 1)
    out = console()
    out.print(escape(report.summary()), style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in _HEAD:
        table.add_column(name)
    for cells in report.lines(most):
        table.add_row(*map(escape, cells))
    out.print(table)
    if len(report.best) > most:
        out.print(f"and {len(report.best) - most} more (--json prints them)", style="dim")
    for note in report.notes(20):
        out.print(escape(note), style="dim")
    raise typer.Exit(0 if len(report.best) else 1)


@frozen(eq=False)
class _Report:
    """What runs where, as a terminal and a page show it."""

    best: PlanTable
    tiers: PlanTable
    hosts: list[str]
    tier: str
    floor: float

    @classmethod
    def of(cls, best: PlanTable, tiers: PlanTable, hosts: list[str], tier: str, floor: float) -> _Report:
        if len(best):
            best = best.take(np.argsort(best.codes("machine"), kind="stable"))
        return cls(best, tiers, hosts, tier, floor)

    def summary(self) -> str:
        able = len(self.hosts) - len(self._idle())
        return f"{able} of {len(self.hosts)} hosts run one of these {self.tier} at {self.floor:g} tokens/s or more"

    def _idle(self) -> list[str]:
        able = set(self.best["machine"].tolist()) if len(self.best) else set()
        return [name for name in self.hosts if name not in able]

    def lines(self, most: int) -> Iterator[tuple[str, ...]]:
        """Cells of the first rows."""
        for number in range(min(len(self.best), most)):
            row = self.best.row(number)
            rate = row["decode_tokens_per_s"]
            yield (
                str(row["machine"]),
                str(row["model"]),
                str(row["quantization"]),
                f"{row['context_tokens']:,}",
                str(row["tier"]),
                "" if rate != rate else format_field("decode_tokens_per_s", rate),
                f"{format_field('bytes', row['total_bytes'])} of {format_field('bytes', row['available_bytes'])}",
            )

    def notes(self, most: int) -> list[str]:
        """What the rows don't say: hosts without one, and all scenarios by tier."""
        idle, notes = self._idle(), []
        if idle:
            more = f", and {len(idle) - most} more" if len(idle) > most else ""
            notes.append(f"Nothing {self.tier} and fast enough on: {', '.join(idle[:most])}{more}")
        pairs = zip(self.tiers["tier"], self.tiers["count"], strict=True)
        notes.append(f"Scenarios: {', '.join(f'{count:,} {name}' for name, count in pairs)}")
        return notes

    def _repr_html_(self) -> str:
        def line(cells: Iterable[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape_html(cell)}</{tag}>" for cell in cells) + "</tr>"

        rows = "".join(line(cells, "td") for cells in self.lines(len(self.best)))
        notes = "".join(f"<p>{escape_html(note)}</p>" for note in self.notes(len(self.hosts)))
        return f"<h1>{escape_html(self.summary())}</h1><table>{line(_HEAD, 'th')}{rows}</table>{notes}"


def _fast(rows: PlanTable, floor: float) -> PlanTable:
    """Rows that are fast enough; an unknown speed is not."""
    return rows.take(np.nan_to_num(rows["decode_tokens_per_s"], nan=-1.0) >= floor)
