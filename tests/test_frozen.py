"""Frozen value classes behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import numpy as np
import pytest

from willitrun.frozen import derived, frozen, with_changes


@frozen
class Point:
    """A point."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


@frozen(eq=False)
class Block:
    """Columns."""

    column: object


CALLS = [
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, ["a"]), {}),
    ((), {"x": 1}),
    ((), {"tags": ["a"], "x": 1}),
    ((), {"tags": ["a"], "y": 3, "x": 1}),
    ((1,), {"y": 2}),
    ((1,), {"tags": [], "y": 2}),
    ((), {}),
    ((), {"y": 1}),
    ((1, 2, [], 4), {}),
    ((1,), {"x": 2}),
    ((1, 2), {"x": 2}),
    ((1,), {"x": 2, "y": 3, "tags": []}),
    ((), {"x": 1, "z": 2}),
    ((), {"x": 1, "y": 2, "z": 3}),
    ((1, 2, []), {"z": 3}),
]


@pytest.mark.parametrize(("values", "named"), CALLS)
def test_is_made_of_what_a_dataclass_is_made_of(values, named):
    try:
        expected = Reference(*values, **named)
    except TypeError:
        with pytest.raises(TypeError, match="Point"):
            Point(*values, **named)
        return
    made = Point(*values, **named)
    assert list(made.__dict__.items()) == list(expected.__dict__.items())
    assert repr(made) == repr(expected).replace("Reference", "Point")


def test_fresh_defaults_are_not_shared():
    assert Point(1).tags is not Point(1).tags


def test_cannot_be_changed():
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match="x"):
        point.x = 2
    with pytest.raises(FrozenInstanceError, match="z"):
        point.z = 2
    with pytest.raises(FrozenInstanceError, match="x"):
        del point.x
    assert point.x == 1


def test_is_compared_by_its_fields_unless_told_otherwise():
    assert Point(1, 2, ["a"]) == Point(1, 2, ["a"])
    assert Point(1) != Point(2)
    assert Point(1) != Reference(1)
    column = np.arange(3)
    assert Block(column) != Block(column)
    assert len({Block(column), Block(column)}) == 2


def test_hash_is_that_of_the_fields():
    assert hash(Point(1, 2, ())) == hash(Point(1, 2, ()))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_is_a_dataclass_to_the_standard_library():
    point = Point(1, tags=["a"])
    assert [one.name for one in fields(point)] == ["x", "y", "tags"]
    assert replace(point, y=5) == Point(1, 5, ["a"])
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == point
    match point:
        case Point(x, y):
            assert (x, y) == (1, 0)


@frozen
class Row:
    """A row."""

    values: tuple[int, ...]

    @derived
    def total(self) -> int:
        """Their sum."""
        calls.append(self)
        return sum(self.values)


calls: list[Row] = []


def test_what_is_derived_is_derived_once_and_is_no_field():
    calls.clear()
    row, twin = Row((1, 2)), Row((1, 2))
    assert row.total == row.total == 3
    assert len(calls) == 1
    assert row == twin
    assert hash(row) == hash(twin)
    assert "total" not in repr(row)
    assert Row.total.__doc__ == "Their sum."
    assert pickle.loads(pickle.dumps(row)) == row


def test_changes_give_an_instance_of_which_nothing_is_derived_yet():
    row = Row((1, 2))
    assert row.total == 3
    assert with_changes(row, values=(5,)).total == 5
    assert with_changes(Point(1, tags=["a"]), y=5) == replace(Point(1, tags=["a"]), y=5)
    with pytest.raises(TypeError, match="Point has no z"):
        with_changes(Point(1), z=2)
