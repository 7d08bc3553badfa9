"""Images per second from a per-operator-class roofline.

For every operator class ``i`` of a model (:mod:`willitrun.kernels.operator_work`), batch ``b``::

    c_i = b F_i / (e_i P_i),   m_i = B_i(b) / (h_i W),   l_i = n_i floor
    g_i = (c_i^4 + m_i^4 + l_i^4)^(1/4)                      time on the device
    t   = ((sum g_i)^4 + (host_step + n host_op)^4)^(1/4) + input bytes / link

``P_i`` is the dense peak with 32-bit accumulation of the unit that runs the class, lowered by two laws: the
FLOPs per clock and multiprocessor that software sustains, and the FLOPs per joule that a power limit allows.
``W`` is the memory bandwidth. Efficiencies ``e_i`` and ``h_i`` depend on the class and the execution only.
The same code serves one row and a sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.operator_work import MATMUL_KINDS, OPERATOR_CLASSES, OperatorWork

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

PROFILES = (
    "eager", "eager-nhwc", "eager-1.x", "compile", "compile-nhwc", "engine", "cpu", "cpu-compile", "cpu-engine", "train",
    "train-nhwc",
)  # fmt: skip
"""How a graph is executed; ``engine`` is an ahead-of-time compiler (TensorRT, AITemplate, MIGraphX)."""

TERMS = ("compute", "memory-bandwidth", "kernel-floor", "launch", "input")
BOUNDS = ("compute", "memory-bandwidth", "launch", "input")
"""Names of the terms of the time, and of the bounds that they stand for."""

_MATMUL = np.array([name.partition(".")[0] in MATMUL_KINDS for name in OPERATOR_CLASSES])
_CONV = _MATMUL & np.array([name.startswith("conv_") for name in OPERATOR_CLASSES])
_CAST = np.array([name == "cast" for name in OPERATOR_CLASSES])
_BOUND_OF_TERM = np.array([0, 1, 2, 2, 3])
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What one device can do in the chosen precision; arrays of shape (rows,).

    Attributes
    ----------
    conv_flops_per_s, gemm_flops_per_s
        Dense peak with 32-bit accumulation for convolutions and for matrix products [FLOP/s]. They differ in
        PyTorch's default ``fp32`` (TF32 convolutions, FP32 products).
    vector_flops_per_s
        FP32 peak outside the matrix units [FLOP/s].
    bandwidth_bytes_per_s
        Memory bandwidth [B/s].
    multiprocessors, clock_hz
        Streaming multiprocessors (or compute units, cores) and boost clock [Hz]; zero switches their law off.
    power_w
        Board power limit [W]; zero switches the power law off.
    compute_scale, memory_scale
        Class of the device (vendor, form, generation): factor on the shares of peak and of bandwidth.
    host_scale
        Time of one host operation relative to a current desktop.
    link_bytes_per_s
        Host-to-device link [B/s]; ``inf`` when inputs are already on the device.
    """

    conv_flops_per_s: Array
    gemm_flops_per_s: Array
    vector_flops_per_s: Array
    bandwidth_bytes_per_s: Array
    multiprocessors: Array
    clock_hz: Array
    power_w: Array
    compute_scale: Array
    memory_scale: Array
    host_scale: Array
    link_bytes_per_s: Array


@dataclass(frozen=True, slots=True)
class ImageLoad:
    """What is asked of the device; arrays of shape (rows,).

    Attributes
    ----------
    batch
        Images per pass.
    profile
        Index into :data:`PROFILES`.
    act_bytes, wide_bytes, weight_bytes
        Bytes per activation element, per element that stays wide under autocast, per weight element.
    autocast
        1.0 when autocast inserts casts, else 0.0.
    parameters
        Trained parameters, for the optimizer's traffic; zero for inference.
    input_bytes
        Bytes copied to the device per image.
    decode_images_per_s
        Rate of the input pipeline; ``inf`` when it is not part of the question.
    log_residual
        Learnt log ratio measured / predicted time; zero away from data.
    """

    batch: Array
    profile: Codes
    act_bytes: Array
    wide_bytes: Array
    weight_bytes: Array
    autocast: Array
    parameters: Array
    input_bytes: Array
    decode_images_per_s: Array
    log_residual: Array


