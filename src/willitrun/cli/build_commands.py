"""``willitrun build``: what a custom build offers a model."""

from __future__ import annotations

from typing import Annotated

import typer

import willitrun
from willitrun.cli import options as opt
from willitrun.cli.errors import reporting_errors
from willitrun.cli.planning_commands import show

__all__ = ["build_app"]

build_app = typer.Typer()


@build_app.command()
@reporting_errors
def build(
    on: opt.MachineOption = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            help="A link: nvlink; 10gbe (every card in a host of its own); 10gbe:0,2 (hosts begin at cards 0 and 2); thunderbolt-4:1."
        ),
    ] = None,
    ram: Annotated[str | None, typer.Option(help="RAM of a host: 64 GiB.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model that is to run.")] = None,
    quant: opt.QuantOption = None,
    runtime: opt.RuntimeOption = None,
    memory: opt.MemoryOption = "free",
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """What a custom build offers a model: effective memory, every deduction, and a string to share."""
    machine = opt.machine_argument(on)
    if link or ram:
        cards = [] if machine is None else [machine] if isinstance(machine, str) else machine
        machine = {"accelerators": cards, "links": [_link(text) for text in link or ()]}
        if ram:
            machine["host"] = {"ram": ram}
    found = willitrun.effective_memory(
        machine, model=model, quantization=quant, runtime=runtime, memory=memory
    )
    show(found, as_json, html)


def _link(text: str) -> dict[str, object]:
    kind, _, devices = text.partition(":")
    try:
        return {"kind": kind, "devices": [int(part) for part in devices.split(",") if part]}
    except ValueError:
        raise typer.BadParameter(f"--link is KIND or KIND:0,1, got {text!r}") from None
