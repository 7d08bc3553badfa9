"""Inputs of the operator roofline: device rates, load, and coefficients resolved from a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.operator_work import MATMUL_KINDS, OPERATOR_CLASSES

__all__ = [
    "PROFILES",
    "DeviceRates",
    "ImageLoad",
    "OperatorCoefficients",
    "resolve_coefficients",
    "with_saturation",
]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

PROFILES = (
    "eager", "eager-nhwc", "compile", "compile-nhwc", "engine", "cpu", "cpu-compile", "cpu-engine", "train",
    "train-nhwc",
)  # fmt: skip
"""How a graph is executed; ``engine`` is an ahead-of-time compiler (TensorRT, AITemplate, MIGraphX)."""


@frozen(eq=False)
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
    cache_bytes
        Last-level cache [B]; zero when unknown.
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
    cache_bytes: Array
    multiprocessors: Array
    clock_hz: Array
    power_w: Array
    compute_scale: Array
    memory_scale: Array
    host_scale: Array
    link_bytes_per_s: Array


@frozen(eq=False)
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
        Learnt log ratio measured / predicted time on the device; zero away from data.
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


@frozen(eq=False)
class OperatorCoefficients:
    """Fitted efficiencies, by profile (rows) and operator class (columns) or by profile alone.

    Attributes
    ----------
    compute, memory
        Share of peak and of bandwidth that a class reaches; (profiles, classes).
    leak
        Share of the traffic that ideal fusion would save but the execution still moves; (profiles, classes).
    folded
        1.0 where a class disappears (batch norm folded into a convolution, copies for a layout where channels are last
        or a compiler chooses it), else 0.0; (profiles, classes).
    fused_launches
        1.0 where launches are counted after fusion; (profiles,).
    conv_saturation, gemm_saturation
        FLOPs per clock and multiprocessor that software sustains; (profiles,).
    cache_gain
        How many times more than memory the cache delivers when an operator's traffic fits it; (profiles,).
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
    conv_saturation: Array
    gemm_saturation: Array
    cache_gain: Array
    flops_per_joule: Array
    floor_s: Array
    host_op_s: Array
    host_step_s: Array
    flop_scale: Array
    act_scale: Array
    kernel_scale: Array
    state_bytes: Array


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
    planar = np.array([p in ("eager", "train", "cpu") for p in PROFILES])
    relayout = np.array([name == "relayout" for name in OPERATOR_CLASSES])
    leak = np.where(fused[:, None], np.exp(by_class("leak")), 1.0)
    return OperatorCoefficients(
        compute=np.exp(by_class("compute")),
        memory=np.exp(by_class("memory")),
        leak=leak,
        folded=(engine[:, None] & foldable | ~planar[:, None] & relayout).astype(float),
        fused_launches=fused.astype(float),
        conv_saturation=np.exp(by_profile("saturation.conv")),
        gemm_saturation=np.exp(by_profile("saturation.gemm")),
        cache_gain=np.exp(by_profile("cache_gain")),
        flops_per_joule=np.exp(by_profile("flops_per_joule")),
        floor_s=np.exp(by_profile("floor_us")) * 1e-6,
        host_op_s=np.exp(by_profile("host_op_us")) * 1e-6,
        host_step_s=np.exp(by_profile("host_step_us")) * 1e-6,
        flop_scale=np.exp(by_profile("flop_scale")),
        act_scale=np.exp(by_profile("act_scale")),
        kernel_scale=np.exp(by_profile("kernel_scale")),
        state_bytes=np.exp(by_profile("state_bytes")),
    )


def with_saturation(coefficients: OperatorCoefficients, shifts: Mapping[str, float]) -> OperatorCoefficients:
    """Coefficients for work whose products are of another size than a classifier's.

    Parameters
    ----------
    coefficients
        Those that all graphs share.
    shifts
        Logarithms added to the saturation of products (``gemm``) and of convolutions (``conv``).

    Examples
    --------
    >>> shared = resolve_coefficients({"saturation.gemm": 5.0, "saturation.conv": 6.0}, {})
    >>> wide = with_saturation(shared, {"gemm": 2.0})
    >>> [round(float(np.log(one.gemm_saturation[0])), 6) for one in (shared, wide)]
    [5.0, 7.0]
    """
    return replace(
        coefficients,
        gemm_saturation=coefficients.gemm_saturation * np.exp(shifts.get("gemm", 0.0)),
        conv_saturation=coefficients.conv_saturation * np.exp(shifts.get("conv", 0.0)),
    )
