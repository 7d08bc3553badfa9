"""Images per second from a per-operator-class roofline.

For every operator class ``i`` of a model (:mod:`willitrun.kernels.operator_work`), batch ``b``::

    c_i = b F_i / (e_i P_i),   m_i = B_i(b) / (h_i W),   l_i = n_i floor
    g_i = (c_i^4 + m_i^4 + l_i^4)^(1/4)                      time on the device
    t   = ((sum g_i)^4 + (host_step + n host_op)^4)^(1/4) + input bytes / link

``P_i`` is the dense peak with 32-bit accumulation of the unit that runs the class, lowered by two laws: the
FLOPs per clock and multiprocessor that software sustains, and the FLOPs per joule that a power limit allows.
``W`` is the memory bandwidth, raised where the traffic of one operator fits the cache. Efficiencies ``e_i`` and ``h_i`` depend on the class and the execution only.
The same code serves one row and a sweep.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import constant, exists, maximum, minimum, where
from willitrun.kernels.operator_inputs import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    resolve_coefficients,
    with_saturation,
)
from willitrun.kernels.operator_seconds import OperatorPass, activate
from willitrun.kernels.operator_work import OperatorWork

__all__ = [
    "BOUNDS",
    "PROFILES",
    "TERMS",
    "DeviceRates",
    "ClassShares",
    "ImageLoad",
    "ImageSpeed",
    "OperatorCoefficients",
    "predict_images",
    "predict_shares",
    "resolve_coefficients",
    "waits_for_host",
    "with_saturation",
]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

TERMS = ("compute", "memory-bandwidth", "kernel-floor", "launch", "input")
BOUNDS = ("compute", "memory-bandwidth", "launch", "input")
"""Names of the terms of the time, and of the bounds that they stand for."""

HOST_SHARE = 0.05
"""Share of a pass that is the host's beyond which hosts, and not devices, decide how widely measurements spread."""

_Block = TypeVar("_Block", OperatorWork, DeviceRates, ImageLoad)

_BLOCK = 1024  # rows of a line; the arrays of a block stay in the second-level cache
_TINY = 1e-30
_INPUT = np.intp(BOUNDS.index("input"))


@frozen(eq=False)
class ImageSpeed:
    """Speed of a batch; arrays of one shape, that of the rows or of the grid.

    Attributes
    ----------
    seconds
        Time of one batch [s]; the shares sum to it.
    images_per_s
        Throughput, limited by the input pipeline [1/s].
    shares
        Seconds by :data:`TERMS`.
    bound
        Index into :data:`BOUNDS`.
    """

    seconds: Array
    images_per_s: Array
    shares: tuple[Array, ...]
    bound: Codes

    @property
    def terms(self) -> Array:
        """The shares side by side: (..., ``len(TERMS)``)."""
        return np.stack(self.shares, axis=-1)


