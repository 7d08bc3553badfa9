"""Machines as offers: with a price to buy or to rent, added to what is owned, in an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.energy import board_limit
from willitrun.estimators.evaluation import Evaluated
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.remedies import find_remedies
from willitrun.kernels.costs import rate_per_watt
from willitrun.planning.builds import best_of_subsets
from willitrun.planning.fronts import pareto_front
from willitrun.planning.prices import given, quote_machine, quote_rentals
from willitrun.recommendations.goals import LESS_IS_MORE, Goal, merit, misses_of
from willitrun.records.machines import Machine
from willitrun.records.presentation import format_field
from willitrun.records.prices import Quote
from willitrun.records.recommendations import Option

__all__ = ["additions_to", "by_price", "fastest_of", "front_of", "option_of", "priced_options", "steps_to"]


def option_of(found: Evaluated, way: str, goal: Goal, quotes: tuple[Quote, ...], usd: float | None) -> Option:
    machine = found.request.machine
    assert machine is not None
    head = found.headline() if found.tier not in ("will-not-run", "unknown") else None
    speed = found.speed_estimate()
    total, power = found.total(), board_limit(machine)
    misses = list(misses_of(found, goal))
    sure = not misses and not misses_of(found, goal, low=True)
    if goal.power_w is not None and way != "rent":
        if power is None:
            misses.append("no source says what it draws")
        elif power > goal.power_w:
            misses.append(f"{power:,.0f} W, {goal.power_w:,.0f} W are allowed")
    limit = goal.rent_usd if way == "rent" else goal.budget_usd
    high = None if usd is None else usd * (1.0 + goal.noise)
    if limit is not None and way != "owned" and high is not None and high > limit:
        misses.append(f"{high:,.2f} USD, {limit:,.2f} USD are allowed")
    more = head is not None and head[0] not in LESS_IS_MORE
    return Option.model_construct(
        machine=machine.name,
        accelerators=tuple(device.accelerator.id for device in machine.accelerators),
        way=way,
        quantization=found.request.quantization.id if found.request.quantization is not None else None,
        batch_size=found.request.workload.batch_size,
        tier=found.tier,
        meets=not misses,
        sure=sure and not misses,
        misses=tuple(misses),
        headline=head[0] if head is not None else "",
        rate=head[1] if head is not None else None,
        total_bytes=round(total.best) if total is not None else None,
        power_w=power,
        usd=usd,
        usd_low=None if usd is None else max(0.0, usd * (1.0 - goal.noise)),
        usd_high=high,
        rate_per_watt=float(rate_per_watt(head[1].best, power))
        if head is not None and power and more
        else None,
        evidence=speed.evidence if speed is not None else "estimated",
        quotes=quotes,
    )


def priced_options(
    found: Evaluated,
    goal: Goal,
    prices: Mapping[str, float],
    terms: tuple[str, ...],
    catalog: Catalog,
    day: date,
    unpriced: list[str],
) -> list[Option]:
    """The machine to buy and to rent, as far as prices are known."""
    machine = found.request.machine
    assert machine is not None
    options = []
    bought = _bought(machine, prices, catalog, day)
    if bought is not None:
        options.append(option_of(found, "buy", goal, bought, sum(quote.usd for quote in bought)))
    cards = {device.accelerator.id for device in machine.accelerators}
    if len(cards) == 1:
        count = len(machine.accelerators)
        offers = quote_rentals(next(iter(cards)), catalog, today=day, terms=terms)
        for offer in [offer for offer in offers if offer.count <= count][:1]:
            options.append(option_of(found, "rent", goal, (offer,), offer.usd * count))
    if not options and not misses_of(found, goal):
        unpriced.append(machine.name)
    return options


def _bought(
    machine: Machine, prices: Mapping[str, float], catalog: Catalog, day: date
) -> tuple[Quote, ...] | None:
    known = {device.accelerator.id for device in machine.accelerators} <= prices.keys()
    if known and machine.accelerators:
        return tuple(
            given("purchase", prices[device.accelerator.id], subject=device.accelerator.id)
            for device in machine.accelerators
        )
    try:
        found = quote_machine(machine, catalog, today=day)
    except MissingDataError:
        return None
    return tuple(
        given("purchase", prices[quote.subject], subject=quote.subject) if quote.subject in prices else quote
        for quote in found
    )


def by_price(option: Option) -> tuple[float, float, str]:
    return (option.usd or 0.0, -_rate(option), option.machine)


def _rate(option: Option) -> float:
    """The headline as something to maximise."""
    if option.rate is None:
        return 0.0
    return -option.rate.best if option.headline in LESS_IS_MORE else option.rate.best


def fastest_of(options: Sequence[Option]) -> Option | None:
    return max(options, key=lambda option: (_rate(option), -(option.usd or 0.0)), default=None)


def front_of(options: list[Option]) -> tuple[Option, ...]:
    """Options that no other one beats in price, speed and power at once."""
    points = [
        (o.usd or 0.0, -_rate(o), o.power_w if o.power_w is not None else float("inf")) for o in options
    ]
    return tuple(options[i] for i in pareto_front(points))


def additions_to(
    place: Machine,
    machines: Sequence[Machine],
    requests: Any,
    goal: Goal,
    prices: Mapping[str, float],
    catalog: Catalog,
    day: date,
) -> tuple[Option, ...]:
    """Single machines' cards put into what is owned, where that meets the goal."""
    found = []
    for machine in machines:
        if not machine.accelerators or any(device.shares_host_memory for device in machine.accelerators):
            continue
        bought = _bought(machine, prices, catalog, day)
        if bought is None:
            continue
        joined = place.model_copy(
            update={
                "name": f"{place.name} + {machine.name}",
                "accelerators": (*place.accelerators, *machine.accelerators),
            }
        )
        usd = sum(quote.usd for quote in bought)
        if goal.budget_usd is not None and usd > goal.budget_usd:
            continue
        best = best_of_subsets(requests(joined), key=lambda one: merit(one, goal))
        option = option_of(best, "buy", goal, bought, usd)
        if option.meets:
            # It is named as the whole, even where a part does the work.
            found.append(option.model_copy(update={"machine": joined.name}))
    return tuple(sorted(found, key=by_price)[:5])


def steps_to(found: Evaluated, goal: Goal, additions: tuple[Option, ...]) -> tuple[str, ...]:
    """What it would take on what is owned: changes that cost nothing first, then the cheapest cards."""
    free = []
    for remedy in find_remedies(found):
        if remedy.kind == "hardware" or TIER_ORDER[remedy.tier] < TIER_ORDER[goal.tier]:
            continue
        wanted = goal.all_targets(found.request).get(remedy.headline)
        if wanted is None or remedy.speed is None or remedy.speed.best >= wanted:
            free.append(remedy.message)
    bought = [
        f"Add {option.machine.rpartition(' + ')[2]} for {option.usd:,.0f} USD: {option.tier}"
        + (f", {format_field(option.headline, option.rate.best)}" if option.rate is not None else "")
        for option in additions
    ]
    return (*free, *bought)
