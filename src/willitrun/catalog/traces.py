"""Operator traces, found by architecture and image size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib.resources.abc import Traversable
from typing import Any

from willitrun.catalog.locations import catalog_files
from willitrun.records.traces import OperatorTrace

__all__ = ["TraceLibrary", "resize_trace", "trace_index"]

_FOLDER = "traces"
_MODELS = "-models.csv"
_ALIASES = "-aliases.csv"
_META = ("arch", "image_size", "class")
# Work that grows with the image; the rest of a trace belongs to the weights.
_PER_PIXEL = ("flops", "padded_flops", "act_elements", "act32_elements", "fused_act_elements")


def _table(file: Traversable) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows, as text: a question needs a few rows of a file, and numbers are read from those alone."""
    import csv
    import io

    reader = csv.reader(io.StringIO(file.read_text("utf-8")))
    return next(reader), reader


def _rows(file: Traversable) -> Iterator[dict[str, str]]:
    header, rows = _table(file)
    return (dict(zip(header, row, strict=True)) for row in rows if row)


class _Grouped:
    """Rows of a file by architecture and image size; a row becomes a mapping when it is asked for."""

    def __init__(self, file: Traversable) -> None:
        self._header, rows = _table(file)
        arch, size = self._header.index("arch"), self._header.index("image_size")
        self._rows: dict[tuple[str, int], list[list[str]]] = {}
        for row in rows:
            if row:
                self._rows.setdefault((row[arch], int(row[size])), []).append(row)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._rows)

    def __getitem__(self, key: tuple[str, int]) -> list[dict[str, str]]:
        return [dict(zip(self._header, row, strict=True)) for row in self._rows[key]]


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
        self._by_file: dict[str, _Grouped] = {}
        self._found: dict[tuple[str, int], OperatorTrace | None] = {}

    @cached_property
    def _index(self) -> dict[str, dict[str, str]]:
        import json

        file = self._index_folder / "trace" / "names.json"
        if not file.is_file():
            return {"files": {}, "aliases": {}}
        found: dict[str, dict[str, str]] = json.loads(file.read_text("utf-8"))
        return found

    @cached_property
    def _models(self) -> dict[tuple[str, int], dict[str, str]]:
        return {
            (row["arch"], int(row["image_size"])): row
            for path, file in catalog_files(self._root, (f"{_FOLDER}/*{_MODELS}",))
            for row in _rows(file)
        }

    def __contains__(self, architecture: object) -> bool:
        return self._canonical(str(architecture)) in self._index["files"]

    def __len__(self) -> int:
        return len(self._index["files"])

    def architectures(self) -> tuple[str, ...]:
        """Names of all traced architectures."""
        return tuple(self._index["files"])

    def _canonical(self, name: str) -> str:
        base = name.partition(".")[0] if name not in self._index["files"] else name
        return self._index["aliases"].get(base, base)

    def family(self, architecture: str) -> str | None:
        """The family (timm's module) of an architecture, None if it was never traced."""
        return self._families.get(self._canonical(architecture))

    @cached_property
    def _families(self) -> dict[str, str]:
        return {arch: row.get("family", "") for (arch, _), row in self._models.items()}

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
        file = self._index["files"].get(architecture)
        if file is None:
            return None
        if file not in self._by_file:
            self._by_file[file] = _Grouped(self._root / _FOLDER / file)
        table = self._by_file[file]
        sizes = [size for arch, size in table if arch == architecture]
        size = image_size if image_size in sizes else min(sizes, key=lambda known: abs(known - image_size))
        meta = self._models[architecture, size]
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
                for row in table[architecture, size]
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
