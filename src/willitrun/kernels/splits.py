"""Amounts divided over devices and layers, in whole layers or equal parts that sum exactly; the device is the last axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.elementwise import divided, exists, maximum, where

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


NEARLY = 1e-5
"""What is less than this above a whole number of layers is that number: parts of devices are single floats."""


def _bounds(weights: IntArray, layers: IntArray, further: IntArray | None) -> IntArray:
    """Layers on every device and those before it, in proportion to ``weights``.

    By rounding; or as llama.cpp counts, which places ``further`` matrices behind the layers like one more layer: layer i
    of n lies on the first device whose part and those before it exceed i / n (``get_layer_buft_list``).
    """
    parts = np.cumsum(weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1), axis=-1)
    # Shares as floats are safe: they only choose which whole layer goes where.
    if further is None:
        found = np.rint(parts * layers[..., None])
    else:
        found = np.ceil(parts * (layers + further)[..., None] - NEARLY)
    bounds: IntArray = np.minimum(found.astype(np.int64), layers[..., None])
    bounds[..., -1] = layers
    return bounds


def share(total: IntArray, count: IntArray, of: IntArray) -> IntArray:
    """``total * count / of`` without overflow or loss: whole parts first, then the remainder."""
    safe = maximum(of, 1)
    whole = divided(total, safe)
    rest = total - whole * safe
    result: IntArray = whole * count
    # Caches are so many bytes of each layer: of them nothing is left, for any count.
    return result + divided(rest * count, safe) if exists(rest) else result


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
        n_layers: IntArray,
        shares: tuple[float, ...] | None = None,
        *,
        begin: IntArray,
        without: BoolArray | None = None,
    ) -> None:
        """Split the layers from ``begin`` on.

        ``shares`` are parts of them as told; without them, layers follow the room. The matrix behind the layers counts
        as one more, unless it is ``without``; None where the engine counts no such.
        """
        self.alone = is_alone(available)
        if self.alone:
            return
        layers = n_layers - begin
        further = None if without is None else where(without, 0, 1)
        self._tensor = (strategy == TENSOR_SPLIT)[..., None]
        self._present = available > 0
        devices = available.shape[-1]
        last = devices - 1 - np.argmax(self._present[..., ::-1], axis=-1)
        self._is_last = np.arange(devices) == last[..., None]
        self._count = count_devices(available)
        weights = available if shares is None else _in_parts(shares)
        shape = np.broadcast_shapes(np.shape(layers), available.shape[:-1])
        bounds = _bounds(np.broadcast_to(weights, (*shape, devices)), np.broadcast_to(layers, shape), further)
        start = np.asarray(begin)[..., None]
        self._edges = np.concatenate([start + 0 * bounds[..., :1], start + bounds], axis=-1)
        self._some_tensor, self._all_tensor = exists(self._tensor), not exists(~self._tensor)

    def spread(self, amount: IntArray, first: Callable[[IntArray], IntArray]) -> IntArray:
        """Divide an amount by strategy; the parts sum to it exactly.

        ``first`` says what some first layers hold; what lies beside all layers goes to the last device.
        """
        if self.alone:
            return by_device(amount)
        if not exists(amount):
            shape = np.broadcast_shapes(self._is_last.shape, (*self._edges.shape[:-1], 1), (*amount.shape, 1))
            return np.zeros(shape, dtype=np.int64)
        if not self._some_tensor:
            return self._in_layers(amount, first)
        equal = self._with_rest(amount, np.where(self._present, (amount // self._count)[..., None], 0))
        if self._all_tensor:
            return equal
        result: IntArray = np.where(self._tensor, equal, self._in_layers(amount, first))
        return result

    def _in_layers(self, amount: IntArray, first: Callable[[IntArray], IntArray]) -> IntArray:
        """Every device's run of layers, from one edge to the next."""
        before = first(self._edges)
        return self._with_rest(amount, before[..., 1:] - before[..., :-1])

    def _with_rest(self, amount: IntArray, parts: IntArray) -> IntArray:
        """Parts with what is left of an amount on the last device."""
        left = amount - parts.sum(axis=-1)
        result: IntArray = parts + left[..., None] * self._is_last
        return result
