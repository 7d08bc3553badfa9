"""Records that a user adds: off unless asked for, so that equal inputs give equal verdicts."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from willitrun.catalog.authoring import read_kind
from willitrun.catalog.layout import KINDS
from willitrun.catalog.spellings import record_id
from willitrun.errors import CatalogError

__all__ = ["overlay_folders", "read_overlay", "user_records"]


def overlay_folders() -> list[Traversable]:
    """Overlay folders, weakest first: entry points, the user's folder, ``WILLITRUN_CATALOGS``."""
    folders: list[Traversable] = []
    for entry in sorted(entry_points(group="willitrun.catalogs"), key=lambda entry: entry.name):
        place = entry.load()
        folders.append(place() if callable(place) else place)
    user = user_data_path("willitrun", appauthor=False) / "catalogs"
    if user.is_dir():
        folders.append(user)
    for name in filter(None, os.environ.get("WILLITRUN_CATALOGS", "").split(os.pathsep)):
        folder = Path(name)
        if not folder.is_dir():
            raise CatalogError(f"WILLITRUN_CATALOGS names {name!r}, which is no folder.")
        folders.append(folder)
    return folders


def read_overlay(folder: Traversable) -> dict[str, dict[str, dict[str, Any]]]:
    """Raw records of one overlay folder, by kind and id. The folder is cut like ``catalogs/``."""
    return {
        kind.name: {record_id(raw): raw for records in read_kind(folder, kind).values() for raw in records}
        for kind in KINDS.values()
    }


def user_records() -> dict[str, dict[str, dict[str, Any]]]:
    """Records of all overlays; a later folder replaces an earlier record of the same id."""
    merged: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in overlay_folders():
        for kind, records in read_overlay(folder).items():
            merged.setdefault(kind, {}).update(records)
    return merged
