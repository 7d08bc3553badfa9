"""The catalog: immutable, lazy, looked up by any name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from willitrun.catalog.layout import KINDS
from willitrun.catalog.locations import INDEX_FOLDER, catalog_root
from willitrun.catalog.memos import Memo
from willitrun.catalog.names import name_and_size, names_without_format, respelled
from willitrun.catalog.record_tables import Table
from willitrun.catalog.traces import TraceLibrary
from willitrun.errors import AmbiguousNameError, CatalogError, UnknownIdError
from willitrun.frozen import frozen

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from willitrun.records.accelerators import Accelerator, HostPlatform
    from willitrun.records.calibrations import Calibration
    from willitrun.records.checkpoints import Checkpoint
    from willitrun.records.differences import CatalogDifference
    from willitrun.records.guides import Guide, PromptKit
    from willitrun.records.interconnects import Interconnect
    from willitrun.records.knowledge import GlossaryEntry, ReasonLinks, TroubleshootingEntry
    from willitrun.records.measurements import Measurement
    from willitrun.records.models import Model
    from willitrun.records.prices import Price, PriceAge
    from willitrun.records.recipes import Quantization, RuntimeProfile, WorkloadProfile
    from willitrun.records.sources import Dataset, Source

__all__ = ["Catalog", "Table", "load_catalog", "open_catalog"]

T = TypeVar("T")
SIZE_TOLERANCE = 0.12
"""A tag rounds the number of parameters."""

#: Values of a kind that a catalog keeps: a ranking of all models on one machine fits, and little memory is held.
MOST_KEPT = 4096


@frozen
class Found:
    """One hit of `Catalog.find`."""

    kind: str
    id: str
    name: str


_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?::[\w.-]+)?")
_GGUF = re.compile(r"(?i)[-_.]gguf\b")


class Catalog:
    """All records. Immutable: `with_records` gives a new catalog.

    Use `load_catalog`; one default instance is shared by the process. ``hidden`` names kinds of shipped
    records to leave out, as a score of predictions leaves out the measurements.
    """

    accelerators: Table[Accelerator]
    hosts: Table[HostPlatform]
    interconnects: Table[Interconnect]
    models: Table[Model]
    checkpoints: Table[Checkpoint]
    quantizations: Table[Quantization]
    runtimes: Table[RuntimeProfile]
    workloads: Table[WorkloadProfile]
    datasets: Table[Dataset]
    glossary: Table[GlossaryEntry]
    troubleshooting: Table[TroubleshootingEntry]
    guides: Table[Guide]
    prompt_kits: Table[PromptKit]
    reasons: Table[ReasonLinks]
    prices: Table[Price]
    price_ages: Table[PriceAge]
    sources: Table[Source]
    calibrations: Table[Calibration]
    measurements: Table[Measurement]
    traces: TraceLibrary

    def __init__(
        self,
        root: Traversable | None = None,
        added: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
        *,
        hidden: tuple[str, ...] = (),
    ) -> None:
        shipped = root is None or root == catalog_root()
        self._root = catalog_root() if root is None else root
        self._hidden = hidden
        self._added = {kind: dict(records) for kind, records in (added or {}).items()}
        unknown = set(self._added) - set(KINDS)
        if unknown:
            raise CatalogError(f"no kind of record is called {sorted(unknown)[0]!r}.")
        self._index = self._root / INDEX_FOLDER
        self._tables: dict[str, Table[Any]] = {
            kind.attribute: Table(
                kind.name,
                None if kind.name in hidden else self._index,
                self._added.get(kind.name, {}),
                shipped=shipped,
            )
            for kind in KINDS.values()
        }
        self.traces = TraceLibrary(self._root, self._index)
        self._derived: dict[Hashable, Any] = {}

    def __getattr__(self, name: str) -> Table[Any]:
        tables: dict[str, Table[Any]] = self.__dict__.get("_tables", {})
        if name in tables:
            return tables[name]
        raise AttributeError(f"Catalog has no attribute {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        # The shared default travels as a name; a worker opens its own files.
        if not self._added and not self._hidden and self._root == catalog_root():
            return (load_catalog, ())
        return (_restored, (self._added, self._hidden))

    @cached_property
    def _header(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self._index / "index.json").read_text("utf-8"))
        return found

    @property
    def version(self) -> str:
        """CalVer of the data."""
        return self._header["data_version"]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the authored files and of added records."""
        if not self._added:
            return self._header["digest"]
        import hashlib

        text = json.dumps(self._added, sort_keys=True, default=str)
        return hashlib.sha256((self._header["digest"] + text).encode()).hexdigest()

    @property
    def root(self) -> Traversable:
        """The folder that holds the authored files."""
        return self._root

    def table(self, kind: str) -> Table[Any]:
        """The table of a kind of record (``accelerator``, ``model``, ...)."""
        return self._tables[KINDS[kind].attribute]

    def entry(self, ref: str) -> Any:
        """The record behind a reference such as ``glossary:imagenet``, as verdicts and reasons carry them.

        >>> from willitrun.catalog import load_catalog
        >>> load_catalog().entry("glossary:imagenet").name
        'ImageNet'
        """
        kind, _, name = ref.partition(":")
        if kind not in KINDS or not name:
            raise UnknownIdError(
                "reference", ref, ("glossary:kv-cache", "troubleshooting:cuda-out-of-memory")
            )
        return self.table(kind).resolve(name)

    def resolve(self, kind: str, name: str) -> Any:
        """The record of a kind that goes by an id, an alias, a repository id or an OS-reported name.

        The name of a model may end in a weight format (``Qwen3-8B-AWQ``, ``llama3.1:8b-instruct-q4_K_M``):
        where the rest names a model, that model is given with this format.

        Raises
        ------
        UnknownIdError
            Nothing goes by that name; ``suggestions`` holds near spellings.
        AmbiguousNameError
            Several records do; ``candidates`` holds their ids.
        """
        if kind != "model":
            return self.table(kind).resolve(name)
        return self.memo("models").get((), name, lambda: self._resolve_model(name))

    def _resolve_model(self, name: str) -> Model:
        for spelling in (name, respelled(name)):
            if spelling is not None and (model := self._spelled_model(spelling)) is not None:
                asked = _REPOSITORY.fullmatch(name)
                return model.model_copy(update={"repository": asked[1]}) if asked else model
        raise UnknownIdError("model", name, self.models.suggestions(name))

    def _spelled_model(self, name: str) -> Model | None:
        """The model of a name, with a format or a size that is appended to it."""
        if (model := self._model(name)) is not None:
            return model
        for shorter, stated in names_without_format(name):
            weights = self.quantizations.named(stated) if stated else ()
            if stated and len(weights) != 1:
                continue
            if (model := self._model(shorter)) is not None:
                return self._in_format(model, weights[0] if weights else "", name)
        sized = name_and_size(name)
        return self._of_size(*sized) if sized is not None else None

    def _in_format(self, model: Model, stated: str, name: str) -> Model:
        """A model as its name says that it is stored."""
        if stated:
            return model.model_copy(update={"quantization": stated})
        if _GGUF.search(name) and "gguf" not in self.quantizations[model.quantization].container:
            # A conversion that may have any of the container's formats: as of weights in 16 bits, none is meant.
            return model.model_copy(update={"quantization": "bf16"})
        return model

    def _of_size(self, name: str, billions: float) -> Model | None:
        """The model of a name where it has about that many parameters: a size may be stated, not guessed."""
        try:
            model = self._model(name)
        except AmbiguousNameError:
            return None
        if model is None or model.parameters is None:
            return None
        return model if abs(model.parameters / 1e9 - billions) <= SIZE_TOLERANCE * billions else None

    def _model(self, name: str) -> Model | None:
        """The model of an id, an alias or a checkpoint's repository; None where nothing goes by that name."""
        if self.models.named(name):
            return self.models.resolve(name)
        checkpoints = [self.checkpoints[found] for found in self.checkpoints.named(name)]
        owners = sorted({checkpoint.model for checkpoint in checkpoints})
        if not owners:
            return None
        if len(owners) > 1:
            raise AmbiguousNameError("model", name, tuple(owners))
        model = self.models[owners[0]]
        formats = {checkpoint.quantization for checkpoint in checkpoints} - {None}
        if len(formats) == 1:
            return model.model_copy(update={"quantization": formats.pop()})
        return model

    def pci(self, pci_id: str) -> tuple[str, ...]:
        """Accelerator ids that list a PCI id."""
        return self.accelerators.with_pci_id(pci_id)

    def os_names(self, name: str) -> tuple[str, ...]:
        """Accelerator ids that go by a name that a driver reports."""
        return self.accelerators.named(name)

    def find(self, text: str, *, most: int = 20) -> tuple[Found, ...]:
        """Records of any kind whose id, alias or name contains a text.

        >>> from willitrun.catalog import load_catalog
        >>> load_catalog().find("rtx 4090")[0].kind
        'accelerator'
        """
        found: dict[tuple[str, str], int] = {}
        for kind in KINDS.values():
            if kind.name in (
                "measurement",
                "calibration",
                "source",
                "reason",
                "checkpoint",
                "price",
                "price-age",
            ):
                continue
            found |= {
                (kind.name, identifier): length
                for identifier, length in self.table(kind.name).spelled(text).items()
            }
        best = sorted(found, key=lambda key: (found[key], key))[:most]
        return tuple(Found(kind, identifier, self.table(kind)[identifier].name) for kind, identifier in best)

    def with_records(self, added: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Catalog:
        """A new catalog with records added or replaced: kind -> id -> raw record."""
        merged = {kind: dict(records) for kind, records in self._added.items()}
        for kind, records in added.items():
            merged.setdefault(kind, {}).update(records)
        return Catalog(self._root, merged, hidden=self._hidden)

    def diff(self, other: Catalog, *, kinds: tuple[str, ...] = ()) -> CatalogDifference:
        """What differs in another catalog: records added, removed and changed, field by field.

        >>> load_catalog().diff(load_catalog()).changes
        ()
        """
        from willitrun.catalog.differences import diff_catalogs

        return diff_catalogs(self, other, kinds=kinds)

    def remember(self, key: Hashable, derive: Callable[[], T]) -> T:
        """What follows from this catalog alone, derived once: ``key`` names it, ``derive`` computes it.

        Two threads may both derive it; they get the same value.
        """
        if key not in self._derived:
            self._derived[key] = derive()
        found: T = self._derived[key]
        return found

    def memo(self, name: str, *, most: int = MOST_KEPT) -> Memo:
        """The memo of one kind of value that follows from records of this catalog and others like them."""
        return self.remember(("memo", name), lambda: Memo(most))

    def __repr__(self) -> str:
        return f"<Catalog {self.version} digest {self.digest[:12]}>"


def open_catalog(place: str | Path) -> Catalog:
    """The catalogs of another version: a ``catalogs`` folder, a checkout, or a wheel of this package.

    Raises
    ------
    CatalogError
        There are none in that place.
    """
    from willitrun.catalog.locations import catalog_at

    return Catalog(catalog_at(place))


def _restored(added: dict[str, dict[str, Any]], hidden: tuple[str, ...]) -> Catalog:
    return Catalog(None, added, hidden=hidden)


_default: Catalog | None = None


def load_catalog(*, overlays: str = "none") -> Catalog:
    """The catalog: one shared, immutable instance.

    Parameters
    ----------
    overlays
        ``"none"`` (default: same inputs, same verdict), or ``"user"`` to add the user's folder, the folders
        in ``WILLITRUN_CATALOGS`` and installed ``willitrun.catalogs`` entry points.

    Raises
    ------
    CatalogInvalidError
        An overlay is malformed; the message names file, record and field.
    """
    global _default
    if _default is None:
        _default = Catalog()
    if overlays == "none":
        return _default
    if overlays != "user":
        raise CatalogError(f"overlays is 'none' or 'user', got {overlays!r}.")
    from willitrun.catalog.overlays import user_records

    return _default.with_records(user_records())
