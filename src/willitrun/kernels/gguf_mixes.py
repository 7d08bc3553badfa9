"""Which type the standard llama.cpp quantiser gives each tensor of a model.

The rules were read in ``llama-quant.cpp``; the words and tables here are ours. Four eras differ. Since March
2026 fused QKV and MLA's ``attn_kv_b`` count as value projections and the embeddings per layer as a tied matrix;
before that they had rules of their own. Since April 2025 MLA's up-projection is stored per head. Until January
2024 Q2_K kept most matrices at Q3_K.

References
----------
https://github.com/ggml-org/llama.cpp/blob/007dbbf3fd17eefe9b47fee45f48f7ba5e62b714/src/llama-quant.cpp
https://github.com/ggml-org/llama.cpp/blob/059325d9b4bf046fc38278c4157d8791333129b1/src/llama-quant.cpp
"""

from __future__ import annotations

from typing import Literal

from willitrun.frozen import frozen
from willitrun.kernels.weights import BLOCK_LAYOUTS, TensorGroup

__all__ = [
    "ERAS",
    "IMATRIX_DEFAULT",
    "IMATRIX_MIXES",
    "RAISED_EMBEDDINGS",
    "RAISED_PER_LAYER",
    "STANDARD_MIXES",
    "Era",
    "MixContext",
    "fallback_format",
    "tensor_format",
]

Era = Literal["2023", "2024", "2025", "2026"]
"""Year from which on a build of the quantiser follows a set of rules."""

ERAS: dict[Era, tuple[int, int, int]] = {
    "2023": (2023, 8, 21),
    "2024": (2024, 1, 11),
    "2025": (2025, 4, 15),
    "2026": (2026, 3, 1),
}
"""First day of each era: the GGUF format, the Q2_K of today, MLA per head, tensor categories."""

STANDARD_MIXES: dict[str, str] = {
    "f32": "f32",
    "f16": "f16",
    "bf16": "bf16",
    "q4_0": "q4_0",
    "q4_1": "q4_1",
    "q5_0": "q5_0",
    "q5_1": "q5_1",
    "q8_0": "q8_0",
    "q2_k": "q2_k",
    "q2_k_s": "q2_k",
    "q3_k_s": "q3_k",
    "q3_k_m": "q3_k",
    "q3_k_l": "q3_k",
    "q4_k_s": "q4_k",
    "q4_k_m": "q4_k",
    "q5_k_s": "q5_k",
    "q5_k_m": "q5_k",
    "q6_k": "q6_k",
    "iq1_s": "iq1_s",
    "iq1_m": "iq1_m",
    "iq2_xxs": "iq2_xxs",
    "iq2_xs": "iq2_xs",
    "iq2_s": "iq2_xs",
    "iq2_m": "iq2_s",
    "iq3_xxs": "iq3_xxs",
    "iq3_xs": "iq3_s",
    "iq3_s": "iq3_s",
    "iq3_m": "iq3_s",
    "iq4_nl": "iq4_nl",
    "iq4_xs": "iq4_xs",
    "tq1_0": "tq1_0",
    "tq2_0": "tq2_0",
    "mxfp4_moe": "mxfp4",
}
"""Base type of each standard mix (``ftype``)."""

IMATRIX_MIXES = frozenset({"q4_0", "q5_0", "iq4_nl", "iq4_xs", "iq3_xxs"})
"""Mixes whose tensor types depend on whether an importance matrix was given."""

IMATRIX_DEFAULT = frozenset({"iq4_nl", "iq4_xs", "iq3_xxs"})
"""Those of them that publishers make with one as a rule: the lower mixes cannot be made without."""

RAISED_EMBEDDINGS = frozenset({"token_embd", "per_layer_token_embd", "output"})
RAISED_PER_LAYER = frozenset({"per_layer_token_embd"})

# Never quantized, whatever the mix: small, sensitive, or read element by element.
_KEPT_F32 = frozenset(
    {"ffn_gate_inp", "position_embd", "token_types", "ssm_conv1d", "shortconv_conv", "attn_rel_b"}
)
_KEPT_F16 = ("per_layer_model_proj", "altup", "laurel")
_VERY_LOW = frozenset({"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m"})
_LOW_WITH_IQ3_S = frozenset({"iq2_s", "iq2_m"})
_OUTPUT_Q5_K = _VERY_LOW | {"iq3_xxs"}
_FALLBACK = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}
_EIGHT_EXPERT_OUTPUT = frozenset(
    [
        "q2_k",
        "iq3_xs",
        "iq3_xxs",
        "q3_k_s",
        "q3_k_m",
        "iq4_nl",
        "q4_k_s",
        "q4_k_m",
        "iq3_s",
        "iq3_m",
        "iq4_xs",
    ]
)
_EMBEDDING = {
    **dict.fromkeys(("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"), "q2_k"),
    **dict.fromkeys(("iq2_s", "iq2_m", "iq3_xxs"), "iq3_s"),
    **dict.fromkeys(("tq1_0", "tq2_0"), "q4_k"),
}
_ATTENTION_OUTPUT = {
    "q2_k": "q3_k",
    "iq3_xxs": "iq3_s",
    "q3_k_m": "q4_k",
    "q3_k_l": "q5_k",
    "iq3_m": "q4_k",
    "iq1_s": "iq2_xxs",
    "iq1_m": "iq2_xxs",
    "iq2_s": "iq3_s",
    "iq2_m": "iq3_s",
}
_FUSED_QKV_BEFORE_2026 = {
    **dict.fromkeys(("q3_k_m", "q3_k_l", "iq3_m"), "q4_k"),
    "q4_k_m": "q5_k",
    "q5_k_m": "q6_k",
}


