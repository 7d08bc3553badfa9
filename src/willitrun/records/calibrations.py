"""Fitted numbers."""

from datetime import date
from typing import Any

from pydantic import Field

from willitrun.records.bases import Record, RecordId

__all__ = ["Calibration"]


class Calibration(Record):
    """Fitted numbers, kept apart from facts: coefficients, residuals, intervals and where they come from."""

    id: RecordId
    kind: str
    method: str
    fitted: date
    data_digest: str
    n_rows: int
    n_configurations: int
    coefficients: dict[str, float]
    levels: dict[str, dict[str, float]] = Field(default_factory=dict)
    intervals: dict[str, dict[str, float]] = Field(default_factory=dict)
    difficulty: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Task -> ``"<runtime>/<back end>/<dense or moe>"`` -> class of spread; its intervals are ``"<task>:<class>/<tier>"``."""
    residuals: tuple[dict[str, Any], ...] = ()
    support: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What the fit has seen: ``devices``, ``families``, ``classes`` (vendor/memory class)."""
