"""Operator traces, found by architecture and image size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from willitrun.catalog.index_files import IndexFile
from willitrun.catalog.locations import catalog_files
from willitrun.records.traces import OperatorTrace

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["TraceLibrary", "resize_trace", "trace_index"]

_FOLDER = "traces"
_MODELS = "-models.csv"
_ALIASES = "-aliases.csv"
_META = ("arch", "image_size", "class")
# Work that grows with the image; the rest of a trace belongs to the weights.
_PER_PIXEL = ("flops", "padded_flops", "act_elements", "act32_elements", "fused_act_elements")


def _parsed(lines: Iterable[str]) -> Iterator[list[str]]:
    import csv

    return csv.reader(lines)


def _rows(file: Traversable) -> Iterator[dict[str, str]]:
    lines = file.read_text("utf-8").splitlines()
    rows = _parsed(lines)
    header = next(rows)
    return (dict(zip(header, row, strict=True)) for row in rows if row)


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
        self._described: dict[str, dict[int, dict[str, str]]] = {}
        self._found: dict[tuple[str, int], OperatorTrace | None] = {}

    @cached_property
    def _index(self) -> IndexFile:
        return IndexFile.read(self._index_folder / "trace" / "names.json")

    @cached_property
    def _models(self) -> _Lines:
        return _Lines(file for _, file in catalog_files(self._root, (f"{_FOLDER}/*{_MODELS}",)))

    def _sizes(self, architecture: str) -> dict[int, dict[str, str]]:
        """What is known of an architecture as a whole, by image size."""
        found = self._described.get(architecture)
        if found is None:
            found = {int(row["image_size"]): row for row in self._models.of(architecture)}
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
        sizes = self._sizes(self._canonical(architecture))
        return next((row.get("family", "") for row in reversed(sizes.values())), None)

    def find(self, architecture: str, image_size: int) -> OperatorTrace | None:
        """The trace of an architecture at an image size [pixels], None if it was never traced.

        A size that was not traced is scaled by area from the nearest one that was: exact for convolutions,
        an approximation for attention, whose cost grows faster. ``scaled_from`` says so.
        """
        key = (self._canonical(architecture), image_size)
        if key not in self._found:
            self._found[key] = self._read(*key)
        return self._found[key]

    def _read(self, architecture: str, image_size: int) -> OperatorTrace | None:
        file = self._index.entry(architecture, section="files")
        if file is None:
            return None
        if file not in self._by_file:
            self._by_file[file] = _Lines([self._root / _FOLDER / file])
        rows = self._by_file[file].of(architecture)
        sizes = dict.fromkeys(int(row["image_size"]) for row in rows)
        size = image_size if image_size in sizes else min(sizes, key=lambda known: abs(known - image_size))
        meta = self._sizes(architecture)[size]
        traced = OperatorTrace.model_construct(
            architecture=architecture,
            family=meta.get("family", ""),
            image_size=size,
            parameters=int(meta["parameters"]),
            buffers=int(meta["buffers"]),
            macs=float(meta["macs"]),
            operators=int(meta["n_ops"]),
            peak_elements=int(meta["peak_elements"]),
            peak_autocast_bytes=int(meta["peak_autocast_bytes"]),
            classes={
                row["class"]: {name: float(value) for name, value in row.items() if name not in _META}
                for row in rows
                if int(row["image_size"]) == size
            },
            tool=meta["tool"],
            source=meta.get("source", ""),
            native=meta.get("native", "1") == "1",
        )
        return resize_trace(traced, image_size)


def resize_trace(trace: OperatorTrace, image_size: int) -> OperatorTrace:
    """A trace at another image size [pixels], scaled by area; the same trace where the size is its own.

    Exact for convolutions, an approximation for attention, whose cost grows faster. ``scaled_from`` says so.
    """
    if not trace.image_size or image_size == trace.image_size:
        return trace
    area = (image_size / trace.image_size) ** 2
    return trace.model_copy(
        update={
            "image_size": image_size,
            "macs": trace.macs * area,
            "peak_elements": round(trace.peak_elements * area),
            "peak_autocast_bytes": round(trace.peak_autocast_bytes * area),
            "classes": {
                name: {k: v * area if k in _PER_PIXEL else v for k, v in columns.items()}
                for name, columns in trace.classes.items()
            },
            "scaled_from": trace.image_size,
        }
    )
