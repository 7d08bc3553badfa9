"""Numbers that GGUF uses for tensor types and file types, with their block layouts.

Read in ``ggml/include/ggml.h``, ``ggml/src/ggml-common.h`` and ``include/llama.h`` of
https://github.com/ggml-org/llama.cpp and in its ``gguf-py/gguf/constants.py`` (package gguf 0.19.0).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FILE_TYPES", "GGML_TYPES", "GgmlType", "TENSOR_TYPES_OF"]


class GgmlType(NamedTuple):
    """How one ggml tensor type is stored."""

    name: str
    block_elements: int
    block_bytes: int


GGML_TYPES: dict[int, GgmlType] = {
    0: GgmlType("f32", 1, 4),
    1: GgmlType("f16", 1, 2),
    2: GgmlType("q4_0", 32, 18),
    3: GgmlType("q4_1", 32, 20),
    6: GgmlType("q5_0", 32, 22),
    7: GgmlType("q5_1", 32, 24),
    8: GgmlType("q8_0", 32, 34),
    9: GgmlType("q8_1", 32, 36),
    10: GgmlType("q2_k", 256, 84),
    11: GgmlType("q3_k", 256, 110),
    12: GgmlType("q4_k", 256, 144),
    13: GgmlType("q5_k", 256, 176),
    14: GgmlType("q6_k", 256, 210),
    15: GgmlType("q8_k", 256, 292),
    16: GgmlType("iq2_xxs", 256, 66),
    17: GgmlType("iq2_xs", 256, 74),
    18: GgmlType("iq3_xxs", 256, 98),
    19: GgmlType("iq1_s", 256, 50),
    20: GgmlType("iq4_nl", 32, 18),
    21: GgmlType("iq3_s", 256, 110),
    22: GgmlType("iq2_s", 256, 82),
    23: GgmlType("iq4_xs", 256, 136),
    24: GgmlType("i8", 1, 1),
    25: GgmlType("i16", 1, 2),
    26: GgmlType("i32", 1, 4),
    27: GgmlType("i64", 1, 8),
    28: GgmlType("f64", 1, 8),
    29: GgmlType("iq1_m", 256, 56),
    30: GgmlType("bf16", 1, 2),
    34: GgmlType("tq1_0", 256, 54),
    35: GgmlType("tq2_0", 256, 66),
    39: GgmlType("mxfp4", 32, 17),
    40: GgmlType("nvfp4", 64, 36),
    41: GgmlType("q1_0", 128, 18),
}

FILE_TYPES: dict[int, str] = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    7: "q8_0",
    8: "q5_0",
    9: "q5_1",
    10: "q2_k",
    11: "q3_k_s",
    12: "q3_k_m",
    13: "q3_k_l",
    14: "q4_k_s",
    15: "q4_k_m",
    16: "q5_k_s",
    17: "q5_k_m",
    18: "q6_k",
    19: "iq2_xxs",
    20: "iq2_xs",
    21: "q2_k_s",
    22: "iq3_xs",
    23: "iq3_xxs",
    24: "iq1_s",
    25: "iq4_nl",
    26: "iq3_s",
    27: "iq3_m",
    28: "iq2_s",
    29: "iq2_m",
    30: "iq4_xs",
    31: "iq1_m",
    32: "bf16",
    36: "tq1_0",
    37: "tq2_0",
    38: "mxfp4_moe",
    39: "nvfp4",
    40: "q1_0",
}

# The tensor type that the mix is named after, where the two names differ: what most weights must be in.
TENSOR_TYPES_OF: dict[str, tuple[str, ...]] = {
    "mxfp4_moe": ("mxfp4",),
    "q2_k_s": ("q2_k",),
    "q2_k": ("q2_k", "q3_k"),
    "q3_k_s": ("q3_k",),
    "q3_k_m": ("q3_k",),
    "q3_k_l": ("q3_k",),
    "q4_k_s": ("q4_k",),
    "q4_k_m": ("q4_k",),
    "q5_k_s": ("q5_k",),
    "q5_k_m": ("q5_k",),
    "iq3_xs": ("iq3_xxs", "iq3_s"),
    "iq3_m": ("iq3_s",),
    "iq2_m": ("iq2_s",),
    "iq2_s": ("iq2_xs", "iq2_s"),
}