@dataclass(frozen=True, slots=True)
class OperatorCoefficients:
    """Fitted efficiencies, by profile (rows) and operator class (columns) or by profile alone.

    Attributes
    ----------
    compute, memory
        Share of peak and of bandwidth that a class reaches; (profiles, classes).
    leak
        Share of the traffic that ideal fusion would save but the execution still moves; (profiles, classes).
    folded
        1.0 where a class disappears (batch norm folded into a convolution), else 0.0; (profiles, classes).
    fused_launches
        1.0 where launches are counted after fusion; (profiles,).
    saturation
        FLOPs per clock and multiprocessor that software sustains; (profiles,).
    flops_per_joule
        FLOPs per joule that the power limit allows on matrix units; (profiles,).
    floor_s
        Shortest time of a kernel [s]; (profiles,).
    host_op_s, host_step_s
        Host time per launched kernel and per pass [s]; (profiles,).
    flop_scale, act_scale, kernel_scale, state_bytes
        Training: a step's FLOPs, traffic and kernels relative to inference, and optimizer bytes per parameter.
    """

    compute: Array
    memory: Array
    leak: Array
    folded: Array
    fused_launches: Array
    saturation: Array
    flops_per_joule: Array
    floor_s: Array
    host_op_s: Array
    host_step_s: Array
    flop_scale: Array
    act_scale: Array
    kernel_scale: Array
    state_bytes: Array


@dataclass(frozen=True, slots=True)
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


def resolve_coefficients(
    coefficients: Mapping[str, float], levels: Mapping[str, Mapping[str, float]]
) -> OperatorCoefficients:
    """Lay out a calibration record as arrays by profile and class.

    Parameters
    ----------
    coefficients
        Logarithms of the values shared by all profiles: ``compute.<kind>``, ``compute.<kind>.<level>`` (added),
        ``memory.<kind>``, ``saturation``, ``flops_per_joule``, ``floor_us``, ...
    levels
        Logarithms added per profile: ``{"compute": {"compile": 0.1}, "compute.conv_dw": {...}, ...}``.
    """

    def shared(key: str, profile: str) -> float:
        return coefficients.get(key, 0.0) + levels.get(key, {}).get(profile, 0.0)

    def by_class(term: str) -> Array:
        table = np.zeros((len(PROFILES), len(OPERATOR_CLASSES)))
        for row, profile in enumerate(PROFILES):
            for column, name in enumerate(OPERATOR_CLASSES):
                kind, _, level = name.partition(".")
                total = shared(term, profile) + shared(f"{term}.{kind}", profile)
                if kind in MATMUL_KINDS:
                    group = "matmul" if not kind.startswith("conv") else "conv"
                    total += shared(f"{term}.{group}", profile)
                if level:
                    total += shared(f"{term}.{name}", profile)
                table[row, column] = total
        return table

    def by_profile(key: str) -> Array:
        return np.array([shared(key, profile) for profile in PROFILES])

    fused = np.array(
        [p.startswith(("compile", "engine")) or p in ("cpu-compile", "cpu-engine") for p in PROFILES]
    )
    engine = np.array([p in ("engine", "cpu-engine") for p in PROFILES])
    foldable = np.array([name in ("bn", "conv_bias") for name in OPERATOR_CLASSES])
    leak = np.where(fused[:, None], np.exp(by_class("leak")), 1.0)
    return OperatorCoefficients(
        compute=np.exp(by_class("compute")),
        memory=np.exp(by_class("memory")),
        leak=leak,
        folded=(engine[:, None] & foldable[None, :]).astype(float),
        fused_launches=fused.astype(float),
        saturation=np.exp(by_profile("saturation")),
        flops_per_joule=np.exp(by_profile("flops_per_joule")),
        floor_s=np.exp(by_profile("floor_us")) * 1e-6,
        host_op_s=np.exp(by_profile("host_op_us")) * 1e-6,
        host_step_s=np.exp(by_profile("host_step_us")) * 1e-6,
        flop_scale=np.exp(by_profile("flop_scale")),
        act_scale=np.exp(by_profile("act_scale")),
        kernel_scale=np.exp(by_profile("kernel_scale")),
        state_bytes=np.exp(by_profile("state_bytes")),
    )


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
    compute, memory, floor, kernels = _class_seconds(work, rates, load, coefficients)
    compute4, memory4, floor4 = _fourth(compute), _fourth(memory), _fourth(floor)
    total4 = compute4 + memory4 + floor4 + _TINY
    device_by_class = np.sqrt(np.sqrt(total4))
    # Share of a term through the p-norm: t_i (t_i / t)^(p - 1), see "Term" in the architecture.
    scale = device_by_class / total4
    device_terms = np.stack(
        [(compute4 * scale).sum(1), (memory4 * scale).sum(1), (floor4 * scale).sum(1)], axis=1
    )
    device_s = device_terms.sum(1)
    host_s = (
        coefficients.host_step_s[load.profile] + kernels * coefficients.host_op_s[load.profile]
    ) * rates.host_scale
    both4 = _fourth(device_s) + _fourth(host_s)
    step_s = np.sqrt(np.sqrt(both4))
    residual = np.exp(load.log_residual)
    device_share = _fourth(device_s) / both4 * step_s / np.maximum(device_s, _TINY) * residual
    host_share = _fourth(host_s) / both4 * step_s * residual
    copy_s = load.batch * load.input_bytes / rates.link_bytes_per_s
    terms = np.concatenate(
        [device_terms * device_share[:, None], host_share[:, None], copy_s[:, None]], axis=1
    )
    seconds = terms.sum(1)
    images_per_s = load.batch / seconds
    starved = images_per_s > load.decode_images_per_s
    weights = np.stack([terms[:, 0], terms[:, 1], terms[:, 2] + terms[:, 3], terms[:, 4]], axis=1)
    bound = np.where(starved, BOUNDS.index("input"), weights.argmax(1)).astype(np.intp)
    return ImageSpeed(seconds, np.minimum(images_per_s, load.decode_images_per_s), terms, bound)


