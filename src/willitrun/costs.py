"""`cost`: electricity and amortised hardware against cloud by the hour and APIs by the token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.evaluation import evaluate_one
from willitrun.estimators.requests import complete_request
from willitrun.intervals import Interval
from willitrun.kernels.costs import (
    HOURS_PER_YEAR,
    SECONDS_PER_HOUR,
    break_even_hours,
    cost_per_unit,
    energy_per_unit_kwh,
    energy_usd_per_s,
    owned_usd_per_s,
    per_hour,
    token_usd,
    units_of_hours,
)
from willitrun.planning.offers import apis_of, board_power, bought_of, rents_of
from willitrun.planning.prices import (
    given,
    quote_electricity,
)
from willitrun.planning.production import Work, inverse, work_of
from willitrun.records.costs import BreakEven, Cost, CostLine
from willitrun.records.prices import Quote
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.verdicts import best_comfortable

__all__ = ["cost"]


def cost(
    model: Any,
    machine: Any = None,
    workload: Workload | None = None,
    *,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    placement: str | Placement | None = None,
    purchase_usd: float | None = None,
    host_usd: float = 0.0,
    years: float = 3.0,
    residual: float = 0.0,
    utilisation: float = 0.25,
    power_w: float | None = None,
    idle_power_w: float = 0.0,
    electricity_usd_per_kwh: float | None = None,
    rental_usd_per_hour: float | None = None,
    tokens_usd_per_million: tuple[float, float] | None = None,
    quotes: Sequence[Quote] = (),
    terms: Sequence[str] = ("on-demand",),
    today: date | None = None,
    catalog: Catalog | None = None,
) -> Cost:
    """What a unit of work costs on a machine that is owned, rented, or behind somebody's API.

    Parameters
    ----------
    model, machine, workload, quantization, runtime, placement, catalog
        As for `assess`. The speed at the workload's concurrency is what the costs are spread over.
    purchase_usd
        Price of the accelerators [USD]; None takes the catalog's, dated.
    host_usd
        Price of the rest of the machine [USD]; nothing by default, which is stated.
    years, residual
        Life over which the price is written off [years], and the share of it that is left then [1].
    utilisation
        Share of the time in which the machine works [1].
    power_w, idle_power_w
        Power while it works and while it waits [W]; None takes the board limits of the cards, an upper bound.
    electricity_usd_per_kwh
        None takes the average of US households, dated [USD/kWh].
    rental_usd_per_hour
        Rent of the whole machine [USD/h]; None takes the catalog's offers of the card.
    tokens_usd_per_million
        What an API asks per million input and output tokens [USD]; None takes the catalog's offers of the model.
    quotes
        More prices (of a price package, see `willitrun.interop.price_packages`): rentals and token prices.
    terms
        Which rental offers count: ``on-demand``, ``community``, ``spot``.
    today
        Day on which ages are counted.

    Returns
    -------
    Cost
        A line per way, cheapest first to be read off; the interval of each is that of the speed. Break-even of
        owning against the cheapest rent and the cheapest API. Every price with its date, source and age.

    Raises
    ------
    InvalidWorkloadError
        A share outside 0 to 1, or a life of no length.

    Examples
    --------
    >>> found = cost("llama-3.1-8b", "rtx-4090", quantization="q4_k_m", electricity_usd_per_kwh=0.30,
    ...     purchase_usd=1600.0, rental_usd_per_hour=0.74, tokens_usd_per_million=(0.05, 0.08))
    >>> [line.way for line in found.lines]
    ['own', 'rent', 'api']
    """
    _check(years, residual, utilisation, power_w, idle_power_w, host_usd)
    catalog = catalog or load_catalog()
    day = today or date.today()
    request = complete_request(
        model,
        machine,
        workload,
        quantization=quantization,
        runtime=runtime,
        placement=placement,
        catalog=catalog,
    )
    if request.quantization_open:
        request = best_comfortable(request)
    found = evaluate_one(request)
    place = request.machine
    assert place is not None
    work = work_of(found)
    notes: list[str] = []
    electricity = (
        quote_electricity(catalog, today=day)
        if electricity_usd_per_kwh is None
        else given("electricity", electricity_usd_per_kwh)
    )
    prices: list[Quote] = [electricity]
    bought = bought_of(place, purchase_usd, catalog, day, notes)
    prices += bought or ()
    if power_w is None:
        power_w, note = board_power(place, catalog)
        notes.append(note)
    lines: list[CostLine] = []
    running = None
    price = None
    if work is not None and power_w is not None:
        running = float(energy_usd_per_s(power_w, electricity.usd))
    if work is not None and bought is not None and power_w is not None:
        price = host_usd + sum(quote.usd for quote in bought)
        own_s = float(
            owned_usd_per_s(
                price,
                years=years,
                residual=residual,
                utilisation=utilisation,
                power_w=power_w,
                idle_power_w=idle_power_w,
                usd_per_kwh=electricity.usd,
            )
        )
        lines.append(_line("own", place.name, own_s, work))
    rents = rents_of(place, rental_usd_per_hour, quotes, catalog, day, tuple(terms))
    apis = (
        apis_of(request.model.id, tokens_usd_per_million, quotes, catalog, day)
        if work and work.tokens
        else ()
    )
    prices += [*rents, *apis]
    if work is not None:
        count = max(1, len(place.accelerators))
        for rent in rents:
            hourly = rent.usd * (1 if rental_usd_per_hour is not None else count)
            lines.append(_line("rent", _offer(rent), hourly / SECONDS_PER_HOUR, work, rent))
        for api in apis:
            amount = (
                float(token_usd(api.usd, api.usd_output or 0.0, work.prompt, work.output)) * work.per_unit
            )
            lines.append(
                CostLine(
                    way="api", name=api.provider or "given", usd_per_unit=Interval.exact(amount), quote=api
                )
            )
    if not rents:
        notes.append("No source says what this machine is rented for.")
    if host_usd == 0.0 and bought:
        notes.append("The rest of the machine is not counted; pass host_usd.")
    stale = [quote for quote in prices if quote.stale]
    if stale:
        notes.append(f"{len(stale)} of {len(prices)} prices are stale; pass newer ones.")
    return Cost(
        model=request.model.id,
        machine=place.name,
        unit=work.unit if work is not None else "",
        tier=found.tier,
        units_per_hour=work.units_per_s.scale(SECONDS_PER_HOUR) if work is not None else None,
        evidence=work.evidence if work is not None else "estimated",
        lines=tuple(lines),
        break_even=_break_even(price, running, lines, work, utilisation) if price and work else (),
        power_w=power_w,
        energy_kwh_per_unit=inverse(lambda rate: float(energy_per_unit_kwh(power_w, rate)), work.units_per_s)
        if work is not None and power_w is not None
        else None,
        prices=tuple(prices),
        assumptions={
            "years": years,
            "residual": residual,
            "utilisation": utilisation,
            "idle_power_w": idle_power_w,
            "host_usd": host_usd,
            "quantization": request.quantization.id if request.quantization is not None else "",
            "runtime": request.profile.id,
            "concurrency": float(request.workload.concurrency),
        },
        notes=tuple(notes),
    )


def _check(years: float, residual: float, utilisation: float, *amounts: float | None) -> None:
    if not years > 0:
        raise InvalidWorkloadError(f"years is above 0, got {years!r}.")
    if not 0 < utilisation <= 1:
        raise InvalidWorkloadError(f"utilisation is a share above 0 and up to 1, got {utilisation!r}.")
    if not 0 <= residual <= 1:
        raise InvalidWorkloadError(f"residual is a share from 0 to 1, got {residual!r}.")
    for amount in amounts:
        if amount is not None and not 0 <= amount < float("inf"):
            raise InvalidWorkloadError(f"power and prices are numbers >= 0, got {amount!r}.")


def _line(way: str, name: str, usd_per_s: float, work: Work, quote: Quote | None = None) -> CostLine:
    return CostLine(
        way=way,
        name=name,
        usd_per_unit=inverse(lambda rate: float(cost_per_unit(usd_per_s, rate)), work.units_per_s),
        usd_per_hour=float(per_hour(usd_per_s)),
        quote=quote,
    )


def _offer(quote: Quote) -> str:
    return " ".join(filter(None, (quote.provider, quote.terms))) or "given"


def _break_even(
    price: float, running: float | None, lines: Sequence[CostLine], work: Work, utilisation: float
) -> tuple[BreakEven, ...]:
    """Owning against the cheapest of each other way. Its own running cost is electricity alone."""
    if running is None:
        return ()
    found = []
    for way in ("rent", "api"):
        others = [line for line in lines if line.way == way]
        if not others:
            continue
        best = min(others, key=lambda line: line.usd_per_unit.best)
        if best.usd_per_hour is not None:
            # The rented machine is the same one: hours are exact, whatever its speed.
            spans = [float(break_even_hours(price, best.usd_per_hour / SECONDS_PER_HOUR, running))] * 3
        else:
            # An API is paid by the unit: a faster machine saves more of them per hour.
            rates = (work.units_per_s.high, work.units_per_s.best, work.units_per_s.low)
            spans = [float(break_even_hours(price, best.usd_per_unit.best * rate, running)) for rate in rates]
        found.append(_point(f"{way} ({best.name})", spans, work, utilisation))
    return tuple(found)


def _point(against: str, spans: list[float], work: Work, utilisation: float) -> BreakEven:
    low, best, high = spans
    if best == float("inf"):
        message = "never at the best estimate: it costs less than the electricity here"
        if low < float("inf"):
            message += f"; {low:,.0f} h if the machine is as fast as the high end says"
        return BreakEven(against=against, hours=None, units=None, years=None, message=message)
    hours = Interval(low, best, high)
    rates = (work.units_per_s.high, work.units_per_s.best, work.units_per_s.low)
    units = sorted(
        float(units_of_hours(span, rate)) for span, rate in zip(spans, rates, strict=True) if span < 1e300
    )
    best_units = float(units_of_hours(best, work.units_per_s.best))
    years = hours.scale(1.0 / (HOURS_PER_YEAR * utilisation))
    text = f"after {best:,.0f} busy hours ({low:,.0f} to {high:,.0f}), {years.best:.2g} years at {utilisation:.0%} use"
    return BreakEven(
        against=against,
        hours=hours,
        units=Interval(min(units[0], best_units), best_units, max(units[-1], best_units)),
        years=years,
        message=text,
    )
