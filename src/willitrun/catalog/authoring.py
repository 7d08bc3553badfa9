"""Read catalog files as people write them."""

from __future__ import annotations

from importlib.resources.abc import Traversable

from willitrun.catalog.layout import Kind
from willitrun.catalog.locations import catalog_files
from willitrun.catalog.processor_rows import processor_record
from willitrun.catalog.spellings import RawRecord
from willitrun.errors import CatalogInvalidError

__all__ = ["read_kind", "read_raw_file"]


def read_raw_file(kind: Kind, path: str, file: Traversable) -> list[RawRecord]:
    """Raw records of one kind in one file.

    Raises
    ------
    CatalogInvalidError
        The file is no TOML (or CSV with a header), or its records have no id.
    """
    # The index serves look-ups; parsers of authored files are loaded when one is read.
    import csv
    import io
    import tomllib

    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CatalogInvalidError(path, "file", f"is not UTF-8 ({error.reason})") from error
    if path.endswith(".csv"):
        rows: list[RawRecord] = list(csv.DictReader(io.StringIO(text)))
        if any(None in row for row in rows):
            raise CatalogInvalidError(path, "file", "a row has more cells than the header")
        return _with_ids([processor_record(row) for row in rows] if kind.name == "host" else rows, path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogInvalidError(path, "file", f"is not valid TOML: {error}") from error
    if not kind.table:
        return _with_ids([document], path)
    found = document.get(kind.table, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise CatalogInvalidError(path, kind.table, f"must be an array of tables, [[{kind.table}]]")
    return _with_ids(found, path)


def read_kind(root: Traversable, kind: Kind) -> dict[str, list[RawRecord]]:
    """All raw records of a kind, by file."""
    return {path: read_raw_file(kind, path, file) for path, file in catalog_files(root, kind.patterns)}


def _with_ids(rows: list[RawRecord], path: str) -> list[RawRecord]:
    for number, row in enumerate(rows):
        identifier = row.get("id", row.get("code"))
        if not isinstance(identifier, str) or not identifier:
            raise CatalogInvalidError(path, f"record {number + 1}", "has no id")
    return rows
