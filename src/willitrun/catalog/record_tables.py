"""One table of the catalog: records of a kind by id, parsed by shard, validated when looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from willitrun.catalog.index_files import IndexFile
from willitrun.catalog.layout import KINDS, record_class
from willitrun.catalog.memos import Memo
from willitrun.catalog.names import normalise_name, spoken_names, suggest
from willitrun.catalog.spellings import spellings
from willitrun.errors import AmbiguousNameError, CatalogInvalidError, UnknownIdError
from willitrun.records.bases import Record
from willitrun.records.trusted import Unreadable, read_trusted

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["Table", "validated"]

R = TypeVar("R", bound=Record)

MOST_RESOLVED = 4096


def validated(kind: str, raw: Mapping[str, Any], file: str) -> Record:
    """A record from its raw form, or an error that names file, record and field."""
    try:
        return record_class(kind).model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        pointer = ".".join([str(raw.get("id", "?")), *(str(part) for part in first["loc"])])
        raise CatalogInvalidError(
            file, pointer, f"{first['msg']} (got {_short(first['input'])})", hint=_field_hint(kind, first)
        ) from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _field_hint(kind: str, problem: Any) -> str:
    if problem["type"] != "extra_forbidden":
        return ""
    near = suggest(str(problem["loc"][-1]), sorted(record_class(kind).model_fields), 2)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def trusted(kind: str, raw: Mapping[str, Any], file: str) -> Record:
    """A record from its raw form that was validated when the index was built."""
    try:
        return read_trusted(record_class(kind), raw)
    except Unreadable:
        return validated(kind, raw, file)


MOST_SUGGESTIONS = 5
_FEW = 40
"""Of so few records all are named where no spelling is near."""


def _mentions(raw: Mapping[str, Any], words: Sequence[str]) -> bool:
    prose = " ".join(value for value in raw.values() if isinstance(value, str)).lower()
    return all(word in prose for word in words)


class Table(Mapping[str, R], Generic[R]):
    """Records of one kind by id: parsed by shard, made into records when looked up.

    Records of the shipped index were validated when it was built (``shipped``); all others are validated here.
    """

    def __init__(
        self,
        kind: str,
        index: Traversable | None,
        added: Mapping[str, Mapping[str, Any]],
        *,
        shipped: bool = False,
    ) -> None:
        self._kind = KINDS[kind]
        self._shipped = shipped
        self._folder = index / kind if index is not None else None
        self._added = dict(added)
        self._shards: dict[str, IndexFile] = {}
        self._records: dict[str, R] = {}
        self._resolved = Memo(MOST_RESOLVED)
        self._lock = Lock()

    @cached_property
    def _lookup(self) -> IndexFile:
        return IndexFile(b"{}") if self._folder is None else IndexFile.read(self._folder / "names.json")

    @property
    def _ids(self) -> dict[str, str]:
        return self._lookup.all("ids")

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = dict(self._lookup.all("names"))
        for identifier, raw in self._added.items():
            for spelling in spellings(dict(raw), self._kind):
                known = [] if spelling == identifier else names.get(spelling, [])
                names[spelling] = sorted({*known, identifier})
        return names

    def raw(self, identifier: str) -> Mapping[str, Any]:
        """The record as written, not validated."""
        found = self._written(identifier)
        if found is None:
            raise KeyError(identifier)
        return found[0]

    def stated(self, identifier: str) -> Mapping[str, Any]:
        """The record as written, known to be valid: for those who want a name of many and no record.

        Raises
        ------
        CatalogInvalidError
            A record that was added is malformed.

        Examples
        --------
        >>> from willitrun.catalog import load_catalog
        >>> load_catalog().glossary.stated("vram")["name"]
        'VRAM'
        """
        if not self._shipped or identifier in self._added:
            self[identifier]  # validated when it is made, once
        return self.raw(identifier)

    def _written(self, identifier: str) -> tuple[Mapping[str, Any], str] | None:
        """The record as written, and the file of the index that holds it; one that was added lies in none."""
        if identifier in self._added:
            return self._added[identifier], "records added in memory"
        shard = self._lookup.entry(identifier, section="ids")
        if shard is None:
            return None
        if shard not in self._shards:
            assert self._folder is not None
            with self._lock:
                self._shards[shard] = IndexFile.read(self._folder / f"{shard}.json")
        return self._shards[shard].entry(identifier), shard

    def __getitem__(self, identifier: str) -> R:
        record = self._records.get(identifier)
        if record is None:
            found = self._written(identifier) if isinstance(identifier, str) else None
            if found is None:
                raise UnknownIdError(self._kind.name, str(identifier), self.suggestions(str(identifier)))
            make = trusted if self._shipped and identifier not in self._added else validated
            record = make(self._kind.name, found[0], f"{self._kind.attribute}/{found[1]}")  # type: ignore[assignment]
            self._records[identifier] = record  # type: ignore[assignment]
        return record  # type: ignore[return-value]

    def get(self, identifier: object, default: R | None = None) -> R | None:  # type: ignore[override]
        """The record, or the default where no id is spelled like that."""
        return self[identifier] if isinstance(identifier, str) and identifier in self else default

    def __contains__(self, identifier: object) -> bool:
        if identifier in self._records or identifier in self._added:
            return True
        return isinstance(identifier, str) and self._lookup.entry(identifier, section="ids") is not None

    def __iter__(self) -> Iterator[str]:
        yield from self._ids
        yield from (identifier for identifier in self._added if identifier not in self._ids)

    def __len__(self) -> int:
        return len(self._ids) + sum(1 for key in self._added if key not in self._ids)

    def __repr__(self) -> str:
        return f"<{len(self)} {self._kind.attribute}>"

    def named(self, name: str) -> tuple[str, ...]:
        """Ids that go by a name, exactly after normalisation; empty if none."""
        spelling = normalise_name(name)
        if spelling in self:
            return (spelling,)
        found = self._names.get(spelling) if self._added else self._lookup.entry(spelling, section="names")
        if found:
            return tuple(found)
        if "/" in name:
            # A repository by its own name alone; else a slash within a name: ViT-L/16.
            return self.named(name.rpartition("/")[2]) or self.named(name.replace("/", "-"))
        return ()

    def variants(self, name: str) -> tuple[str, ...]:
        """Ids of which the name is a shortened spelling."""
        return tuple(self._lookup.entry(normalise_name(name), section="variants") or ())

    def with_pci_id(self, pci_id: str) -> tuple[str, ...]:
        """Ids that list a PCI id (``vendor:device`` or ``vendor:device:revision``)."""
        own = [key for key, raw in self._added.items() if pci_id.lower() in raw.get("pci_ids", ())]
        return tuple(sorted({*(self._lookup.entry(pci_id.lower(), section="pci") or ()), *own}))

    def grouped(self, value: str) -> tuple[str, ...]:
        """Ids of the records whose grouping field (`Kind.grouped`) has a value, in the order of the table.

        >>> from willitrun.catalog import load_catalog
        >>> load_catalog().reasons.grouped("assumed-host")
        ('assumed-host',)
        """
        found = [
            one
            for one in self._lookup.entry(value, section="grouped") or ()
            if one not in self._added or self._added[one].get(self._kind.grouped) == value
        ]
        own = [one for one, raw in self._added.items() if raw.get(self._kind.grouped) == value]
        return tuple(dict.fromkeys([*found, *own]))

    def spelled(self, text: str) -> dict[str, int]:
        """Ids whose id, alias or name contains a text, with the length of the shortest such spelling."""
        wanted = normalise_name(text)
        found: dict[str, int] = {}
        for spelling, ids in (*((key, [key]) for key in self), *self._names.items()):
            if wanted in spelling:
                for identifier in ids:
                    found[identifier] = min(found.get(identifier, len(spelling)), len(spelling))
        return found

    def search(self, text: str, *, most: int = 20) -> tuple[R, ...]:
        """Records that go by a text, the shortest name first; then those whose own prose has all of its words.

        >>> from willitrun.catalog import load_catalog
        >>> load_catalog().glossary.search("kv cache")[0].id
        'kv-cache'
        """
        named = self.spelled(text)
        best = sorted(named, key=lambda identifier: (named[identifier], identifier))
        words = text.lower().split()
        if len(best) < most and words:
            best += [key for key in self if key not in named and _mentions(self.raw(key), words)]
        return tuple(self[identifier] for identifier in best[:most])

    def suggestions(self, name: str) -> tuple[str, ...]:
        """Near spellings of an unknown name: ids as they are written, aliases in lower case."""
        known = [*self, *self._names, *self._lookup.all("variants")]
        ids = {normalise_name(identifier): identifier for identifier in self}
        near = suggest(normalise_name(name), known, most=2 * MOST_SUGGESTIONS)
        return tuple(dict.fromkeys(ids.get(normalise_name(one), one) for one in near))[:MOST_SUGGESTIONS]

    def resolve(self, name: str) -> R:
        """The one record that goes by a name."""
        return self._resolved.get((), name, lambda: self._resolve(name))

    def _resolve(self, name: str) -> R:
        found = self.named(name) or self.variants(name) or self._spoken(name)
        if not found:
            near = self.suggestions(name)
            all_of_them = None if near or len(self) > _FEW else f"Known: {', '.join(self)}."
            raise UnknownIdError(self._kind.name, name, near, hint=all_of_them)
        if len(found) > 1:
            raise AmbiguousNameError(self._kind.name, name, found)
        return self[found[0]]

    def _spoken(self, name: str) -> tuple[str, ...]:
        """Ids of devices that a name means beside what else it says: the maker, brackets, "GPU"."""
        if self._kind.name != "accelerator":
            return ()
        for text, maker in spoken_names(name):
            found = self.named(text) or self.variants(text)
            # A maker that was named must be right.
            if kept := tuple(one for one in found if maker in ("", self.raw(one).get("vendor"))):
                return kept
        return ()
