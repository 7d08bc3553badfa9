"""Which of an accelerator's peaks a runtime may use for a weight format.

The choice follows from runtime, format and what the chip has, never from a device name. A peak that the
chip does not have is NaN and the next slower path takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from willitrun.kernels.llm_levels import AXES, UNKNOWN, level_code

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_GGML_RUNTIMES = ("llama.cpp", "ik_llama.cpp", "llamafile", "llamafile-avx512-bf16")
_MATRIX_UNITS = ("volta", "turing", "ampere", "ada", "hopper")
_SERVERS = ("vllm", "sglang")
_AMD = ("gcn", "cdna", "rdna", "rdna-wmma")
_GGML_INTEGER_FORMATS = ("q8", "kquant", "kquant-low", "legacy-quant", "low-bit", "mxfp4")


@cache
def _membership(axis: str, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which codes of an axis are among some levels; the last slot is the unknown level's."""
    table = np.zeros(len(AXES[axis]) + 1, dtype=bool)
    for name in names:
        table[level_code(axis, name)] = True
    table[-1] = False
    return table


def _any_code(codes: IntArray, axis: str, names: tuple[str, ...]) -> NDArray[np.bool_]:
    return _membership(axis, names)[codes]


def product_codes(codes: Mapping[str, IntArray]) -> IntArray:
    """Level of the axis ``product`` of rows from their other levels, where ``codes`` says of it what the version tells.

    ggml leaves 16- and 32-bit weights to cuBLAS and hipBLAS; old builds did so with all weights on chips with matrix units.
    """
    library = level_code("product", "library")
    plain = _any_code(codes["format"], "format", ("f16", "bf16", "f32"))
    plain = plain & _any_code(codes["backend"], "backend", ("cuda", "rocm"))
    expanded = (codes["product"] == library) & _any_code(codes["backend"], "backend", ("cuda",))
    expanded = expanded & _any_code(codes["generation"], "generation", _MATRIX_UNITS)
    result: IntArray = np.where(
        (plain | expanded) & _any_code(codes["runtime"], "runtime", _GGML_RUNTIMES), library, UNKNOWN
    )
    return result


def format_codes(codes: Mapping[str, IntArray]) -> IntArray:
    """Level of the axis ``format`` as the runtime of each row tells formats apart: PyTorch's programs multiply both kinds of
    16 bits alike, ggml's do not."""
    other = ~_any_code(codes["runtime"], "runtime", _GGML_RUNTIMES)
    result: IntArray = np.where(
        other & _any_code(codes["format"], "format", ("bf16",)), level_code("format", "f16"), codes["format"]
    )
    return result


def _first_known(*peaks: FloatArray) -> FloatArray:
    result = peaks[0]
    for peak in peaks[1:]:
        result = np.where(np.isnan(result), peak, result)
    return result


