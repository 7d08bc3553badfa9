"""Tensors of a header, summed by role: the tensor names of llama.cpp without block number and ``.weight``.

GGUF names already have that form; Hugging Face names are translated with the table that llama.cpp's converter
keeps (``gguf-py/gguf/tensor_mapping.py`` of https://github.com/ggml-org/llama.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from willitrun.records.models import TensorTable

__all__ = ["build_table", "gguf_role", "layer_of", "stored_role"]

_BLOCK = re.compile(r"^blk\.(\d+)\.")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_BITSANDBYTES = re.compile(r"\.weight\.(?:nested_)?(?:absmax|quant_map|quant_state)\b.*$")
_EXPERT = re.compile(r"\.experts\.(?:\d+\.)?")
_TOWER = re.compile(
    r"^(?:model\.)?(?:vision_tower|vision_model|visual|vision_encoder|vision_embed_tokens|multi_modal_projector"
    r"|mm_projector|mlp1|image_newline|embed_vision|vision_backbone|aligner)\b"
)
_AUDIO = re.compile(r"^(?:model\.)?(?:audio_tower|embed_audio|audio_model|audio_encoder)\b")
_MTP = re.compile(r"^(?:model\.)?(?:mtp|mtp_layers|nextn)\b")
_SUFFIXES = (
    "weight",
    "bias",
    "qweight",
    "qzeros",
    "scales",
    "g_idx",
    "weight_scale",
    "weight_scale_inv",
    "weight_packed",
    "weight_shape",
    "weight_zero_point",
    "weight_global_scale",
    "input_scale",
    "input_global_scale",
    "biases",
    "SCB",
)
# Longest matching end of the module path decides.
_ENDS = {
    "embed_tokens": "token_embd",
    "wte": "token_embd",
    "word_embeddings": "token_embd",
    "wpe": "position_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "lm_head": "output",
    "embed_out": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.out_proj": "attn_output",
    "self_attn.dense": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.W_pack": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.sinks": "attn_sinks",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "attention.query_key_value": "attn_qkv",
    "self_attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "self_attention.dense": "attn_output",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_qkvz": "ssm_in",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_ba": "ssm_ba",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.out_proj": "ssm_out",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.A_log": "ssm_a",
    "linear_attn.dt_bias": "ssm_dt_bias",
    "mixer.in_proj": "ssm_in",
    "mixer.out_proj": "ssm_out",
    "mixer.conv1d": "ssm_conv1d",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "router": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.gate.e_score_correction_bias": "exp_probs_b",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "shared_expert.gate_proj": "ffn_gate_shexp",
    "shared_expert.up_proj": "ffn_up_shexp",
    "shared_expert.down_proj": "ffn_down_shexp",
    "shared_experts.gate_proj": "ffn_gate_shexp",
    "shared_experts.up_proj": "ffn_up_shexp",
    "shared_experts.down_proj": "ffn_down_shexp",
    "input_layernorm": "attn_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "attention.output.LayerNorm": "attn_output_norm",
    "output.LayerNorm": "layer_output_norm",
    "embeddings.LayerNorm": "token_embd_norm",
    "pooler.dense": "pooler",
}
_EXPERT_ENDS = {
    "gate_proj": "ffn_gate_exps",
    "up_proj": "ffn_up_exps",
    "down_proj": "ffn_down_exps",
    "gate_up_proj": "ffn_gate_up_exps",
    "w1": "ffn_gate_exps",
    "w2": "ffn_down_exps",
    "w3": "ffn_up_exps",
}
_OUTER = {"norm": "output_norm", "ln_f": "output_norm", "final_layernorm": "output_norm"}


def gguf_role(name: str, layers: int) -> str:
    """Role of a GGUF tensor; blocks behind the last layer hold prediction heads.

    >>> gguf_role("blk.3.attn_q.weight", 4), gguf_role("token_embd.weight", 4)
    ('attn_q', 'token_embd')
    """
    block = _BLOCK.match(name)
    if block and int(block[1]) >= layers:
        return "prediction"
    return (name[block.end() :] if block else name).removesuffix(".weight")


def stored_role(name: str, layers: int | None) -> str:
    """Role of a tensor under its Hugging Face name; names without a rule keep theirs.

    >>> stored_role("model.layers.0.self_attn.q_proj.weight", 4)
    'attn_q'
    >>> stored_role("model.layers.0.mlp.experts.7.down_proj.weight_scale", 4)
    'ffn_down_exps'
    """
    # Layers and experts repeat the same few names thousands of times.
    role = _numberless_role(_NUMBER.sub("0", name))
    if role in ("vision", "audio", "prediction") or layers is None:
        return role
    layer = _LAYER.search(name)
    return "prediction" if layer and len(layer[1]) < 6 and int(layer[1]) >= layers else role


@lru_cache(maxsize=4096)
def _numberless_role(name: str) -> str:
    for pattern, part in ((_TOWER, "vision"), (_AUDIO, "audio"), (_MTP, "prediction")):
        if pattern.match(name):
            return part
    layer = _LAYER.search(name)
    name = _BITSANDBYTES.sub(".weight", name)
    module, dot, suffix = name.rpartition(".")
    if not dot or suffix not in _SUFFIXES:
        module, suffix = name, "weight"
    inner = module[layer.end() :] if layer else module.removeprefix("model.")
    role = _role(f".{inner}", bool(layer))
    # Scales, zeros and packed parts belong to their weight; the format tells them apart.
    return f"{role}.bias" if suffix == "bias" else role


def _role(module: str, in_layer: bool) -> str:
    expert = _EXPERT.search(module)
    if expert:
        end = module[expert.end() :]
        for known, role in _EXPERT_ENDS.items():
            if end == known or end.startswith(f"{known}_"):
                return f"{role}.bias" if end.endswith("_bias") else role
        return f"ffn_{end or 'unnamed'}_exps"[:100]
    parts = module.strip(".").split(".")
    for start in range(max(0, len(parts) - 3), len(parts)):
        role = _ENDS.get(".".join(parts[start:]), "")
        if role:
            return role
    if not in_layer and parts[-1] in _OUTER:
        return _OUTER[parts[-1]]
    return ".".join(part for part in parts if not part.isdigit())[-100:] or "unnamed"


def layer_of(name: str, role: str) -> int | None:
    """Number of the layer that a tensor lies in; None outside layers, and in towers and prediction heads.

    >>> layer_of("blk.3.attn_q.weight", "attn_q"), layer_of("model.layers.12.mlp.up_proj.weight", "ffn_up")
    (3, 12)
    >>> layer_of("output_norm.weight", "output_norm") is None
    True
    """
    if role in ("vision", "audio", "prediction"):
        return None
    found = _BLOCK.match(name) or _LAYER.search(name)
    return int(found[1]) if found and len(found[1]) < 6 else None


def build_table(
    tensors: Iterable[tuple[str, str, int, int, int | None]],
    *,
    file_bytes: int,
    source: Literal["gguf", "safetensors"],
) -> TensorTable:
    """Sum tensors by role and format, and by layer.

    Parameters
    ----------
    tensors
        ``(role, format, elements, bytes, layer)`` of every tensor; None lies in no layer.
    file_bytes
        Size of all files together [bytes].
    source
        ``"gguf"`` or ``"safetensors"``.
    """
    sums: dict[tuple[str, str], list[int]] = {}
    count = 0
    layers: dict[int, list[int]] = {}
    for role, form, elements, size, layer in tensors:
        row = sums.setdefault((role, form), [0, 0, 0])
        row[0] += 1
        row[1] += elements
        row[2] += size
        count += 1
        if layer is not None:
            part = layers.setdefault(layer, [0, 0])
            part[0] += size
            part[1] += size if role.endswith("_exps") else 0
    rows = tuple((role, form, *row) for (role, form), row in sums.items())
    by_layer = tuple((whole, experts) for _, (whole, experts) in sorted(layers.items()))
    return TensorTable(rows=rows, tensors=count, file_bytes=file_bytes, source=source, layers=by_layer)
