"""The generated look-up index: names, PCI ids and compact JSON beside the authored files.

A look-up in a cold process then parses one small list of names and one small shard, instead of every TOML
file. The index is derived data: `build_index` writes it, a test asserts that it is fresh.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import defaultdict
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from willitrun.catalog.authoring import read_kind
from willitrun.catalog.index_files import render
from willitrun.catalog.layout import KINDS
from willitrun.catalog.locations import INDEX_FOLDER, catalog_files
from willitrun.catalog.names import name_variants, normalise_name
from willitrun.catalog.spellings import record_id, spellings
from willitrun.catalog.traces import trace_index
from willitrun.errors import CatalogInvalidError

__all__ = ["build_index", "index_documents", "index_texts"]


def catalog_digest(root: Traversable) -> str:
    """SHA-256 over the authored files, independent of line endings and of where they lie."""
    digest = hashlib.sha256()
    patterns = tuple(dict.fromkeys(pattern for kind in KINDS.values() for pattern in kind.patterns))
    for path, file in catalog_files(root, ("CATALOG.toml", "traces/*.csv", *patterns)):
        digest.update(path.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def index_documents(root: Traversable) -> dict[str, Any]:
    """The index as it should be: relative file name -> JSON document."""
    header = tomllib.loads((root / "CATALOG.toml").read_text("utf-8"))
    documents: dict[str, Any] = {
        "index.json": {
            "schema_version": header["schema_version"],
            "data_version": header["data_version"],
            "digest": catalog_digest(root),
        }
    }
    for kind in KINDS.values():
        by_file = read_kind(root, kind)
        ids: dict[str, str] = {}
        names: defaultdict[str, set[str]] = defaultdict(set)
        variants: defaultdict[str, set[str]] = defaultdict(set)
        pci: defaultdict[str, set[str]] = defaultdict(set)
        grouped: defaultdict[str, list[str]] = defaultdict(list)
        for path, records in by_file.items():
            shard = path.rpartition("/")[2].rpartition(".")[0]
            shard = (
                f"{path.split('/', maxsplit=1)[0]}-{shard}" if kind.name in ("model", "checkpoint") else shard
            )
            content: dict[str, Any] = {}
            for raw in records:
                identifier = record_id(raw)
                if identifier in ids:
                    raise CatalogInvalidError(path, identifier, f"the id is taken by {ids[identifier]}")
                ids[identifier] = shard
                content[identifier] = raw
                if kind.grouped:
                    grouped[str(raw[kind.grouped])].append(identifier)
                for spelling in spellings(raw, kind):
                    names[spelling].add(identifier)
                if kind.name == "accelerator":
                    spoken = name_variants(identifier) | name_variants(normalise_name(str(raw["name"])))
                    for variant in spoken - spellings(raw, kind):
                        variants[variant].add(identifier)
                    for pci_id in raw.get("pci_ids", ()):
                        pci[pci_id.lower()].add(identifier)
            if content:
                documents[f"{kind.name}/{shard}.json"] = content
        lookup: dict[str, Any] = {"ids": ids}
        if kind.name not in ("measurement", "calibration", "source"):
            # An id leads to itself even where another record goes by the same name.
            lookup["names"] = {
                spelling: [spelling] if spelling in found else sorted(found)
                for spelling, found in sorted(names.items())
                if found != {spelling}
            }
        if variants:
            lookup["variants"] = {key: sorted(value) for key, value in sorted(variants.items())}
        if pci:
            lookup["pci"] = {key: sorted(value) for key, value in sorted(pci.items())}
        if grouped:
            lookup["grouped"] = dict(sorted(grouped.items()))
        documents[f"{kind.name}/names.json"] = lookup
    documents["trace/names.json"] = trace_index(root)
    return documents


def index_texts(root: Traversable) -> dict[str, str]:
    """The index as it should be: relative file name -> text."""
    return {
        name: render(document, sections=name.endswith("/names.json"))
        for name, document in index_documents(root).items()
    }


def build_index(root: Path) -> list[str]:
    """Write the index below ``root``; return the files that changed."""
    folder = root / INDEX_FOLDER
    wanted = index_texts(root)
    changed = []
    for name, text in wanted.items():
        file = folder / name
        if not file.is_file() or file.read_text("utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            changed.append(name)
    for file in sorted(folder.rglob("*.json")):
        if file.relative_to(folder).as_posix() not in wanted:
            file.unlink()
            changed.append(file.relative_to(folder).as_posix())
    return changed
