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

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.operator_inputs import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    resolve_coefficients,
)
from willitrun.kernels.operator_work import OPERATOR_CLASSES, OperatorWork

__all__ = [
    "BOUNDS",
    "PROFILES",
    "TERMS",
    "DeviceRates",
    "ImageLoad",
    "ImageSpeed",
    "OperatorCoefficients",
    "predict_images",
    "resolve_coefficients",
]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

TERMS = ("compute", "memory-bandwidth", "kernel-floor", "launch", "input")
BOUNDS = ("compute", "memory-bandwidth", "launch", "input")
"""Names of the terms of the time, and of the bounds that they stand for."""

_Block = TypeVar("_Block", OperatorWork, DeviceRates, ImageLoad)


def _columns(kinds: tuple[str, ...]) -> slice:
    """Columns of neighbouring kinds of the class table."""
    found = [i for i, name in enumerate(OPERATOR_CLASSES) if name.partition(".")[0] in kinds]
    return slice(found[0], found[-1] + 1)


_CONV = _columns(("conv_kxk", "conv_1x1", "conv_grp"))
_GEMM = _columns(("gemm", "bmm", "sdpa", "sdpa_mask"))
_VECTOR = slice(_GEMM.stop, len(OPERATOR_CLASSES))
_CAST = OPERATOR_CLASSES.index("cast")
_STREAM = OPERATOR_CLASSES.index("elementwise")
_BLOCK = 1024  # rows; the work arrays of a block stay in the second-level cache
_TINY = 1e-30


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageSpeed:
    """Speed of a batch; arrays of shape (rows,), terms (rows, ``len(TERMS)``).

    Attributes
    ----------
    seconds
        Time of one batch [s]; the terms sum to it.
    images_per_s
        Throughput, limited by the input pipeline [1/s].
    terms
        Seconds by :data:`TERMS`.
    bound
        Index into :data:`BOUNDS`.
    """

    seconds: Array
    images_per_s: Array
    terms: Array
    bound: Codes


def predict_images(
    work: OperatorWork, rates: DeviceRates, load: ImageLoad, coefficients: OperatorCoefficients
) -> ImageSpeed:
    """Predict the time of one batch and its throughput.

    Parameters
    ----------
    work
        Work per image; one row per scenario, or one row for all.
    rates, load
        Device and request, arrays of shape (rows,).
    coefficients
        From :func:`resolve_coefficients`.

    Returns
    -------
    ImageSpeed
        Seconds, images per second, terms that sum to the seconds, and the bound.
    """
    rows = len(load.batch)
    if rows <= _BLOCK:
        return _predict_block(work, rates, load, coefficients)
    parts = []
    for start in range(0, rows, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = work if len(work.kernels) == 1 else _rows_of(work, part)
        parts.append(_predict_block(block, _rows_of(rates, part), _rows_of(load, part), coefficients))
    return ImageSpeed(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ImageSpeed)))


def _rows_of(block: _Block, part: slice) -> _Block:
    return type(block)(**{f.name: getattr(block, f.name)[part] for f in fields(block)})


def _predict_block(
    work: OperatorWork, rates: DeviceRates, load: ImageLoad, coefficients: OperatorCoefficients
) -> ImageSpeed:
    # One profile for the whole block is the common case: its tables then broadcast instead of being gathered.
    uniform = bool((load.profile == load.profile[0]).all())
    profile = load.profile[:1] if uniform else load.profile
    compute = _compute_seconds(work, rates, load, coefficients, profile)
    memory = _memory_seconds(work, rates, load, coefficients, profile)
    floor, kernels = _floor_seconds(work, load, coefficients, profile)
    for term in (compute, memory, floor):
        _raise_to_fourth(term)
    total4 = compute + memory
    total4 += floor
    total4 += _TINY
    device_by_class = np.sqrt(np.sqrt(total4))
    # Share of a term through the p-norm: t_i (t_i / t)^(p - 1), see "Term" in the architecture.
    device_by_class /= total4
    by_class = np.broadcast_to(device_by_class, np.broadcast_shapes(compute.shape, memory.shape))
    device_terms = np.empty((len(load.batch), 3))
    for column, term in enumerate((compute, memory, floor)):
        device_terms[:, column] = np.einsum("ij,ij->i", np.broadcast_to(term, by_class.shape), by_class)
    # What the residual has learnt is about kernels, so it scales device time and not the host's.
    device_terms *= np.exp(load.log_residual)[:, None]
    device_s = device_terms.sum(1)
    host_s = coefficients.host_step_s[profile] + kernels * coefficients.host_op_s[profile]
    host_s = host_s * rates.host_scale
    host4 = host_s**4
    both4 = device_s**4 + host4
    scale = np.sqrt(np.sqrt(both4)) / both4
    terms = np.empty((len(load.batch), len(TERMS)))
    terms[:, :3] = device_terms * (device_s**3 * scale)[:, None]
    terms[:, 3] = host4 * scale
    terms[:, 4] = load.batch * load.input_bytes / rates.link_bytes_per_s
    seconds = terms.sum(1)
    images_per_s = load.batch / seconds
    starved = images_per_s > load.decode_images_per_s
    bounds = np.stack([terms[:, 0], terms[:, 1], terms[:, 2] + terms[:, 3], terms[:, 4]], axis=1)
    bound = np.where(starved, BOUNDS.index("input"), bounds.argmax(1)).astype(np.intp)
    return ImageSpeed(seconds, np.minimum(images_per_s, load.decode_images_per_s), terms, bound)


