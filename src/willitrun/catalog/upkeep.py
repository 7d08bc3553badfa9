"""What in the catalogs needs another look: stale sources, flagged records, facts that one source carries alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from typing import TYPE_CHECKING

from pydantic import Field

from willitrun.catalog.layout import KINDS
from willitrun.records.bases import CitedRecord, Record
from willitrun.records.presentation import Presented

if TYPE_CHECKING:
    from willitrun.catalog.catalogs import Catalog

__all__ = ["Doubt", "SourceUse", "UpkeepReport", "review_catalog"]

STALE_DAYS = 365


class SourceUse(Record):
    """A source and what rests on it."""

    id: str
    title: str
    publisher: str
    url: str
    kind: str
    licence: str | None
    retrieved: date
    age_days: int
    stale: bool
    facts: int = 0
    """Facts that cite it, alone or with others."""
    alone: int = 0
    """Facts that nothing else supports."""
    records: tuple[str, ...] = ()
    """``kind:id`` of the records that cite it."""


class Doubt(Record):
    """A record that says itself what is doubtful about it."""

    kind: str
    id: str
    flags: tuple[str, ...]


class UpkeepReport(Presented):
    """Sources by age and weight, doubts, and how many facts of each kind stand on one source."""

    sources: tuple[SourceUse, ...]
    doubts: tuple[Doubt, ...]
    facts: dict[str, int] = Field(default_factory=dict)
    """``accelerator.memory_bandwidth`` -> how many records state it."""
    single_source: dict[str, int] = Field(default_factory=dict)
    """... and in how many of them one source carries it."""
    secondary_only: dict[str, int] = Field(default_factory=dict)
    """... and in how many no vendor figure and no derivation does."""

    def summary(self) -> str:
        stale = sum(source.stale for source in self.sources)
        unused = sum(not source.facts for source in self.sources)
        return (
            f"{len(self.sources)} sources, {stale} stale, {unused} cited by nothing; "
            f"{len(self.doubts)} records with flags; "
            f"{sum(self.single_source.values())} of {sum(self.facts.values())} facts rest on one source"
        )


def review_catalog(
    catalog: Catalog, *, today: date | None = None, stale_days: int = STALE_DAYS
) -> UpkeepReport:
    """Look over every record.

    Parameters
    ----------
    catalog
        What to look over.
    today
        From when ages count; None is the day of the youngest source, so that the report is reproducible.
    stale_days
        A source that was read longer ago is stale [days].

    Examples
    --------
    >>> from willitrun.catalog import load_catalog
    >>> report = review_catalog(load_catalog())
    >>> report.facts["accelerator.memory_bandwidth"] > 300
    True
    """
    facts: Counter[str] = Counter()
    single: Counter[str] = Counter()
    secondary: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    citing: defaultdict[str, set[str]] = defaultdict(set)
    doubts: list[Doubt] = []
    for kind in KINDS.values():
        for record in catalog.table(kind.name).values():
            if not isinstance(record, CitedRecord):
                continue
            if record.flags:
                doubts.append(Doubt(kind=kind.name, id=record.id, flags=record.flags))
            for name in record.facts():
                citations = record.citations(name)
                names = {citation.source for citation in citations}
                key = f"{kind.name}.{name}"
                facts[key] += 1
                uses.update(names)
                if len(names) == 1:
                    single[key] += 1
                    alone.update(names)
                if all(citation.basis == "secondary" for citation in citations):
                    secondary[key] += 1
                for source in names:
                    citing[source].add(f"{kind.name}:{record.id}")
    records = list(catalog.sources.values())
    now = today or max((source.retrieved for source in records), default=date.min)
    return UpkeepReport(
        sources=tuple(
            SourceUse(
                id=source.id,
                title=source.title,
                publisher=source.publisher,
                url=source.url,
                kind=source.kind,
                licence=source.licence,
                retrieved=source.retrieved,
                age_days=(now - source.retrieved).days,
                stale=(now - source.retrieved).days > stale_days,
                facts=uses[source.id],
                alone=alone[source.id],
                records=tuple(sorted(citing[source.id])),
            )
            for source in sorted(records, key=lambda found: (-uses[found.id], found.id))
        ),
        doubts=tuple(doubts),
        facts=dict(facts),
        single_source=dict(single),
        secondary_only=dict(secondary),
    )
