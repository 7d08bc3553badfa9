"""Frozen value classes behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from willitrun.frozen import OFTEN, derived, frozen, with_changes


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


def test_fields_are_those_of_a_dataclass_with_bases_and_class_variables():
    @frozen
    class Base:
        x: int
        tags: list[str] = field(default_factory=list)
        kind: ClassVar[str] = "base"

    @frozen
    class Derived(Base):
        x: int = 7
        z: float = field(default=0.5, metadata={"unit": "s"})

    @dataclass(frozen=True)
    class Plain:
        x: int
        tags: list[str] = field(default_factory=list)
        kind: ClassVar[str] = "base"

    @dataclass(frozen=True)
    class PlainDerived(Plain):
        x: int = 7
        z: float = field(default=0.5, metadata={"unit": "s"})

    def told(kind: type) -> list[tuple[object, ...]]:
        return [
            (one.name, one.type, one.default, one.default_factory, dict(one.metadata)) for one in fields(kind)
        ]

    assert repr(Derived(tags=["a"])).endswith("Derived(x=7, tags=['a'], z=0.5)")
    assert is_dataclass(Derived)
    assert told(Derived) == told(PlainDerived)
    assert told(Base) == told(Plain)
    assert (Derived.z, Derived().z, Derived.kind, hasattr(Derived, "tags")) == (0.5, 0.5, "base", False)
    assert asdict(Derived(1)) == asdict(PlainDerived(1))

    # Made of a base whose fields were asked for.
    @frozen
    class Late(Derived):
        w: int = 1

    assert Late() == Late(7, [], 0.5, 1)


def test_defaults_that_can_change_are_refused():
    with pytest.raises(ValueError, match="default_factory"):

        @frozen
        class Wrong:
            tags: list[str] = []  # noqa: RUF012


def test_threads_that_ask_for_fields_at_once_get_the_same_ones():
    for _ in range(20):

        @frozen
        class Fresh:
            x: int
            tags: list[str] = field(default_factory=list)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(fields, [Fresh] * 8))
        assert all(one == found[0] for one in found)
        assert [one.default_factory for one in found[0]][1] is list


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


def test_a_class_made_often_is_made_of_the_same():
    """After many instances a class has an initializer of its own, which does what the shared one did."""

    @frozen
    class Often:
        x: int
        y: int = 0
        tags: list[str] = field(default_factory=list)

        def __post_init__(self):
            if self.x < 0:
                raise ValueError("below zero")

    def results():
        found = []
        for values, named in (*CALLS, ((-1,), {})):
            try:
                found.append(repr(Often(*values, **named)))
            except (TypeError, ValueError) as error:
                found.append(type(error))
        return found

    before, shared = results(), Often.__init__
    for number in range(OFTEN):
        Often(number)
    assert Often.__init__ is not shared
    assert results() == before
    assert Often(1).tags is not Often(1).tags
    with pytest.raises(FrozenInstanceError):
        Often(1).x = 2


def test_a_signature_that_cannot_be_written_stays_with_the_shared_initializer():
    @frozen
    class Base:
        x: int = 1

    @frozen
    class Late(Base):
        y: int

    shared = Late.__init__
    for number in range(OFTEN + 1):
        assert Late(y=number) == Late(1, number)
    assert Late.__init__ is shared
