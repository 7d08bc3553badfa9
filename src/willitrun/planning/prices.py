"""Prices as answers show them: the newest of each kind, with age, and what the caller knows better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError, UnitError
from willitrun.records.machines import Machine
from willitrun.records.prices import Price, PriceKind, Quote

__all__ = [
    "given",
    "quote",
    "quote_electricity",
    "quote_machine",
    "quote_purchase",
    "quote_rentals",
    "quote_tokens",
]

_PER = {
    "purchase": "item",
    "rental": "accelerator and hour",
    "electricity": "kWh",
    "tokens": "million tokens",
}
DEFAULT_SECTOR = "us-residential"


def given(kind: PriceKind, usd: float, *, subject: str = "", usd_output: float | None = None) -> Quote:
    """A price of the caller's own.

    Raises
    ------
    UnitError
        It is negative or no number.
    """
    for amount in (usd, usd_output):
        if amount is not None and not 0.0 <= amount < float("inf"):
            raise UnitError(f"a price is a number of USD >= 0, got {amount!r}.")
    return Quote(
        kind=kind, subject=subject, usd=float(usd), usd_output=usd_output, per=_PER[kind], source="given"
    )


def quote(price: Price, catalog: Catalog, today: date) -> Quote:
    """A catalogued price with its age; stale from the age of its kind on (`price_ages`)."""
    age = (today - price.dated).days
    return Quote(
        kind=price.kind,
        subject=price.subject,
        usd=price.usd,
        usd_output=price.usd_output,
        per=_PER[price.kind],
        provider=price.provider,
        terms=price.terms,
        count=price.count,
        dated=price.dated,
        age_days=age,
        stale=age > stale_after(price.kind, catalog),
        source=_source(price.cite["*"][0].source, catalog),
        note=price.note,
    )


def stale_after(kind: PriceKind, catalog: Catalog) -> int:
    """Age from which on a price of a kind is called stale [days]."""
    return next(age.stale_days for age in catalog.price_ages.values() if age.kind == kind)


def _source(identifier: str, catalog: Catalog) -> str:
    source = catalog.sources[identifier]
    return f"{source.title}, {source.url}"


def _newest(prices: Iterable[Price]) -> list[Price]:
    """The newest entry of each offer."""
    found: dict[tuple[str, str, str, int], Price] = {}
    for price in prices:
        key = (price.subject, price.provider, price.terms, price.count)
        if key not in found or price.dated > found[key].dated:
            found[key] = price
    return list(found.values())


def _of(catalog: Catalog, kind: PriceKind) -> dict[str, list[Price]]:
    def derive() -> dict[str, list[Price]]:
        found: dict[str, list[Price]] = {}
        for price in _newest(price for price in catalog.prices.values() if price.kind == kind):
            found.setdefault(price.subject, []).append(price)
        return found

    return catalog.remember(("prices", kind), derive)


def quote_purchase(accelerator: str, catalog: Catalog, *, today: date) -> Quote | None:
    """What a card costs: the newest purchase price, else its launch price; None where no source says."""
    prices = _of(catalog, "purchase").get(accelerator, ())
    if prices:
        return quote(max(prices, key=lambda price: price.dated), catalog, today)
    if accelerator not in catalog.accelerators:
        return None
    record = catalog.accelerators[accelerator]
    if record.msrp is None or record.launched is None:
        return None
    age = (today - record.launched).days
    return Quote(
        kind="purchase",
        subject=accelerator,
        usd=record.msrp,
        per=_PER["purchase"],
        dated=record.launched,
        age_days=age,
        stale=age > stale_after("purchase", catalog),
        source=_source(record.citations("msrp")[0].source, catalog),
        note="Launch price of the card alone.",
    )


def quote_machine(machine: Machine, catalog: Catalog, *, today: date) -> tuple[Quote, ...]:
    """Purchase prices of a machine's accelerators, in order.

    Raises
    ------
    MissingDataError
        A card has no sourced price.
    """
    found = []
    for device in machine.accelerators:
        price = quote_purchase(device.accelerator.id, catalog, today=today)
        if price is None:
            raise MissingDataError(
                f"no source says what {device.accelerator.name} costs.", hint="Pass purchase_usd=..."
            )
        found.append(price)
    if not found:
        raise MissingDataError(f"{machine.name} has no accelerator to price.", hint="Pass purchase_usd=...")
    return tuple(found)


def quote_rentals(
    accelerator: str, catalog: Catalog, *, today: date, terms: Sequence[str] = ("on-demand",)
) -> tuple[Quote, ...]:
    """Offers of an accelerator by the hour, cheapest first."""
    prices = [price for price in _of(catalog, "rental").get(accelerator, ()) if price.terms in terms]
    return tuple(quote(price, catalog, today) for price in sorted(prices, key=lambda price: price.usd))


def quote_tokens(model: str, catalog: Catalog, *, today: date) -> tuple[Quote, ...]:
    """What hosted APIs ask for a model, by provider; cheapest output first."""
    prices = _of(catalog, "tokens").get(model, ())
    ordered = sorted(prices, key=lambda price: price.usd_output or price.usd)
    return tuple(quote(price, catalog, today) for price in ordered)


def quote_electricity(catalog: Catalog, *, today: date, sector: str = DEFAULT_SECTOR) -> Quote:
    """Electricity of a sector.

    Raises
    ------
    MissingDataError
        No source says what it costs there.
    """
    prices = _of(catalog, "electricity").get(sector, ())
    if not prices:
        known = ", ".join(sorted(_of(catalog, "electricity")))
        raise MissingDataError(
            f"no source says what electricity costs for {sector!r}.", hint=f"Known: {known}. Or pass a price."
        )
    return quote(max(prices, key=lambda price: price.dated), catalog, today)
