"""Architecture fields of the fact sheet (``models.jsonl``) as `TransformerConfig`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from willitrun.records.models import TransformerConfig

__all__ = ["config_of", "expand_pattern", "models"]

_DIRECT = {
    "n_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "max_context": "max_position_embeddings",
    "sliding_window": "sliding_window",
    "attention_chunk_size": "attention_chunk_size",
    "global_head_dim": "global_head_dim",
    "num_global_key_value_heads": "num_global_key_value_heads",
    "attention_k_eq_v": "attention_k_eq_v",
    "num_kv_shared_layers": "num_kv_shared_layers",
    "hidden_size_per_layer_input": "hidden_size_per_layer_input",
    "vocab_size_per_layer_input": "vocab_size_per_layer_input",
    "use_double_wide_mlp": "use_double_wide_mlp",
    "mtp_layers": "num_nextn_predict_layers",
}
_MOE = {
    "n_experts": "num_experts",
    "experts_per_token": "num_experts_per_tok",
    "moe_intermediate_size": "moe_intermediate_size",
    "n_shared_experts": "n_shared_experts",
    "shared_expert_intermediate_size": "shared_expert_intermediate_size",
    "first_k_dense_replace": "first_k_dense_replace",
}
_SSM = {
    "mamba_num_heads": "mamba_num_heads",
    "ssm_state_size": "mamba_d_state",
    "n_groups": "mamba_n_groups",
    "conv_kernel": "mamba_d_conv",
}
_VISION = {
    "model_type": "model_type",
    "hidden_size": "hidden_size",
    "depth": "num_hidden_layers",
    "num_hidden_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "patch_size": "patch_size",
    "image_size": "image_size",
    "spatial_merge_size": "spatial_merge_size",
}
_KINDS = {"1": "full_attention", "attention": "full_attention", "0": "linear_attention"}
_LETTERS = {"M": "mamba", "E": "moe", "*": "full_attention", "-": "mlp"}


def models(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of ``models.jsonl``."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def expand_pattern(pattern: str) -> tuple[str, ...]:
    """Spell a layer pattern out.

    >>> expand_pattern("2*(sliding_attentionx2 full_attentionx1)")[:3]
    ('sliding_attention', 'sliding_attention', 'full_attention')
    """
    if set(pattern) <= set(_LETTERS):
        return tuple(_LETTERS[letter] for letter in pattern)
    kinds: list[str] = []
    for times, inner, single in re.findall(r"(?:(\d+)\*\(([^)]*)\))|(\S+)", pattern):
        part = [
            kind
            for word in (inner or single).split()
            for kind in [_KINDS.get(word.rpartition("x")[0], word.rpartition("x")[0])]
            * int(word.rpartition("x")[2])
        ]
        kinds += part * int(times or 1)
    return tuple(kinds)


def config_of(row: dict[str, Any], *, fallback_type: bool = True) -> TransformerConfig | None:
    """The config of one row, or None where it gives too little."""
    arch = row.get("arch") or {}
    model_type = arch.get("model_type") or (row.get("architecture") if fallback_type else None)
    if (
        not model_type
        or not arch.get("n_layers")
        or not arch.get("hidden_size")
        or not arch.get("vocab_size")
    ):
        return None
    fields: dict[str, Any] = {"model_type": model_type}
    for table, names in ((arch, _DIRECT), (arch.get("moe") or {}, _MOE), (arch.get("ssm") or {}, _SSM)):
        fields |= {new: table[old] for old, new in names.items() if table.get(old) is not None}
    if not fields.get("hidden_size_per_layer_input"):
        fields.pop("hidden_size_per_layer_input", None)
    mla = arch.get("mla") or {}
    names = ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    fields |= {name: mla[name] for name in (*names, "index_n_heads", "index_head_dim") if mla.get(name)}
    if "index_topk" in mla:
        fields["index_topk"] = mla["index_topk"]
    if not mla and fields.get("head_dim") is None and fields.get("num_attention_heads"):
        fields["head_dim"] = fields["hidden_size"] // fields["num_attention_heads"]
    linear = arch.get("linear_attention") or {}
    fields |= {name: value for name, value in linear.items() if name in TransformerConfig.model_fields}
    ssm = arch.get("ssm") or {}
    if ssm.get("mamba_num_heads") and ssm.get("mamba_head_dim"):
        fields["mamba_d_inner"] = ssm["mamba_num_heads"] * ssm["mamba_head_dim"]
    fields["tie_word_embeddings"] = bool(arch.get("tie_embeddings"))
    every = (arch.get("moe") or {}).get("moe_layer_freq")
    if isinstance(every, int) and every > 1:
        fields["moe_layer_interval"] = every
    layers = _layers(arch)
    if layers:
        fields["layer_types"] = layers
    vision = arch.get("vision") or {}
    if vision.get("model_type") and vision.get("hidden_size"):
        tower = {new: vision[old] for old, new in _VISION.items() if vision.get(old)}
        fields["vision"] = tower
    return TransformerConfig(**fields)


def _layers(arch: dict[str, Any]) -> tuple[str, ...] | None:
    pattern = arch.get("layer_pattern")
    if pattern:
        return expand_pattern(pattern)
    if arch.get("full_attention_interval"):
        return ("linear_attention",) * (arch["full_attention_interval"] - 1) + ("full_attention",)
    if arch.get("sliding_window_pattern"):
        return ("sliding_attention",) * (arch["sliding_window_pattern"] - 1) + ("full_attention",)
    if arch.get("model_type") == "gemma2":
        return ("sliding_attention", "full_attention")
    if arch.get("model_type") == "llama4_text":
        return ("chunked_attention",) * 3 + ("full_attention",)
    return None
