"""Records of which some fields are made when somebody looks: texts, tables and references of an answer.

Most callers read a tier and a few numbers. What only says them in words is derived from what was computed, so it can
as well be derived later; whoever copies, compares, pickles or dumps the record gets all of it, since all of these go
through the record's dictionary.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from willitrun.records.bases import Record, _fields_of, _fill

__all__ = ["Deferred"]

_own_dictionary: Any = BaseModel.__dict__["__dict__"]
_PENDING = ""
"""Under this name, which no field has, a record keeps what makes its missing fields."""


class Deferred(Record):
    """A record that may be made before some of its fields."""

    @classmethod
    def model_defer(cls, makers: Mapping[str, Callable[[], Any]], **values: Any) -> Self:
        """A record of parts that are known to be valid, and of fields that are made when they are first read.

        Threads that read a field at the same time may both make it; they get equal values.

        Parameters
        ----------
        makers
            What makes each missing field, out of values that never change.
        values
            The other fields.

        Raises
        ------
        TypeError
            A field is unknown, is both given and made, or one without a default is missing.

        Examples
        --------
        >>> class Answer(Deferred):
        ...     number: int
        ...     text: str = ""
        >>> answer = Answer.model_defer({"text": lambda: print("now") or "forty-two"}, number=42)
        >>> answer.number, answer.model_dump()
        now
        (42, {'number': 42, 'text': 'forty-two'})
        """
        template, required, factories = _fields_of(cls)
        fields = {**template, **values}
        given = values.keys() | makers.keys()
        if len(fields) != len(template) or len(given) != len(values) + len(makers) or not required <= given:
            wrong = (given - template.keys()) | (required - given) | (values.keys() & makers.keys())
            raise TypeError(
                f"{cls.__name__} takes and needs each of its fields once, not {', '.join(sorted(wrong))}"
            )
        for name, make in factories:
            if name not in given:
                fields[name] = make()
        for name in makers:
            if name not in template:
                raise TypeError(f"{cls.__name__} has no field {name!r}")
            del fields[name]
        fields[_PENDING] = makers
        made = cls.__new__(cls)
        _fill(made, fields, set(given))
        return made

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As `Record.model_copy`; what was not made yet is made by the copy when somebody looks at it."""
        kept = _own_dictionary.__get__(self)
        makers = kept.get(_PENDING)
        if deep or makers is None:
            return super().model_copy(update=update, deep=deep)
        changes = update or {}
        if unknown := changes.keys() - _fields_of(type(self))[0].keys():
            raise TypeError(f"{type(self).__name__} has no field {min(unknown)!r}")
        rest = {name: make for name, make in makers.items() if name not in changes}
        made = type(self).__new__(type(self))
        _fill(made, {**kept, **changes, _PENDING: rest}, {*self.model_fields_set, *changes})
        return made

    if not TYPE_CHECKING:  # else a name that no record has would pass every check

        def __getattr__(self, name: str) -> Any:
            """A field that was not made yet."""
            kept = _own_dictionary.__get__(self)
            make = kept.get(_PENDING, {}).get(name)
            if make is None:
                return super().__getattr__(name)
            value = kept[name] = make()
            return value

    def _whole(self) -> dict[str, Any]:
        kept: dict[str, Any] = _own_dictionary.__get__(self)
        makers = kept.get(_PENDING)
        if makers is None:
            return kept
        # A new dictionary in the order of the fields, put in place at once: another thread may read the old one.
        whole = {name: kept[name] if name in kept else makers[name]() for name in _fields_of(type(self))[0]}
        _own_dictionary.__set__(self, whole)
        return whole

    def _replace(self, fields: dict[str, Any]) -> None:
        _own_dictionary.__set__(self, fields)

    __dict__ = property(_whole, _replace)
