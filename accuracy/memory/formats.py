"""Quantization records by every name, read from the catalog file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from willitrun.records.recipes import Quantization

__all__ = ["quantizations"]

ROOT = Path(__file__).resolve().parents[2]


def quantizations() -> dict[str, Quantization]:
    """Records by id and alias."""
    text = (ROOT / "catalogs" / "quantizations.toml").read_text(encoding="utf-8")
    records = [Quantization(**entry) for entry in tomllib.loads(text)["quantization"]]
    return {name: record for record in records for name in (record.id, *record.aliases)}
