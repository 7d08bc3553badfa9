"""One thing that the doctor has to say."""

from __future__ import annotations

from typing import Literal

from willitrun.records.bases import Record

__all__ = ["Finding"]


class Finding(Record):
    """One thing that the doctor has to say."""

    code: str
    """Stable, kebab-case."""
    severity: Literal["good", "note", "problem"]
    title: str
    message: str
    see: tuple[str, ...] = ()
    """``troubleshooting:...`` entries that help."""