def _raise_to_fourth(values: Array) -> None:
    np.multiply(values, values, out=values)
    np.multiply(values, values, out=values)


def _compute_seconds(
    work: OperatorWork,
    rates: DeviceRates,
    load: ImageLoad,
    coefficients: OperatorCoefficients,
    profile: Codes,
) -> Array:
    """Seconds of arithmetic by class (rows, classes)."""
    images = load.batch * coefficients.flop_scale[profile] / rates.compute_scale
    # Issue slots and energy go by operand bytes: half the width, twice the FLOPs.
    per_width = 2.0 / load.act_bytes
    power = coefficients.flops_per_joule[profile] * rates.power_w * per_width
    clocks = rates.multiprocessors * rates.clock_hz * per_width
    conv = images / _sustained(rates.conv_flops_per_s, coefficients.conv_saturation[profile] * clocks, power)
    gemm = images / _sustained(rates.gemm_flops_per_s, coefficients.gemm_saturation[profile] * clocks, power)
    vector = images / rates.vector_flops_per_s
    seconds = np.empty((len(load.batch), len(OPERATOR_CLASSES)))
    for columns, each in ((_CONV, conv), (_GEMM, gemm), (_VECTOR, vector)):
        scaled = work.padded_flops[:, columns] / coefficients.compute[profile][:, columns]
        np.multiply(scaled, each[:, None], out=seconds[:, columns])
    return seconds


def _memory_seconds(
    work: OperatorWork,
    rates: DeviceRates,
    load: ImageLoad,
    coefficients: OperatorCoefficients,
    profile: Codes,
) -> Array:
    """Seconds of memory traffic by class (rows, classes)."""
    bandwidth = rates.bandwidth_bytes_per_s * rates.memory_scale
    images = load.batch * coefficients.act_scale[profile] / bandwidth
    leak = coefficients.leak[profile]
    moved = work.fused_act_elements + leak * (work.act_elements - work.fused_act_elements)
    seconds = moved * (images * load.act_bytes)[:, None]
    if (load.wide_bytes != load.act_bytes).any():
        kept = moved / np.maximum(work.act_elements, 1.0)
        seconds += work.act32_elements * kept * (images * (load.wide_bytes - load.act_bytes))[:, None]
    weights = work.weight_elements * (load.weight_bytes / bandwidth)[:, None]
    # A cast reads a 4-byte weight and writes a 2-byte one: 3 bytes per counted element.
    weights[:, _CAST] = work.weight_elements[:, _CAST] * 3.0 / bandwidth
    seconds += weights
    if (rates.cache_bytes > 0).any():
        # Traffic of one operator against the cache: what fits comes from there, not from memory.
        fill = seconds / np.maximum(work.kernels, 1.0)
        fill *= (bandwidth / np.maximum(rates.cache_bytes, 1.0))[:, None]
        fill *= fill
        gain = np.where(rates.cache_bytes > 0, coefficients.cache_gain[profile], 0.0)
        fill += 1.0
        seconds /= 1.0 + gain[:, None] / fill
    seconds *= (1.0 - coefficients.folded[profile]) / coefficients.memory[profile]
    seconds[:, _CAST] *= load.autocast
    seconds[:, _STREAM] += load.parameters * coefficients.state_bytes[profile] / bandwidth
    return seconds


def _floor_seconds(
    work: OperatorWork, load: ImageLoad, coefficients: OperatorCoefficients, profile: Codes
) -> tuple[Array, Array]:
    """Seconds of the shortest kernels by class (rows, classes), and launched kernels (rows,)."""
    fused = coefficients.fused_launches[profile][:, None]
    launched = work.kernels + (work.fused_kernels - work.kernels) * fused
    launched = launched * ((1.0 - coefficients.folded[profile]) * coefficients.kernel_scale[profile][:, None])
    launched = np.repeat(launched, len(load.batch), 0) if len(launched) == 1 else launched
    launched[:, _CAST] *= load.autocast
    return launched * coefficients.floor_s[profile][:, None], launched.sum(1)


def _sustained(peak: Array, issue: Array, power: Array) -> Array:
    """Sustained peak [FLOP/s]: the sheet's, the software's and the power limit's, smoothly; zero is no limit."""
    slower = 1.0 / (peak * peak)
    for limit in (issue, power):
        slower = slower + np.where(limit > 0, 1.0 / np.maximum(limit, 1.0) ** 2, 0.0)
    return np.asarray(1.0 / np.sqrt(slower))
