"""Seconds of one pass by operator class: arithmetic, memory traffic and shortest kernels, each a side of the roofline.

The class is the first axis, so that planes of rows are contiguous and a sum over classes adds planes. What depends
on the network and the request, or on the device alone, keeps its own shape until both meet.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import exists, maximum, where
from willitrun.kernels.operator_inputs import DeviceRates, ImageLoad, OperatorCoefficients
from willitrun.kernels.operator_work import OPERATOR_CLASSES, OperatorWork

__all__ = ["ActiveWork", "OperatorPass", "activate"]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

_WORK = tuple(field.name for field in fields(OperatorWork))
_EVERY = np.arange(len(OPERATOR_CLASSES))
_FEW = 64
"""Rows below which dropping classes costs more than it saves."""


def _first_of(*kinds: str) -> int:
    return min(i for i, name in enumerate(OPERATOR_CLASSES) if name.partition(".")[0] in kinds)


_GEMM = _first_of("gemm", "bmm", "sdpa", "sdpa_mask")
_VECTOR = _first_of("conv_dw")
_CAST = OPERATOR_CLASSES.index("cast")
_STREAM = OPERATOR_CLASSES.index("elementwise")


@frozen(eq=False)
class ActiveWork:
    """Work of the classes that some network has: few have half of them, and the rest would cost as much."""

    work: OperatorWork
    classes: Codes
    units: tuple[slice, slice, slice]
    """Columns of convolutions, of matrix products and of vector code."""

    def place(self, code: int) -> slice:
        """Column of a class, empty where no network has it."""
        first = int(np.searchsorted(self.classes, code))
        return slice(first, first + (first < len(self.classes) and int(self.classes[first]) == code))


def activate(work: OperatorWork, rows: int, *, trained: bool) -> ActiveWork:
    """Drop the classes that no network has. ``trained``: some row moves an optimizer's state."""
    if rows < _FEW:
        units = slice(0, _GEMM), slice(_GEMM, _VECTOR), slice(_VECTOR, len(_EVERY))
        return ActiveWork(work, _EVERY, units)
    total = work.kernels + work.padded_flops + work.act_elements + work.weight_elements + work.fused_kernels
    active = np.asarray(total.reshape(-1, len(OPERATOR_CLASSES)).any(axis=0))
    # The optimizer's traffic is counted here.
    active[_STREAM] |= trained
    classes = np.flatnonzero(active)
    if len(classes) < len(active):
        work = OperatorWork(**{name: getattr(work, name)[..., classes] for name in _WORK})
    first, second = np.searchsorted(classes, (_GEMM, _VECTOR)).tolist()
    return ActiveWork(work, classes, (slice(0, first), slice(first, second), slice(second, len(classes))))


