"""Check every record: schema, ids, references, citations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from willitrun.catalog.authoring import read_kind
from willitrun.catalog.catalogs import Catalog
from willitrun.catalog.indexing import index_texts
from willitrun.catalog.layout import KINDS
from willitrun.catalog.locations import INDEX_FOLDER
from willitrun.catalog.record_tables import validated
from willitrun.errors import CatalogInvalidError
from willitrun.records.bases import CitedRecord, Record

__all__ = ["CatalogReport", "check_catalog"]


@dataclass(slots=True)
class CatalogReport:
    """What a check found. ``problems`` empty means the catalogs are sound."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    facts: int = 0
    cited_facts: int = 0
    by_basis: Counter[str] = field(default_factory=Counter)
    two_sources: Counter[str] = field(default_factory=Counter)
    """Fact name -> how many records have a second source for it."""
    stated: Counter[str] = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_catalog(catalog: Catalog) -> CatalogReport:
    """Validate every authored record, every reference between records, and the freshness of the index."""
    report = CatalogReport()
    sources: set[str] = set()
    records: dict[str, dict[str, Record]] = {}
    for kind in KINDS.values():
        found: dict[str, Record] = {}
        try:
            by_file = read_kind(catalog.root, kind)
        except CatalogInvalidError as error:
            report.problems.append(str(error))
            continue
        for path, rows in by_file.items():
            for raw in rows:
                try:
                    record = validated(kind.name, raw, path)
                except CatalogInvalidError as error:
                    report.problems.append(str(error))
                    continue
                identifier = str(raw.get("id") or raw.get("code"))
                if identifier in found:
                    report.problems.append(f"{path}: {identifier}: the id occurs twice")
                found[identifier] = record
        records[kind.name] = found
        report.counts[kind.name] = len(found)
    sources = set(records.get("source", {}))
    for kind_name, found in records.items():
        for identifier, record in found.items():
            if isinstance(record, CitedRecord):
                _count_citations(report, kind_name, identifier, record, sources)
            _check_references(report, kind_name, identifier, record, records)
    _check_names(report, records)
    _check_index(report, catalog)
    return report


def _count_citations(
    report: CatalogReport, kind: str, identifier: str, record: CitedRecord, sources: set[str]
) -> None:
    for name in record.facts():
        report.facts += 1
        citations = record.citations(name)
        if citations:
            report.cited_facts += 1
        report.stated[f"{kind}.{name}"] += 1
        if len({citation.source for citation in citations}) > 1:
            report.two_sources[f"{kind}.{name}"] += 1
        report.by_basis.update({citation.basis for citation in citations[:1]})
    for citations in record.cite.values():
        for citation in citations:
            if citation.source not in sources:
                report.problems.append(f"{kind} {identifier}: cites unknown source {citation.source!r}")
            if citation.basis == "derived" and not citation.rule:
                report.problems.append(f"{kind} {identifier}: a derived value names no rule")


_REFERENCES = {
    "accelerator": {"ambiguous_with": "accelerator"},
    "checkpoint": {"model": "model"},
    "glossary": {"related": "glossary", "goes_wrong": "troubleshooting"},
    "troubleshooting": {"related": "troubleshooting"},
    "reason": {"glossary": "glossary", "troubleshooting": "troubleshooting"},
    "measurement": {"accelerator": "accelerator"},
    "workload": {"reference": "model", "reference_quantization": "quantization"},
}


def _check_references(
    report: CatalogReport, kind: str, identifier: str, record: Record, records: dict[str, dict[str, Record]]
) -> None:
    for name, target in _REFERENCES.get(kind, {}).items():
        value = getattr(record, name) or ()
        for reference in (value,) if isinstance(value, str) else value:
            known = records.get(target, {})
            if reference not in known and not (
                target == "accelerator" and reference in records.get("host", {})
            ):
                report.problems.append(
                    f"{kind} {identifier}: {name} names {reference!r}, which is no {target}"
                )


def _check_names(report: CatalogReport, records: dict[str, dict[str, Record]]) -> None:
    """An alias is a promise that the name leads to one record."""
    for kind, found in records.items():
        taken: dict[str, str] = {}
        for identifier, record in found.items():
            for alias in getattr(record, "aliases", ()):
                owner = taken.setdefault(alias.lower(), identifier)
                if owner != identifier:
                    report.problems.append(f"{kind} {identifier}: the alias {alias!r} belongs to {owner!r}")


def _check_index(report: CatalogReport, catalog: Catalog) -> None:
    if not isinstance(catalog.root, Path):
        return
    try:
        texts = index_texts(catalog.root)
    except CatalogInvalidError:
        # Unreadable files and ids that occur twice are among the problems already.
        return
    folder = catalog.root / INDEX_FOLDER
    for name, text in texts.items():
        file = folder / name
        if not file.is_file() or file.read_text("utf-8") != text:
            report.problems.append(f"{INDEX_FOLDER}/{name}: is stale; run 'willitrun catalog build'")
