"""Records that a user adds: off unless asked for, so that equal inputs give equal verdicts."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from willitrun.catalog.authoring import read_raw_file
from willitrun.catalog.layout import KINDS
from willitrun.catalog.locations import catalog_files
from willitrun.catalog.record_tables import validated
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
    """Raw records of one overlay folder, by kind and id. The folder is cut like ``catalogs/``.

    Raises
    ------
    CatalogInvalidError
        A file or a record of it is malformed. Several overlays may hold a file of the same name, so the error names
        the folder too; records are checked here, where it is still known which file they come from.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in KINDS.values():
        mine = found.setdefault(kind.name, {})
        for path, file in catalog_files(folder, kind.patterns):
            named = f"{folder}/{path}"
            for raw in read_raw_file(kind, named, file):
                validated(kind.name, raw, named)
                mine[record_id(raw)] = raw
    return found


def user_records() -> dict[str, dict[str, dict[str, Any]]]:
    """Records of all overlays; a later folder replaces an earlier record of the same id."""
    merged: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in overlay_folders():
        for kind, records in read_overlay(folder).items():
            merged.setdefault(kind, {}).update(records)
    return merged
