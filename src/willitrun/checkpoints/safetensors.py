"""The header of a safetensors file. Format: https://github.com/huggingface/safetensors#format."""

from __future__ import annotations

from struct import Struct
from typing import BinaryIO

from willitrun.checkpoints.json_reading import parse_object, shown
from willitrun.errors import CorruptCheckpointError, UnsupportedFormatError
from willitrun.frozen import frozen

__all__ = ["DTYPE_BITS", "SafetensorsHeader", "StoredTensor", "read_safetensors"]

MAX_HEADER_BYTES = 16 << 20
MAX_DIMENSIONS = 16
MAX_TENSORS = 40_000
MAX_ENTRY_BYTES, MAX_FREE_BYTES = 1024, 1 << 20
MAX_ENTRY_VALUES, MAX_FREE_VALUES = MAX_DIMENSIONS + 5, 20_000
"""What one tensor may take, and what the free metadata may."""
_U64 = Struct("<Q")

# `safetensors/src/tensor.rs`, enum Dtype.
DTYPE_BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


@frozen
class StoredTensor:
    """One tensor of the directory."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    size_bytes: int


@frozen
class SafetensorsHeader:
    """Tensors of one file, and the file's size [bytes]."""

    tensors: tuple[StoredTensor, ...]
    file_bytes: int


def read_safetensors(stream: BinaryIO, size: int, what: str = "the file") -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Parameters
    ----------
    stream
        Binary stream at position 0.
    size
        Bytes of the whole file.
    what
        Its name, for messages.

    Raises
    ------
    UnsupportedFormatError
        Not safetensors, or a data type that is not known.
    CorruptCheckpointError
        Truncated, or a directory that contradicts itself or the file's size.
    """
    start = stream.read(9)
    if len(start) < 9:
        raise CorruptCheckpointError(f"{what} has {size} bytes: too few for a safetensors file.")
    length = int(_U64.unpack(start[:8])[0])
    if start[8:] != b"{":
        raise UnsupportedFormatError(f"{what} is not a safetensors file: it starts with {shown(start)}.")
    if length > size - 8:
        raise CorruptCheckpointError(
            f"{what} claims a header of {length} bytes and has {size} in all.", hint="Download it again."
        )
    if length > MAX_HEADER_BYTES:
        raise CorruptCheckpointError(
            f"{what} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are accepted."
        )
    raw = start[8:] + stream.read(length - 1)
    if len(raw) != length:
        raise CorruptCheckpointError(f"{what} ends inside its header.", hint="Download it again.")
    entries = raw.count(b"{")
    if length > MAX_FREE_BYTES + MAX_ENTRY_BYTES * entries:
        raise CorruptCheckpointError(f"{what} has a header of {length} bytes for {entries} entries.")
    # One object and two arrays per tensor, plus the metadata and the whole; values in proportion.
    directory = parse_object(
        raw,
        what,
        most_containers=3 * MAX_TENSORS + 2,
        most_values=MAX_ENTRY_VALUES * entries + MAX_FREE_VALUES,
    )
    directory.pop("__metadata__", None)
    spans: list[tuple[int, int, str]] = []
    tensors: list[StoredTensor] = []
    for name, entry in directory.items():
        tensor, begin = _tensor(name, entry, what)
        spans.append((begin, begin + tensor.size_bytes, name))
        tensors.append(tensor)
    _check_spans(spans, size - 8 - length, what)
    return SafetensorsHeader(tuple(tensors), size)


def _tensor(name: str, entry: object, what: str) -> tuple[StoredTensor, int]:
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        raise CorruptCheckpointError(f"{what}: {shown(name)} is no tensor entry.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise UnsupportedFormatError(f"{what}: {shown(name)} has the unknown data type {shown(dtype)}.")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_size, shape)):
        raise CorruptCheckpointError(f"{what}: {shown(name)} has the shape {shown(shape)}.")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise CorruptCheckpointError(f"{what}: {shown(name)} has the offsets {shown(offsets)}.")
    elements = 1
    for extent in shape:
        elements *= extent
        if elements >= 1 << 63:
            raise CorruptCheckpointError(f"{what}: {shown(name)} has the shape {shown(shape)}.")
    begin, end = offsets
    if elements * bits != (end - begin) * 8:
        raise CorruptCheckpointError(
            f"{what}: {shown(name)} of shape {shown(shape)} and type {dtype} takes {elements * bits / 8:g} "
            f"bytes, its offsets span {end - begin}."
        )
    return StoredTensor(name, dtype, tuple(shape), elements, end - begin), begin


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _check_spans(spans: list[tuple[int, int, str]], data_bytes: int, what: str) -> None:
    at = 0
    for begin, end, name in sorted(spans):
        if begin < at:
            raise CorruptCheckpointError(f"{what}: {shown(name)} overlaps the tensor before it.")
        at = max(at, end)
    if at > data_bytes:
        raise CorruptCheckpointError(
            f"{what} is truncated: its tensors need {at} bytes, {data_bytes} are there.",
            hint="Download it again.",
        )
