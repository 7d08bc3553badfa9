"""What `cost` answers with."""

from __future__ import annotations

from pydantic import Field

from willitrun.records.bases import IntervalField, Record
from willitrun.records.presentation import Presented
from willitrun.records.prices import Quote
from willitrun.records.results import Evidence, Tier

__all__ = ["BreakEven", "Cost", "CostLine"]


class CostLine(Record):
    """One way to get the work done."""

    way: str
    """``own``, ``rent`` or ``api``."""
    name: str
    usd_per_unit: IntervalField
    """Per ``unit`` of the cost; the interval is that of the speed."""
    usd_per_hour: float | None = None
    """Per busy hour; None for an API."""
    quote: Quote | None = None


class BreakEven(Record):
    """When owning beats an alternative."""

    against: str
    hours: IntervalField | None
    """Busy hours until the price is earned back; None where it never is."""
    units: IntervalField | None
    """The same in units of work."""
    years: IntervalField | None
    """The same in years at the utilisation asked for."""
    message: str


class Cost(Presented):
    """Owning against renting against an API, per unit of work."""

    model: str
    machine: str
    unit: str
    """``million output tokens``, ``thousand images``, ``thousand texts``, ``hour of audio``."""
    tier: Tier
    units_per_hour: IntervalField | None
    evidence: Evidence
    lines: tuple[CostLine, ...] = ()
    break_even: tuple[BreakEven, ...] = ()
    power_w: float | None = None
    energy_kwh_per_unit: IntervalField | None = None
    prices: tuple[Quote, ...] = ()
    """Every price that went in, dated."""
    assumptions: dict[str, float | str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def cheapest(self) -> CostLine | None:
        """The line with the lowest best estimate."""
        return min(self.lines, key=lambda line: line.usd_per_unit.best, default=None)

    @property
    def stale(self) -> tuple[Quote, ...]:
        """The prices that are older than their kind keeps."""
        return tuple(price for price in self.prices if price.stale)

    def summary(self) -> str:
        best = self.cheapest
        if best is None:
            return f"{self.model} on {self.machine}: {self.tier}, no cost"
        return f"{self.model}: {best.way} ({best.name}) is cheapest, {_usd(best.usd_per_unit.best)} per {self.unit}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = [
            (
                f"{line.way}: {line.name}",
                f"{_usd(line.usd_per_unit.best)} ({_usd(line.usd_per_unit.low)} to {_usd(line.usd_per_unit.high)})"
                f" per {self.unit}"
                + (f", {_usd(line.usd_per_hour)}/h" if line.usd_per_hour is not None else ""),
            )
            for line in self.lines
        ]
        shown += [(f"break-even against {point.against}", point.message) for point in self.break_even]
        shown += [("price", price.text()) for price in self.prices]
        shown += [(f"assumed: {name}", str(value)) for name, value in self.assumptions.items()]
        shown += [("note", note) for note in self.notes]
        return tuple(shown)


def _usd(value: float) -> str:
    return f"{value:,.2f} USD" if value >= 1 else f"{value:.3g} USD"
