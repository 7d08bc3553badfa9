"""Rows of plain numbers to columns of arrays, and back to blocks of rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["columns_of", "take"]

C = TypeVar("C")


@cache
def _dtypes(kind: Hashable) -> tuple[tuple[str, Any], ...]:
    # Annotations are strings here: every module postpones their evaluation.
    codes = {"int": np.int64, "float": np.float64, "bool": np.bool_}
    return tuple((field.name, codes[str(field.type)]) for field in fields(kind))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Columns:
    """Columns of one kind of row by field name; every array has shape (n,)."""

    arrays: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def columns_of(rows: Sequence[Any]) -> Columns:
    """Stack rows (dataclasses of int, float and bool fields) into columns of int64, float64 and bool.

    Examples
    --------
    >>> @dataclass
    ... class Row:
    ...     size: "int"
    >>> columns_of([Row(1), Row(2**40)])["size"].tolist()
    [1, 1099511627776]
    """
    return Columns(
        {
            name: np.array([getattr(row, name) for row in rows], dtype=dtype)
            for name, dtype in _dtypes(cast(Hashable, type(rows[0])))
        }
    )


def take(columns: Columns, index: NDArray[np.intp]) -> Columns:
    """Rows of columns by index."""
    return Columns({name: array[index] for name, array in columns.arrays.items()})
