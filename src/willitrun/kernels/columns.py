"""Rows of plain numbers to columns of arrays, and back to blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import where

__all__ = ["Columns", "at", "columns_of", "devices_at", "numbers_of_row", "pick", "side", "stretches", "take"]

D = TypeVar("D")


_DTYPES: dict[str, Any] = {"int": np.int64, "float": np.float64, "bool": np.bool_}


@cache
def _fields_by_type(
    kind: Hashable,
) -> tuple[tuple[Any, tuple[str, ...], Callable[[Any], tuple[Any, ...]]], ...]:
    """Field names of a kind of row by the dtype of their columns, with what reads their values.

    Annotations are strings here: every module postpones their evaluation.
    """
    names: dict[str, list[str]] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        names.setdefault(str(field.type), []).append(field.name)
    return tuple((_DTYPES[code], tuple(found), _reader(found)) for code, found in names.items())


def _reader(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    read = attrgetter(*names)
    return read if len(names) > 1 else lambda row: (read(row),)


@frozen(eq=False)
class Columns:
    """Columns of one kind of row by field name; every array has shape (n,)."""

    arrays: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def numbers(self) -> Columns:
        """The numbers of a block of one row: every array has shape ()."""
        return Columns({name: array.reshape(())[()] for name, array in self.arrays.items()})

    def equals(self, other: Columns) -> bool:
        """Whether both hold the same rows."""
        return all(np.array_equal(array, other[name]) for name, array in self.arrays.items())


def columns_of(rows: Sequence[Any]) -> Columns:
    """Stack rows (dataclasses of int, float and bool fields) into columns of int64, float64 and bool.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Row:
    ...     size: int
    >>> columns_of([Row(1), Row(2**40)])["size"].tolist()
    [1, 1099511627776]
    """
    arrays: dict[str, NDArray[Any]] = {}
    for dtype, names, read in _fields_by_type(cast(Hashable, type(rows[0]))):
        # One array per type instead of one per field: a block of one row is mostly calls.
        table = np.array([read(row) for row in rows], dtype=dtype)
        arrays.update(zip(names, np.ascontiguousarray(table.T), strict=True))
    return Columns(arrays)


def numbers_of_row(row: Any) -> Columns:
    """One row as numbers of int64, float64 and bool: columns without a length.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Row:
    ...     size: int
    >>> numbers_of_row(Row(2**40))["size"]
    np.int64(1099511627776)
    """
    return Columns(
        {
            name: number(value)
            for number, names, read in _fields_by_type(cast(Hashable, type(row)))
            for name, value in zip(names, read(row), strict=True)
        }
    )


def at(column: Any, place: int) -> Any:
    """The value of a row in a column, of length one where all rows share it, or in the numbers of one row.

    Examples
    --------
    >>> [float(at(column, 1)) for column in (np.array([1.0, 2.0]), np.array([3.0]), np.float64(4.0), 5.0)]
    [2.0, 3.0, 4.0, 5.0]
    """
    if type(column) is not np.ndarray:
        return column
    return column[place if len(column) > 1 else 0]


def devices_at(column: Any, place: int) -> list[Any]:
    """The values of a row by device, as plain numbers.

    Examples
    --------
    >>> devices_at(np.array([[1, 2], [3, 4]]), 1), devices_at(np.int64(5), 0)
    ([3, 4], [5])
    """
    found: list[Any] = column[place].tolist() if type(column) is np.ndarray else [int(column)]
    return found


def pick(condition: ArrayLike, yes: ArrayLike, no: ArrayLike) -> NDArray[Any]:
    """``np.where`` that builds nothing where a plain bool answers for all rows.

    Examples
    --------
    >>> pick(True, np.array([1, 2]), 0).tolist(), pick(np.array([True, False]), 1, 0).tolist()
    ([1, 2], [1, 0])
    """
    if isinstance(condition, bool):
        chosen = yes if condition else no
        return chosen if isinstance(chosen, np.ndarray | np.generic) else np.asarray(chosen)
    return where(condition, yes, no)


def take(columns: Columns, index: NDArray[np.intp] | slice) -> Columns:
    """Rows of columns by index or slice."""
    return Columns({name: array[index] for name, array in columns.arrays.items()})


def side(columns: Columns, axis: int) -> Columns:
    """Columns as a side of a grid: (n, 1) down (axis 0) or (1, n) across (axis 1); (1, 1) where all rows agree.

    Examples
    --------
    >>> lines = Columns({"size": np.array([1, 2]), "kind": np.array([7, 7])})
    >>> [array.shape for array in side(lines, 0).arrays.values()]
    [(2, 1), (1, 1)]
    """
    place = (slice(None), None) if axis == 0 else (None,)
    if len(columns) == 1:
        return Columns({name: array[place] for name, array in columns.arrays.items()})
    return Columns(
        {
            name: (array[:1] if (array == array[0]).all() else array)[place]
            for name, array in columns.arrays.items()
        }
    )


def stretches(record: D) -> Callable[[slice], D]:
    """Any stretch of the rows of a record whose columns stand down a grid, (n, 1) or of more axes.

    Where each column changes is found once for all stretches: a column that does not change in one is (1, 1) there.
    Columns of length one, and what is no column, stay; records, `Columns`, tuples and mappings in it are gone through.

    Examples
    --------
    >>> of = stretches(Columns({"size": np.array([[1], [2], [2]]), "kind": np.array([[7]])}))
    >>> of(slice(0, 2))["size"].shape, of(slice(1, 3))["size"].shape, of(slice(1, 3))["kind"].shape
    ((2, 1), (1, 1), (1, 1))
    """
    columns: list[NDArray[Any]] = []
    rebuild = _columns_in(record, columns)
    if not columns:
        return lambda rows: record
    flat = [column.reshape(len(column)) for column in columns]
    changed = np.array([values[1:] != values[:-1] for values in flat], dtype=bool)
    count = np.concatenate([np.zeros((len(flat), 1), int), np.cumsum(changed, axis=1)], axis=1)

    def stretch(rows: slice) -> D:
        alike = (count[:, rows.start] == count[:, rows.stop - 1]).tolist()
        parts = (
            column[rows.start : rows.start + 1 if same else rows.stop]
            for column, same in zip(columns, alike, strict=True)
        )
        return rebuild(parts)  # type: ignore[no-any-return]

    return stretch


def _columns_in(record: Any, found: list[NDArray[Any]]) -> Callable[[Iterator[NDArray[Any]]], Any]:
    """Add the columns of a record to a list; return what builds it from parts of them, in that order."""
    if type(record) is np.ndarray and len(record) > 1:
        found.append(record)
        return next
    if isinstance(record, tuple):
        several = [_columns_in(value, found) for value in record]
        return lambda parts: tuple([build(parts) for build in several])
    if isinstance(record, dict):
        inner = {name: _columns_in(value, found) for name, value in record.items()}
        return lambda parts: {name: build(parts) for name, build in inner.items()}
    if not is_dataclass(record) or isinstance(record, type):
        return lambda parts: record
    known = len(found)
    names = [field.name for field in fields(record)]
    builders = [_columns_in(getattr(record, name), found) for name in names]
    if len(found) == known:
        return lambda parts: record
    kind = type(record)
    return lambda parts: kind(*[build(parts) for build in builders])
