"""Rows of plain numbers to columns of arrays, and back to blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Columns", "columns_of", "pick", "side", "sides", "take"]

C = TypeVar("C")


_DTYPES: dict[str, Any] = {"int": np.int64, "float": np.float64, "bool": np.bool_}


@cache
def _fields_by_type(kind: Hashable) -> tuple[tuple[Any, tuple[str, ...]], ...]:
    """Field names of a kind of row by the dtype of their columns.

    Annotations are strings here: every module postpones their evaluation.
    """
    names: dict[str, list[str]] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        names.setdefault(str(field.type), []).append(field.name)
    return tuple((_DTYPES[code], tuple(found)) for code, found in names.items())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Columns:
    """Columns of one kind of row by field name; every array has shape (n,)."""

    arrays: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def equals(self, other: Columns) -> bool:
        """Whether both hold the same rows."""
        return all(np.array_equal(array, other[name]) for name, array in self.arrays.items())


def columns_of(rows: Sequence[Any]) -> Columns:
    """Stack rows (dataclasses of int, float and bool fields) into columns of int64, float64 and bool.

    Examples
    --------
    >>> @dataclass
    ... class Row:
    ...     size: int
    >>> columns_of([Row(1), Row(2**40)])["size"].tolist()
    [1, 1099511627776]
    """
    arrays: dict[str, NDArray[Any]] = {}
    for dtype, names in _fields_by_type(cast(Hashable, type(rows[0]))):
        # One array per type instead of one per field: a block of one row is mostly calls.
        table = np.array([[getattr(row, name) for name in names] for row in rows], dtype=dtype)
        arrays.update(zip(names, np.ascontiguousarray(table.T), strict=True))
    return Columns(arrays)


def pick(condition: ArrayLike, yes: ArrayLike, no: ArrayLike) -> NDArray[Any]:
    """``np.where`` that builds nothing where a plain bool answers for all rows.

    Examples
    --------
    >>> pick(True, np.array([1, 2]), 0).tolist(), pick(np.array([True, False]), 1, 0).tolist()
    ([1, 2], [1, 0])
    """
    if isinstance(condition, bool):
        return np.asarray(yes if condition else no)
    return np.where(condition, yes, no)


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


def sides(columns: Columns) -> Callable[[slice], Columns]:
    """`side` down of any stretch of rows: where each column changes is found once for all of them.

    Examples
    --------
    >>> of = sides(Columns({"size": np.array([1, 2, 2])}))
    >>> of(slice(0, 2))["size"].shape, of(slice(1, 3))["size"].shape
    ((2, 1), (1, 1))
    """
    changed = np.array([array[1:] != array[:-1] for array in columns.arrays.values()])
    count = np.concatenate([np.zeros((len(columns.arrays), 1), int), np.cumsum(changed, axis=1)], axis=1)

    def stretch(rows: slice) -> Columns:
        alike = (count[:, rows.start] == count[:, rows.stop - 1]).tolist()
        return Columns(
            {
                name: array[rows.start : rows.start + 1 if same else rows.stop, None]
                for (name, array), same in zip(columns.arrays.items(), alike, strict=True)
            }
        )

    return stretch
