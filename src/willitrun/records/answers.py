"""What a question in plain words was taken for, and the answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from willitrun.records.bases import Record
from willitrun.records.presentation import Presented
from willitrun.records.results import Link, Verdict

__all__ = ["Answer", "Choice", "Intent"]

Intent = Literal[
    "fit",
    "speed",
    "memory",
    "smallest-machine",
    "best-quantization",
    "largest-context",
    "largest-batch",
    "largest-concurrency",
    "best-runtime",
    "term",
    "models",
    "comparison",
    "unclear",
]


class Choice(Record):
    """A name that fits several records: which was taken, and which others there are."""

    said: str
    taken: str
    others: tuple[str, ...]


class Answer(Presented):
    """One paragraph, and the whole fit tuple behind it."""

    question: str
    intent: Intent
    text: str
    """The answer in one paragraph, with what was assumed."""
    assumptions: tuple[str, ...] = ()
    """What the question did not say."""
    choices: tuple[Choice, ...] = ()
    """Names that were ambiguous; empty if none was."""
    unread: tuple[str, ...] = ()
    """Words that look like they matter and were not understood."""
    model: str | None = None
    machines: tuple[str, ...] = ()
    workload: dict[str, Any] = Field(default_factory=dict)
    quantization: str | None = None
    runtime: str | None = None
    value: float | int | str | None = None
    """The number or the name that was asked for, where it is one."""
    verdict: Verdict | None = None
    links: tuple[Link, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether a name in the question fits several records."""
        return bool(self.choices)

    def __bool__(self) -> bool:
        return self.intent != "unclear"

    def summary(self) -> str:
        return self.text
