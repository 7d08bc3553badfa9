"""What a machine costs to buy, rent and power, and what others ask for the model: quotes of a build."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.energy import board_limit
from willitrun.planning.prices import given, quote_machine, quote_rentals, quote_tokens
from willitrun.records.machines import Machine
from willitrun.records.prices import Quote

__all__ = ["apis_of", "board_power", "bought_of", "rents_of"]


def bought_of(
    machine: Machine, usd: float | None, catalog: Catalog, day: date, notes: list[str]
) -> tuple[Quote, ...] | None:
    """Purchase prices of the cards, given or catalogued; None, noted, where no source says."""
    if usd is not None:
        return (given("purchase", usd, subject=machine.name),)
    try:
        return quote_machine(machine, catalog, today=day)
    except MissingDataError as error:
        notes.append(str(error))
        return None


def board_power(machine: Machine, catalog: Catalog) -> tuple[float | None, str]:
    """What the boards draw while they work [W], and what that means; None where a card has no limit."""
    limit = board_limit(machine)
    if limit is None:
        return None, "No source says what this machine draws; pass power_w."
    share = catalog.calibrations["power"].coefficients["share"]
    return limit * share, (
        f"Power is {share:.0%} of the {limit:g} W that the boards may draw, as published runs do; the host is not counted."
    )


def rents_of(
    machine: Machine,
    usd: float | None,
    quotes: Sequence[Quote],
    catalog: Catalog,
    day: date,
    terms: tuple[str, ...],
) -> tuple[Quote, ...]:
    """What the machine is rented for, cheapest first: given, from a price package, catalogued."""
    if usd is not None:
        return (given("rental", usd, subject=machine.name),)
    cards = {device.accelerator.id for device in machine.accelerators}
    if len(cards) != 1:
        return ()
    card, count = next(iter(cards)), len(machine.accelerators)
    offers = [quote for quote in quotes if quote.kind == "rental" and quote.subject == card]
    offers += quote_rentals(card, catalog, today=day, terms=terms)
    return tuple(sorted((offer for offer in offers if offer.count <= count), key=lambda offer: offer.usd))


def apis_of(
    model: str, usd: tuple[float, float] | None, quotes: Sequence[Quote], catalog: Catalog, day: date
) -> tuple[Quote, ...]:
    """What an API asks for the model."""
    if usd is not None:
        return (given("tokens", usd[0], subject=model, usd_output=usd[1]),)
    more = tuple(quote for quote in quotes if quote.kind == "tokens" and quote.subject == model)
    return (*more, *quote_tokens(model, catalog, today=day))
