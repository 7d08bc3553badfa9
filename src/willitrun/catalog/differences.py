"""Compare two catalogs record by record, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from willitrun.catalog.layout import KINDS
from willitrun.errors import UnknownIdError
from willitrun.records.differences import CatalogDifference, FieldChange, RecordChange

if TYPE_CHECKING:
    from willitrun.catalog.catalogs import Catalog

__all__ = ["diff_catalogs"]


def diff_catalogs(old: Catalog, new: Catalog, *, kinds: tuple[str, ...] = ()) -> CatalogDifference:
    """What it takes to get from one catalog to the other.

    Parameters
    ----------
    old, new
        Catalogs; `willitrun.catalog.open_catalog` opens those of a folder or a wheel.
    kinds
        Kinds of record to compare (``model``, ``accelerator``, ...); empty compares all.

    Raises
    ------
    UnknownIdError
        There is no such kind.

    Examples
    --------
    >>> from willitrun.catalog import load_catalog
    >>> shipped = load_catalog()
    >>> slower = {"rtx-0": dict(shipped.accelerators.raw("nvidia-geforce-rtx-4090"), id="rtx-0", os_names=[])}
    >>> diff_catalogs(shipped, shipped.with_records({"accelerator": slower})).changes[0].what
    'added'
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownIdError("kind of record", kind, tuple(KINDS))
    changes = [
        change
        for kind in (kinds or tuple(KINDS))
        for change in _of_kind(kind, old.table(kind), new.table(kind))
    ]
    return CatalogDifference(old_version=old.version, new_version=new.version, changes=tuple(changes))


def _of_kind(kind: str, old: Any, new: Any) -> Iterator[RecordChange]:
    for identifier in sorted({*old, *new}):
        before = old.raw(identifier) if identifier in old else None
        after = new.raw(identifier) if identifier in new else None
        record: Mapping[str, Any] = after or before or {}
        name = str(record.get("name") or record.get("title") or identifier)
        if before is None or after is None:
            yield RecordChange(
                kind=kind, id=identifier, name=name, what="added" if before is None else "removed"
            )
        elif before != after:
            fields = tuple(_fields(before, after))
            yield RecordChange(kind=kind, id=identifier, name=name, what="changed", fields=fields)


def _fields(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[FieldChange]:
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        # A quantity changes as a whole; other tables by their fields.
        if isinstance(old, Mapping) and isinstance(new, Mapping) and "unit" not in {*old, *new}:
            yield from _fields(old, new, f"{prefix}{name}.")
        else:
            yield FieldChange(field=f"{prefix}{name}", old=old, new=new)