@frozen
class MixContext:
    """What the quantiser looks at beside the tensor itself.

    Attributes
    ----------
    n_layers
        Blocks of the file: prediction layers count where the file holds them.
    gqa
        Query heads per KV head of the first layer; 0 where that layer does not attend and the file counts heads by
        layer.
    n_experts
        Routed experts; 1 for a dense model.
    tied
        No output matrix of its own: token_embd is treated as one.
    falcon, seventy_b
        The two architectures with rules of their own: Falcon, and what llama.cpp types as 70B
        (80 layers of Llama or Qwen2).
    imatrix
        Whether an importance matrix was given.
    era
        Rules of the build: see `ERAS`.
    """

    n_layers: int
    gqa: int = 1
    n_experts: int = 1
    tied: bool = False
    falcon: bool = False
    seventy_b: bool = False
    imatrix: bool = False
    era: Era = "2025"
    raised: frozenset[str] = frozenset()
    """Roles that the publisher stores in Q8_0 whatever the mix: both embeddings and the output (bartowski's _L
    and _XL), the embeddings per layer (Unsloth's dynamic ones)."""
    native_experts: str | None = None
    """Format in which the model was published with its experts (MXFP4); quantisers leave those as they are."""
    n_value_tensors: int = 0
    """Tensors that count as value projections: attn_v, attn_qkv and attn_kv_b, one per layer."""


def _more_bits(layer: int, n_layers: int) -> bool:
    eighth = n_layers // 8
    # C division truncates towards zero, so the remainder of a negative number can't be 2: those layers
    # are caught by the first condition anyway.
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def fallback_format(target: str, row_width: int) -> str:
    """The type used instead of ``target`` where rows are not whole blocks.

    Examples
    --------
    >>> fallback_format("q4_k", 2880)
    'q5_0'
    >>> fallback_format("q4_k", 4096)
    'q4_k'
    """
    if row_width % BLOCK_LAYOUTS[target].block_weights == 0:
        return target
    replaced = _FALLBACK.get(target, "f16")
    return replaced if row_width % BLOCK_LAYOUTS[replaced].block_weights == 0 else "f16"


def tensor_format(group: TensorGroup, ordinal: int, mix: str, context: MixContext) -> str:
    """Type that the standard quantiser gives one tensor.

    Parameters
    ----------
    group
        The tensor's role and shape.
    ordinal
        Number of the tensor among those of its kind: its layer number (0 outside blocks).
    mix
        One of `STANDARD_MIXES`.
    context
        Shape of the model around it.

    Examples
    --------
    >>> v = TensorGroup("attn_v", "attention", 4096, 1024, layers=tuple(range(32)))
    >>> tensor_format(v, 0, "q4_k_m", MixContext(32, gqa=4, n_value_tensors=32))
    'q6_k'
    """
    base = STANDARD_MIXES[mix]
    kept = group.role in _KEPT_F32 or group.role.startswith("ssm_conv1d")
    if not group.matrix or kept or group.part == "norm":
        return "f32"
    if group.part == "experts" and context.native_experts is not None and mix not in ("f32", "mxfp4_moe"):
        return context.native_experts
    if group.part == "vision":
        return "f16" if base in BLOCK_LAYOUTS and base != "f32" else "f32"
    if base in ("f32", "f16", "bf16"):
        return base
    if group.role in context.raised:
        return fallback_format("q8_0", group.width)
    if group.role.startswith(_KEPT_F16):
        return "f16"
    return fallback_format(_chosen(group, ordinal, mix, base, context), group.width)


