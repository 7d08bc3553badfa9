"""The vocabulary of calibration levels, and how coefficients are looked up from them.

A calibrated coefficient is ``exp(mu + sum of level offsets)``. A level is a class of hardware or software
(never one device, model or row). Estimators, planner and fitting tool share the codes of this one table; a
class that the table does not know has code -1 and contributes nothing, which is where shrinkage leads anyway.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.llm_inputs import LlmCoefficients

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

UNKNOWN: Final = -1

AXES: Final[dict[str, tuple[str, ...]]] = {
    "vendor": ("nvidia", "amd", "intel", "apple", "cpu"),
    "memory_class": ("gddr", "hbm", "lpddr", "ddr"),
    "runtime": (
        "llama.cpp",
        "ik_llama.cpp",
        "llamafile",
        "llamafile-avx512-bf16",
        "vllm",
        "sglang",
        "tensorrt-llm",
        "exllama",
        "mlx",
        "mlc",
        "openvino",
        "pytorch",
        "transformers",
        "autoawq",
        "deepspeed",
    ),
    # Serving engines share their kernels (CUTLASS, FlashInfer, Marlin) and differ little beside everything else.
    "stack": ("server",),
    "backend": ("cuda", "rocm", "vulkan", "metal", "sycl", "cpu"),
    "era": ("before-2025", "2025", "since-2026"),
    "format": (
        "f32",
        "f16",
        "bf16",
        "q8",
        "kquant",
        "kquant-low",
        "legacy-quant",
        "low-bit",
        "mxfp4",
        "int4",
        "fp8",
        "nvfp4",
    ),
    "generation": (
        "pascal",
        "volta",
        "turing",
        "ampere",
        "ada",
        "hopper",
        "blackwell",
        "blackwell-rtx",
        "gcn",
        "cdna",
        "rdna",
        "rdna-wmma",
        "apple-gpu",
        "xe",
        "xe-xmx",
        "cpu-simd",
        "cpu-avx",
        "cpu-scalar",
        "cpu-two-kinds",
    ),
    # The same program differs more between back ends than runtime and back end say apart.
    "engine": (
        "llama.cpp:cuda",
        "llama.cpp:rocm",
        "llama.cpp:vulkan",
        "llama.cpp:metal",
        "llama.cpp:cpu",
        "llamafile:cuda",
        "llamafile:rocm",
        "llamafile:metal",
        "llamafile:cpu",
        "llamafile-avx512-bf16:cuda",
        "llamafile-avx512-bf16:rocm",
        "vllm:cuda",
        "vllm:rocm",
        "vllm:xpu",
    ),
    "system": ("linux", "windows", "macos"),
    "kind": ("dense", "moe"),
    "attention": ("flash", "plain"),
    # Whether a program that has matrix kernels of its own leaves a product to the maker's library.
    "product": ("library",),
}

_FORMAT_CLASSES: Final[dict[str, str]] = {
    "f32": "f32",
    "f16": "f16",
    "bf16": "bf16",
    "q8_0": "q8",
    "int8": "q8",
    # Bits of one weight lie in two arrays and under two scales: more to unpack than what it saves to read.
    "q2_k": "kquant-low",
    "q3_k": "kquant-low",
    "q4_k": "kquant",
    "q5_k": "kquant",
    "q6_k": "kquant",
    "q4_0": "legacy-quant",
    "q4_1": "legacy-quant",
    "q5_0": "legacy-quant",
    "q5_1": "legacy-quant",
    "iq4_nl": "legacy-quant",
    "iq4_xs": "low-bit",
    "mxfp4": "mxfp4",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
    "fp8": "fp8",
    "nf4": "int4",
}

_GENERATIONS: Final[dict[str, dict[str, str]]] = {
    "nvidia": {
        "6": "pascal",
        "5": "pascal",
        "7.0": "volta",
        "7.2": "volta",
        "7.5": "turing",
        "8.0": "ampere",
        "8.6": "ampere",
        "8.7": "ampere",
        "8.9": "ada",
        "9": "hopper",
        "10": "blackwell",
        "11": "blackwell",
        # Without the tensor memory and the matrix instructions of 10.x and 11.x.
        "12": "blackwell-rtx",
    },
    "amd": {
        "gfx8": "gcn",
        "gfx900": "gcn",
        "gfx906": "gcn",
        "gfx908": "cdna",
        "gfx90a": "cdna",
        "gfx94": "cdna",
        "gfx95": "cdna",
        "gfx10": "rdna",
        "gfx11": "rdna-wmma",
        "gfx12": "rdna-wmma",
    },
    "apple": {"metal": "apple-gpu", "m": "apple-gpu"},
    "intel": {
        "alchemist": "xe-xmx",
        "battlemage": "xe-xmx",
        "ponte": "xe-xmx",
        "dg2": "xe-xmx",
        "bmg": "xe-xmx",
        "pvc": "xe-xmx",
        "xe2": "xe-xmx",
        "xe3": "xe-xmx",
        "xe-lpg+": "xe-xmx",
        "xe": "xe",
    },
}


def level_code(axis: str, name: str | None) -> int:
    """Return the code of a level on an axis, -1 for one the table does not know.

    >>> level_code("memory_class", "hbm"), level_code("vendor", "acme")
    (1, -1)
    """
    names = AXES[axis]
    return names.index(name) if name in names else UNKNOWN


def classify_memory(memory_type: str) -> str | None:
    """Return the memory class of a memory type (``GDDR6X`` -> ``gddr``), None where it is none of them.

    >>> classify_memory("LPDDR5X"), classify_memory("HBM3e"), classify_memory("DDR5")
    ('lpddr', 'hbm', 'ddr')
    """
    text = memory_type.lower()
    for name in ("lpddr", "gddr", "hbm", "ddr"):
        if text.startswith(name):
            return name
    return None


def classify_generation(vendor: str, architecture: str) -> str | None:
    """Return the level of a compute capability, gfx target or Metal family, by longest matching prefix.

    >>> classify_generation("nvidia", "8.9"), classify_generation("amd", "gfx1151")
    ('ada', 'rdna-wmma')
    """
    table = _GENERATIONS.get(vendor.lower(), {})
    text = architecture.lower()
    matches = [prefix for prefix in table if text.startswith(prefix)]
    return table[max(matches, key=len)] if matches else None


def classify_format(quantization: str) -> str | None:
    """Return the format class of a quantization id (``q4_k_m`` -> ``kquant``).

    >>> classify_format("Q4_K_M"), classify_format("iq3_xxs"), classify_format("awq-int4"), classify_format("ud-q4_k_xl")
    ('kquant', 'low-bit', 'int4', 'kquant')
    """
    text = quantization.lower().removeprefix("ud-").replace("fp16", "f16").replace("fp32", "f32")
    matches = [prefix for prefix in _FORMAT_CLASSES if text.startswith(prefix)]
    if matches:
        return _FORMAT_CLASSES[max(matches, key=len)]
    if text.startswith(("iq", "tq")):
        return "low-bit"
    if "int4" in text or text.startswith(("exl2", "exl3", "mlx-4bit", "awq", "gptq", "mlx-3bit")):
        return "int4"
    if text.startswith(("mlx-8bit", "w8a8", "mlx-6bit")):
        return "q8"
    return None


def build_number(text: str) -> int | None:
    """Build of llama.cpp that a version names: as its releases are tagged, or as a log prints it.

    >>> build_number("b5636"), build_number("5636 (c9c75ff8)"), build_number("version: 5636"), build_number("b999")
    (5636, 5636, 5636, 999)
    >>> build_number("0.3.36") is None, build_number("2025-06-01") is None, build_number("2025.1") is None
    (True, True, True)
    """
    if re.search(r"\b20[12]\d\b", text):
        return None
    build = re.search(r"(?<![\w.])(?:b\d{1,5}|\d{4,5})(?![\w.])", text)
    return None if build is None else int(build.group(0).removeprefix("b"))


def classify_era(text: str) -> str | None:
    """Return the software era of a date, a version with a year, or a llama.cpp build number.

    llama.cpp built b4400 around the new year of 2025 and b7600 around that of 2026 (its releases page,
    https://github.com/ggml-org/llama.cpp/releases). A range over several eras is none.

    >>> classify_era("2024-05 (pre-b2900)"), classify_era("b6077 83bc2f28"), classify_era("9187")
    ('before-2025', '2025', 'since-2026')
    >>> classify_era("0.26.0") is None
    True
    """
    years = [int(year) for year in re.findall(r"\b(20[12]\d)(?=[^\d]|$|\d{4}\b)", text)]
    if years:
        eras = {"before-2025" if year < 2025 else "2025" if year == 2025 else "since-2026" for year in years}
        return eras.pop() if len(eras) == 1 else None
    number = build_number(text)
    if number is None:
        return None
    return "before-2025" if number < 4400 else "2025" if number < 7600 else "since-2026"


def expands_before_products(version: str) -> bool:
    """Whether a llama.cpp of a date or build number expanded quantized weights for cuBLAS where the chip has matrix units.

    Its own kernels have used them since mid-June 2024 (pull requests 7676 and 7860).

    >>> expands_before_products("2024-05 (pre-b2900)"), expands_before_products("b2800"), expands_before_products("b6077")
    (True, True, False)
    """
    dates = re.findall(r"\b(20[12]\d)-?(\d\d)?", version)
    if dates:
        return all((int(year), int(month or 12)) < (2024, 6) for year, month in dates)
    build = build_number(version)
    return build is not None and build < 3150


_NAMES: Final = tuple(field.name for field in fields(LlmCoefficients))


@frozen
class LevelTables:
    """A calibration laid out for look-up: factors, not logarithms.

    ``base`` is ``exp(mu)`` by coefficient; ``factors`` holds (coefficient, axis, ``exp(offset)`` by level code),
    with one slot more than there are levels: code -1 reads the trailing one.
    """

    base: Mapping[str, float]
    factors: tuple[tuple[str, str, FloatArray, tuple[float, ...]], ...]
    """Each table twice: as an array for columns, as plain numbers for a code that holds for the whole block."""


def lay_out(coefficients: Mapping[str, float], levels: Mapping[str, Mapping[str, float]]) -> LevelTables:
    """Lay out a calibration's coefficients and levels, once per calibration.

    Parameters
    ----------
    coefficients
        Coefficient name -> mu (natural logarithm), as in the calibration file.
    levels
        ``"<coefficient>.<axis>"`` -> level name -> offset.
    """
    factors = []
    for key, offsets in levels.items():
        name, axis = key.split(".", 1)
        table = np.ones(len(AXES[axis]) + 1)
        for level, offset in offsets.items():
            table[AXES[axis].index(level)] = math.exp(offset)
        factors.append((name, axis, table, tuple(table.tolist())))
    return LevelTables({name: math.exp(mu) for name, mu in coefficients.items()}, tuple(factors))


def look_up(tables: LevelTables, codes: Mapping[str, IntArray]) -> LlmCoefficients:
    """Return coefficients as columns: ``exp(mu_k + sum over axes of the offset of the row's level)``.

    Parameters
    ----------
    tables
        From `lay_out`.
    codes
        Axis -> level code per row, shape (n,) or (1,); -1 is an unknown level; an absent axis adds nothing.

    Returns
    -------
    LlmCoefficients
        Columns of shape (n,) or (1,).
    """
    # Axes that one code settles for the whole block multiply as numbers, before any column is made.
    scalars = {name: tables.base[name] for name in _NAMES}
    single = {axis: int(code.flat[0]) for axis, code in codes.items() if code.size == 1}
    columns: dict[str, FloatArray] = {}
    for name, axis, table, numbers in tables.factors:
        if axis in single:
            scalars[name] *= numbers[single[axis]]
        elif axis in codes:
            column = table[codes[axis]]
            columns[name] = columns[name] * column if name in columns else column
    return LlmCoefficients(
        **{
            name: columns[name] * factor if name in columns else np.array([factor])
            for name, factor in scalars.items()
        }
    )


def resolve(
    coefficients: Mapping[str, float],
    levels: Mapping[str, Mapping[str, float]],
    codes: Mapping[str, IntArray],
) -> LlmCoefficients:
    """Lay out and look up in one call, for callers that do it once: see `lay_out` and `look_up`."""
    return look_up(lay_out(coefficients, levels), codes)
