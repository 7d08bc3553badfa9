"""The header of a GGUF file: metadata and tensor directory, in one bounded pass.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what a loader refuses:
``ggml/src/gguf.cpp`` of https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

from willitrun.checkpoints.buffered import HeaderReader
from willitrun.checkpoints.ggml_types import GGML_TYPES
from willitrun.checkpoints.json_reading import shown
from willitrun.errors import CorruptCheckpointError, UnsupportedFormatError
from willitrun.frozen import frozen

__all__ = ["GgufHeader", "GgufTensor", "LongArray", "MetadataValue", "read_gguf"]

MAX_ENTRIES = 4096
MAX_TENSORS = 16_384
MAX_KEY_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_STRINGS = 1 << 20
"""In all arrays together; the largest vocabulary so far (Gemma 4) has 0.8 million tokens and merges."""
MAX_KEPT_STRING_BYTES = 1024
MAX_KEPT_ITEMS = 4096
MAX_KEPT_ITEMS_IN_ALL = 1 << 16
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

_STRING, _ARRAY, _BOOL = 8, 9, 7
_U32, _U64 = Struct("<I"), Struct("<Q")
_NUMBERS: dict[int, Struct] = {
    0: Struct("<B"),
    1: Struct("<b"),
    2: Struct("<H"),
    3: Struct("<h"),
    4: Struct("<I"),
    5: Struct("<i"),
    6: Struct("<f"),
    7: Struct("<B"),
    10: Struct("<Q"),
    11: Struct("<q"),
    12: Struct("<d"),
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint)",
    b"\x80\x02": "a Python pickle",
    b"lmgg": "a GGML file from before GGUF",
    b"tjgg": "a GGJT file from before GGUF",
    b"fmgg": "a GGMF file from before GGUF",
    b"version https://git-lfs": "a Git LFS pointer: the file itself was not fetched",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


@frozen
class LongArray:
    """An array that was passed over: only its item type and length are known."""

    item_type: int
    length: int


MetadataValue = int | float | bool | str | tuple[int | float | bool, ...] | LongArray


@dataclass(slots=True)
class _Budget:
    """What arrays may still cost in all."""

    strings: int = MAX_STRINGS
    items: int = MAX_KEPT_ITEMS_IN_ALL


@frozen
class GgufTensor:
    """One entry of the tensor directory; ``shape`` starts with the row width."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    elements: int
    size_bytes: int
    offset: int


@frozen
class GgufHeader:
    """What the header says.

    ``file_bytes`` is the size of the file, ``data_offset`` where tensor data starts in it.
    """

    version: int
    metadata: dict[str, MetadataValue]
    tensors: tuple[GgufTensor, ...]
    data_offset: int
    file_bytes: int


