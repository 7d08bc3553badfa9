"""The tensors that llama.cpp's converters write for a model, where they differ from the checkpoint's.

Read in the ``conversion`` folder of llama.cpp (until 2026 ``convert_hf_to_gguf.py``): Baichuan's fused projection is
taken apart (``baichuan.py``); latent attention's up-projection is stored per head since pull request 12801 of
April 2025, but whole before it and for MiniCPM3 still (``deepseek.py``, ``minicpm.py``); encoders lose their
pooling layer, and RoBERTa the position rows before the first token (``bert.py``). Layers that predict further tokens
are dropped for DeepSeek, Qwen and others and appended as further blocks for the architectures listed here
(``glm.py``, ``bailing.py``, ``hunyuan.py``): the quantiser then counts them among the model's layers, and loaders
skip them unless they are asked to draft with them.

References
----------
https://github.com/ggml-org/llama.cpp/tree/7bca1fd9ca2a681b0182e16f24f832b7be1942af/conversion
https://github.com/ggml-org/llama.cpp/pull/12801
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from willitrun.estimators.inventory import is_tied, tensor_inventory
from willitrun.estimators.inventory_traits import traits_of
from willitrun.kernels.gguf_mixes import Era, MixContext
from willitrun.kernels.weights import TensorGroup
from willitrun.records.models import TransformerConfig

__all__ = ["VALUE_ROLES", "cut_vocabulary", "loaded_config", "mix_context", "moved_tensors", "stored_tensors"]

VALUE_ROLES = frozenset({"attn_v", "attn_qkv", "attn_kv_b"})
_WITH_PREDICTION = frozenset(
    {"glm4_moe", "glm4v_moe_text", "solar_open", "glm_moe_dsa", "deepseek_v32", "bailing_moe_v2", "hy_v3"}
)
# Their converters write one count of KV heads per layer: 0 where a layer does not attend.
_HEADS_BY_LAYER = frozenset(
    {"lfm2", "lfm2_moe", "jamba", "granitemoehybrid", "bamba", "nemotron_h", "kimi_linear"}
)
_TOKENS = {"gemma3_text": 262144, "gemma3n": 262144, "gemma3n_text": 262144}
"""What the tokenizers of these have; ``n_vocab`` of load logs."""
_SPLIT_PROJECTIONS = frozenset({"baichuan"})
# Their loaders set no window (``swa_type`` in src/models): every layer attends to, and caches, the whole context.
_NO_WINDOWS = frozenset(
    {"mistral", "mixtral", "ministral", "ministral3", "phi3", "phi3_v", "phimoe", "starcoder2", "smollm3", "mimo",
     "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_moe", "qwen3", "qwen3_moe"}
)  # fmt: skip
_POSITIONS_BEFORE_FIRST = {"roberta": 2, "xlm-roberta": 2}
_SEVENTY_B_TYPES = frozenset({"llama", "mistral", "qwen2"})
_SEVENTY_B_BEFORE_2026 = frozenset({"qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"})
"""Their loader fell through to Qwen2's until each architecture got a file of its own."""


@lru_cache(maxsize=512)
def loaded_config(config: TransformerConfig) -> TransformerConfig:
    """The model as llama.cpp computes it: of some architectures it does not read the sliding window.

    Examples
    --------
    >>> config = TransformerConfig(model_type="mistral", num_hidden_layers=32, hidden_size=4096,
    ...     num_attention_heads=32, vocab_size=32000, sliding_window=4096, layer_types=("sliding_attention",))
    >>> loaded_config(config).layer_type(0)
    'full_attention'
    """
    if config.model_type not in _NO_WINDOWS or config.sliding_window is None:
        return config
    kinds = tuple(
        "full_attention" if kind == "sliding_attention" else kind for kind in config.layer_types or ()
    )
    mixed = set(kinds) - {"full_attention"}
    return config.model_copy(update={"sliding_window": None, "layer_types": kinds if mixed else None})


@lru_cache(maxsize=512)
def cut_vocabulary(config: TransformerConfig) -> TransformerConfig:
    """The model without the rows of its embedding that have no token, which the converter cuts from some files.

    Gemma 3's counts as many tokens as the configuration names, or the tokenizer where it names none, as Google's own do;
    Gemma 3n's did not count those of pictures and sound until it read them (``gemma.py``). Load logs show files of both
    kinds, of 262,144 and of 262,208 rows.

    Examples
    --------
    >>> config = TransformerConfig(model_type="gemma3_text", num_hidden_layers=1, hidden_size=256,
    ...     num_attention_heads=1, vocab_size=262208)
    >>> cut_vocabulary(config).vocab_size
    262144
    """
    tokens = _TOKENS.get(config.model_type, config.vocab_size)
    return config if config.vocab_size <= tokens else config.model_copy(update={"vocab_size": tokens})


