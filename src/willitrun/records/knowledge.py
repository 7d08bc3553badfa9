"""Glossary and troubleshooting entries, and which of them explain a reason."""

from typing import Literal

from pydantic import Field

from willitrun.records.bases import CitedRecord, Record, RecordId

__all__ = [
    "Cause",
    "Fix",
    "GlossaryEntry",
    "ReasonLinks",
    "TroubleshootingEntry",
]

ComputesOn = Literal["accelerator", "processor"]


class GlossaryEntry(CitedRecord):
    """A term of the field.

    Numbers in the examples are engine expressions: ``{{ ... }}`` is evaluated when the entry is shown
    (see `willitrun.explanations`), so that prose can't drift from the engine.
    """

    category: str
    definition: str = Field(max_length=400)
    explanation: str
    example: str = ""
    workflow: str = ""
    related: tuple[RecordId, ...] = ()
    fields: tuple[str, ...] = ()
    """API fields that carry the quantity, such as ``MemoryEstimate.kv_cache_bytes``."""
    goes_wrong: tuple[RecordId, ...] = ()
    """Troubleshooting entries."""
    computes_on: ComputesOn | None = None
    """What a verdict has to compute on for a link to this entry; None: either."""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"category", "related", "fields", "goes_wrong", "computes_on"}


class Cause(Record):
    """One cause of a failure, with a check that can be run here."""

    cause: str
    check: str = ""
    """How to see whether it applies, in words."""
    command: str = ""
    probe: str = ""
    """Name of a probe of this library that answers it."""
    fixes: tuple[int, ...] = ()
    """Indices into the entry's ``fixes``."""


class Fix(Record):
    """One remedy, where it applies and what it costs."""

    fix: str
    command: str = ""
    versions: str = ""
    effect: str = ""
    """Predicted effect; ``{{ ... }}`` expressions are evaluated by the engine."""


class TroubleshootingEntry(CitedRecord):
    """A failure people meet: how to recognise it, why it happens, what helps and what does not."""

    severity: Literal["fatal", "degraded", "warning"]
    category: str
    summary: str = Field(max_length=500)
    runtimes: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    computes_on: ComputesOn | None = None
    """What a verdict has to compute on for a link to this entry; None: either."""
    signatures: tuple[str, ...] = ()
    """Regular expressions; named groups ``tried``, ``free``, ``total``, ``reserved`` capture numbers."""
    general_signatures: tuple[str, ...] = ()
    """Expressions that tell the kind of a failure and not which: they count on lines where no signature holds."""
    contextual_signatures: tuple[str, ...] = ()
    """Wordings that programs outside the field use too: they count like general ones, in a text in which a program of
    the field speaks, on lines that report an error, if no signature holds anywhere."""
    uncited_signatures: tuple[str, ...] = ()
    """Like ``signatures``, but wider than what is cited: neither a public message nor a line of a program's source is."""
    uncited_general_signatures: tuple[str, ...] = ()
    """Like ``general_signatures``, without a cited message or line."""
    threads: tuple[str, ...] = ()
    """Public threads that hold messages of this failure, which the signatures were taken from or checked with."""
    causes: tuple[Cause, ...] = ()
    fixes: tuple[Fix, ...] = ()
    dead_ends: tuple[str, ...] = ()
    related: tuple[RecordId, ...] = ()
    reasons: tuple[str, ...] = ()
    """Reason codes of verdicts that this entry explains."""
    verified_with: str = ""
    """Versions of programs in whose source a message of this failure was found; empty where none was looked through."""

    @classmethod
    def _labels(cls) -> set[str]:
        return {
            "severity",
            "category",
            "runtimes",
            "vendors",
            "systems",
            "tasks",
            "computes_on",
            "signatures",
            "general_signatures",
            "contextual_signatures",
            "uncited_signatures",
            "uncited_general_signatures",
            "threads",
            "related",
            "reasons",
        }


class ReasonLinks(Record):
    """Which entries explain a reason code, for which tasks."""

    id: str = ""
    """Name of a further row of a code; the first row of a code goes by the code alone."""
    code: str
    title: str
    explanation: str = ""
    glossary: tuple[RecordId, ...] = ()
    troubleshooting: tuple[RecordId, ...] = ()
    tasks: tuple[str, ...] = ()
    """Tasks that this row is for; empty: all of them."""
    computes_on: ComputesOn | None = None
    """What a verdict has to compute on for this row to count; None: either."""
