"""``willitrun serve-plan | batch-plan``: machines for a service, and for a job."""

from __future__ import annotations

from typing import Annotated

import typer

import willitrun
from willitrun.cli import options as opt
from willitrun.cli.cost_commands import numbers
from willitrun.cli.errors import reporting_errors
from willitrun.cli.planning_commands import show

__all__ = ["serving_app"]

serving_app = typer.Typer()

MachinesOption = Annotated[
    list[str] | None,
    typer.Option("--on", help="Hardware of a replica: l4, or rtx-3090,rtx-3090; repeat to compare."),
]


@serving_app.command("serve-plan")
@reporting_errors
def serve_plan(
    model: opt.ModelArgument,
    on: MachinesOption = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second in the busiest hour.")] = None,
    users: Annotated[int | None, typer.Option(help="Instead: people active at once.")] = None,
    think: Annotated[float, typer.Option(help="Seconds from an answer to the next request.")] = 60.0,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Prompt tokens: 512, or 500=3 and 4000=1 as weights; repeat.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option(help="Output tokens, written like --prompt; repeat.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="time_to_first_token_s=2, time_per_output_token_s=0.05; repeat."),
    ] = None,
    percentile: Annotated[float, typer.Option(help="Share that sees the first token in time.")] = 0.95,
    utilisation: Annotated[float, typer.Option(help="Most of a replica's throughput to use.")] = 0.85,
    tier: Annotated[str, typer.Option(help="Least tier with all slots: comfortable, tight.")] = "tight",
    quant: opt.QuantOption = None,
    runtime: opt.RuntimeOption = None,
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """How many machines a service needs, and what they cost. Exit code 1 if no machine meets the targets."""
    found = willitrun.plan_serving(
        model,
        _machines(on),
        requests_per_s=rate,
        users=users,
        think_time_s=think,
        prompt_tokens=_lengths(prompt, "--prompt", 512),
        output_tokens=_lengths(output, "--output", 128),
        targets=numbers(target, "--target"),
        percentile=percentile,
        utilisation=utilisation,
        tier=tier,
        quantization=quant,
        runtime=runtime,
    )
    show(found, as_json, html)
    raise typer.Exit(0 if found.best is not None else 1)


@serving_app.command("batch-plan")
@reporting_errors
def batch_plan(
    model: opt.ModelArgument,
    items: Annotated[float, typer.Option(help="Requests, images, texts, or hours of audio.")],
    on: MachinesOption = None,
    replicas: Annotated[int, typer.Option(help="Machines that share the job.")] = 1,
    prompt: opt.PromptOption = None,
    output: opt.OutputOption = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="Hours in which it has to be done: says how many machines that takes."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests in flight. Default: what gives the highest throughput.")
    ] = None,
    batch: opt.BatchOption = None,
    precision: opt.PrecisionOption = None,
    execution: opt.ExecutionOption = None,
    quant: opt.QuantOption = None,
    runtime: opt.RuntimeOption = None,
    power: Annotated[float | None, typer.Option(help="Power of a machine while it works [W].")] = None,
    electricity: Annotated[float | None, typer.Option(help="Electricity [USD/kWh].")] = None,
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """Hours, energy and money of a job of so many items; or the machines that a deadline takes."""
    asked = {
        "prompt_tokens": opt.tokens(prompt),
        "output_tokens": opt.tokens(output),
        "concurrency": concurrency,
        "batch_size": batch,
        "precision": precision,
        "execution": execution,
    }
    found = willitrun.plan_batch(
        model,
        _machines(on),
        willitrun.Workload(**{name: value for name, value in asked.items() if value is not None}),
        items=items,
        replicas=replicas,
        deadline_hours=deadline,
        quantization=quant,
        runtime=runtime,
        power_w=power,
        electricity_usd_per_kwh=electricity,
    )
    show(found, as_json, html)


def _machines(given: list[str] | None) -> object:
    return [opt.machine_argument([one]) for one in given] if given else None


def _lengths(texts: list[str] | None, option: str, default: int) -> object:
    """``512`` is a length; ``500=3`` a length and its weight."""
    if not texts:
        return default
    pairs = numbers([text if "=" in text else f"{text}=1" for text in texts], option)
    try:
        return {int(length): weight for length, weight in pairs.items()}
    except ValueError:
        raise typer.BadParameter(f"{option} is TOKENS or TOKENS=WEIGHT, got {texts!r}") from None
