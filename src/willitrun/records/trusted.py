"""Records of raw data that is known to be valid: read by their annotations, without building a validator.

The shipped index is checked when it is built, so reading it needs conversions only: lists become tuples, ``24 GiB``
becomes bytes, tables become records. Pydantic takes longer to build its validators than a cold process takes to
answer, and to check what was checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator

from willitrun.records.bases import Record, made_of

__all__ = ["Unreadable", "read_trusted"]

Read = Callable[[Any], Any]

MOST_SHARED = 8192
"""Of each kind of part that records share."""


class Unreadable(Exception):
    """Data that its annotations don't tell how to read."""


def read_trusted(kind: type[Record], raw: Mapping[str, Any]) -> Record:
    """The record that validation would give for valid data.

    Parameters
    ----------
    kind
        Class of the record.
    raw
        Its fields as JSON gives them, known to be valid.

    Raises
    ------
    Unreadable
        Only validation can tell: a field is unknown or of another type than annotated, or the class has
        validators of its own that change values.

    Examples
    --------
    >>> from willitrun.records.bases import Citation
    >>> read_trusted(Citation, {"source": "a", "basis": "vendor"}) == Citation(source="a", basis="vendor")
    True
    """
    readers = _readers(kind)
    try:
        values = {
            name: value if (read := readers[name]) is None else read(value) for name, value in raw.items()
        }
        return made_of(kind, values, _names(*raw))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"{kind.__name__}: {error}") from error


@lru_cache(MOST_SHARED)
def _names(*names: str) -> set[str]:
    """Names of the fields that are set, one set for all records that set the same: nobody changes a frozen record's."""
    return set(names)


def _shared(kind: type[Record]) -> Read:
    """One record of texts for all that say the same: thousands of facts cite the same line of the same source."""
    known: dict[tuple[str, ...], Record] = {}

    def read(value: dict[str, str]) -> Record:
        said = (*value, *value.values())
        record = known.get(said)
        if record is None:
            record = read_trusted(kind, value)
            if len(known) < MOST_SHARED:
                known[said] = record
        return record

    return read


@cache
def _readers(kind: type[Record]) -> dict[str, Read | None]:
    if kind.__pydantic_decorators__.field_validators:
        raise Unreadable(f"{kind.__name__} has validators of its own")
    return {
        name: _with_metadata(_reader(field.annotation), tuple(field.metadata))
        for name, field in kind.model_fields.items()
    }


def _with_metadata(read: Read | None, metadata: tuple[Any, ...]) -> Read | None:
    for item in reversed(metadata):
        if isinstance(item, BeforeValidator):
            first: Any = item.func
            read = first if read is None else _chain(first, read)
    return read


def _chain(first: Read, then: Read) -> Read:
    return lambda value: then(first(value))


def _plain(*allowed: type) -> Read:
    def read(value: Any) -> Any:
        if type(value) in allowed:
            return value
        raise TypeError(f"{value!r} is not of {allowed}")

    return read


def _real(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise TypeError(f"{value!r} is not a number")


def _date(value: Any) -> date:
    return date.fromisoformat(value)


_LEAVES: dict[Any, Read | None] = {
    Any: None,
    str: _plain(str),
    int: _plain(int),
    bool: _plain(bool),
    float: _real,
    date: _date,
    NoneType: _plain(NoneType),
}


def _reader(annotation: Any) -> Read | None:
    """How to read a value of a type; None where it stays as it is."""
    if annotation in _LEAVES:
        return _LEAVES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _with_metadata(_reader(arguments[0]), arguments[1:])
    if origin is Literal:
        return None
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is dict:
        return _table(_reader(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, Record):
        if all(
            field.annotation is str or _is_choice(field.annotation)
            for field in annotation.model_fields.values()
        ):
            return _shared(annotation)
        return lambda value: read_trusted(annotation, value)
    raise Unreadable(f"{annotation!r}")


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and all(type(choice) is str for choice in get_args(annotation))


def _union(members: tuple[Any, ...]) -> Read | None:
    rest = tuple(member for member in members if member is not NoneType)
    if len(rest) == 1:
        read = _reader(rest[0])
        return read and (lambda value: None if value is None else read(value))
    if not set(rest) <= {int, float, str, bool}:
        raise Unreadable(f"{members!r}")
    return _plain(*members)  # a value of one of these types stays what it is


def _tuple(members: tuple[Any, ...]) -> Read:
    if len(members) == 2 and members[1] is Ellipsis:
        read = _reader(members[0])
        if read is None:
            return lambda value: tuple(value) if type(value) is list else _no_list(value)
        return lambda value: tuple([read(item) for item in value]) if type(value) is list else _no_list(value)
    readers = [_reader(member) for member in members]

    def read_each(value: Any) -> tuple[Any, ...]:
        return tuple(item if read is None else read(item) for read, item in zip(readers, value, strict=True))

    return read_each


def _no_list(value: Any) -> tuple[Any, ...]:
    raise TypeError(f"{value!r} is not a list")


def _table(read: Read | None) -> Read:
    if read is None:
        return lambda value: dict(value)
    return lambda value: {key: read(item) for key, item in value.items()}