def _chosen(group: TensorGroup, ordinal: int, mix: str, base: str, context: MixContext) -> str:
    role = group.role
    embedding = role in ("token_embd", "per_layer_token_embd")
    serves_as_output = role == "token_embd" or (embedding and context.era == "2026")
    if role == "output" or (serves_as_output and context.tied):
        return _output(group, mix, base, context)
    if mix == "mxfp4_moe":
        return "mxfp4" if group.stack > 1 else "q8_0"
    if embedding:
        return _EMBEDDING.get(mix, base)
    if mix == "q2_k" and context.era == "2023":
        return base if role in ("attn_q", "attn_k") else "q3_k"
    fused = role in ("attn_qkv", "attn_kv_b")
    if role == "attn_v" or (fused and context.era == "2026"):
        return _value(ordinal, mix, base, context)
    if role == "attn_qkv":
        return base if mix in _VERY_LOW else _FUSED_QKV_BEFORE_2026.get(mix, base)
    if role in ("attn_k", "indexer_k"):  # the indexer's tensor is named indexer.attn_k.weight
        return _key(mix, base, context)
    if role == "attn_q":
        return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(mix, base)
    if role == "attn_output":
        return _attention_output(mix, base, context)
    if role.startswith("ffn_down"):
        return _down(ordinal, mix, base, context)
    if role.startswith(("ffn_gate", "ffn_up")) and mix == "iq3_xs":
        inner = context.n_layers // 8 <= ordinal < 7 * context.n_layers // 8
        return "iq3_xxs" if inner else base
    return base


def _output(group: TensorGroup, mix: str, base: str, context: MixContext) -> str:
    if mix == "mxfp4_moe" or context.falcon or group.width % BLOCK_LAYOUTS[base].block_weights:
        return "q8_0"
    if mix in _OUTPUT_Q5_K:
        return "q5_k"
    return base if base == "q8_0" else "q6_k"


def _value(ordinal: int, mix: str, base: str, context: MixContext) -> str:
    grouped = context.gqa >= 4
    if mix in _VERY_LOW:
        if grouped or context.n_experts >= 4:
            return "q4_k"
        return "iq3_s" if mix in _LOW_WITH_IQ3_S else "q2_k"
    chosen = base
    if mix == "q2_k":
        chosen = "q4_k" if grouped else "q3_k"
    elif mix == "iq3_xxs":
        chosen = "q4_k" if grouped else "iq3_xxs" if context.imatrix else "iq3_s"
    elif (mix in ("q2_k_s", "iq3_xs", "iq3_s") and grouped) or mix == "iq3_m":
        chosen = "q4_k"
    elif mix == "q3_k_m":
        chosen = "q5_k" if ordinal < 2 else "q4_k"
    elif mix == "q3_k_l" or (mix in ("iq4_nl", "iq4_xs") and grouped):
        chosen = "q5_k"
    elif mix in ("q4_k_m", "q5_k_m") and _more_bits(ordinal, context.n_value_tensors):
        chosen = "q6_k"
    elif mix == "q4_k_s" and ordinal < 4:
        chosen = "q5_k"
    if context.seventy_b and chosen in ("q3_k", "q4_k"):
        chosen = "q5_k"
    return "q8_0" if context.n_experts == 8 else chosen


def _key(mix: str, base: str, context: MixContext) -> str:
    if context.n_experts == 8:
        return "q4_k" if mix in _VERY_LOW else "q8_0"
    return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(mix, base)


def _attention_output(mix: str, base: str, context: MixContext) -> str:
    if context.falcon and mix not in _VERY_LOW:
        return "q4_k" if mix == "q3_k_l" else base
    if context.n_experts == 8:
        return "q5_k" if mix in _EIGHT_EXPERT_OUTPUT or mix in _VERY_LOW else base
    return _ATTENTION_OUTPUT.get(mix, base)


def _down(layer: int, mix: str, base: str, context: MixContext) -> str:
    n_layers = context.n_layers
    first_eighth = layer < n_layers // 8
    more = _more_bits(layer, n_layers)
    if mix in _VERY_LOW:
        if not first_eighth:
            return base
        return "iq3_s" if mix in _LOW_WITH_IQ3_S else "q2_k"
    match mix:
        case "q2_k":
            return "q3_k"
        case "q2_k_s":
            return "q4_k" if first_eighth else base
        case "iq3_xxs" if not context.imatrix:
            return "q4_k" if first_eighth else "q3_k"
        case "q3_k_m":
            if layer < n_layers // 16:
                return "q5_k"
            return "q4_k" if more or not context.falcon else base
        case "iq3_m":
            return "q4_k" if first_eighth or (context.n_experts == 8 and more) else base
        case "q3_k_l":
            return "q4_k" if context.falcon else "q5_k"
        case "q4_k_m" if context.falcon:
            return "q6_k" if layer < n_layers // 16 else "q5_k" if more else base
        case "q4_k_m" | "q5_k_m":
            return "q6_k" if more else base
        case "iq4_nl" | "iq4_xs":
            return "q5_k" if first_eighth and not context.imatrix else base
        case "q4_k_s":
            return "q5_k" if first_eighth and not context.falcon else base
        case "q4_0" | "q5_0":
            raised = {"q4_0": "q4_1", "q5_0": "q5_1"}[mix]
            return raised if first_eighth and context.imatrix else base
        case _:
            return base