def select_compute_peak(
    *,
    int8_ops_per_s: FloatArray,
    fp8_flop_per_s: FloatArray,
    fp4_flop_per_s: FloatArray,
    fp16_flop_per_s: FloatArray,
    fp16_accumulate_fp16_flop_per_s: FloatArray,
    fp32_flop_per_s: FloatArray,
    runtime: IntArray,
    backend: IntArray,
    format: IntArray,
    generation: IntArray,
    product: IntArray,
) -> FloatArray:
    """Return the peak [FLOP/s] that is legal for (runtime, format, architecture).

    - ggml runtimes on CUDA, ROCm and CPU multiply quantized weights as INT8 (tensor cores, MFMA/WMMA or
      DP4A): the INT8 peak. Vulkan, Metal and SYCL backends expand them to FP16 first, as old builds did for a library.
    - ggml on F16 weights accumulates in FP16 where the chip is faster that way; on BF16 it never does, and its Vulkan
      back end expands them to FP32 where the driver multiplies no matrices of BF16, as AMD's mostly do not
      (``ggml-vulkan.cpp``, "BF16 fallback").
    - PyTorch, vLLM, SGLang, TensorRT-LLM, MLX, OpenVINO accumulate in FP32; weight-only INT4 runs at the
      FP16 rate, FP8 and FP4 weights at theirs where the chip has it (FP4 falls back to FP8's substitute,
      FP16: weight-only), INT8 activations at the INT8 rate. OpenVINO's 8 bits are those of weights alone.
    - vLLM and SGLang have few narrow kernels for GeForce and GB10 Blackwell (compute capability 12.x): FP4 and FP8
      weights expand to 16 bits there (https://github.com/vllm-project/vllm/issues/55397, 50925, 43507).

    Parameters are per-device peaks (dense, without sparsity; NaN where the chip has no such path) and level
    codes; all broadcast. FP32 must be known.

    >>> nan = np.array([np.nan])
    >>> code = lambda axis, name: np.array([level_code(axis, name)])
    >>> peak = dict(int8_ops_per_s=np.array([284e12]), fp8_flop_per_s=nan, fp4_flop_per_s=nan,
    ...     fp16_flop_per_s=np.array([71e12]), fp16_accumulate_fp16_flop_per_s=np.array([142e12]),
    ...     fp32_flop_per_s=np.array([35.6e12]), backend=code("backend", "cuda"), generation=code("generation", "ampere"),
    ...     product=code("product", None))
    >>> float(select_compute_peak(**peak, runtime=code("runtime", "llama.cpp"), format=code("format", "kquant"))[0])
    284000000000000.0
    >>> float(select_compute_peak(**peak, runtime=code("runtime", "vllm"), format=code("format", "int4"))[0])
    71000000000000.0
    """
    vector = fp32_flop_per_s
    half = _first_known(fp16_flop_per_s, vector)
    half_fast = _first_known(fp16_accumulate_fp16_flop_per_s, half)
    int8 = _first_known(int8_ops_per_s, half)
    fp8 = _first_known(fp8_flop_per_s, half)
    fp4 = _first_known(fp4_flop_per_s, half)

    ggml = _any_code(runtime, "runtime", _GGML_RUNTIMES)
    integer_backend = _any_code(backend, "backend", ("cuda", "rocm", "cpu"))
    integer_backend = integer_backend & ~_any_code(product, "product", ("library",))
    integer_format = _any_code(format, "format", _GGML_INTEGER_FORMATS)
    is_f32 = _any_code(format, "format", ("f32",))
    expands = _any_code(runtime, "runtime", _SERVERS) & _any_code(
        generation, "generation", ("blackwell-rtx",)
    )
    fp8, fp4 = np.where(expands, half, fp8), np.where(expands, half, fp4)
    int8_activations = _any_code(format, "format", ("q8",)) & ~_any_code(runtime, "runtime", ("openvino",))

    brain = _any_code(format, "format", ("bf16",))
    scalar = _any_code(backend, "backend", ("vulkan",)) & _any_code(generation, "generation", _AMD)
    half_fast = np.where(brain, np.where(scalar, vector, half), half_fast)
    peak = np.where(
        ggml,
        np.where(integer_format & integer_backend, int8, half_fast),
        np.where(
            int8_activations,
            int8,
            np.where(
                _any_code(format, "format", ("fp8",)),
                fp8,
                np.where(_any_code(format, "format", ("nvfp4",)), fp4, half),
            ),
        ),
    )
    result: FloatArray = np.where(is_f32, vector, peak)
    return result


def mesh_link(bytes_per_s: float, links: int | None, devices: int) -> float:
    """What a device sends to the others of a group [bytes/s] where it has a link of its own to each of them.

    A group that is smaller than the mesh leaves links idle: (devices - 1) / links of the sum is used.

    Parameters
    ----------
    bytes_per_s
        Sum of its links, one direction [bytes/s].
    links
        How many they are; None where a switch gives all of it to any neighbour.
    devices
        Devices of the group.

    References
    ----------
    https://www.amd.com/content/dam/amd/en/documents/instinct-tech-docs/white-papers/amd-cdna-3-white-paper.pdf (figure 9)

    Examples
    --------
    >>> mesh_link(448e9, 7, 8) / 1e9, mesh_link(448e9, 7, 2) / 1e9, mesh_link(450e9, None, 2) / 1e9
    (448.0, 64.0, 450.0)
    """
    if links is None or devices < 2:
        return bytes_per_s
    return bytes_per_s * min(devices - 1, links) / links
