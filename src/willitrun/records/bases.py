"""The common ground of all records: strictness, citations, quantities.

Modules of records that a verdict needs don't postpone annotations: pydantic would compile the text of each, a quarter
of the time that their classes take to be made.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from willitrun.intervals import Interval
from willitrun.units import parse_bytes, parse_rate

__all__ = [
    "Basis",
    "Bytes",
    "BytesPerSecond",
    "Citation",
    "CitedRecord",
    "FlopPerSecond",
    "Hertz",
    "IntervalField",
    "Record",
    "RecordId",
    "Seconds",
    "TransfersPerSecond",
    "Usd",
    "Watt",
    "made_of",
]

Basis = Literal["vendor", "derived", "secondary", "measured"]
RecordId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._+-]*$", max_length=120)]


def _rate(dimension: str) -> BeforeValidator:
    return BeforeValidator(lambda value: parse_rate(value, dimension))


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(json_schema_extra={"x-unit": "B"})]
BytesPerSecond = Annotated[float, _rate("bytes_per_s"), Field(json_schema_extra={"x-unit": "B/s"})]
FlopPerSecond = Annotated[float, _rate("flop_per_s"), Field(json_schema_extra={"x-unit": "FLOP/s"})]
Hertz = Annotated[float, _rate("hertz"), Field(json_schema_extra={"x-unit": "Hz"})]
TransfersPerSecond = Annotated[float, _rate("transfers_per_s"), Field(json_schema_extra={"x-unit": "T/s"})]
Watt = Annotated[float, _rate("watt"), Field(json_schema_extra={"x-unit": "W"})]
Seconds = Annotated[float, _rate("seconds"), Field(json_schema_extra={"x-unit": "s"})]
Usd = Annotated[float, _rate("usd"), Field(json_schema_extra={"x-unit": "USD"})]


def _interval(value: object) -> object:
    if isinstance(value, dict):
        return Interval(**value)
    return value


# The dataclass validates itself; pydantic only has to move it through JSON and back.
IntervalField = Annotated[
    Interval,
    BeforeValidator(_interval),
    PlainSerializer(
        lambda interval: {
            "low": interval.low,
            "best": interval.best,
            "high": interval.high,
            "level": interval.level,
        },
        return_type=dict[str, float],
    ),
]


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, arbitrary_types_allowed=False, protected_namespaces=()
    )

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:  # type: ignore[override]
        """A record of parts that are known to be valid: pydantic's, without what records never have.

        No aliases, private attributes or extra fields means one merge instead of a loop over fields, which is most
        of the cost of a verdict.

        Raises
        ------
        TypeError
            A field is unknown, or one without a default is missing.
        """
        return made_of(cls, values, set(values) if _fields_set is None else _fields_set)

    def stated(self) -> dict[str, Any]:
        """The fields whose values are not their defaults."""
        defaults = _fields_of(type(self))[0]
        return {name: value for name, value in self.__dict__.items() if value != defaults[name]}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed to values that are known to be valid; records are shared, not copied.

        Raises
        ------
        TypeError
            A field is unknown.
        """
        if deep:
            return super().model_copy(update=update, deep=deep)
        changes = update or {}
        fields = {**self.__dict__, **changes}
        if len(fields) != len(self.__dict__):
            raise TypeError(
                f"{type(self).__name__} has no field {sorted(changes.keys() - self.__dict__.keys())[0]!r}"
            )
        made = type(self).__new__(type(self))
        _fill(made, fields, {*self.model_fields_set, *changes})
        return made


R = TypeVar("R", bound=Record)


def made_of(kind: type[R], values: dict[str, Any], fields_set: set[str]) -> R:
    """What `Record.model_construct` gives for values in a mapping."""
    template, required, factories = _fields_of(kind)
    fields = {**template, **values}
    if len(fields) != len(template) or len(values) < len(template):
        if len(fields) != len(template) or not required <= values.keys():
            wrong = sorted((values.keys() - template.keys()) | (required - values.keys()))
            raise TypeError(f"{kind.__name__} has no field, or lacks a value for, {', '.join(wrong)}")
        for name, make in factories:
            if name not in values:
                fields[name] = make()
    made = kind.__new__(kind)
    _fill(made, fields, fields_set)
    return made


_set = object.__setattr__


def _fill(record: Record, fields: dict[str, Any], fields_set: set[str]) -> None:
    _set(record, "__dict__", fields)
    _set(record, "__pydantic_fields_set__", fields_set)
    _set(record, "__pydantic_extra__", None)
    _set(record, "__pydantic_private__", None)


@cache
def _fields_of(kind: type[Record]) -> tuple[dict[str, Any], frozenset[str], tuple[tuple[str, Any], ...]]:
    """Every field with its default, in order; the names of those without one; and makers of fresh defaults."""
    fields = kind.model_fields
    factories = tuple(
        (name, field.default_factory) for name, field in fields.items() if field.default_factory
    )
    return (
        {name: None if field.is_required() else field.default for name, field in fields.items()},
        frozenset(name for name, field in fields.items() if field.is_required()),
        factories,
    )


class Citation(Record):
    """Where one fact was read, and how it was got from there."""

    source: RecordId
    basis: Basis
    at: str = ""
    """Place inside the source: a table, a line, a commit path."""
    rule: str = ""
    """For ``derived`` values: the rule, for example ``bus / 8 x data rate``."""


class CitedRecord(Record):
    """A catalog record of which every non-null fact is covered by a citation.

    ``cite`` maps a field name, or ``"*"`` for all fields without one of their own, to citations.
    """

    id: RecordId
    name: str
    aliases: tuple[str, ...] = ()
    cite: dict[str, tuple[Citation, ...]] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    """Doubts about a value, stated for the reader."""

    @model_validator(mode="after")
    def _every_fact_is_cited(self) -> Any:
        known = set(type(self).model_fields)
        for key, citations in self.cite.items():
            if key != "*" and key.split(".")[0] not in known:
                raise ValueError(f"cite names {key!r}, which is no field of {type(self).__name__}")
            if not citations:
                raise ValueError(f"cite.{key} is empty")
        if "*" not in self.cite:
            missing = [name for name in self.facts() if not self.citations(name)]
            if missing:
                raise ValueError(f"no citation covers {', '.join(missing)}")
        return self

    def __hash__(self) -> int:
        # Citations are a mapping; the id is what tells records apart. Equality still compares everything.
        return hash((type(self).__name__, self.id))

    def facts(self) -> dict[str, object]:
        """The non-null fields that state something about the world."""
        labels = {"id", "name", "aliases", "cite", "flags"} | self._labels()
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in labels and getattr(self, name) not in (None, (), {}, "")
        }

    @classmethod
    def _labels(cls) -> set[str]:
        """Fields that name or classify, and state no fact that needs a source."""
        return set()

    def citations(self, field: str) -> tuple[Citation, ...]:
        """The citations that cover one field, its own before the general ones.

        ``field`` may name an element of a list, as in ``"fixes.1"``: without citations of its own it has those of
        the list.
        """
        own = tuple(
            citation
            for key, citations in self.cite.items()
            if key == field or key.startswith(f"{field}.")
            for citation in citations
        )
        whole = field.partition(".")[0]
        return own or self.cite.get(whole, ()) or self.cite.get("*", ())
