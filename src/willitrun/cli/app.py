"""The ``willitrun`` command."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import willitrun
from willitrun.cli import directory_commands as directory
from willitrun.cli import options as opt
from willitrun.cli.benchmark_commands import benchmark_app
from willitrun.cli.build_commands import build_app
from willitrun.cli.catalog_commands import catalog_app
from willitrun.cli.cost_commands import cost_app
from willitrun.cli.errors import print_json, reporting_errors
from willitrun.cli.fleet_commands import fleet_app
from willitrun.cli.knowledge_commands import knowledge_app
from willitrun.cli.planning_commands import planning_app
from willitrun.cli.rendering import (
    console,
    render_doctor,
    render_explanation,
    render_machine,
    render_verdict,
)
from willitrun.cli.serving_commands import serving_app
from willitrun.records.recipes import Placement, Workload

__all__ = ["app"]

app = typer.Typer(
    name="willitrun",
    help="Will this model run on this machine, and how fast?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(catalog_app, name="catalog")
app.add_typer(planning_app)
app.add_typer(knowledge_app)
app.add_typer(cost_app)
app.add_typer(serving_app)
app.add_typer(build_app)
app.add_typer(fleet_app)
app.add_typer(benchmark_app)


def _assess(
    model: str,
    on: list[str] | None,
    quant: str | None,
    runtime: str | None,
    kv: str | None,
    memory: str,
    sets: list[str] | None,
    **load: Any,
) -> willitrun.Verdict:
    more = opt.settings_argument(sets)
    workload = opt.workload_argument(**load | more.workload)
    judge = partial(
        willitrun.assess,
        opt.model_argument(model, image_size=workload.image_size),
        opt.machine_argument(on, more.host),
        workload,
        quantization=quant,
        placement=Placement(**more.placement) if more.placement else None,
        memory=memory,
    )
    # Which runtime suits, only the question itself tells.
    return judge(
        runtime=opt.runtime_argument(runtime, kv, lambda: judge().inputs.runtime["name"], **more.runtime)
    )


@app.command()
@reporting_errors
def assess(
    model: opt.ModelArgument,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    context: opt.ContextOption = None,
    prompt: opt.PromptOption = None,
    output: opt.OutputOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    image_size: opt.ImageSizeOption = None,
    steps: opt.StepsOption = None,
    frames: opt.FramesOption = None,
    precision: opt.PrecisionOption = None,
    execution: opt.ExecutionOption = None,
    runtime: opt.RuntimeOption = None,
    kv: opt.KvOption = None,
    memory: opt.MemoryOption = "free",
    sets: opt.SetOption = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Judge one model on one machine. Exit code 0 if it runs, 1 if not."""
    verdict = _assess(
        model, on, quant, runtime, kv, memory, sets,
        context=context, prompt=prompt, output=output, concurrency=concurrency, batch=batch,
        image_size=image_size, steps=steps, frames=frames, precision=precision, execution=execution,
    )  # fmt: skip
    if as_json:
        print_json(verdict)
    else:
        console().print(render_verdict(verdict))
    raise typer.Exit(0 if verdict.feasible else 1)


@app.command()
@reporting_errors
def explain(
    model: opt.ModelArgument,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    context: opt.ContextOption = None,
    prompt: opt.PromptOption = None,
    output: opt.OutputOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    image_size: opt.ImageSizeOption = None,
    steps: opt.StepsOption = None,
    frames: opt.FramesOption = None,
    precision: opt.PrecisionOption = None,
    execution: opt.ExecutionOption = None,
    runtime: opt.RuntimeOption = None,
    kv: opt.KvOption = None,
    memory: opt.MemoryOption = "free",
    sets: opt.SetOption = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Take a verdict apart, term by term, with equations and sources."""
    verdict = _assess(
        model, on, quant, runtime, kv, memory, sets,
        context=context, prompt=prompt, output=output, concurrency=concurrency, batch=batch,
        image_size=image_size, steps=steps, frames=frames, precision=precision, execution=execution,
    )  # fmt: skip
    explanation = willitrun.explain(verdict)
    if as_json:
        print_json(explanation)
    else:
        console().print(render_explanation(explanation))


@app.command()
@reporting_errors
def detect(
    as_json: opt.JsonOption = False,
    capture: Annotated[
        Path | None,
        typer.Option(help="Write what was read to a file that reproduces it (no serials, no user names)."),
    ] = None,
) -> None:
    """Show what this machine is, what was not found, and why."""
    machine = willitrun.detect()
    if capture is not None:
        from willitrun.hardware.captures import record_capture

        capture.write_text(json.dumps(record_capture(), indent=2) + "\n", "utf-8")
    if as_json:
        print_json(machine)
    else:
        console().print(render_machine(machine))


@app.command()
@reporting_errors
def doctor(as_json: opt.JsonOption = False) -> None:
    """Look for what is missing or misconfigured. Exit code 1 if something needs attention."""
    report = willitrun.doctor()
    if as_json:
        print_json(report)
    else:
        out = console()
        out.print(render_doctor(report))
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
@reporting_errors
def demo() -> None:
    """Verdicts for this machine and for three well-known cases."""
    out = console()
    out.print("This machine", style="bold underline")
    machine = willitrun.detect()
    out.print(render_machine(machine.model_copy(update={"probes": ()})))
    cases: tuple[tuple[str, str, Any, Workload, str | None], ...] = (
        ("Llama 3.2 1B here, chatting", "llama-3.2-1b", machine, Workload(), "q4_k_m"),
        ("ResNet-50, batch 1, RTX 3060 12 GB", "resnet-50", "rtx-3060-12gb", Workload(batch_size=1), None),
        (
            "Llama 3.1 8B Q4_K_M at 8k, RTX 4090",
            "llama-3.1-8b",
            "rtx-4090",
            Workload(context_tokens=8192),
            "q4_k_m",
        ),
        ("Llama 3.3 70B Q4_K_M, RTX 4090", "llama-3.3-70b", "rtx-4090", Workload(), "q4_k_m"),
    )
    for title, model, place, workload, quant in cases:
        out.print(f"\n[bold underline]{escape(title)}[/bold underline]")
        out.print(render_verdict(willitrun.assess(model, place, workload, quantization=quant)))
    out.print(
        "\nNext: willitrun assess MODEL --on MACHINE, willitrun explain ..., willitrun glossary kv-cache",
        style="dim",
    )


app.command()(reporting_errors(directory.card))
app.command()(reporting_errors(directory.changes))


@app.command()
@reporting_errors
def versions() -> None:
    """Versions for a bug report."""
    for name, version in willitrun.show_versions().items():
        sys.stdout.write(f"{name:14} {version}\n")


@app.command()
@reporting_errors
def mcp() -> None:
    """Serve agents over standard input and output (Model Context Protocol; extra `mcp`)."""
    from willitrun.interop.mcp import create_server

    create_server().run()