def _fourth(values: Array) -> Array:
    squared = values * values
    return squared * squared


def _class_seconds(
    work: OperatorWork, rates: DeviceRates, load: ImageLoad, coefficients: OperatorCoefficients
) -> tuple[Array, Array, Array, Array]:
    """Return compute, memory and floor seconds (rows, classes) and launched kernels (rows,)."""
    profile = load.profile
    batch = load.batch[:, None]
    keep = 1.0 - coefficients.folded[profile]
    keep = np.where(_CAST, keep * load.autocast[:, None], keep)
    flops = work.padded_flops * batch * coefficients.flop_scale[profile][:, None]
    peak = _peaks(rates, coefficients, profile)
    compute = flops / (peak * coefficients.compute[profile] * rates.compute_scale[:, None])

    saved = work.act_elements - work.fused_act_elements
    moved = work.act_elements - saved * (1.0 - coefficients.leak[profile])
    wide = np.where(work.act_elements > 0, work.act32_elements / np.maximum(work.act_elements, 1.0), 0.0)
    per_element = load.act_bytes[:, None] + wide * (load.wide_bytes - load.act_bytes)[:, None]
    # A cast reads a 4-byte weight and writes a 2-byte one: 3 bytes per counted element.
    per_weight = np.where(_CAST, 3.0, load.weight_bytes[:, None])
    moved_bytes = moved * per_element * batch * coefficients.act_scale[profile][:, None]
    moved_bytes = (moved_bytes + work.weight_elements * per_weight) * keep
    bandwidth = rates.bandwidth_bytes_per_s * rates.memory_scale
    memory = moved_bytes / (bandwidth[:, None] * coefficients.memory[profile])
    state_s = load.parameters * coefficients.state_bytes[profile] / bandwidth
    memory[:, OPERATOR_CLASSES.index("elementwise")] += state_s

    fused = coefficients.fused_launches[profile][:, None]
    launched = work.kernels + (work.fused_kernels - work.kernels) * fused
    launched = launched * keep * coefficients.kernel_scale[profile][:, None]
    floor = launched * coefficients.floor_s[profile][:, None]
    return compute, memory, floor, launched.sum(1)


def _peaks(rates: DeviceRates, coefficients: OperatorCoefficients, profile: Codes) -> Array:
    """Sustained peak by class (rows, classes): the sheet's, the software's and the power limit's, smoothly."""

    def sustained(peak: Array) -> Array:
        issue = coefficients.saturation[profile] * rates.multiprocessors * rates.clock_hz
        power = coefficients.flops_per_joule[profile] * rates.power_w
        slower = 1.0 / (peak * peak)
        slower = slower + np.where(issue > 0, 1.0 / np.maximum(issue, 1.0) ** 2, 0.0)
        slower = slower + np.where(power > 0, 1.0 / np.maximum(power, 1.0) ** 2, 0.0)
        return np.asarray(1.0 / np.sqrt(slower))

    conv, gemm = sustained(rates.conv_flops_per_s), sustained(rates.gemm_flops_per_s)
    peaks = np.where(_CONV, conv[:, None], gemm[:, None])
    return np.where(_MATMUL, peaks, rates.vector_flops_per_s[:, None])
