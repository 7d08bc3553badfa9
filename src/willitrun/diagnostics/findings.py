"""What a diagnosis says: the entry, where the log shows it, its numbers, its causes in order."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from willitrun.records.bases import Record, RecordId
from willitrun.records.knowledge import Fix
from willitrun.records.presentation import Presented

__all__ = ["Diagnosis", "RankedCause", "Span"]


class Span(Record):
    """One place in the log that shows the failure."""

    line: int = Field(ge=1)
    """Line number, counted from 1."""
    text: str
    """The matched part of the line."""


class RankedCause(Record):
    """A possible cause, and what log and machine say about it."""

    cause: str
    applies: bool | None = None
    """True: log or machine show it. False: they exclude it. None: they do not say."""
    check: str = ""
    command: str = ""
    probe: str = ""
    fixes: tuple[Fix, ...] = ()


class Diagnosis(Presented):
    """A known failure that was found in a text."""

    entry: RecordId
    name: str
    severity: Literal["fatal", "degraded", "warning"]
    category: str
    meaning: str
    spans: tuple[Span, ...]
    occurrences: int = Field(ge=1)
    """Lines that showed it, as far as they were counted."""
    general: bool = False
    """The lines tell the kind of failure, and no known message: read what stands around them."""
    cited: bool = True
    """A public message or a line of a program is cited for the pattern; else it is wider than what is cited."""
    numbers: dict[str, int] = Field(default_factory=dict)
    """Captured amounts [bytes]: ``tried``, ``free``, ``total``, ``reserved``, ``allocated``, ..."""
    details: dict[str, str] = Field(default_factory=dict)
    """Other captures: device index, layers, context lengths, chip names."""
    finding: str = ""
    """What the numbers mean, in a sentence."""
    shortfall_bytes: int | None = None
    """How much was missing, where the log tells."""
    causes: tuple[RankedCause, ...] = ()
    fixes: tuple[Fix, ...] = ()
    """All fixes, those of the likeliest cause first."""
    dead_ends: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """``troubleshooting:...`` references: the entry itself, then its relatives."""
    cites: tuple[RecordId, ...] = ()

    def summary(self) -> str:
        where = f"line {self.spans[0].line}"
        if self.occurrences > 1:
            where += f", {self.occurrences} times"
        where += ", by its kind" if self.general else ""
        where += "" if self.cited else ", pattern without a cited message"
        return f"{self.name} ({self.severity}, {where})" + (f". {self.finding}" if self.finding else "")

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = [("what", self.meaning)]
        shown += [(f"line {span.line}", span.text) for span in self.spans]
        if self.finding:
            shown.append(("finding", self.finding))
        word = {True: "likely", False: "excluded", None: "possible"}
        shown += [(f"cause, {word[cause.applies]}", cause.cause) for cause in self.causes]
        shown += [("fix", " ".join(filter(None, (fix.fix, fix.command)))) for fix in self.fixes]
        shown += [("does not help", text) for text in self.dead_ends]
        return tuple(shown)
