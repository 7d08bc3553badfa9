"""Operator traces, found by architecture, image size and frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from willitrun.catalog.index_files import IndexFile
from willitrun.catalog.locations import catalog_files
from willitrun.catalog.trace_sizes import fit_trace
from willitrun.records.traces import OperatorTrace

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["TraceLibrary", "trace_index"]

_FOLDER = "traces"
_MODELS = "-models.csv"
_ALIASES = "-aliases.csv"
_META = ("arch", "image_size", "frames", "class")


def _parsed(lines: Iterable[str]) -> Iterator[list[str]]:
    import csv

    return csv.reader(lines)


def _rows(file: Traversable) -> Iterator[dict[str, str]]:
    lines = file.read_text("utf-8").splitlines()
    rows = _parsed(lines)
    header = next(rows)
    return (dict(zip(header, row, strict=True)) for row in rows if row)


def _shape(row: dict[str, str]) -> tuple[int, int]:
    """Image size [pixels] and frames of a row; only tables of videos have the latter."""
    return int(row["image_size"]), int(row.get("frames", 1))


class _Lines:
    """Lines of files whose first column is an architecture: those of one are parsed when it is asked for."""

    def __init__(self, files: Iterable[Traversable]) -> None:
        self._files = [file.read_text("utf-8").splitlines() for file in files]

    def of(self, architecture: str) -> list[dict[str, str]]:
        """The rows of an architecture."""
        found = []
        for header, *lines in self._files:
            # An architecture's name is an identifier, which is never quoted.
            own = [line for line in lines if line.startswith(f"{architecture},")]
            names = header.split(",")
            found += [dict(zip(names, row, strict=True)) for row in _parsed(own)]
        return found


def trace_index(root: Traversable) -> dict[str, Any]:
    """Architecture -> file of its class rows, other names -> architecture."""
    places: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for path, file in catalog_files(root, (f"{_FOLDER}/*.csv",)):
        name = path.rpartition("/")[2]
        if name.endswith(_ALIASES):
            aliases.update({row["name"]: row["arch"] for row in _rows(file)})
        elif not name.endswith(_MODELS):
            places.update({row["arch"]: name for row in _rows(file)})
    return {"files": dict(sorted(places.items())), "aliases": dict(sorted(aliases.items()))}


class TraceLibrary:
    """Traces by architecture; a family's file is parsed when one of its members is asked for."""

    def __init__(self, root: Traversable, index: Traversable) -> None:
        self._root = root
        self._index_folder = index
        self._by_file: dict[str, _Lines] = {}
        self._described: dict[str, dict[tuple[int, int], dict[str, str]]] = {}
        self._traced: dict[str, tuple[OperatorTrace, ...]] = {}
        self._found: dict[tuple[str, int, int], OperatorTrace | None] = {}

    @cached_property
    def _index(self) -> IndexFile:
        return IndexFile.read(self._index_folder / "trace" / "names.json")

    @cached_property
    def _models(self) -> _Lines:
        return _Lines(file for _, file in catalog_files(self._root, (f"{_FOLDER}/*{_MODELS}",)))

    def _shapes(self, architecture: str) -> dict[tuple[int, int], dict[str, str]]:
        """What is known of an architecture as a whole, by image size and frames."""
        found = self._described.get(architecture)
        if found is None:
            found = {_shape(row): row for row in self._models.of(architecture)}
            self._described[architecture] = found
        return found

    def __contains__(self, architecture: object) -> bool:
        return self._canonical(str(architecture)) in self._index.all("files")

    def __len__(self) -> int:
        return len(self._index.all("files"))

    def architectures(self) -> tuple[str, ...]:
        """Names of all traced architectures."""
        return tuple(self._index.all("files"))

    def _canonical(self, name: str) -> str:
        base = name if self._index.entry(name, section="files") is not None else name.partition(".")[0]
        found: str = self._index.entry(base, section="aliases") or base
        return found

    def family(self, architecture: str) -> str | None:
        """The family (timm's module) of an architecture, None if it was never traced."""
        shapes = self._shapes(self._canonical(architecture))
        return next((row.get("family", "") for row in reversed(shapes.values())), None)

    def find(self, architecture: str, image_size: int, frames: int = 1) -> OperatorTrace | None:
        """The trace of an architecture at an image size [pixels] and frames, None if it was never traced.

        A shape that was not traced is scaled from the nearest one that was (:func:`fit_trace`); ``scaled_from``
        says so.
        """
        key = (self._canonical(architecture), image_size, frames)
        if key not in self._found:
            traced = self._all(key[0])
            self._found[key] = fit_trace(traced, image_size, frames) if traced else None
        return self._found[key]

    def _all(self, architecture: str) -> tuple[OperatorTrace, ...]:
        """Every traced shape of an architecture."""
        found = self._traced.get(architecture)
        if found is None:
            found = self._traced[architecture] = tuple(self._read(architecture))
        return found

    def _read(self, architecture: str) -> Iterator[OperatorTrace]:
        file = self._index.entry(architecture, section="files")
        if file is None:
            return
        if file not in self._by_file:
            self._by_file[file] = _Lines([self._root / _FOLDER / file])
        by_shape: dict[tuple[int, int], dict[str, dict[str, float]]] = {}
        for row in self._by_file[file].of(architecture):
            columns = {name: float(value) for name, value in row.items() if name not in _META}
            by_shape.setdefault(_shape(row), {})[row["class"]] = columns
        for shape, classes in by_shape.items():
            meta = self._shapes(architecture)[shape]
            yield OperatorTrace.model_construct(
                architecture=architecture,
                family=meta.get("family", ""),
                image_size=shape[0],
                frames=shape[1],
                frames_per_latent=int(meta.get("frames_per_latent", 1)),
                parameters=int(meta["parameters"]),
                buffers=int(meta["buffers"]),
                macs=float(meta["macs"]),
                operators=int(meta["n_ops"]),
                peak_elements=int(meta["peak_elements"]),
                peak_autocast_bytes=int(meta["peak_autocast_bytes"]),
                classes=classes,
                tool=meta["tool"],
                source=meta.get("source", ""),
                native=meta.get("native", "1") == "1",
            )
