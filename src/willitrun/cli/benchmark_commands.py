"""``willitrun bench | calibrate``: own measurements, taken here or read from a tool's output."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from willitrun.cli import options as opt
from willitrun.cli.errors import reporting_errors
from willitrun.records.measurements import Measurement

__all__ = ["benchmark_app"]

benchmark_app = typer.Typer()

SaveOption = Annotated[
    Path | None,
    typer.Option("--save", help="Folder of an overlay to keep the rows in; name it in WILLITRUN_CATALOGS."),
]


@benchmark_app.command()
@reporting_errors
def bench(
    model: opt.ModelArgument,
    server: Annotated[str, typer.Option(help="ollama or llama-server, running on this machine.")] = "ollama",
    name: Annotated[str, typer.Option(help="Ollama's name of the model: llama3.1:8b.")] = "",
    address: Annotated[str | None, typer.Option(help="http://127.0.0.1:port")] = None,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    prompt: Annotated[int, typer.Option(help="Prompt tokens, about.")] = 512,
    output: Annotated[int, typer.Option(help="Generated tokens.")] = 128,
    repetitions: Annotated[int, typer.Option(help="Answers that count, after one that warms up.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be sent.")] = False,
    save: SaveOption = None,
) -> None:
    """Measure a model on a server that runs here. Prints every request before it is sent."""
    from willitrun.interop.benchmark_rows import Subject
    from willitrun.interop.benchmark_runs import ServerRun, requests_of, run_server

    run = ServerRun(server, name, address, prompt, output, repetitions)
    for target, body in requests_of(run):
        shown = {key: value for key, value in body.items() if key != "prompt"}
        typer.echo(f"POST {target} {json.dumps(shown)} prompt: {len(str(body['prompt']).split())} words")
    if dry_run:
        return
    rows = run_server(run, Subject(model=model, accelerator=_device(on), quantization=quant))
    _report(rows, save)


@benchmark_app.command()
@reporting_errors
def calibrate(
    file: Annotated[Path, typer.Argument(help="Output of a benchmark tool, or CSV with named columns.")],
    model: Annotated[str | None, typer.Option(help="Where the output does not say it.")] = None,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    runtime: opt.RuntimeOption = None,
    format: Annotated[
        str | None, typer.Option(help="llama-bench, llama.cpp, ollama, vllm, timm, optimum-benchmark, table.")
    ] = None,
    save: SaveOption = None,
) -> None:
    """Compare measurements with what is predicted, and keep them as an overlay."""
    from willitrun.interop.benchmark_logs import read_benchmarks

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None
    device = _device(on) if on else None
    rows = read_benchmarks(
        text, format=format, model=model, accelerator=device, quantization=quant, runtime=runtime
    )
    _report(rows, save)


def _device(on: list[str] | None) -> str:
    """The catalog id of the device that was named, or of the one that is found here."""
    import willitrun
    from willitrun.errors import InvalidWorkloadError

    machine = willitrun.describe_machine(on) if on else willitrun.detect()
    if not machine.accelerators:
        raise InvalidWorkloadError(
            "a run on the processor alone cannot calibrate yet.", hint="Name the accelerator with --on."
        )
    return machine.accelerators[0].accelerator.id


def _report(rows: tuple[Measurement, ...], save: Path | None) -> None:
    from willitrun.estimators.calibration import calibrate as take_in
    from willitrun.estimators.calibration import compare_measurements

    for row, found in zip(rows, compare_measurements(rows), strict=True):
        said = (
            f"refused: {found.refused}"
            if found.refused
            else f"x{math.exp(found.log_ratio):.2f} of the prediction"
        )
        typer.echo(
            f"{row.model} {row.quantization} on {row.accelerator}: {row.metric} {row.value:.1f}, {said}"
        )
    take_in(rows)
    if save is not None:
        from willitrun.interop.benchmark_runs import save_overlay

        typer.echo(f"kept in {save_overlay(rows, save)}")
