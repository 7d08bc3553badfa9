"""The spellings that lead to a record."""

from __future__ import annotations

from typing import Any

from willitrun.catalog.layout import Kind
from willitrun.catalog.names import normalise_name

__all__ = ["RawRecord", "record_id", "spellings"]

RawRecord = dict[str, Any]


def record_id(raw: RawRecord) -> str:
    """The id of a raw record."""
    return str(raw.get("id") or raw["code"])


def spellings(raw: RawRecord, kind: Kind) -> set[str]:
    """Every normalised name that leads to a record."""
    names: list[str] = [record_id(raw), *_listed(raw.get("aliases"))]
    if kind.name not in ("measurement", "calibration", "source"):
        names += _listed(raw.get("name"))
    for label in kind.labels:
        names += _listed(raw.get(label))
    found = {normalise_name(name) for name in names if name}
    if kind.name in ("model", "checkpoint"):
        # Without its publisher; "16" is no name, though a network's is ViT-B/16.
        tails = [name.rpartition("/")[2] for name in names if "/" in name]
        found |= {normalise_name(tail) for tail in tails if any(char.isalpha() for char in tail)}
    return found


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]
