"""Find known failures in a log, with their numbers, their causes in order, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from willitrun.diagnostics.evidence import finding, read_numbers, shortfall, weigh
from willitrun.diagnostics.findings import Diagnosis, RankedCause, Span
from willitrun.diagnostics.scanning import Hit, Sighting, Text, scan
from willitrun.diagnostics.signatures import Kind, compile_signatures
from willitrun.records.knowledge import Fix, TroubleshootingEntry
from willitrun.records.machines import Machine

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["Diagnosis", "RankedCause", "Span", "diagnose"]

_SEVERITY = {"fatal": 0, "degraded": 1, "warning": 2}
_LIKELIHOOD = {True: 0, None: 1, False: 2}
_LONGEST_EXCERPT = 400


def diagnose(
    text: Text, *, machine: Machine | str | Any | None = None, catalog: Catalog | None = None
) -> tuple[Diagnosis, ...]:
    """Find known failures in a text.

    Parameters
    ----------
    text
        The text itself (`str` or `bytes`), a path object, an open file, or an iterable of lines. It is read
        once, in pieces of 512 KiB; lines are looked at in windows of 8 KiB.
    machine
        A machine, or anything that `describe_machine` takes. It ranks the causes.
    catalog
        Where the entries come from; the default catalog if left out.

    Returns
    -------
    tuple of Diagnosis
        The worst and most specific first; empty if nothing known was found.

    Raises
    ------
    WillItRunError
        The text is neither text nor file nor lines (code ``invalid-log``).

    Examples
    --------
    >>> from willitrun import diagnose
    >>> found = diagnose("CUDA driver version is insufficient for CUDA runtime version")
    >>> found[0].entry
    'driver-cuda-mismatch'
    """
    if catalog is None:
        from willitrun.catalog import load_catalog

        catalog = load_catalog()
    here = _machine(machine, catalog)
    entries = dict(catalog.troubleshooting)
    index = compile_signatures(
        tuple(
            (
                entry.id,
                entry.signatures + entry.uncited_signatures,
                entry.general_signatures + entry.uncited_general_signatures,
                entry.contextual_signatures,
            )
            for entry in entries.values()
        ),
        frozenset(
            expression
            for entry in entries.values()
            for expression in entry.uncited_signatures + entry.uncited_general_signatures
        ),
    )
    minor = frozenset(entry.id for entry in entries.values() if entry.severity == "warning")
    seen = scan(text, index, minor)
    ranked = sorted(seen, key=lambda identifier: _rank(entries[identifier], seen[identifier]))
    return tuple(_diagnosis(entries[identifier], seen[identifier], here) for identifier in ranked)


def _machine(machine: Any, catalog: Catalog) -> Machine | None:
    if machine is None or isinstance(machine, Machine):
        return machine
    from willitrun.hardware.descriptions import describe_machine

    return describe_machine(machine, catalog=catalog)


def _best(sighting: Sighting) -> Hit:
    return max(sighting.hits, key=lambda hit: (len(hit.groups), len(hit.text), -hit.line))


def _rank(entry: TroubleshootingEntry, sighting: Sighting) -> tuple[bool, int, int, int, int, str]:
    best = _best(sighting)
    specific = min(len(best.text), 200) + 20 * len(best.groups)
    warning = entry.severity == "warning"  # the program went on: what else was seen is the failure
    return (warning, sighting.kind, _SEVERITY[entry.severity], -specific, sighting.hits[0].line, entry.id)


def _diagnosis(entry: TroubleshootingEntry, sighting: Sighting, machine: Machine | None) -> Diagnosis:
    numbers, details = read_numbers(_best(sighting).groups)
    causes = sorted(
        (
            RankedCause(
                cause=cause.cause,
                applies=weigh(cause.probe, numbers, details, machine),
                check=cause.check,
                command=cause.command,
                probe=cause.probe,
                fixes=tuple(entry.fixes[number] for number in cause.fixes),
            )
            for cause in entry.causes
        ),
        key=lambda cause: _LIKELIHOOD[cause.applies],
    )
    return Diagnosis(
        entry=entry.id,
        name=entry.name,
        severity=entry.severity,
        category=entry.category,
        meaning=entry.summary,
        spans=tuple(Span(line=hit.line, text=hit.text[:_LONGEST_EXCERPT]) for hit in sighting.hits),
        occurrences=sighting.occurrences,
        general=sighting.kind is not Kind.EXACT,
        cited=any(hit.cited for hit in sighting.hits),
        numbers=numbers,
        details=details,
        finding=finding(numbers, details),
        shortfall_bytes=shortfall(numbers),
        causes=tuple(causes),
        fixes=_fixes(entry, causes),
        dead_ends=entry.dead_ends,
        links=tuple(f"troubleshooting:{identifier}" for identifier in (entry.id, *entry.related)),
        cites=tuple(
            dict.fromkeys(citation.source for citations in entry.cite.values() for citation in citations)
        ),
    )


def _fixes(entry: TroubleshootingEntry, causes: list[RankedCause]) -> tuple[Fix, ...]:
    """Fixes of likely causes first; those of excluded causes are left out."""
    wanted = [fix for cause in causes if cause.applies is not False for fix in cause.fixes]
    excluded = [fix for cause in causes if cause.applies is False for fix in cause.fixes]
    ordered: list[Fix] = []
    for fix in [*wanted, *(fix for fix in entry.fixes if fix not in excluded)]:
        if fix not in ordered:
            ordered.append(fix)
    return tuple(ordered)
