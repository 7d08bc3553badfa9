"""The blocks of a language model's config: attention, feed-forward, state space.

Rules as in the configuration and modelling files of https://github.com/huggingface/transformers (v5.23.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from willitrun.checkpoints.config_fields import MAX_LAYERS, ConfigFields, missing
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError

__all__ = ["read_attention", "read_feed_forward", "read_state_space"]

_ATTENTION_FREE = frozenset({"mamba", "mamba2", "falcon_mamba"})
# No feed-forward width of their own: it follows from the hidden width.
_FOUR_TIMES = frozenset({"gpt2", "gptj", "gpt_bigcode", "bloom", "falcon", "mpt"})


def read_attention(model_type: str, fields: ConfigFields, values: Mapping[str, Any]) -> dict[str, Any]:
    """Heads, their width and the window."""
    if model_type in _ATTENTION_FREE:
        return {}
    heads = fields.required("num_attention_heads", most=1 << 20)
    kv_heads = fields.count("num_key_value_heads", least=1, most=1 << 20) or _kv_heads(
        model_type, fields, heads
    )
    head = fields.positive("head_dim")
    if head is None and not values["kv_lora_rank"] and values["hidden_size"] % heads:
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


def read_feed_forward(model_type: str, fields: ConfigFields, hidden: int) -> dict[str, Any]:
    """Widths and experts of the feed-forward blocks."""
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
    kinds = fields.items("mlp_layer_types")
    if kinds and (fields.positive("moe_layer_interval", most=MAX_LAYERS) or 1) == 1:
        # Layers that predict further tokens are named behind the others.
        dense = [at for at, kind in enumerate(kinds[: fields.count("num_hidden_layers")]) if kind == "dense"]
        if dense != list(range(len(dense))):
            raise UnsupportedArchitectureError(
                f"{fields.what}: dense mlp_layer_types are scattered; only leading dense layers are known."
            )
        first = max(first, len(dense))
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


def read_state_space(model_type: str, fields: ConfigFields, hidden: int) -> dict[str, Any]:
    """Sizes of Mamba blocks and short convolutions."""
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
