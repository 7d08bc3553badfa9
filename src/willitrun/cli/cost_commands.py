"""``willitrun recommend | cost``: what to buy or rent, and what the work costs."""

from __future__ import annotations

from typing import Annotated

import typer

import willitrun
from willitrun.cli import options as opt
from willitrun.cli.errors import reporting_errors
from willitrun.cli.planning_commands import show

__all__ = ["cost_app", "numbers"]

cost_app = typer.Typer()

PriceOption = Annotated[
    list[str] | None, typer.Option("--price", help="A price that you know better: rtx-4090=1400; repeat.")
]


@cost_app.command()
@reporting_errors
def recommend(
    model: opt.ModelArgument,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="decode_tokens_per_s=20, time_to_first_token_s=2, ...; repeat."),
    ] = None,
    tier: Annotated[str, typer.Option(help="Least tier: comfortable, tight, offload.")] = "tight",
    quant: Annotated[
        list[str] | None,
        typer.Option("--quant", "-q", help="Formats that are good enough, best first; repeat."),
    ] = None,
    context: opt.ContextOption = None,
    prompt: opt.PromptOption = None,
    output: opt.OutputOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    runtime: opt.RuntimeOption = None,
    budget: Annotated[float | None, typer.Option(help="Most that the accelerators may cost [USD].")] = None,
    rent_budget: Annotated[float | None, typer.Option(help="Most that the rent may be [USD/h].")] = None,
    power: Annotated[float | None, typer.Option(help="Most board power [W].")] = None,
    owned: Annotated[
        str | None, typer.Option(help="What you have: rtx-3090, or rtx-3090,rtx-3060-12gb.")
    ] = None,
    among: Annotated[list[str] | None, typer.Option(help="Machines to choose from; repeat.")] = None,
    price: PriceOption = None,
    noise: Annotated[float, typer.Option(help="Share by which prices may differ.")] = 0.0,
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """Choose a machine for a goal: cheapest, fastest, most efficient. Exit code 1 if none meets it."""
    found = willitrun.recommend(
        model,
        opt.workload_argument(
            context=context, prompt=prompt, output=output, concurrency=concurrency, batch=batch
        ),
        targets=numbers(target, "--target"),
        tier=tier,  # type: ignore[arg-type]
        quantizations=quant,
        runtime=runtime,
        budget_usd=budget,
        rent_budget_usd_per_hour=rent_budget,
        power_w=power,
        owned=opt.machine_argument([owned]) if owned else None,
        candidates=[opt.machine_argument([one]) for one in among] if among else None,
        prices=_prices(price),
        price_noise=noise,
    )
    show(found, as_json, html)
    raise typer.Exit(0 if found.met or (found.owned is not None and found.owned.meets) else 1)


@cost_app.command()
@reporting_errors
def cost(
    model: opt.ModelArgument,
    on: opt.MachineOption = None,
    quant: opt.QuantOption = None,
    context: opt.ContextOption = None,
    prompt: opt.PromptOption = None,
    output: opt.OutputOption = None,
    concurrency: opt.ConcurrencyOption = 1,
    batch: opt.BatchOption = None,
    runtime: opt.RuntimeOption = None,
    purchase: Annotated[float | None, typer.Option(help="Price of the accelerators [USD].")] = None,
    host: Annotated[float, typer.Option(help="Price of the rest of the machine [USD].")] = 0.0,
    years: Annotated[float, typer.Option(help="Years over which it is written off.")] = 3.0,
    residual: Annotated[float, typer.Option(help="Share of the price that is left then.")] = 0.0,
    utilisation: Annotated[float, typer.Option(help="Share of the time in which it works.")] = 0.25,
    power: Annotated[float | None, typer.Option(help="Power while it works [W].")] = None,
    electricity: Annotated[float | None, typer.Option(help="Electricity [USD/kWh].")] = None,
    rent: Annotated[float | None, typer.Option(help="Rent of the whole machine [USD/h].")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="What an API asks per million input and output tokens: 0.05,0.08.")
    ] = None,
    as_json: opt.JsonOption = False,
    html: opt.HtmlOption = None,
) -> None:
    """What the work costs on an own machine, a rented one, and an API; and when owning pays."""
    asked = None
    if tokens is not None:
        try:
            one, other = (float(part) for part in tokens.split(","))
        except ValueError:
            raise typer.BadParameter(f"--tokens is two numbers like 0.05,0.08, got {tokens!r}") from None
        asked = (one, other)
    found = willitrun.cost(
        model,
        opt.machine_argument(on),
        opt.workload_argument(
            context=context, prompt=prompt, output=output, concurrency=concurrency, batch=batch
        ),
        quantization=quant,
        runtime=runtime,
        purchase_usd=purchase,
        host_usd=host,
        years=years,
        residual=residual,
        utilisation=utilisation,
        power_w=power,
        electricity_usd_per_kwh=electricity,
        rental_usd_per_hour=rent,
        tokens_usd_per_million=asked,
    )
    show(found, as_json, html)


def numbers(texts: list[str] | None, option: str) -> dict[str, float]:
    """``NAME=NUMBER``, repeated."""
    found = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{option} is NAME=NUMBER, got {text!r}") from None
    return found


def _prices(texts: list[str] | None) -> dict[str, float]:
    catalog = willitrun.load_catalog()
    return {catalog.resolve("accelerator", name).id: usd for name, usd in numbers(texts, "--price").items()}
