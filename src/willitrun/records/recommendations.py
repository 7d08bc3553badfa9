"""What `recommend` answers with."""

from __future__ import annotations

from pydantic import Field

from willitrun.records.bases import IntervalField, Record
from willitrun.records.presentation import Presented, format_field
from willitrun.records.prices import Quote
from willitrun.records.rankings import rows_as_html
from willitrun.records.results import Evidence, Tier

__all__ = ["Option", "Recommendation"]


class Option(Record):
    """One machine that could do the job, or not, and what it costs."""

    machine: str
    accelerators: tuple[str, ...]
    way: str
    """``buy``, ``rent`` or ``owned``."""
    quantization: str | None
    batch_size: int | None = None
    """Pictures, texts or windows of speech that are taken at once, for a model that takes batches."""
    tier: Tier
    meets: bool
    """Whether it reaches the tier, every target and the floors of the workload, at the best estimate."""
    sure: bool
    """Whether the low end of the interval reaches them too."""
    misses: tuple[str, ...] = ()
    """What is missing, in words."""
    headline: str = ""
    rate: IntervalField | None = None
    total_bytes: int | None = None
    power_w: float | None = None
    usd: float | None = None
    """Purchase price of the accelerators, or rent per hour."""
    usd_low: float | None = None
    usd_high: float | None = None
    """The price with the noise that was asked for."""
    rate_per_watt: float | None = None
    evidence: Evidence = "estimated"
    quotes: tuple[Quote, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """The option as text."""
        price = (
            ""
            if self.usd is None
            else f"{self.usd:,.2f} USD/h"
            if self.way == "rent"
            else f"{self.usd:,.0f} USD"
        )
        rate = format_field(self.headline, self.rate.best) if self.rate is not None else ""
        if rate and (self.batch_size or 1) > 1:
            rate += f" in batches of {self.batch_size}"
        return (
            self.machine,
            self.way,
            price + (" (stale)" if any(quote.stale for quote in self.quotes) else ""),
            self.quantization or "",
            self.tier,
            rate,
            f"{self.power_w:,.0f} W" if self.power_w is not None else "",
        )


_MOST = 12
_HEAD = ("machine", "way", "price", "format", "tier", "speed", "power")


class Recommendation(Presented):
    """Machines that meet a goal: the cheapest, the fastest, the most efficient, and what lies between."""

    goal: str
    cheapest: Option | None
    """To buy."""
    fastest: Option | None
    """Of those to buy; of those to rent where none is to be bought."""
    most_efficient: Option | None
    """Most work per watt of board power, likewise."""
    cheapest_rent: Option | None
    pareto: tuple[Option, ...]
    """Options to buy of which none is cheaper, faster and drawing less at once; cheapest first."""
    owned: Option | None = None
    to_reach: tuple[str, ...] = ()
    """What it would take to reach the goal on what is owned, cheapest first."""
    additions: tuple[Option, ...] = ()
    """Owned machine plus cards with which it meets the goal, cheapest first."""
    considered: int
    met: int
    without_price: tuple[str, ...] = ()
    """Machines that meet the goal and of which no source says a price: no order of costs holds them."""
    notes: tuple[str, ...] = ()
    assumptions: dict[str, float | str] = Field(default_factory=dict)

    def summary(self) -> str:
        if self.owned is not None and self.owned.meets:
            return f"{self.goal}: {self.owned.machine} does it already"
        if self.cheapest is None and self.cheapest_rent is None:
            return f"{self.goal}: none of {self.considered} machines does it within the limits"
        best = self.cheapest or self.cheapest_rent
        assert best is not None
        return f"{self.goal}: {', '.join(best.cells()[:3])}; {self.met} of {self.considered} machines do it"

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = [
            (label, ", ".join(filter(None, option.cells())))
            for label, option in (
                ("owned", self.owned),
                ("cheapest", self.cheapest),
                ("fastest", self.fastest),
                ("most efficient", self.most_efficient),
                ("cheapest to rent", self.cheapest_rent),
            )
            if option is not None
        ]
        if self.owned is not None:
            shown += [("owned misses", text) for text in self.owned.misses]
        shown += [(f"on what you own, {i}", text) for i, text in enumerate(self.to_reach, 1)]
        front = self.pareto[:_MOST]
        shown += [(f"Pareto {i}", ", ".join(filter(None, o.cells()))) for i, o in enumerate(front, 1)]
        if len(self.pareto) > _MOST:
            shown.append(("Pareto", f"{len(self.pareto) - _MOST} more, dearer ones"))
        seen: dict[str, Quote] = {}
        for option in (self.cheapest, self.fastest, self.most_efficient, self.cheapest_rent, *front):
            for quote in option.quotes if option is not None else ():
                seen.setdefault(quote.text(), quote)
        shown += [(f"price: {quote.subject}", text) for text, quote in seen.items()]
        if self.without_price:
            shown.append(("would do, price unknown", ", ".join(self.without_price[:12])))
        shown += [("note", note) for note in self.notes]
        return tuple(shown)

    def _repr_html_(self) -> str:
        options = [option for option in (self.owned, *self.pareto, self.cheapest_rent) if option is not None]
        return rows_as_html(self.summary(), _HEAD, (option.cells() for option in options))
