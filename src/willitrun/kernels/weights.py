"""Bytes of weight tensors: block layouts, and the description of a group of equal tensors."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen

__all__ = [
    "BLOCK_LAYOUTS",
    "FORMAT_CODES",
    "BlockLayout",
    "Part",
    "TensorGroup",
    "as_int64",
    "bytes_of",
]

Int64Array = NDArray[np.int64]

Part = Literal[
    "embedding",
    "output",
    "attention",
    "dense_ffn",
    "experts",
    "shared_experts",
    "router",
    "norm",
    "recurrent",
    "prediction",
    "vision",
    "encoder",
]


@frozen
class TensorGroup:
    """Equal tensors of a model: one per layer in ``layers``, or one for the model where that is empty.

    Attributes
    ----------
    role
        Name of the tensor in GGUF without block number and suffix: ``attn_q``, ``ffn_down_exps``.
    part
        What the tensor belongs to when memory and speed are told apart.
    width
        Row width, the contracted dimension [elements]. Blocks of a quantized format lie along it.
    rows
        Rows of one matrix; 1 for a vector.
    stack
        Matrices in one tensor: the experts, or the heads of a three-dimensional projection.
    layers
        Layer numbers that hold one such tensor each.
    """

    role: str
    part: Part
    width: int
    rows: int = 1
    stack: int = 1
    layers: tuple[int, ...] = ()
    matrix: bool = True

    @property
    def count(self) -> int:
        """Tensors in this group."""
        return len(self.layers) or 1

    @property
    def elements_each(self) -> int:
        """Elements of one tensor."""
        return self.width * self.rows * self.stack

    @property
    def elements(self) -> int:
        """Elements of all tensors of the group."""
        return self.elements_each * self.count


@frozen
class BlockLayout:
    """How a format stores a matrix.

    A row is ``ceil(width / block_weights)`` blocks of ``block_bytes``, followed by ``row_bytes``; a tile of
    ``tile`` x ``tile`` weights adds ``tile_bytes``; a tensor adds ``tensor_bytes`` and, per column,
    ``column_bytes``. GGUF rows are whole blocks (``whole_blocks``); ``flat`` formats ignore rows.
    """

    block_weights: int
    block_bytes: int
    row_bytes: int = 0
    column_bytes: int = 0
    tensor_bytes: int = 0
    tile: int = 0
    tile_bytes: int = 0
    whole_blocks: bool = False
    flat: bool = False


def _gguf(weights: int, size: int) -> BlockLayout:
    return BlockLayout(weights, size, whole_blocks=True)


# Block sizes as in ggml-common.h; the other formats as their writers lay them out (see quantizations.toml).
BLOCK_LAYOUTS: dict[str, BlockLayout] = {
    "f32": BlockLayout(1, 4),
    "f16": BlockLayout(1, 2),
    "bf16": BlockLayout(1, 2),
    "q4_0": _gguf(32, 18),
    "q4_1": _gguf(32, 20),
    "q5_0": _gguf(32, 22),
    "q5_1": _gguf(32, 24),
    "q8_0": _gguf(32, 34),
    "q2_k": _gguf(256, 84),
    "q3_k": _gguf(256, 110),
    "q4_k": _gguf(256, 144),
    "q5_k": _gguf(256, 176),
    "q6_k": _gguf(256, 210),
    "iq1_s": _gguf(256, 50),
    "iq1_m": _gguf(256, 56),
    "iq2_xxs": _gguf(256, 66),
    "iq2_xs": _gguf(256, 74),
    "iq2_s": _gguf(256, 82),
    "iq3_xxs": _gguf(256, 98),
    "iq3_s": _gguf(256, 110),
    "iq4_nl": _gguf(32, 18),
    "iq4_xs": _gguf(256, 136),
    "tq1_0": _gguf(256, 54),
    "tq2_0": _gguf(256, 66),
    "mxfp4": _gguf(32, 17),
    "fp8": BlockLayout(1, 1, tile=128, tile_bytes=4),
    "fp8-row": BlockLayout(1, 1, row_bytes=4),
    "fp8-tensor": BlockLayout(1, 1, tensor_bytes=4),
    "int8": BlockLayout(1, 1, row_bytes=4),
    "int8-torchao": BlockLayout(1, 1, row_bytes=2),
    "int4-torchao": BlockLayout(128, 68),
    "nvfp4": BlockLayout(16, 9, tensor_bytes=8),
    # Two groups of 128: 4-bit weights, an fp16 scale and a 4-bit zero each.
    "awq-int4": BlockLayout(256, 133),
    # The same with the int32 group index of every column.
    "gptq-int4": BlockLayout(256, 133, column_bytes=4),
    "gptq-int8": BlockLayout(128, 131, column_bytes=4),
    # 256 blocks of 64 weights: 4 bits each, one byte of scale per block, one float over the 256.
    "nf4": BlockLayout(16384, 8452, tensor_bytes=68, flat=True),
    "nf4-single": BlockLayout(64, 36, tensor_bytes=64, flat=True),
    "mlx-3bit": BlockLayout(64, 28),
    "mlx-4bit": BlockLayout(64, 36),
    "mlx-5bit": BlockLayout(64, 44),
    "mlx-6bit": BlockLayout(64, 52),
    "mlx-8bit": BlockLayout(64, 68),
}

FORMAT_CODES: dict[str, int] = {name: code for code, name in enumerate(BLOCK_LAYOUTS)}


def _column(field: str) -> Int64Array:
    return np.array([getattr(layout, field) for layout in BLOCK_LAYOUTS.values()], dtype=np.int64)


_BLOCK_WEIGHTS = _column("block_weights")
_BLOCK_BYTES = _column("block_bytes")
_ROW_BYTES = _column("row_bytes")
_COLUMN_BYTES = _column("column_bytes")
_TENSOR_BYTES = _column("tensor_bytes")
_TILE = _column("tile")
_TILE_BYTES = _column("tile_bytes")
_WHOLE = _column("whole_blocks")
_FLAT = _column("flat")


_INT64 = np.dtype(np.int64)
_int64, _ndarray = np.int64, np.ndarray
_BEYOND = 2**63


def as_int64(value: ArrayLike, name: str = "value") -> Int64Array:
    """Return ``value`` as an int64 array or number, refusing what could have been rounded or wrapped.

    Raises
    ------
    TypeError
        For floats and for integer arrays narrower than 64 bits: byte counts wrap in them silently.

    Examples
    --------
    >>> as_int64(2**40).item()
    1099511627776
    """
    if type(value) is _int64:
        return value  # type: ignore[return-value]
    if type(value) is _ndarray and value.dtype is _INT64:
        return value
    if type(value) is int and -_BEYOND <= value < _BEYOND:
        return np.int64(value)
    array = np.asarray(value)
    if array.dtype == np.int64:
        return array
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} is {array.dtype}: bytes and elements are counted in int64")
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{name} is {array.dtype}: counts above 2^31 wrap, pass int64")
    if array.dtype == np.uint64:
        raise OverflowError(f"{name} exceeds int64")
    return array.astype(np.int64)


def bytes_of(elements: ArrayLike, row_width: ArrayLike, format_code: ArrayLike) -> Int64Array:
    """Bytes of tensors stored in block formats [bytes].

    ``rows x (ceil(width / block_weights) x block_bytes + row_bytes) + scales``; integer arithmetic only.

    Parameters
    ----------
    elements
        Elements of the tensor; a multiple of ``row_width``.
    row_width
        Width of a row, the contracted dimension [elements].
    format_code
        Codes out of `FORMAT_CODES`.

    Raises
    ------
    ValueError
        Where rows are not whole, or the format needs whole blocks and the row is not divisible.

    References
    ----------
    https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h

    Examples
    --------
    >>> bytes_of(4096 * 4096, 4096, FORMAT_CODES["q4_k"]).item()
    9437184
    """
    count, width, code = np.broadcast_arrays(
        as_int64(elements, "elements"), as_int64(row_width, "row_width"), as_int64(format_code, "format_code")
    )
    if np.any(width <= 0) or np.any(count < 0):
        raise ValueError("row widths are positive and element counts not negative")
    rows, rest = np.divmod(count, width)
    if np.any(rest):
        raise ValueError("a tensor is whole rows: elements must be a multiple of row_width")
    per_block = _BLOCK_WEIGHTS[code]
    if np.any((_WHOLE[code] == 1) & (width % per_block != 0)):
        raise ValueError("this format needs rows of whole blocks; see fallback_format")
    flat = _FLAT[code] == 1
    blocks = np.where(flat, -(-count // per_block), rows * -(-width // per_block))
    tile = np.maximum(_TILE[code], 1)
    tiles = -(-rows // tile) * -(-width // tile)
    total = blocks * _BLOCK_BYTES[code] + rows * _ROW_BYTES[code] + tiles * _TILE_BYTES[code]
    extra = _TENSOR_BYTES[code] + width * _COLUMN_BYTES[code]
    return np.asarray(total + np.where(count > 0, extra, 0), dtype=np.int64)