def predict_images(
    work: OperatorWork, rates: DeviceRates, load: ImageLoad, coefficients: OperatorCoefficients
) -> ImageSpeed:
    """Predict the time of one batch and its throughput.

    Parameters
    ----------
    work
        Work per image, of shape (..., classes): one row per scenario, or one row for all.
    rates, load
        Device and request: lines of rows, shape (rows,), or sides of a grid, such as (devices, 1) and (1, batches).
        What depends on one side only is computed for that side only. Work then has as many axes more. Of one row, they
        may be numbers, and work of shape (classes,).
    coefficients
        From :func:`resolve_coefficients`.

    Returns
    -------
    ImageSpeed
        Seconds, images per second, shares that sum to the seconds, and the bound.
    """
    batch = load.batch
    if batch.ndim != 1 or len(batch) <= _BLOCK:
        trained = exists(load.parameters)
        rows = max(batch.size, rates.bandwidth_bytes_per_s.size)
        return _speed_of(
            OperatorPass(activate(work, rows, trained=trained), rates, load, coefficients, trained=trained)
        )
    parts = []
    for start in range(0, len(batch), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = work if work.kernels.shape[0] == 1 else _rows_of(work, part)
        parts.append(predict_images(block, _rows_of(rates, part), _rows_of(load, part), coefficients))
    return ImageSpeed(
        np.concatenate([part.seconds for part in parts]),
        np.concatenate([part.images_per_s for part in parts]),
        tuple(np.concatenate(shares) for shares in zip(*(part.shares for part in parts), strict=True)),
        np.concatenate([part.bound for part in parts]),
    )


@frozen(eq=False)
class ClassShares:
    """Seconds of a batch by operator class and term; shape (classes, rows), and (rows,) for the host's.

    A share is what the seconds lose per unit of the logarithm of its efficiency: ``ds / d ln e_i``.
    """

    compute: Array
    memory: Array
    floor: Array
    host: Array


def predict_shares(
    work: OperatorWork, rates: DeviceRates, load: ImageLoad, coefficients: OperatorCoefficients
) -> ClassShares:
    """Split the seconds of :func:`predict_images` over classes; rows of one line, all classes."""
    found = OperatorPass(
        activate(work, 1, trained=False), rates, load, coefficients, trained=exists(load.parameters)
    )
    arithmetic4, _, _ = found.arithmetic()
    traffic4 = found.traffic()
    shortest4, kernels = found.shortest()
    share = _share_of(arithmetic4, traffic4, shortest4) * np.exp(load.log_residual)
    parts = (arithmetic4 * share, traffic4 * share, shortest4 * share)
    device_s = parts[0].sum(0) + parts[1].sum(0) + parts[2].sum(0)
    scaled, host4, scale = _beside_host(device_s, _host_seconds(found, kernels))
    compute, memory, floor = (part * scaled for part in parts)
    return ClassShares(compute, memory, floor, host4 * scale)


def waits_for_host(speed: ImageSpeed) -> NDArray[np.bool_]:
    """Whether starting kernels takes a notable share of a pass, so that the spread between hosts shows."""
    found: NDArray[np.bool_] = speed.shares[TERMS.index("launch")] > HOST_SHARE * speed.seconds
    return found


def _rows_of(block: _Block, part: slice) -> _Block:
    return type(block)(**{f.name: getattr(block, f.name)[part] for f in fields(block)})


def _speed_of(found: OperatorPass) -> ImageSpeed:
    load = found.load
    arithmetic4, by_class, by_unit = found.arithmetic()
    traffic4 = found.traffic()
    shortest4, kernels = found.shortest()
    share = _share_of(arithmetic4, traffic4, shortest4)
    compute = sum(
        each * _sum_products(by_class[columns], share[columns])
        for columns, each in zip(found.active.units, by_unit, strict=True)
    )
    # What the residual has learnt is about kernels, so it scales device time and not the host's.
    learnt = np.exp(load.log_residual)
    compute, memory, floor = (
        part * learnt for part in (compute, _sum_products(traffic4, share), _sum_products(shortest4, share))
    )
    cubed, host4, scale = _beside_host(compute + memory + floor, _host_seconds(found, kernels))
    parts = (compute * cubed, memory * cubed, floor * cubed, host4 * scale)
    entry = load.batch * load.input_bytes / found.rates.link_bytes_per_s
    seconds = parts[0] + parts[1] + parts[2] + parts[3] + entry
    images_per_s = load.batch / seconds
    bound = _longest(parts[0], parts[1], parts[2] + parts[3], entry)
    starved = images_per_s > load.decode_images_per_s
    return ImageSpeed(
        seconds,
        minimum(images_per_s, load.decode_images_per_s),
        (*parts, entry if entry.shape == seconds.shape else np.broadcast_to(entry, seconds.shape)),
        where(starved, _INPUT, bound),
    )


def _share_of(arithmetic4: Array, traffic4: Array, shortest4: Array) -> Array:
    """Share of a term through the p-norm: ``t_i (t_i / t)^(p - 1)``, see "Term" in the architecture; without ``t_i^p``."""
    total4 = arithmetic4 + traffic4
    total4 = total4 + (shortest4 + _TINY)
    share = np.sqrt(total4)
    np.sqrt(share, out=share)
    share /= total4
    return share


def _host_seconds(found: OperatorPass, kernels: Array) -> Array:
    """Seconds that the host takes to start the kernels of a pass."""
    coefficients, profile = found.coefficients, found.profile
    seconds: Array = (
        coefficients.host_step_s[profile] + kernels * coefficients.host_op_s[profile]
    ) * found.rates.host_scale
    return seconds


def _beside_host(device_s: Array, host_s: Array) -> tuple[Array, Array, Array]:
    """Factor on the device's seconds, the host's to the fourth power, and the factor on those."""
    host4 = host_s * host_s
    host4 = host4 * host4
    cubed = device_s * device_s * device_s
    both4 = cubed * device_s + host4
    scale = np.sqrt(np.sqrt(both4)) / both4
    return cubed * scale, host4, scale


def _longest(*times: Array) -> Codes:
    """Number of the longest time; the first of equal ones."""
    longest, code = times[0], constant(np.intp(0), times[0])
    for number, time in enumerate(times[1:], start=1):
        code = where(time > longest, np.intp(number), code)
        longest = maximum(longest, time)
    return code


def _sum_products(values: Array, share: Array) -> Array:
    """Sum over classes."""
    found: Array = np.einsum("c...,c...->...", values, share)
    return found
