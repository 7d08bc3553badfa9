"""The language model of a ``config.json``, under one set of names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from willitrun.checkpoints.config_fields import MAX_LAYERS, ConfigFields, missing
from willitrun.checkpoints.layer_patterns import layer_pattern
from willitrun.checkpoints.vision_towers import read_tower
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError
from willitrun.records.models import TransformerConfig

__all__ = ["class_defaults", "is_known", "read_text_config"]

# Remote-code or outdated types: their configs state every key, so no defaults are needed.
_WITHOUT_DEFAULTS = frozenset(
    {
        *(
            "aquila",
            "baichuan",
            "deepseek",
            "exaone",
            "internlm",
            "internlm2",
            "internlm3",
            "kimi_k2",
            "mimo",
        ),
        *("minicpm", "orion", "phi-msft", "phi3_v", "qwen", "solar", "xverse", "yi"),
    }
)
# What one configuration class is called elsewhere.
_SAME_AS = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_text",
    "gemma4_unified_text": "gemma4_text",
    "llama4": "llama4_text",
    "glm4v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text",
    "ernie4_5_text": "ernie4_5",
    # The vendor's own class, from before the one in transformers.
    "deepseek_v3_text": "deepseek_v3",
}
_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "nomic_bert", "modernbert", "distilbert"})
_ATTENTION_FREE = frozenset({"mamba", "mamba2", "falcon_mamba"})
# No feed-forward width of their own: it follows from the hidden width.
_FOUR_TIMES = frozenset({"gpt2", "gptj", "gpt_bigcode", "bloom", "falcon", "mpt"})
_STATE_SPACE = frozenset(
    {"mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "granitemoehybrid", "nemotron_h", "falcon_h1"}
)
_COUNTS = (
    "attention_chunk_size",
    "num_global_key_value_heads",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "moe_latent_size",
    "kv_lora_rank",
    "q_lora_rank",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
    "index_head_dim",
    "index_n_heads",
    "index_topk",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
    "hidden_size_per_layer_input",
    "vocab_size_per_layer_input",
)


@cache
def class_defaults() -> Mapping[str, Mapping[str, Any]]:
    """Defaults of the configuration classes, by ``model_type``."""
    text = files("willitrun.checkpoints").joinpath("hf_defaults.json").read_text("utf-8")
    defaults: dict[str, dict[str, Any]] = json.loads(text)["defaults"]
    return defaults


def is_known(model_type: str) -> bool:
    """Whether a ``model_type`` names a language model whose config can be read."""
    return _SAME_AS.get(model_type, model_type) in class_defaults() or model_type in _WITHOUT_DEFAULTS


def read_text_config(
    config: Mapping[str, object],
    model_type: str,
    what: str,
    *,
    outer: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> TransformerConfig:
    """Normalise the text part of a config.

    Parameters
    ----------
    config
        Keys of the text part.
    model_type
        Its type; synonyms are resolved.
    what
        Name of the config, for messages.
    outer
        The config around a nested text part, which was then written without the keys that equal the
        defaults of its class.
    defaults
        Values for absent keys in place of those of the configuration class.

    Raises
    ------
    UnsupportedArchitectureError
        A ``model_type`` that is not known.
    CorruptCheckpointError
        A needed key is missing, or a value is out of its range.
    """
    if not is_known(model_type):
        raise UnsupportedArchitectureError(
            f"{what}: the architecture {model_type!r} is not known.",
            hint="Nothing is guessed from its neighbours; a GGUF or safetensors file gives at least its bytes.",
        )
    model_type = _SAME_AS.get(model_type, model_type)
    fields = ConfigFields(config, class_defaults().get(model_type) if defaults is None else defaults, what)
    if outer is None:
        for name in ("num_hidden_layers", "hidden_size"):
            if not fields.states(name) and not (name == "num_hidden_layers" and _pattern_length(fields)):
                raise missing(what, name)
    layers = _pattern_length(fields) or fields.required("num_hidden_layers", most=MAX_LAYERS)
    hidden = fields.required("hidden_size")
    values: dict[str, Any] = {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "vocab_size": fields.required("vocab_size"),
        "tie_word_embeddings": _tied(fields, outer),
        "max_position_embeddings": fields.positive("max_position_embeddings"),
        "rope_scaling_factor": _rope_factor(fields),
        "hidden_act": fields.word("hidden_act"),
        "layer_types": layer_pattern(model_type, fields, layers),
        "is_encoder_only": model_type in _ENCODERS,
        "attention_k_eq_v": fields.flag("attention_k_eq_v"),
        "use_double_wide_mlp": fields.flag("use_double_wide_mlp"),
        "num_kv_shared_layers": fields.count("num_kv_shared_layers", most=layers) or 0,
        "num_nextn_predict_layers": fields.count("num_nextn_predict_layers", most=64) or 0,
        "global_head_dim": fields.positive("global_head_dim"),
        **{name: fields.positive(name) for name in _COUNTS},
    }
    values |= _attention(model_type, fields, values)
    values |= _feed_forward(model_type, fields, hidden)
    if model_type in _STATE_SPACE or model_type.startswith("lfm2"):
        values |= _state_space(model_type, fields, hidden)
    vision = (outer or config).get("vision_config")
    if vision is not None:
        values["vision"] = read_tower(vision, f"{what}: vision_config")
    return TransformerConfig(**values)


def _pattern_length(fields: ConfigFields) -> int | None:
    # Nemotron-H: the pattern of blocks counts, num_hidden_layers is only kept beside it.
    pattern = fields.raw("hybrid_override_pattern")
    return len(pattern) if isinstance(pattern, str) and 0 < len(pattern) <= MAX_LAYERS else None


def _tied(fields: ConfigFields, outer: Mapping[str, object] | None) -> bool:
    if outer is not None and not fields.states("tie_word_embeddings"):
        around = ConfigFields(outer, what=fields.what)
        if around.states("tie_word_embeddings"):
            return around.flag("tie_word_embeddings")
    return fields.flag("tie_word_embeddings")


def _rope_factor(fields: ConfigFields) -> float | None:
    for name in ("rope_scaling", "rope_parameters"):
        block = fields.raw(name)
        if isinstance(block, Mapping):
            return ConfigFields(block, what=f"{fields.what}: {name}").ratio("factor")
    return None


def _attention(model_type: str, fields: ConfigFields, values: Mapping[str, Any]) -> dict[str, Any]:
    if model_type in _ATTENTION_FREE:
        return {}
    heads = fields.required("num_attention_heads", most=1 << 20)
    kv_heads = fields.count("num_key_value_heads", least=1, most=1 << 20) or _kv_heads(
        model_type, fields, heads
    )
    head = fields.positive("head_dim")
    if head is None and model_type not in ("falcon_h1",) and values["hidden_size"] % heads:
        raise CorruptCheckpointError(
            f"{fields.what}: {heads} attention heads do not divide a width of {values['hidden_size']}, "
            "and head_dim is not given."
        )
    slides = any(kind == "sliding_attention" for kind in values["layer_types"] or ())
    window = fields.positive("local_attention" if model_type == "modernbert" else "sliding_window")
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        # With latent attention the cached row follows from the ranks; head_dim means other things there.
        "head_dim": None if values["kv_lora_rank"] else head or values["hidden_size"] // heads,
        "sliding_window": window if slides else None,
        "attention_bias": fields.flag("attention_bias") if fields.raw("attention_bias") is not None else None,
    }


def _kv_heads(model_type: str, fields: ConfigFields, heads: int) -> int:
    single = model_type == "gpt_bigcode" or (
        model_type == "falcon" and not fields.flag("new_decoder_architecture")
    )
    return 1 if single and fields.flag("multi_query") else heads


def _feed_forward(model_type: str, fields: ConfigFields, hidden: int) -> dict[str, Any]:
    width = fields.positive("intermediate_size")
    if width is None and model_type in _FOUR_TIMES:
        width = 4 * hidden
    if model_type.startswith("lfm2") and width and fields.raw("block_auto_adjust_ff_dim") is True:
        width = _adjusted_width(fields, width)
    experts = fields.count("num_experts", most=1 << 16)
    if model_type == "gemma4_text" and not fields.flag("enable_moe_block"):
        experts = None
    if not experts or experts == 1:
        if width is None and model_type not in _ATTENTION_FREE:
            raise missing(fields.what, "intermediate_size")
        return {
            "intermediate_size": width,
            "moe_intermediate_size": None,
            "shared_expert_intermediate_size": fields.positive("shared_expert_intermediate_size"),
            "num_experts": None,
        }
    found: dict[str, Any] = {
        "intermediate_size": width,
        "num_experts": experts,
        "num_experts_per_tok": fields.count("num_experts_per_tok", least=1, most=experts),
        "n_shared_experts": fields.count("n_shared_experts", most=1 << 16),
        "first_k_dense_replace": _dense_layers(fields),
        "moe_layer_interval": fields.positive("moe_layer_interval", most=MAX_LAYERS) or 1,
    }
    if found["num_experts_per_tok"] is None:
        raise missing(fields.what, "num_experts_per_tok")
    if model_type == "llama4_text":
        # Here intermediate_size is an expert's width; the dense layers between have their own.
        found |= {
            "moe_intermediate_size": width,
            "intermediate_size": fields.positive("intermediate_size_mlp"),
            "n_shared_experts": 1,
        }
    return found


def _dense_layers(fields: ConfigFields) -> int:
    first = fields.count("first_k_dense_replace", most=MAX_LAYERS) or 0
    only = fields.items("mlp_only_layers")
    if only:
        if list(only) != list(range(len(only))):
            raise UnsupportedArchitectureError(
                f"{fields.what}: mlp_only_layers are scattered; only leading dense layers are known."
            )
        first = max(first, len(only))
    return first


def _adjusted_width(fields: ConfigFields, width: int) -> int:
    # Lfm2MLP: two thirds of the stated width, times a multiplier, rounded up to a multiple.
    width = int(2 * width / 3)
    multiplier = fields.ratio("block_ffn_dim_multiplier")
    if multiplier is not None:
        width = int(multiplier * width)
        multiple = fields.positive("block_multiple_of") or 1
        width = multiple * -(-width // multiple)
    return width


def _state_space(model_type: str, fields: ConfigFields, hidden: int) -> dict[str, Any]:
    heads = fields.positive("mamba_num_heads")
    head_width = fields.raw("mamba_head_width")
    if model_type == "mamba2":
        head_width = fields.raw("head_dim")
    inner = fields.positive("mamba_d_ssm")
    if inner is None and heads and type(head_width) is int and head_width > 0:
        inner = heads * head_width
    if inner is None:
        expand = fields.ratio("mamba_expand")
        inner = int(expand * hidden) if expand and expand <= 64 else None
    rank = fields.raw("mamba_dt_rank")
    return {
        "mamba_d_conv": fields.positive("mamba_d_conv"),
        "mamba_d_state": fields.positive("mamba_d_state"),
        "mamba_n_groups": fields.positive("mamba_n_groups"),
        "mamba_num_heads": heads,
        "mamba_d_inner": inner,
        "mamba_dt_rank": -(-hidden // 16) if rank == "auto" else fields.positive("mamba_dt_rank"),
    }
