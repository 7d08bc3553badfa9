"""Widths of one layer of a graph by short names, as the recorded graphs of llama.cpp spell tensor sizes."""

from __future__ import annotations

from collections.abc import Mapping

from willitrun.estimators.inventory import is_routed
from willitrun.estimators.inventory_blocks import dense_width, head_widths
from willitrun.estimators.inventory_traits import traits_of
from willitrun.records.models import TransformerConfig

__all__ = ["graph_widths", "layer_kind", "rotates"]

ROTATION = 64
"""Widths that llama.cpp rotates a quantized cache by divide by this; values are rotated by this very width."""


def layer_kind(config: TransformerConfig, layer: int) -> str:
    """What a layer is to the graph: its mixer, ``+moe`` where it routes, ``+shared`` where it reads another's cache, ``+nope`` where it turns nothing by position."""
    kind = str(config.layer_type(layer))
    unturned = traits_of(config.model_type).no_positions_interval
    if unturned and (layer + 1) % unturned == 0:
        kind += "+nope"
    if is_routed(config, layer):
        kind += "+moe"
    shared = config.num_kv_shared_layers
    return kind + "+shared" if shared and layer >= config.num_hidden_layers - shared else kind


def rotates(config: TransformerConfig) -> bool:
    """Whether llama.cpp rotates keys and values that it stores quantized (``attn_rot_k`` in llama-kv-cache.cpp)."""
    key, value = _cached_head(config)
    return key > 0 and key % ROTATION == 0 and value % ROTATION == 0


def _cached_head(config: TransformerConfig) -> tuple[int, int]:
    """Width of a head's keys and values as they are cached; 0 where nothing is."""
    traits = traits_of(config.model_type)
    if not config.num_attention_heads or traits.encoder:
        return 0, 0
    if traits.attention == "latent" and not traits.whole_latent:
        rank = config.kv_lora_rank or 0
        return rank + (config.qk_rope_head_dim or 0), rank
    _, _, key, value = head_widths(config, 0)
    return key, value


def graph_widths(config: TransformerConfig, layer: int) -> Mapping[str, int]:
    """Names of widths [elements] and what they are in one layer.

    ``W`` vocabulary, ``E`` hidden, ``L`` layers, ``H`` and ``G`` query and KV heads, ``A``, ``K``, ``V``, ``Q`` their queries,
    keys, values and all three, ``F`` dense feed-forward, ``X`` expert, ``Y`` shared experts, ``Z`` experts, ``u`` experts used,
    ``l`` what experts work on where that is narrower than the stream, ``M`` per-layer input; latent attention: ``r`` and ``q`` ranks, ``p`` and ``o`` head parts without and with
    positions, ``a`` their sum, ``v`` value head, ``b`` a cached row, ``e`` a head's part of an expanded one, ``n`` and ``m`` an indexer's heads and their width; recurrence: ``I`` inner, ``S`` state, ``g`` groups, ``h`` heads, ``t`` rank of the
    time step, ``c`` convolved channels, ``k`` positions that the convolution keeps, ``d`` keys of linear attention, ``i`` and ``x`` the
    projections into a Mamba-2 and out of a Mamba block's convolution; ``R`` and ``T`` the rotations of quantized keys and values.
    """
    traits = traits_of(config.model_type)
    hidden = config.hidden_size
    named: dict[str, int | None] = {
        "W": config.vocab_size,
        "E": hidden,
        "F": dense_width(config, traits, layer),
        "M": config.hidden_size_per_layer_input,
    }
    if config.num_attention_heads:
        if traits.attention == "latent":
            named |= {
                "H": config.num_attention_heads,
                "r": config.kv_lora_rank,
                "q": config.q_lora_rank,
                "p": config.qk_nope_head_dim,
                "o": config.qk_rope_head_dim,
                "v": config.v_head_dim,
                "a": (config.qk_nope_head_dim or 0) + (config.qk_rope_head_dim or 0),
                "b": (config.kv_lora_rank or 0) + (config.qk_rope_head_dim or 0),
                "e": (config.qk_nope_head_dim or 0) + (config.v_head_dim or 0),
                "n": config.index_n_heads,
                "m": config.index_head_dim,
            }
        else:
            heads, pairs, key, value = head_widths(config, layer)
            attended, keys, values = heads * key, pairs * key, pairs * value
            named |= {"H": heads, "G": pairs, "A": attended, "K": keys, "V": values}
            named["Q"] = attended + keys + values
    if config.num_experts:
        expert = config.moe_intermediate_size or config.intermediate_size or 0
        shared = config.shared_expert_intermediate_size or (config.n_shared_experts or 0) * expert
        named |= {
            "X": expert,
            "Y": shared or (expert if traits.always_shared else 0),
            "Z": config.num_experts,
            "u": config.num_experts_per_tok or 1,
            "l": config.moe_latent_size,
        }
    if config.linear_num_value_heads:
        keys = (config.linear_num_key_heads or 0) * (config.linear_key_head_dim or 0)
        values = config.linear_num_value_heads * (config.linear_value_head_dim or 0)
        named |= {
            "I": values,
            "S": config.linear_key_head_dim,
            "g": config.linear_num_key_heads,
            "h": config.linear_num_value_heads,
            "c": 2 * keys + values,
            "k": (config.linear_conv_kernel_dim or 1) - 1,
            "d": keys,
        }
    elif config.mamba_d_inner:
        state, groups = config.mamba_d_state or 0, config.mamba_n_groups or 0
        named |= {
            "I": config.mamba_d_inner,
            "S": state,
            "g": groups,
            "h": config.mamba_num_heads,
            "t": config.mamba_dt_rank or -(-hidden // 16),
            "c": config.mamba_d_inner + 2 * groups * state,
            "i": 2 * config.mamba_d_inner + 2 * groups * state + (config.mamba_num_heads or 0),
            "x": (config.mamba_dt_rank or -(-hidden // 16)) + 2 * state,
            "k": (config.mamba_d_conv or 1) - 1,
        }
    elif config.linear_conv_kernel_dim or config.mamba_d_conv:
        named["k"] = (config.mamba_d_conv or config.linear_conv_kernel_dim or 1) - 1
    if rotates(config):
        key, _ = _cached_head(config)
        named |= {"R": key & -key, "T": ROTATION}
    if config.hidden_size_per_layer_input:
        named["L"] = config.num_hidden_layers
    return {name: value for name, value in named.items() if value}