@lru_cache(maxsize=512)
def stored_tensors(config: TransformerConfig, era: Era = "2025") -> tuple[TensorGroup, ...]:
    """Tensors of a GGUF made of this model by a build of one era.

    Examples
    --------
    >>> config = TransformerConfig(model_type="deepseek_v2", num_hidden_layers=1, hidden_size=512,
    ...     intermediate_size=512, num_attention_heads=4, vocab_size=100, kv_lora_rank=256, qk_rope_head_dim=64,
    ...     qk_nope_head_dim=128, v_head_dim=128)
    >>> [group.role for group in stored_tensors(config, "2024") if group.role.endswith("_b")]
    ['attn_kv_b']
    """
    found: list[TensorGroup] = []
    whole = era in ("2023", "2024") or traits_of(config.model_type).whole_latent
    for group in tensor_inventory(config):
        if group.role in ("pooler", "pooler_bias"):
            continue
        if group.part == "prediction" and config.model_type not in _WITH_PREDICTION:
            continue
        if group.role == "attn_qkv" and config.model_type in _SPLIT_PROJECTIONS:
            third = replace(group, rows=group.rows // 3)
            found += [replace(third, role=role) for role in ("attn_q", "attn_k", "attn_v")]
        elif group.role == "attn_k_b" and whole:
            value = config.v_head_dim or 0
            rows = group.stack * (group.width + value)
            found.append(replace(group, role="attn_kv_b", width=group.rows, rows=rows, stack=1))
        elif group.role == "attn_v_b" and whole:
            continue
        elif group.role == "position_embd":
            skipped = _POSITIONS_BEFORE_FIRST.get(config.model_type, 0)
            found.append(replace(group, rows=group.rows - skipped))
        else:
            found.append(group)
    return tuple(found)


@lru_cache(maxsize=512)
def moved_tensors(config: TransformerConfig, since: Era) -> bool:
    """Whether the model has tensors that an era stores otherwise than the one before."""
    roles = {group.role for group in stored_tensors(config, since)}
    if since == "2025":
        return "attn_k_b" in roles
    moved = {"attn_qkv", "attn_kv_b", "per_layer_token_embd"}
    return bool(roles & moved) or (
        config.model_type in _SEVENTY_B_BEFORE_2026 and config.num_hidden_layers == 80
    )


def mix_context(
    config: TransformerConfig,
    groups: tuple[TensorGroup, ...],
    *,
    era: Era,
    imatrix: bool,
    raised: frozenset[str],
    native_experts: str | None,
) -> MixContext:
    """What the quantiser looks at beside a tensor itself."""
    heads = config.num_attention_heads or 1
    kv_heads = config.num_key_value_heads or heads
    predicting = {layer for group in groups if group.part == "prediction" for layer in group.layers}
    seventy_b = _SEVENTY_B_TYPES if era == "2026" else _SEVENTY_B_TYPES | _SEVENTY_B_BEFORE_2026
    return MixContext(
        n_layers=config.num_hidden_layers + len(predicting),
        gqa=_first_layer_gqa(config, heads, kv_heads),
        n_experts=config.num_experts or 1,
        tied=is_tied(config) or not traits_of(config.model_type).head,
        falcon=config.model_type == "falcon",
        seventy_b=config.model_type in seventy_b and config.num_hidden_layers == 80 and heads != kv_heads,
        imatrix=imatrix,
        era=era,
        raised=raised,
        native_experts=native_experts,
        n_value_tensors=sum(group.count for group in groups if group.role in VALUE_ROLES),
    )


def _first_layer_gqa(config: TransformerConfig, heads: int, kv_heads: int) -> int:
    """``n_gqa`` as the quantiser reads it: of layer 0, and 0 where that layer does not attend."""
    attends = config.layer_type(0) in ("full_attention", "sliding_attention", "chunked_attention")
    if config.model_type in _HEADS_BY_LAYER and not attends:
        return 0
    return heads // kv_heads
