"""Configs that say what others say in words of their own: rewritten into the usual ones before they are read.

Rules as in ``configuration_<model_type>.py`` of https://github.com/huggingface/transformers (v5.24.0), and in the
publishers' own classes where there is none (``configuration_decilm.py`` of Nemotron's searched models).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from willitrun.checkpoints.config_fields import MAX_LAYERS, ConfigFields, missing
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError

__all__ = ["BY_LAYER", "REWRITTEN", "UNUSUAL", "rewritten"]

BY_LAYER = ("layer_intermediate_sizes", "compress_ratios")
"""Lists that rewriting made: a number for each layer."""
UNUSUAL = (
    "qk_rope_head_dim",
    "num_sliding_attention_heads",
    "zero_expert_num",
    "o_lora_rank",
    "o_groups",
    "num_hash_layers",
    "hc_mult",
    "index_kpool",
    "max_source_positions",
)
"""Numbers that only rewritten configs have, or have as nothing."""

Config = Mapping[str, object]
Words = dict[str, Any]


def rewritten(model_type: str, config: Config, what: str, outer: Config | None) -> tuple[str, Words]:
    """The type and the keys of a config in the usual words.

    Raises
    ------
    CorruptCheckpointError, UnsupportedArchitectureError
        A key that does not fit, or a kind of layer that nobody describes.
    """
    fields = ConfigFields(config, what=what)
    found_type, words = REWRITTEN[model_type](fields, ConfigFields(outer or {}, what=what))
    return found_type, {**config, **{name: value for name, value in words.items() if value is not None}}


def _layers(fields: ConfigFields) -> int:
    return fields.required("num_hidden_layers", most=MAX_LAYERS)


def _numbers(fields: ConfigFields, name: str) -> Sequence[int] | None:
    found = fields.items(name)
    if found is None:
        return None
    if len(found) > 2 * MAX_LAYERS or not all(type(item) is int and item >= 0 for item in found):
        raise CorruptCheckpointError(f"{fields.what}: {name} is no list of whole numbers.")
    return [int(str(item)) for item in found]


def _leading(fields: ConfigFields, routed: Sequence[int], layers: int) -> int:
    """Layers before the first that routes, where all behind it do."""
    first = min(routed, default=layers)
    if sorted(routed) != list(range(first, layers)):
        raise UnsupportedArchitectureError(
            f"{fields.what}: layers that route lie scattered; only leading dense ones are known."
        )
    return first


def _layer_numbers(fields: ConfigFields, name: str) -> Sequence[int] | None:
    """Numbers of layers, as a list or as a text with commas."""
    named = fields.raw(name)
    if not isinstance(named, str):
        return _numbers(fields, name)
    parts = [part.strip() for part in named.split(",") if part.strip()]
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise CorruptCheckpointError(f"{fields.what}: {name} names no layers by number.")
    return [int(part) for part in parts]


def _usually_dense(fields: ConfigFields) -> Words:
    """The first three layers are dense where a config of Step or GLM does not say."""
    said = fields.states("first_k_dense_replace") or fields.states("mlp_layer_types")
    return {} if said else {"first_k_dense_replace": 3}


def _searched(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    """Nemotron's searched models: ``block_configs`` name the heads of a group and a multiple of the width."""
    blocks = fields.items("block_configs")
    if not blocks or len(blocks) != _layers(fields):
        raise missing(fields.what, "block_configs")
    heads, hidden = fields.required("num_attention_heads"), fields.required("hidden_size")
    kinds: list[str] = []
    sizes: list[int] = []
    groups: set[int] = set()
    for block in blocks:
        parts = [block.get(part) if isinstance(block, Mapping) else None for part in ("attention", "ffn")]
        if not all(isinstance(part, Mapping) for part in parts):
            raise CorruptCheckpointError(f"{fields.what}: block_configs lack attention or ffn.")
        attention, dense = (ConfigFields(part, what=fields.what) for part in parts)  # type: ignore[arg-type]
        if attention.raw("replace_with_linear") is True or dense.raw("replace_with_linear") is True:
            raise UnsupportedArchitectureError(f"{fields.what}: blocks that are one matrix are not known.")
        kinds.append("mlp" if attention.raw("no_op") is True else "full_attention")
        if kinds[-1] == "full_attention":
            groups.add(attention.required("n_heads_in_group", most=heads))
        multiple = None if dense.raw("no_op") is True else dense.ratio("ffn_mult")
        # Two thirds for the gate, rounded up to 256: _ffn_mult_to_intermediate_size of DeciLM.
        sizes.append(256 * -(-int(2 * multiple * hidden / 3) // 256) if multiple else 0)
    if len(groups) != 1 or heads % min(groups):
        raise UnsupportedArchitectureError(f"{fields.what}: groups of {sorted(groups)} heads in one model.")
    return "nemotron-nas", {
        "num_key_value_heads": heads // groups.pop(),
        "layer_types": kinds,
        "layer_intermediate_sizes": tuple(sizes),
        "intermediate_size": max(sizes),
    }


def _step(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    layers = _layers(fields)
    words: Words = _usually_dense(fields)
    other = fields.block("attention_other_setting")
    if other is not None:
        words["num_sliding_attention_heads"] = ConfigFields(other, what=fields.what).positive(
            "num_attention_heads"
        )
    kinds, routed = fields.items("layer_types"), _layer_numbers(fields, "moe_layers_enum")
    if kinds is not None:
        # Layers that predict further tokens are named behind the others.
        words["layer_types"] = list(kinds)[:layers]
    if routed is not None:
        words["first_k_dense_replace"] = _leading(fields, [at for at in routed if at < layers], layers)
    return "step3p5", {
        **words,
        "num_key_value_heads": fields.positive("num_attention_groups")
        or fields.positive("num_key_value_heads"),
        "num_experts_per_tok": fields.positive("moe_top_k") or fields.positive("num_experts_per_tok"),
        "shared_expert_intermediate_size": fields.positive("share_expert_dim"),
    }


def _longcat(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    """Each layer has two attentions, two dense blocks and one mixture: two layers, of which the second routes."""
    return "longcat_flash", {
        "num_hidden_layers": 2 * fields.required("num_layers", most=MAX_LAYERS),
        "moe_layer_interval": 2,
        "moe_intermediate_size": fields.required("expert_ffn_hidden_size"),
    }


def _mllama(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    layers = _layers(fields)
    crossing = set(_numbers(fields, "cross_attention_layers") or (3, 8, 13, 18, 23, 28, 33, 38))
    words: Words = {
        "layer_types": [
            "cross_attention" if layer in crossing else "full_attention" for layer in range(layers)
        ]
    }
    seen = outer.block("vision_config")
    if seen is not None:
        tower = ConfigFields(seen, what=f"{fields.what}: vision_config")
        side = (tower.positive("image_size") or 448) // (tower.positive("patch_size") or 14)
        words["max_source_positions"] = (tower.positive("max_num_tiles") or 4) * (side * side + 1)
    return "mllama_text_model", words


def _kimi(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    layers = _layers(fields)
    block = fields.block("linear_attn_config")
    if block is None:
        raise missing(fields.what, "linear_attn_config")
    linear = ConfigFields(block, what=f"{fields.what}: linear_attn_config")
    # Counted from one.
    attending = set(_numbers(linear, "full_attn_layers") or ())
    heads, width = linear.required("num_heads"), linear.required("head_dim")
    narrow = fields.positive("routed_expert_hidden_size")
    return "kimi_k3" if narrow else "kimi_linear", {
        "layer_types": [
            "full_attention" if layer + 1 in attending else "linear_attention" for layer in range(layers)
        ],
        "linear_num_key_heads": heads,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": width,
        "linear_value_head_dim": width,
        "linear_conv_kernel_dim": linear.required("short_conv_kernel_size"),
        "moe_latent_size": narrow,
    }


def _minimax(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    layers = _layers(fields)
    words: Words = {"first_k_dense_replace": fields.count("first_k_dense_replace")}
    freq = fields.items("moe_layer_freq")
    if freq is not None:
        flags = _numbers(fields, "moe_layer_freq") or ()
        words["first_k_dense_replace"] = _leading(fields, [at for at, on in enumerate(flags) if on], layers)
    block = fields.block("sparse_attention_config")
    if block is not None:
        sparse = ConfigFields(block, what=f"{fields.what}: sparse_attention_config")
        words |= {
            "index_n_heads": sparse.positive("sparse_num_index_heads"),
            "index_head_dim": sparse.positive("sparse_index_dim"),
            "index_topk": sparse.required("sparse_topk_blocks") * sparse.required("sparse_block_size"),
        }
    expert = fields.positive("moe_intermediate_size") or fields.required("intermediate_size")
    return "minimax_m3", {
        **words,
        "moe_layer_interval": 1,
        "moe_layer_freq": 1,
        "moe_intermediate_size": expert,
        "intermediate_size": fields.required("dense_intermediate_size"),
        "shared_expert_intermediate_size": fields.positive("shared_intermediate_size"),
    }


def _deepseek(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    ratios = _numbers(fields, "compress_ratios")
    if ratios is None:
        raise missing(fields.what, "compress_ratios")
    return "deepseek_v4", {
        "layer_types": ["sliding_attention"] * _layers(fields),
        "compress_ratios": tuple(ratios),
    }


def _delta(fields: ConfigFields, heads: int, width: int, kernel: int, period: int) -> Words:
    stated = fields.items("layer_types")
    return {
        "layer_types": stated
        or ["linear_attention" if (at + 1) % period else "full_attention" for at in range(_layers(fields))],
        "linear_num_key_heads": heads,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": width,
        "linear_value_head_dim": width,
        "linear_conv_kernel_dim": kernel,
    }


def _bailing(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    if not fields.states("short_conv_kernel_size"):
        # Ling 2.6 has the same type, and lightning attention without convolutions, as transformers before 5.24.
        raise UnsupportedArchitectureError(
            f"{fields.what}: bailing_hybrid with lightning attention is not known."
        )
    heads, width = fields.required("num_attention_heads"), fields.positive("head_dim") or 128
    kernel, period = fields.required("short_conv_kernel_size"), fields.positive("layer_group_size") or 6
    return "bailing_hybrid", _delta(fields, heads, width, kernel, period)


def _glm(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    linear = ConfigFields(fields.block("linear_attn_config") or {}, what=fields.what)
    heads = linear.positive("num_heads") or fields.positive("linear_num_heads") or 64
    width = linear.positive("head_dim") or fields.positive("linear_head_dim") or 128
    kernel = linear.positive("short_conv_kernel_size") or fields.positive("linear_conv_kernel_dim") or 4
    return "glm5_next_text", _usually_dense(fields) | _delta(fields, heads, width, kernel, 4)


def _muse(fields: ConfigFields, outer: ConfigFields) -> tuple[str, Words]:
    layers = _layers(fields)
    stated = fields.items("layer_types")
    return "muse_glimmer_text", {
        "layer_types": stated
        or ["sliding_attention" if (layers - 1 - at) % 4 else "full_attention" for at in range(layers)]
    }


REWRITTEN: Mapping[str, Callable[[ConfigFields, ConfigFields], tuple[str, Words]]] = {
    "nemotron-nas": _searched,
    "step3p5": _step,
    "step3p7": _step,
    "longcat_flash": _longcat,
    "mllama_text_model": _mllama,
    "kimi_linear": _kimi,
    "minimax_m3": _minimax,
    "minimax_m3_vl_text": _minimax,
    "deepseek_v4": _deepseek,
    "bailing_hybrid": _bailing,
    "glm5_next_text": _glm,
    "muse_glimmer_text": _muse,
}
"""By ``model_type``: what a config is in the usual words; all of these state their keys."""
