"""What scans, runtime choices and comparisons answer with."""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import date

from pydantic import Field

from willitrun.frozen import frozen
from willitrun.records.bases import IntervalField, Record
from willitrun.records.presentation import Presented, format_field, format_interval
from willitrun.records.results import Evidence, Reason, Tier

__all__ = [
    "SCAN_HEAD",
    "AxisDifference",
    "Bout",
    "Chip",
    "Chips",
    "Comparison",
    "Contender",
    "RankedModel",
    "RuntimeCandidate",
    "RuntimeChoice",
    "Scan",
    "ScoreCard",
    "rows_as_html",
]


def rows_as_html(caption: str, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table with everything escaped and no style sheet."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><caption>{html.escape(caption)}</caption><tr>{top}</tr>{body}</table>"


class ScoreCard(Presented):
    """A score and what it is made of: ``score = 100 x fit x speed``."""

    score: float | None
    """0 to 100; None where the speed is unknown."""
    tier: Tier
    fit: float
    """Factor of the tier [1]."""
    speed: float | None
    """Factor of the speed against the floor of the workload [1]: a half at the floor."""
    headline: str = ""
    rate: float | None = None
    floor: float | None = None
    practical: bool | None = None

    def summary(self) -> str:
        value = "unknown" if self.score is None else f"{self.score:.0f} of 100"
        return f"{value}: {self.tier}"


@frozen
class RankedModel:
    """One model at the format that a scan chose for it. A dataclass: a scan makes hundreds of them at a time."""

    rank: int
    model: str
    task: str
    quantization: str | None
    runtime: str
    tier: Tier
    practical: bool | None
    score: float | None
    """0 to 100 by `willitrun.score`; None where the speed is unknown."""
    headline: str = ""
    rate: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    total_bytes: int | None = None
    parameters: int | None = None
    released: date | None = None
    evidence: Evidence = "estimated"
    prior: float | None = None
    """Quality of the model as the caller's prior has it; it decides the order only where one was given."""
    blocked_by: str = ""
    """Reason code of what stands in the way whatever memory says."""

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            str(self.rank),
            self.model,
            self.quantization or "",
            self.runtime,
            self.tier,
            format_field(self.headline, self.rate) if self.rate is not None else self.blocked_by,
            format_field("bytes", self.total_bytes) if self.total_bytes is not None else "",
            "" if self.score is None else f"{self.score:.0f}",
        )


SCAN_HEAD = ("rank", "model", "format", "runtime", "tier", "speed", "memory", "score")


class Scan(Presented):
    """All models of a catalog on one machine, the most useful first."""

    machine: str
    tier: Tier
    """Least tier that counts as fitting."""
    order_by: str
    ranked: tuple[RankedModel, ...]

    def __len__(self) -> int:
        return len(self.ranked)

    @property
    def fitting(self) -> tuple[RankedModel, ...]:
        """Those that reach the tier and are fast enough for their use."""
        return tuple(row for row in self.ranked if row.rank > 0)

    def summary(self) -> str:
        return (
            f"{len(self.fitting)} of {len(self.ranked)} models run {self.tier} and fast enough on "
            f"{self.machine}, by {self.order_by}"
        )

    def rows(self) -> tuple[tuple[str, str], ...]:
        return tuple((f"{row.rank}. {row.model}", ", ".join(row.cells()[2:])) for row in self.fitting[:20])

    def _repr_html_(self) -> str:
        return rows_as_html(self.summary(), SCAN_HEAD, (row.cells() for row in self.fitting[:30]))


class Chip(Record):
    """A label for a machine: one named workload, and whether the machine is up to it."""

    label: str
    workload: str
    """Id of the workload record."""
    model: str
    """Model by which the label is judged."""
    quantization: str | None
    answer: str
    """``yes``, ``tight``, ``offload``, ``slow``, ``no`` or ``unknown``."""
    tier: Tier
    headline: str = ""
    rate: float | None = None
    why: str = ""


