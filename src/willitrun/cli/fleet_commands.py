"""``willitrun fleet``: what runs on which host of an inventory."""

from __future__ import annotations

import json
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
from willitrun.cli.rendering import console
from willitrun.errors import UnknownIdError
from willitrun.hardware.inventories import read_inventory
from willitrun.planning.fleets import count_scenarios, plan_blocks
from willitrun.planning.reductions import counted, reduce_together
from willitrun.planning.tables import PlanTable
from willitrun.records.presentation import format_field

__all__ = ["fleet_app"]

fleet_app = typer.Typer()

_CHAT = "chat"
_TIERS = ("comfortable", "tight", "offload")
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
    best = found["best"]
    if len(best):
        best = best.take(np.argsort(best.codes("machine"), kind="stable"))
    able = set(best["machine"].tolist()) if len(best) else set()
    idle = [machine.name for machine in machines if machine.name not in able]
    if as_json:
        for number in range(len(best)):
            row = best.row(number)
            typer.echo(json.dumps({name: row[name] for name in _SHOWN}))
        raise typer.Exit(0 if able else 1)
    out = console()
    out.print(
        f"{len(able)} of {len(machines)} hosts run one of these {tier} at {floor:g} tokens/s or more",
        style="bold",
    )
    out.print(_table(best, most))
    if len(best) > most:
        out.print(f"and {len(best) - most} more (--json prints them)", style="dim")
    if idle:
        more = f", and {len(idle) - 20} more" if len(idle) > 20 else ""
        out.print(escape(f"Nothing {tier} and fast enough on: {', '.join(idle[:20])}{more}"))
    counts = found["tiers"]
    said = ", ".join(f"{count:,} {name}" for name, count in zip(counts["tier"], counts["count"], strict=True))
    out.print(escape(f"Scenarios: {said}"), style="dim")
    raise typer.Exit(0 if able else 1)


def _fast(rows: PlanTable, floor: float) -> PlanTable:
    """Rows that are fast enough; an unknown speed is not."""
    return rows.take(np.nan_to_num(rows["decode_tokens_per_s"], nan=-1.0) >= floor)


def _table(best: PlanTable, most: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("host", "model", "format", "context", "tier", "speed", "memory"):
        table.add_column(name)
    for number in range(min(len(best), most)):
        row = best.row(number)
        rate = row["decode_tokens_per_s"]
        table.add_row(
            escape(str(row["machine"])),
            escape(str(row["model"])),
            str(row["quantization"]),
            f"{row['context_tokens']:,}",
            str(row["tier"]),
            "" if rate != rate else format_field("decode_tokens_per_s", rate),
            f"{format_field('bytes', row['total_bytes'])} of {format_field('bytes', row['available_bytes'])}",
        )
    return table