def read_gguf(stream: BinaryIO, size: int, what: str = "the file") -> GgufHeader:
    """Read the header of a GGUF file.

    Parameters
    ----------
    stream
        Seekable binary stream, a file or a ranged download.
    size
        Bytes of the whole file.
    what
        Its name, for messages.

    Raises
    ------
    UnsupportedFormatError
        Not GGUF, a version other than 2 or 3, big-endian, an unknown tensor type.
    CorruptCheckpointError
        Truncated, or counts, lengths, shapes or offsets that contradict the file's size or each other.
    """
    reader = HeaderReader(stream, size, what)
    version = _read_version(reader)
    tensor_count, entry_count = _count(reader), _count(reader)
    # Smallest entries: empty-ish key, type, one byte; name, dimension count, type, offset.
    _check_count(reader, "metadata entries", entry_count, MAX_ENTRIES, 14)
    _check_count(reader, "tensors", tensor_count, MAX_TENSORS, 24)
    metadata: dict[str, MetadataValue] = {}
    budget = _Budget()
    for _ in range(entry_count):
        key = _text(reader, "a metadata key", MAX_KEY_BYTES)
        if key in metadata:
            raise CorruptCheckpointError(f"{what} has the metadata key {shown(key)} twice.")
        metadata[key] = _value(reader, key, int(reader.unpack(_U32)), budget)
    alignment = metadata.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or not 0 < alignment <= MAX_ALIGNMENT
        or alignment & (alignment - 1)
        or isinstance(alignment, bool)
    ):
        raise CorruptCheckpointError(f"{what} gives {shown(alignment)} as general.alignment.")
    tensors = tuple(_tensor(reader) for _ in range(tensor_count))
    data_offset = -(-reader.position // alignment) * alignment
    _check_layout(tensors, data_offset, alignment, size, what)
    return GgufHeader(version, metadata, tensors, data_offset, size)


def _read_version(reader: HeaderReader) -> int:
    start = reader.take(min(24, reader.size))
    if start[:4] != b"GGUF":
        kind = next((name for magic, name in _FOREIGN.items() if start.startswith(magic)), None)
        raise UnsupportedFormatError(
            f"{reader.what} is not a GGUF file"
            + (f" but {kind}." if kind else f": it starts with {shown(start[:8])}.")
        )
    if len(start) < 24:
        raise CorruptCheckpointError(f"{reader.what} ends inside its header.", hint="Download it again.")
    version = int(_U32.unpack(start[4:8])[0])
    if version and version & 0xFFFF == 0:
        raise UnsupportedFormatError(
            f"{reader.what} is a big-endian GGUF file.",
            hint="llama.cpp on this kind of machine refuses it too: convert it with gguf-convert-endian.",
        )
    if version not in (2, 3):
        raise UnsupportedFormatError(
            f"{reader.what} is GGUF version {version}; versions 2 and 3 are read.",
            hint="Convert the model again with a current llama.cpp." if version == 1 else "",
        )
    reader.skip(-16)
    return version


def _count(reader: HeaderReader) -> int:
    return int(reader.unpack(_U64))


def _check_count(reader: HeaderReader, of: str, count: int, most: int, least_bytes: int) -> None:
    if count > most:
        raise CorruptCheckpointError(f"{reader.what} claims {count} {of}; at most {most} are accepted.")
    if count * least_bytes > reader.left:
        raise CorruptCheckpointError(
            f"{reader.what} claims {count} {of}, more than its {reader.size} bytes can hold."
        )


def _text(reader: HeaderReader, of: str, most: int) -> str:
    length = _count(reader)
    if length > most:
        raise CorruptCheckpointError(f"{reader.what}: {of} of {length} bytes; at most {most} are accepted.")
    raw = reader.take(length)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptCheckpointError(f"{reader.what}: {of} is not UTF-8: {shown(raw)}.") from None


def _value(reader: HeaderReader, key: str, kind: int, budget: _Budget) -> MetadataValue:
    if kind in _NUMBERS:
        value = reader.unpack(_NUMBERS[kind])
        return bool(value) if kind == _BOOL else value
    if kind == _STRING:
        return _string(reader, key)
    if kind == _ARRAY:
        return _array(reader, key, budget)
    raise CorruptCheckpointError(f"{reader.what}: {shown(key)} has the unknown value type {kind}.")


def _string(reader: HeaderReader, key: str) -> MetadataValue:
    length = _count(reader)
    if length > reader.left:
        raise CorruptCheckpointError(f"{reader.what}: {shown(key)} is a string of {length} bytes.")
    if length > MAX_KEPT_STRING_BYTES:
        # A chat template or a tokenizer; nothing that describes the model.
        reader.skip(length)
        return LongArray(_STRING, length)
    raw = reader.take(length)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptCheckpointError(f"{reader.what}: {shown(key)} is not UTF-8.") from None


def _array(reader: HeaderReader, key: str, budget: _Budget) -> MetadataValue:
    kind, length = int(reader.unpack(_U32)), _count(reader)
    if kind == _STRING:
        _check_count(reader, f"strings in {shown(key)}", length, budget.strings, 8)
        budget.strings -= length
        reader.skip_strings(length)
        return LongArray(kind, length)
    layout = _NUMBERS.get(kind)
    if layout is None:
        raise CorruptCheckpointError(f"{reader.what}: {shown(key)} is an array of the unknown type {kind}.")
    if length * layout.size > reader.left:
        raise CorruptCheckpointError(f"{reader.what}: {shown(key)} is an array of {length} items.")
    if length > min(MAX_KEPT_ITEMS, budget.items):
        reader.skip(length * layout.size)
        return LongArray(kind, length)
    budget.items -= length
    items = Struct(f"<{length}{layout.format[1:]}").unpack(reader.take(length * layout.size))
    return tuple(bool(item) for item in items) if kind == _BOOL else items


def _tensor(reader: HeaderReader) -> GgufTensor:
    what = reader.what
    name = _text(reader, "a tensor name", MAX_NAME_BYTES)
    dimensions = int(reader.unpack(_U32))
    if dimensions > MAX_DIMENSIONS:
        raise CorruptCheckpointError(f"{what}: tensor {shown(name)} has {dimensions} dimensions.")
    shape = tuple(_count(reader) for _ in range(dimensions))
    kind, offset = int(reader.unpack(_U32)), _count(reader)
    layout = GGML_TYPES.get(kind)
    if layout is None:
        raise UnsupportedFormatError(
            f"{what}: tensor {shown(name)} has the ggml type {kind}, whose size is not known.",
            hint="A fork of llama.cpp, or one newer than this library, wrote it.",
        )
    elements = 1
    for extent in shape:
        elements *= extent
        if not 0 < elements < 1 << 63:
            raise CorruptCheckpointError(f"{what}: tensor {shown(name)} has the shape {shape}.")
    width = shape[0] if shape else 1
    if width % layout.block_elements:
        raise CorruptCheckpointError(
            f"{what}: rows of tensor {shown(name)} have {width} elements, "
            f"no multiple of the {layout.block_elements} of a {layout.name} block."
        )
    size = elements // layout.block_elements * layout.block_bytes
    return GgufTensor(name, shape, layout.name, elements, size, offset)


def _check_layout(
    tensors: tuple[GgufTensor, ...], data_offset: int, alignment: int, size: int, what: str
) -> None:
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise CorruptCheckpointError(f"{what} has two tensors of one name.")
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset % alignment:
            raise CorruptCheckpointError(
                f"{what}: tensor {shown(tensor.name)} is not aligned to {alignment}."
            )
        if tensor.offset < end:
            raise CorruptCheckpointError(f"{what}: tensor {shown(tensor.name)} overlaps the one before it.")
        end = tensor.offset + tensor.size_bytes
    if tensors and data_offset + end > size:
        raise CorruptCheckpointError(
            f"{what} is truncated: its tensors need {data_offset + end} bytes, it has {size}.",
            hint="Download it again.",
        )
