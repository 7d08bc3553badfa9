"""What differs between two versions of the catalogs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from willitrun.records.bases import Record
from willitrun.records.presentation import Presented

__all__ = ["CatalogDifference", "FieldChange", "RecordChange"]


class FieldChange(Record):
    """One field of a record: what it was and what it is, as written; None where it is absent."""

    field: str
    """``memory_bandwidth``, ``peaks.fp16_tensor``, ..."""
    old: Any = None
    new: Any = None


class RecordChange(Record):
    """One record that appeared, went away, or changed."""

    kind: str
    id: str
    name: str
    what: Literal["added", "removed", "changed"]
    fields: tuple[FieldChange, ...] = ()

    @property
    def sources_only(self) -> bool:
        """Only citations changed: the same facts stand on other sources."""
        return bool(self.fields) and all(change.field.partition(".")[0] == "cite" for change in self.fields)


class CatalogDifference(Presented):
    """All changes from one catalog to another."""

    old_version: str
    new_version: str
    changes: tuple[RecordChange, ...] = ()

    def of_kind(self, *kinds: str) -> tuple[RecordChange, ...]:
        """The changes of records of these kinds (``model``, ``accelerator``, ...)."""
        return tuple(change for change in self.changes if change.kind in kinds)

    def summary(self) -> str:
        counts = Counter(change.what for change in self.changes)
        if not counts:
            return f"{self.old_version} and {self.new_version} hold the same records"
        parts = ", ".join(
            f"{counts[what]} {what}" for what in ("added", "removed", "changed") if counts[what]
        )
        return f"{self.old_version} to {self.new_version}: {parts}"
