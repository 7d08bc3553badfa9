"""Which statements of the glossary cite no place, and why they need none."""

from __future__ import annotations

import re

import willitrun
from willitrun.catalog import load_catalog
from willitrun.records.knowledge import GlossaryEntry
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import MemoryEstimate, SpeedEstimate, Verdict

PARTS = ("definition", "explanation", "example")
# Terms that this library coined, or to which it gives a meaning of its own.
OWN_TERMS = {"calibration", "headroom", "practical-floor", "prediction-interval", "prompt-kit"}
FIELDS = {
    name
    for model in (MemoryEstimate, SpeedEstimate, Verdict, Runtime, Workload)
    for name in model.model_fields
}
# Public names and those fields that are no words of their own, and what texts call the library's parts.
NAMES = {name for name in willitrun.__all__ if not name.startswith("_")} | {
    name for name in FIELDS if "_" in name
}
OWN = re.compile(
    r"\b(?:"
    + "|".join(sorted(map(re.escape, NAMES)))
    + r"|willitrun|[Hh]ere|verdict|engine|catalog|estimate|workload|prompt kit|images=1)\b"
)
NUMBER = re.compile(
    r"\d|\b(?:half|twice|one|two|three|four|five|six|eight|ten|tenth|eleven|twenty|thirty-second|hundred|percent|million)\b",
    re.IGNORECASE,
)


def why_without_place(entry: GlossaryEntry, part: str) -> str | None:
    """Why a statement needs no place: a result, this library itself, arithmetic; None if it needs one."""
    text = getattr(entry, part)
    if "{{" in text:
        return "result"
    if entry.id in OWN_TERMS or OWN.search(text):
        return "own"
    if part in ("definition", "example") and NUMBER.search(text):
        return "arithmetic"
    return None


def test_statements_without_a_place_are_results_about_this_library_or_arithmetic() -> None:
    reasons: dict[str, list[str]] = {"result": [], "own": [], "arithmetic": []}
    lacking = []
    for entry in dict(load_catalog().glossary).values():
        for part in PARTS:
            if any(citation.at for citation in entry.cite.get(part, ())):
                continue
            reason = why_without_place(entry, part)
            if reason is None:
                lacking.append(f"{entry.id}.{part}")
            else:
                reasons[reason].append(f"{entry.id}.{part}")
    assert lacking == []
    # What was looked through one by one; a new statement of these two kinds has to be looked at too.
    assert len(reasons["own"]) <= 31, reasons["own"]
    assert len(reasons["arithmetic"]) <= 17, reasons["arithmetic"]
    assert reasons["result"]
