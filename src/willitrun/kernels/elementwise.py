"""Elementwise functions of NumPy for columns, and for the numbers of a block that has one row on one device.

A formula is written once. On columns it runs as calls of NumPy; a column of one row would run through the same
calls, each of which takes longer to start than the arithmetic of the whole row. So a row that stands alone is a block
of NumPy numbers (``np.float64``, ``np.int64``, ``np.bool_``: arrays without axes), on which operators are fast, and
these functions are what operators are not. Results are those of NumPy, bit by bit.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "as_bool",
    "as_code",
    "as_float",
    "ceiled",
    "constant",
    "divided",
    "exists",
    "floored",
    "is_zero",
    "maximum",
    "minimum",
    "numbers_of",
    "rounded",
    "where",
]

D = TypeVar("D")

_ndarray = np.ndarray
_or = np.logical_or.reduce


def maximum(first: Any, second: Any) -> NDArray[Any]:
    """``np.maximum``.

    >>> maximum(np.array([1, 5]), 3).tolist(), int(maximum(np.int64(1), 3))
    ([3, 5], 3)
    """
    if type(first) is _ndarray or type(second) is _ndarray:
        return np.maximum(first, second)  # type: ignore[no-any-return]
    # NaN is unequal to itself, and wins.
    return first if first >= second or first != first else second  # type: ignore[no-any-return]


def minimum(first: Any, second: Any) -> NDArray[Any]:
    """``np.minimum``.

    >>> minimum(np.array([1, 5]), 3).tolist(), int(minimum(np.int64(1), 3))
    ([1, 3], 1)
    """
    if type(first) is _ndarray or type(second) is _ndarray:
        return np.minimum(first, second)  # type: ignore[no-any-return]
    return first if first <= second or first != first else second  # type: ignore[no-any-return]


def where(condition: Any, yes: Any, no: Any) -> NDArray[Any]:
    """``np.where``.

    >>> where(np.array([True, False]), 1, 0).tolist(), int(where(np.bool_(True), 1, 0))
    ([1, 0], 1)
    """
    if type(condition) is _ndarray or type(yes) is _ndarray or type(no) is _ndarray:
        return np.where(condition, yes, no)  # type: ignore[no-any-return]
    return yes if condition else no  # type: ignore[no-any-return]


def floored(values: Any) -> NDArray[np.int64]:
    """Values rounded down to whole numbers, as int64.

    >>> floored(np.array([1.5])).tolist(), int(floored(np.float64(1.5)))
    ([1], 1)
    """
    if type(values) is _ndarray:
        return np.floor(values).astype(np.int64)
    return np.int64(math.floor(values))  # type: ignore[return-value]


def ceiled(values: Any) -> NDArray[np.int64]:
    """Values rounded up to whole numbers, as int64.

    >>> ceiled(np.array([1.5])).tolist(), int(ceiled(np.float64(1.5)))
    ([2], 2)
    """
    if type(values) is _ndarray:
        return np.ceil(values).astype(np.int64)
    return np.int64(math.ceil(values))  # type: ignore[return-value]


def rounded(values: Any) -> NDArray[np.int64]:
    """Values rounded to the nearest whole number, to the even one of two, as int64.

    >>> rounded(np.array([1.5, 2.5])).tolist(), int(rounded(np.float64(2.5)))
    ([2, 2], 2)
    """
    if type(values) is _ndarray:
        return np.rint(values).astype(np.int64)
    return np.int64(round(values))  # type: ignore[return-value]


def as_bool(values: Any) -> NDArray[np.bool_]:
    """Values as flags.

    >>> as_bool([0, 1]).tolist(), bool(as_bool(True))
    ([False, True], True)
    """
    if isinstance(values, bool | np.bool_):
        return np.bool_(values)  # type: ignore[return-value]
    return np.asarray(values, dtype=bool)


def as_float(values: Any) -> NDArray[np.float64]:
    """Values as float64.

    >>> as_float(np.array([1])).tolist(), float(as_float(np.int64(1)))
    ([1.0], 1.0)
    """
    return values.astype(np.float64) if type(values) is _ndarray else np.float64(values)  # type: ignore[return-value]


def as_code(flags: Any) -> NDArray[np.int8]:
    """Flags as small numbers, 1 where they are set.

    >>> as_code(np.array([True, False])).tolist(), int(as_code(np.bool_(True)))
    ([1, 0], 1)
    """
    return flags.view(np.int8) if type(flags) is _ndarray else np.int8(flags)  # type: ignore[return-value]


FEW = 128
_EXACT = 2**53
"""Below this, whole numbers are float64 numbers, and no quotient of two is rounded to a whole number it is not."""


def divided(numerator: Any, denominator: Any, *, up: bool = False) -> NDArray[np.int64]:
    """Whole numbers, not negative, divided by positive ones and rounded down, or up.

    Processors divide int64 one at a time and float64 eight at a time: columns are divided as the latter where it is
    exact.

    >>> divided(np.array([7, 2**60]), np.array([2, 3])).tolist(), divided(np.array([7, 8]), np.array([2, 2]), up=True).tolist()
    ([3, 384307168202282325], [4, 4])
    """
    columns = type(denominator) is _ndarray and denominator.size > 1
    if columns and max(np.size(numerator), denominator.size) <= FEW:
        # Whatever a few rows cost, further calls cost more.
        columns = False
    if columns and np.max(numerator) < _EXACT and np.max(denominator) < _EXACT:
        quotient = as_float(numerator) / denominator.astype(np.float64)
        (np.ceil if up else np.floor)(quotient, out=quotient)
        return quotient.astype(np.int64)  # type: ignore[no-any-return]
    return -(-numerator // denominator) if up else numerator // denominator  # type: ignore[no-any-return]


def constant(number: Any, like: Any) -> NDArray[Any]:
    """A number that broadcasts with values: of length one along each of their axes.

    >>> constant(np.int64(0), np.zeros((2, 3))).shape, constant(np.int64(0), np.float64(1.0))
    ((1, 1), np.int64(0))
    """
    return np.full((1,) * like.ndim, number) if type(like) is _ndarray else number


def exists(flags: Any) -> bool:
    """Whether any flag is set.

    >>> exists(np.array([False, True])), exists(np.bool_(False))
    (True, False)
    """
    # What `flags.any()` comes to, without its way through Python.
    return bool(_or(flags, axis=None) if type(flags) is _ndarray else flags)


def numbers_of(record: D) -> D:
    """A dataclass of columns of one row, its columns turned into numbers; other fields stay.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Rates:
    ...     memory: object
    >>> numbers_of(Rates(np.array([[1.5]]))).memory.shape
    ()
    """
    changes = {}
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if type(value) is _ndarray and value.size == 1:
            changes[field.name] = value.reshape(())[()]
    return replace(record, **changes)  # type: ignore[type-var]


def is_zero(values: NDArray[Any]) -> bool:
    """Whether every row has zero.

    >>> is_zero(np.array([0.0, 1.0])), is_zero(np.float64(0.0))
    (False, True)
    """
    return not values.any() if type(values) is _ndarray else bool(values == 0)
