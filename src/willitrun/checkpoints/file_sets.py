"""Files of a checkpoint: opened with care, and found where several make up one model."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from willitrun.checkpoints.json_reading import parse_object, shown
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnsupportedFormatError

__all__ = ["SPLIT_NAME", "indexed_parts", "main_files", "parts_of", "read_config", "read_file", "unreadable"]

MAX_CONFIG_BYTES = 4 << 20
MAX_CONFIG_CONTAINERS = 100_000
MAX_INDEX_BYTES = 32 << 20
MAX_INDEX_VALUES = 400_000
MAX_SHARDS = 1024
MAX_CONFIG_VALUES = 100_000
"""ImageNet-21k has 21,843 labels, written once each way."""
SPLIT_NAME = re.compile(
    r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf|\.safetensors)$"
)
Header = TypeVar("Header")


def unreadable(name: str, error: OSError) -> CheckpointError:
    """The error for a file that the system does not give."""
    reason = (error.strerror or type(error).__name__).lower()
    return CheckpointError(f"{shown(name)} can't be read: {reason}.", code="unreadable-file")


def read_file(path: Path, read: Callable[[BinaryIO, int, str], Header]) -> Header:
    """Hand an open regular file and its size to a reader."""
    try:
        # A pipe or device would block or never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UnsupportedFormatError(f"{shown(path.name)} is no regular file.")
        with open(path, "rb") as stream:
            return read(stream, os.fstat(stream.fileno()).st_size, path.name)
    except OSError as error:
        raise unreadable(path.name, error) from None


def _json(
    path: Path, most_bytes: int, most_containers: int, most_values: int, *, constants: bool = False
) -> dict[str, object]:
    def read(stream: BinaryIO, size: int, what: str) -> bytes:
        if size > most_bytes:
            raise CorruptCheckpointError(f"{what} has {size} bytes; at most {most_bytes} are accepted.")
        return stream.read(size)

    return parse_object(
        read_file(path, read),
        path.name,
        most_containers=most_containers,
        most_values=most_values,
        constants=constants,
    )


def read_config(path: Path) -> dict[str, object]:
    """A config, with the quantization that NVIDIA's ModelOpt keeps in a file of its own beside it."""
    limits = (MAX_CONFIG_BYTES, MAX_CONFIG_CONTAINERS, MAX_CONFIG_VALUES)
    config = _json(path, *limits, constants=True)
    beside = path.with_name("hf_quant_config.json")
    if "quantization_config" not in config and beside.is_file():
        block = _json(beside, *limits, constants=True).get("quantization")
        if isinstance(block, dict):
            config["quantization_config"] = {"quant_method": "modelopt", **block}
    return config


def parts_of(path: Path) -> list[Path]:
    """The file itself, or all parts of the split checkpoint it belongs to."""
    split = SPLIT_NAME.match(path.name)
    if split is None:
        return [path]
    count = int(split["count"])
    if not 0 < int(split["number"]) <= count <= MAX_SHARDS:
        raise CorruptCheckpointError(f"{shown(path.name)} can't be part {split['number']} of {count}.")
    parts = [
        path.with_name(f"{split['stem']}-{number:05d}-of-{count:05d}{split['suffix']}")
        for number in range(1, count + 1)
    ]
    _require(parts)
    return parts


def _require(parts: Sequence[Path]) -> None:
    absent = [part.name for part in parts if not part.is_file()]
    if absent:
        raise CorruptCheckpointError(
            f"{len(absent)} of {len(parts)} parts are missing: {', '.join(map(shown, absent[:3]))}"
            f"{' ...' if len(absent) > 3 else ''}.",
            code="missing-shard",
            hint="Download the rest beside the others.",
        )


def indexed_parts(path: Path) -> list[Path]:
    """The shards that an index names: plain file names beside it, nothing else."""
    index = _json(path, MAX_INDEX_BYTES, 64, MAX_INDEX_VALUES)
    where = index.get("weight_map")
    if not isinstance(where, dict) or not where:
        raise CorruptCheckpointError(f"{path.name} has no weight_map.")
    names: dict[str, None] = {}
    for name in where.values():
        if not isinstance(name, str) or not _is_plain(name):
            raise CorruptCheckpointError(f"{path.name} names {shown(name)}: no plain safetensors file name.")
        names[name] = None
    if len(names) > MAX_SHARDS:
        raise CorruptCheckpointError(f"{path.name} names {len(names)} files.")
    parts = [path.with_name(name) for name in names]
    _require(parts)
    return parts


def _is_plain(name: str) -> bool:
    return len(name) <= 255 and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\.safetensors", name) is not None


def main_files(folder: Path, stored: list[str]) -> list[Path]:
    """The safetensors files that make up the model, where no index says so.

    Raises
    ------
    CheckpointError
        Several checkpoints lie side by side.
    """
    if "model.safetensors" in stored:
        return [folder / "model.safetensors"]
    # Adapters ride on the model; consolidated files are the same weights again, in the vendor's own layout.
    others = [name for name in stored if not name.startswith(("adapter", "consolidated"))]
    chosen = others or [name for name in stored if name.startswith("consolidated")]
    sets = {(match["stem"], match["count"]) if (match := SPLIT_NAME.match(name)) else name for name in chosen}
    if len(sets) != 1:
        raise CheckpointError(
            f"{shown(folder.name)} holds {len(sets)} safetensors checkpoints and no index.",
            code="several-checkpoints",
            hint="Pass the file that is meant.",
        )
    return parts_of(folder / chosen[0])