class OperatorPass:
    """A network, a device and a request met: what each class costs, to the fourth power."""

    def __init__(
        self,
        active: ActiveWork,
        rates: DeviceRates,
        load: ImageLoad,
        coefficients: OperatorCoefficients,
        *,
        trained: bool,
    ) -> None:
        self.active, self.rates, self.load, self.coefficients = active, rates, load, coefficients
        self.trained = trained
        # One profile for the whole block is the common case: its tables then broadcast instead of being gathered.
        profile = load.profile
        if type(profile) is np.ndarray:
            first = profile.flat[0]
            if profile.size == 1 or bool((profile == first).all()):
                profile = np.full((1,) * profile.ndim, first)
        self.profile: Codes = profile
        self.work = active.work
        if active.work.kernels.ndim > 1:
            self.work = OperatorWork(*(_classes_first(getattr(active.work, name)) for name in _WORK))
        kept = 1.0 - self._table(coefficients.folded)
        if type(load.autocast) is not np.ndarray:
            kept[active.place(_CAST)] *= load.autocast
        elif load.autocast.size > 1 or load.autocast.flat[0] != 1.0:
            kept = np.array(np.broadcast_to(kept, np.broadcast(kept, load.autocast[None]).shape))
            kept[active.place(_CAST)] *= load.autocast
        self._kept = kept
        """0.0 where a class is folded into another, or is a cast without autocast, else 1.0."""

    def _table(self, values: Array) -> Array:
        """Coefficients of the classes that there are."""
        rows = values[self.profile]
        return _classes_first(rows if self.active.classes is _EVERY else rows[..., self.active.classes])

    def arithmetic(self) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """Fourth power of the seconds of arithmetic, and its factors: by class, and by unit that runs it."""
        rates, load, coefficients, profile = self.rates, self.load, self.coefficients, self.profile
        images = load.batch * coefficients.flop_scale[profile] / rates.compute_scale
        # Issue slots and energy go by operand bytes: half the width, twice the FLOPs.
        per_width = 2.0 / load.act_bytes
        power = _inverse_square(coefficients.flops_per_joule[profile] * rates.power_w * per_width)
        clocks = _inverse_square(rates.multiprocessors * rates.clock_hz * per_width)
        square = images * images
        # The sustained peak is the sheet's, the software's and the power limit's, smoothly.
        by_unit = (
            square * (1.0 / rates.conv_flops_per_s**2 + clocks / coefficients.conv_saturation[profile] ** 2 + power),
            square * (1.0 / rates.gemm_flops_per_s**2 + clocks / coefficients.gemm_saturation[profile] ** 2 + power),
            square / (rates.vector_flops_per_s * rates.vector_flops_per_s),
        )  # fmt: skip
        by_unit = tuple(unit * unit for unit in by_unit)  # type: ignore[assignment]
        by_class = _fourth(self.work.padded_flops / self._table(coefficients.compute))
        shape = np.broadcast(by_class[0], *by_unit).shape
        found = np.empty((len(by_class), *shape))
        for columns, each in zip(self.active.units, by_unit, strict=True):
            np.multiply(by_class[columns], each, out=found[columns])
        return found, by_class, by_unit

    def traffic(self) -> Array:
        """Fourth power of the seconds of memory traffic."""
        work, rates, load, coefficients = self.work, self.rates, self.load, self.coefficients
        images = load.batch * coefficients.act_scale[self.profile]
        moved = work.fused_act_elements + self._table(coefficients.leak) * (
            work.act_elements - work.fused_act_elements
        )
        bytes_moved = moved * (images * load.act_bytes)
        wider = load.wide_bytes - load.act_bytes
        if exists(wider):
            kept = moved / np.maximum(work.act_elements, 1.0)
            bytes_moved += work.act32_elements * kept * (images * wider)
        weights = work.weight_elements * load.weight_bytes
        # A cast reads a 4-byte weight and writes a 2-byte one: 3 bytes per counted element.
        cast = self.active.place(_CAST)
        weights[cast] = work.weight_elements[cast] * 3.0
        bytes_moved += weights
        share = bytes_moved * (self._kept / self._table(coefficients.memory))
        known = rates.cache_bytes > 0
        if exists(known):
            # Traffic of one operator against the cache: what fits comes from there, not from memory.
            fill = bytes_moved / np.maximum(work.kernels, 1.0)
            fill = fill * fill * where(known, _inverse_square(rates.cache_bytes), 0.0)
            fill += 1.0
            fill /= fill + where(known, coefficients.cache_gain[self.profile], 0.0)
            share = share * fill
        if self.trained:
            state = load.parameters * coefficients.state_bytes[self.profile]
            share = np.array(np.broadcast_to(share, np.broadcast(share, state[None]).shape))
            share[self.active.place(_STREAM)] += state
        return _fourth(share * (1.0 / (rates.bandwidth_bytes_per_s * rates.memory_scale)))

    def shortest(self) -> tuple[Array, Array]:
        """Fourth power of the seconds of the shortest kernels, and launched kernels."""
        coefficients, profile, kernels = self.coefficients, self.profile, self.work.kernels
        launched = kernels + (self.work.fused_kernels - kernels) * coefficients.fused_launches[profile]
        launched = launched * (self._kept * coefficients.kernel_scale[profile])
        return _fourth(launched * coefficients.floor_s[profile]), launched.sum(axis=0)


def _classes_first(values: Array) -> Array:
    return values.T if values.ndim <= 2 else values.transpose(values.ndim - 1, *range(values.ndim - 1))


def _fourth(values: Array) -> Array:
    """The fourth power, in place."""
    np.multiply(values, values, out=values)
    return np.multiply(values, values, out=values)


def _inverse_square(limit: Array) -> Array:
    """``1 / limit^2``; zero is no limit."""
    return where(limit > 0, 1.0 / maximum(limit * limit, 1.0), 0.0)
