"""What `plan_serving` and `plan_batch` answer with."""

from __future__ import annotations

from pydantic import Field

from willitrun.records.bases import IntervalField, Record
from willitrun.records.presentation import Presented, counted
from willitrun.records.prices import Quote
from willitrun.records.results import Evidence, Tier

__all__ = ["BatchOption", "BatchPlan", "ServingOption", "ServingPlan"]


class ServingOption(Record):
    """One kind of machine, and how many of it the service takes."""

    machine: str
    tier: Tier
    quantization: str = ""
    runtime: str = ""
    evidence: Evidence = "estimated"
    replicas: int | None = None
    """Machines at the best estimate of the speed; None where no number meets the targets."""
    replicas_low: int | None = None
    """At the fast end of the speed."""
    replicas_high: int | None = None
    """At the slow end of the speed; None where no number is enough there."""
    slots: int | None = None
    """Sequences in flight to allow per replica."""
    in_flight: float | None = None
    """Sequences in flight per replica on average."""
    utilisation: float | None = None
    """Share of a replica's throughput that is used [1]."""
    wait_mean_s: float | None = None
    wait_quantile_s: float | None = None
    time_to_first_token_s: float | None = None
    """Wait included, at the percentile asked for."""
    time_per_output_token_s: float | None = None
    throughput_tokens_per_s: float | None = None
    """Output tokens of all replicas at the load."""
    capacity_requests_per_s: float | None = None
    """Most that one replica finishes [1/s]."""
    purchase_usd: float | None = None
    rent_usd_per_hour: float | None = None
    power_w: float | None = None
    """Board limits of all cards of all replicas, an upper bound."""
    usd_per_million_output_tokens: float | None = None
    """Rent over what is generated at this load."""
    quotes: tuple[Quote, ...] = ()
    problem: str = ""
    """Why no number of replicas is enough."""


class ServingPlan(Presented):
    """Replicas, hardware and money for a service, per kind of machine."""

    model: str
    requests_per_s: float
    prompt_tokens_mean: float
    output_tokens_mean: float
    context_tokens: int
    """Longest request, which every slot can hold."""
    percentile: float
    targets: dict[str, float] = Field(default_factory=dict)
    options: tuple[ServingOption, ...] = ()
    """Cheapest first where prices are known, else fewest replicas first."""
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> ServingOption | None:
        """The first option that meets the targets."""
        return next((option for option in self.options if option.replicas is not None), None)

    def summary(self) -> str:
        best = self.best
        load = f"{self.model} at {self.requests_per_s:.3g} requests/s"
        if best is None:
            return f"{load}: no machine meets the targets"
        return f"{load}: {best.replicas} x {best.machine}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = [(option.machine, _option_text(option, self.percentile)) for option in self.options]
        if len(shown) > 1:
            shown = [(f"{number}. {name}", text) for number, (name, text) in enumerate(shown, 1)]
        shown += [(f"target: {name}", f"{value:g}") for name, value in self.targets.items()]
        seen = {quote.text(): None for option in self.options for quote in option.quotes}
        shown += [("price", text) for text in seen]
        shown += [("note", note) for note in self.notes]
        return tuple(shown)


def _option_text(option: ServingOption, percentile: float) -> str:
    if option.replicas is None:
        return option.problem
    least = "?" if option.replicas_low is None else option.replicas_low
    spread = f"{least} to {option.replicas_high}"
    if option.replicas_high is None:
        spread = f"{least} at the fast end of the estimate, no number is enough at the slow end"
    parts = [
        f"{counted(option.replicas, 'replica')} ({spread}) of {option.runtime} {option.quantization}".rstrip(),
        f"{option.slots} slots each",
        f"{option.utilisation:.0%} used",
        f"TTFT {option.time_to_first_token_s:.3g} s at p{percentile * 100:g}",
        f"TPOT {(option.time_per_output_token_s or 0.0) * 1e3:.3g} ms",
    ]
    if option.purchase_usd is not None:
        parts.append(f"{option.purchase_usd:,.0f} USD to buy")
    if option.rent_usd_per_hour is not None:
        parts.append(f"{option.rent_usd_per_hour:,.2f} USD/h")
    return ", ".join(parts)


class BatchOption(Record):
    """One kind of machine, and what the job takes on so many of it."""

    machine: str
    tier: Tier
    quantization: str = ""
    runtime: str = ""
    in_flight: int | None = None
    """Requests in flight, or items of a batch."""
    evidence: Evidence = "estimated"
    replicas: int | None = None
    """Machines that share the job: those given, or those that the deadline takes."""
    replicas_low: int | None = None
    replicas_high: int | None = None
    """Machines that the deadline takes at the fast and at the slow end of the speed."""
    hours: IntervalField | None = None
    energy_kwh: IntervalField | None = None
    """At the board limit or the power given, an upper bound; None where no source says either."""
    electricity_usd: IntervalField | None = None
    rent_usd: IntervalField | None = None
    quotes: tuple[Quote, ...] = ()
    problem: str = ""


class BatchPlan(Presented):
    """Hours, energy and money of a job of so many items."""

    model: str
    items: float
    unit: str
    machines: int | None
    """How many machines share the job; None where each option has its own number, for a deadline."""
    deadline_hours: float | None = None
    options: tuple[BatchOption, ...] = ()
    """Fastest first; for a deadline the cheapest rent first, then fewest machines."""
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        best = next((option for option in self.options if option.hours is not None), None)
        job = f"{self.items:,.0f} {self.unit} by {self.model}"
        if best is None or best.hours is None:
            return f"{job}: no machine does it"
        several = f"{best.replicas} x " if best.replicas and best.replicas > 1 else ""
        return f"{job}: {_hours(best.hours.best)} on {several}{best.machine}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = []
        for option in self.options:
            if option.hours is None:
                shown.append((option.machine, option.problem))
                continue
            one = option.hours
            parts = [f"{_hours(one.best)} ({_hours(one.low)} to {_hours(one.high)})"]
            if self.deadline_hours is not None:
                parts.insert(
                    0,
                    f"{counted(option.replicas or 0, 'machine')} ({option.replicas_low} to {option.replicas_high})",
                )
            how = f"{option.runtime} {option.quantization}".strip()
            parts.append(f"{option.in_flight} at a time in {how}" if option.in_flight else how)
            if option.energy_kwh is not None:
                parts.append(f"{option.energy_kwh.best:,.3g} kWh")
            if option.electricity_usd is not None:
                parts.append(f"{option.electricity_usd.best:,.2f} USD of electricity")
            if option.rent_usd is not None:
                parts.append(f"{option.rent_usd.best:,.2f} USD of rent")
            shown.append((option.machine, ", ".join(parts)))
        seen = {quote.text(): None for option in self.options for quote in option.quotes}
        shown += [("price", text) for text in seen]
        shown += [("note", note) for note in self.notes]
        return tuple(shown)


def _hours(hours: float) -> str:
    """A job's time as people say it."""
    if hours < 1.0:
        return f"{hours * 60:.3g} min"
    return f"{hours:,.3g} h" if hours < 48.0 else f"{hours:,.0f} h ({hours / 24:,.3g} days)"
