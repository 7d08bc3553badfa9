"""Amounts divided over devices and layers, in whole layers or equal parts that sum exactly; the device is the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import divided, maximum

__all__ = [
    "LAYER_SPLIT",
    "TENSOR_SPLIT",
    "Split",
    "all_devices",
    "any_device",
    "by_device",
    "capacity_of",
    "ceil_div",
    "count_devices",
    "is_alone",
    "share",
    "sum_devices",
]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LAYER_SPLIT, TENSOR_SPLIT = range(2)


def by_device(values: NDArray[Any]) -> NDArray[Any]:
    """Values of rows with a last axis for devices; a number, which stands for one device, has none."""
    return values[..., None] if type(values) is np.ndarray else values


def is_alone(available: NDArray[Any]) -> bool:
    """Whether no row has a second device."""
    return type(available) is not np.ndarray or available.shape[-1] == 1


def count_devices(available: IntArray) -> IntArray:
    """Devices that each row has; a row without one counts as one."""
    if type(available) is not np.ndarray:
        return np.int64(1)  # type: ignore[return-value]
    counted: IntArray = np.maximum((available > 0).sum(axis=-1), 1)
    return counted


def sum_devices(values: NDArray[Any]) -> NDArray[Any]:
    """Sum over the last axis, which is the device: a view where there is one."""
    if type(values) is not np.ndarray:
        return values
    return values[..., 0] if values.shape[-1] == 1 else values.sum(axis=-1)


def all_devices(values: BoolArray) -> BoolArray:
    """Whether it holds on every device."""
    if type(values) is not np.ndarray:
        return values
    return values[..., 0] if values.shape[-1] == 1 else np.asarray(values.all(axis=-1))


def any_device(present: BoolArray) -> BoolArray:
    """Whether it holds on some device."""
    if type(present) is not np.ndarray:
        return present
    return present[..., 0] if present.shape[-1] == 1 else np.asarray(present.any(axis=-1))


def ceil_div(numerator: IntArray, denominator: IntArray) -> IntArray:
    """``numerator / denominator`` rounded up; a denominator of 0 counts as 1."""
    return divided(numerator, maximum(denominator, 1), up=True)


def _prefix_layers(weights: IntArray, layers: IntArray) -> IntArray:
    """Split ``layers`` over devices in proportion to ``weights`` by cumulative rounding, exactly summing."""
    total = np.maximum(weights.sum(axis=-1, keepdims=True), 1)
    # Shares as floats are safe: they only choose which whole layer goes where.
    bounds = np.rint(np.cumsum(weights / total, axis=-1) * layers[..., None]).astype(np.int64)
    bounds[..., -1] = layers
    result: IntArray = np.diff(bounds, axis=-1, prepend=0)
    return result


def share(total: IntArray, count: IntArray, of: IntArray) -> IntArray:
    """``total * count / of`` without overflow or loss: whole parts first, then the remainder."""
    safe = maximum(of, 1)
    whole = divided(total, safe)
    rest = total - whole * safe
    result: IntArray = whole * count + divided(rest * count, safe)
    return result


def _in_parts(shares: tuple[float, ...]) -> IntArray:
    return np.rint(np.array(shares) / max(shares) * 1e6).astype(np.int64)


def capacity_of(room: IntArray, shares: tuple[float, ...]) -> IntArray:
    """The largest amount whose parts all fit: the device that is full first decides.

    Examples
    --------
    >>> capacity_of(np.array([[24, 24]]), (1.0, 3.0)).tolist()
    [32]
    """
    parts = np.array(shares) / sum(shares)
    taking = parts > 0
    found: IntArray = (room[..., taking] / parts[taking]).min(axis=-1).astype(np.int64)
    return found


class Split:
    """How amounts divide over the devices of each row."""

    def __init__(
        self,
        available: IntArray,
        strategy: IntArray,
        layers: IntArray,
        shares: tuple[float, ...] | None = None,
    ) -> None:
        """``shares`` are parts of the layers as told; without them, layers follow the room."""
        self.alone = is_alone(available)
        if self.alone:
            return
        self._tensor = (strategy == TENSOR_SPLIT)[..., None]
        self._layers = np.maximum(layers, 1)
        self._present = available > 0
        devices = available.shape[-1]
        last = devices - 1 - np.argmax(self._present[..., ::-1], axis=-1)
        self._is_last = np.arange(devices) == last[..., None]
        self._count = count_devices(available)
        weights = available if shares is None else _in_parts(shares)
        shape = np.broadcast_shapes(self._layers.shape, available.shape[:-1])
        self._by_layer = _prefix_layers(
            np.broadcast_to(weights, (*shape, devices)), np.broadcast_to(self._layers, shape)
        )

    def spread(self, amount: IntArray, output: IntArray | None) -> IntArray:
        """Divide an amount by strategy; the parts sum to it exactly. ``output`` of it lies on the last device."""
        if self.alone:
            return by_device(amount)
        if not self._tensor.any():
            return self._with_rest(amount, self._in_layers(amount, output))
        equal = self._with_rest(amount, np.where(self._present, (amount // self._count)[..., None], 0))
        if self._tensor.all():
            return equal
        result: IntArray = np.where(
            self._tensor, equal, self._with_rest(amount, self._in_layers(amount, output))
        )
        return result

    def _in_layers(self, amount: IntArray, output: IntArray | None) -> IntArray:
        in_layers = amount if output is None else np.maximum(amount - output, 0)
        return share(in_layers[..., None], self._by_layer, self._layers[..., None])

    def _with_rest(self, amount: IntArray, parts: IntArray) -> IntArray:
        """Parts with what is left of an amount on the last device."""
        left = amount - parts.sum(axis=-1)
        result: IntArray = parts + left[..., None] * self._is_last
        return result
