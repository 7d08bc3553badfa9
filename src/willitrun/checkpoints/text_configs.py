"""The language model of a ``config.json``, under one set of names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from willitrun.checkpoints.config_fields import MAX_LAYERS, ConfigFields, missing
from willitrun.checkpoints.layer_patterns import layer_pattern
from willitrun.checkpoints.rewritten_texts import BY_LAYER, REWRITTEN, UNUSUAL, rewritten
from willitrun.checkpoints.text_blocks import read_attention, read_feed_forward, read_state_space
from willitrun.checkpoints.vision_towers import read_tower
from willitrun.errors import UnsupportedArchitectureError
from willitrun.packaged_files import read_packaged
from willitrun.records.models import TransformerConfig

__all__ = ["class_defaults", "is_known", "read_text_config"]

# Remote-code or outdated types: their configs state every key, so no defaults are needed.
_WITHOUT_DEFAULTS = frozenset(
    {
        *(
            "aquila",
            "baichuan",
            "bailing_moe",
            "bailing_moe_v2",
            "deberta-v2",
            "grok-1",
            "jina_embeddings_v3",
            "mpnet",
            "new",
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
_ENCODERS = frozenset(
    {"bert", "roberta", "xlm-roberta", "nomic_bert", "modernbert", "distilbert"}
    | {"mpnet", "deberta-v2", "jina_embeddings_v3", "new"}
)
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
    document = json.loads(read_packaged("willitrun.checkpoints", "hf_defaults.json"))
    defaults: dict[str, dict[str, Any]] = document["defaults"]
    return defaults


def is_known(model_type: str) -> bool:
    """Whether a ``model_type`` names a language model whose config can be read."""
    usual = _SAME_AS.get(model_type, model_type) in class_defaults() or model_type in _WITHOUT_DEFAULTS
    return usual or model_type in REWRITTEN


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
            hint="Nothing is guessed from its neighbours.",
        )
    model_type = _SAME_AS.get(model_type, model_type)
    unusual = model_type in REWRITTEN
    if unusual:
        model_type, config = rewritten(model_type, config, what, outer)
    if model_type == "bailing_moe" and config.get("use_qk_norm") is True:
        # Ling 2.0 and Ring 2.0 kept the type of their predecessors.
        model_type = "bailing_moe_v2"
    fields = ConfigFields(config, class_defaults().get(model_type) if defaults is None else defaults, what)
    if outer is None:
        for name in ("num_hidden_layers", "hidden_size"):
            if not fields.states(name) and not (name == "num_hidden_layers" and _pattern_length(fields)):
                raise missing(what, name)
    _refuse_variants(model_type, fields)
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
        # EmbeddingGemma is a Gemma 3 that looks both ways; "vision" looks both ways within an image only.
        "is_encoder_only": model_type in _ENCODERS or fields.raw("use_bidirectional_attention") is True,
        "attention_k_eq_v": fields.flag("attention_k_eq_v"),
        "use_double_wide_mlp": fields.flag("use_double_wide_mlp"),
        "num_kv_shared_layers": fields.count("num_kv_shared_layers", most=layers) or 0,
        "num_nextn_predict_layers": fields.count("num_nextn_predict_layers", most=64) or 0,
        "global_head_dim": fields.positive("global_head_dim"),
        **{name: fields.positive(name) for name in _COUNTS},
    }
    if unusual:
        values |= {name: fields.count(name) for name in UNUSUAL if fields.raw(name) is not None}
        values |= {name: config[name] for name in BY_LAYER if name in config}
    values |= _overrides(fields)
    values |= read_attention(model_type, fields, values)
    values |= read_feed_forward(model_type, fields, hidden)
    if model_type in _STATE_SPACE or model_type.startswith("lfm2"):
        values |= read_state_space(model_type, fields, hidden)
    vision = (outer or config).get("vision_config")
    if vision is not None:
        values["vision"] = read_tower(vision, f"{what}: vision_config")
    return TransformerConfig(**values)


def _refuse_variants(model_type: str, fields: ConfigFields) -> None:
    """Rare members of a family whose blocks differ from what the type stands for."""
    if model_type == "bailing_moe":
        raise UnsupportedArchitectureError(
            f"{fields.what}: the first Ling, without norms of queries and keys, is not known."
        )
    if model_type == "deberta-v2" and (
        fields.positive("position_buckets") != 256
        or fields.positive("conv_kernel_size")
        or fields.flag("position_biased_input")
        or fields.positive("type_vocab_size")
    ):
        raise UnsupportedArchitectureError(
            f"{fields.what}: only DeBERTa v3 is known: 256 position buckets, no convolution, no other positions."
        )
    if model_type != "opt":
        return
    narrow = fields.positive("word_embed_proj_dim") not in (None, fields.positive("hidden_size"))
    if narrow or not fields.flag("do_layer_norm_before") or not fields.flag("enable_bias"):
        raise UnsupportedArchitectureError(
            f"{fields.what}: an OPT with projected embeddings, norms behind its blocks or no biases is not known."
        )


def _pattern_length(fields: ConfigFields) -> int | None:
    # Nemotron-H: the pattern of blocks counts, num_hidden_layers is only kept beside it or left out.
    pattern = fields.raw("hybrid_override_pattern")
    if isinstance(pattern, str) and 0 < len(pattern) <= MAX_LAYERS:
        return len(pattern)
    if fields.states("num_hidden_layers"):
        return None
    return len(fields.items("layers_block_type") or ()) or None


def _overrides(fields: ConfigFields) -> dict[str, int | None]:
    """Widths of full-attention layers, written as exceptions layer by layer since transformers 5."""
    layers = fields.block("per_layer_config")
    if not layers:
        return {}
    found: dict[str, int | None] = {}
    for ours, theirs in (
        ("global_head_dim", "head_dim"),
        ("num_global_key_value_heads", "num_key_value_heads"),
    ):
        stated = {
            ConfigFields(layer, what=f"{fields.what}: per_layer_config").positive(theirs)
            for layer in layers.values()
            if isinstance(layer, Mapping)
        }
        if len(stated) > 1:
            raise UnsupportedArchitectureError(f"{fields.what}: per_layer_config gives several {theirs}.")
        if stated and (value := stated.pop()):
            found[ours] = value
    return found


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