class Chips(Presented):
    """Workload labels of a machine."""

    machine: str
    chips: tuple[Chip, ...]

    def summary(self) -> str:
        good = [chip.label for chip in self.chips if chip.answer == "yes"]
        return f"{self.machine}: {', '.join(good) if good else 'none of the usual workloads'}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        return tuple((chip.label, f"{chip.answer}: {chip.why}") for chip in self.chips)


class RuntimeCandidate(Record):
    """One runtime at the format that suits it here."""

    runtime: str
    backend: str | None
    quantization: str | None
    tier: Tier
    practical: bool | None = None
    headline: str = ""
    rate: float | None = None
    evidence: Evidence = "estimated"
    calibrated: bool = True
    """Whether measurements of this runtime went into the speed; where not, its speed is that of any runtime."""
    reason: Reason | None = None
    """What decides: what stands in the way, or how it fits."""


class RuntimeChoice(Presented):
    """Which runtime suits a model on a machine, and why."""

    runtime: str | None
    quantization: str | None
    width: str
    """Weights that all runtimes were asked for: ``16-bit``, ``8-bit``, ``4-bit``, a format, or empty."""
    why: tuple[str, ...]
    candidates: tuple[RuntimeCandidate, ...]
    """Best first."""

    def summary(self) -> str:
        if self.runtime is None:
            return "no runtime suits: " + " ".join(self.why)
        return f"{self.runtime} ({self.quantization or 'as trained'}): {' '.join(self.why)}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (
                candidate.runtime,
                f"{candidate.quantization or ''} {candidate.tier}"
                + (f", {format_field(candidate.headline, candidate.rate)}" if candidate.rate else "")
                + (f", {candidate.reason.code}" if candidate.reason is not None else ""),
            )
            for candidate in self.candidates
        )


class AxisDifference(Record):
    """One term of the step time in which the contenders differ [s]."""

    term: str
    values: tuple[float, ...]
    """In the order of the contenders; 0 where a contender has no such term."""
    inputs: dict[str, tuple[float | int | str | None, ...]] = Field(default_factory=dict)
    """Inputs of the term that differ."""


class Contender(Record):
    """One side of a comparison under one workload."""

    name: str
    tier: Tier
    practical: bool | None
    total_bytes: IntervalField | None = None
    available_bytes: int | None = None
    headline: str = ""
    rate: IntervalField | None = None
    bound: str = ""
    evidence: Evidence = "estimated"
    specs: dict[str, float | int | str | None] = Field(default_factory=dict)


class Bout(Record):
    """All contenders under one workload: who wins, by how much, and which terms decide."""

    title: str
    contenders: tuple[Contender, ...]
    winner: str | None
    """None where the intervals or the facts do not say."""
    clear: bool
    """Whether the winner's interval lies above all others': otherwise it may be the other way round."""
    ratio: float | None = None
    """Speed of the winner over that of the runner-up [1]."""
    why: tuple[str, ...] = ()
    differences: tuple[AxisDifference, ...] = ()


class Comparison(Presented):
    """Contenders side by side, and why one wins."""

    of: str
    """``machines``, ``models``, ``quantizations`` or ``runtimes``."""
    names: tuple[str, ...]
    bouts: tuple[Bout, ...]

    def summary(self) -> str:
        wins = {name: sum(bout.winner == name for bout in self.bouts) for name in self.names}
        return ", ".join(f"{name} wins {count} of {len(self.bouts)}" for name, count in wins.items())

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = []
        for bout in self.bouts:
            for side in bout.contenders:
                rate = format_interval(side.headline, side.rate) if side.rate is not None else "unknown speed"
                weights = side.specs.get("quantization")
                shown.append(
                    (
                        f"{bout.title}: {side.name}",
                        f"{side.tier}, {rate}" + (f" at {weights}" if weights else ""),
                    )
                )
            shown += [(f"{bout.title}: why", text) for text in bout.why]
        return tuple(shown)
