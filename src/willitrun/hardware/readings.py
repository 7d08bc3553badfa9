"""Numbers as drivers give them, believed only where they make sense."""

from __future__ import annotations

from typing import Any

__all__ = ["believed", "error_of"]


def believed(value: Any, low: float, high: float) -> int | None:
    """An integer reading inside the range that hardware can have; None for an error, a sentinel or garbage.

    >>> believed(384, 32, 16384), believed({"error": "NotSupported"}, 1, 9), believed(4294967295, 1, 16384)
    (384, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return None
    return value


def error_of(value: Any) -> str | None:
    """The name of the error that a reading ended in; None for a value."""
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return str(value["error"])
    return None
