"""The tensors of recurrent mixers: gated delta nets, Kimi's delta attention, Mamba, short convolutions."""

from __future__ import annotations

from willitrun.errors import MissingDataError
from willitrun.estimators.inventory_blocks import Collector, required
from willitrun.estimators.inventory_traits import Traits
from willitrun.records.models import TransformerConfig

__all__ = ["add_recurrence"]


def add_recurrence(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    """The recurrent mixer of one layer."""
    if traits.recurrence in ("delta", "delta-split"):
        _add_delta_net(out, config, layer, split=traits.recurrence == "delta-split")
    elif traits.recurrence == "kda":
        _add_kimi_delta(out, config, traits, layer)
    elif traits.recurrence == "lightning":
        _add_lightning(out, config, layer)
    elif traits.recurrence == "mamba":
        _add_mamba(out, config, traits, layer)
    elif traits.recurrence == "mamba2":
        _add_mamba2(out, config, traits, layer)
    elif traits.recurrence == "conv":
        hidden = config.hidden_size
        kernel = config.mamba_d_conv or required(config, "linear_conv_kernel_dim")
        out.matrix(layer, "shortconv_in_proj", "recurrent", 3 * hidden, hidden)
        out.matrix(layer, "shortconv_conv", "recurrent", hidden, kernel)
        out.matrix(layer, "shortconv_out_proj", "recurrent", hidden, hidden)
    elif traits.recurrence == "rwkv7":
        _add_rwkv7(out, config, layer)
    else:
        raise MissingDataError(f"the recurrent block {traits.recurrence} is not described.")


def _add_rwkv7(out: Collector, config: TransformerConfig, layer: int) -> None:
    """RWKV-7's time mixing: four projections and low-rank decay, in-context rate, value residual and gate."""
    hidden = config.hidden_size
    for name in ("receptance", "key", "value", "output"):
        out.matrix(layer, f"time_mix_{name}", "recurrent", hidden, hidden)
    rates = required(config, "rwkv_rate_rank")
    ranks = {"w": required(config, "rwkv_decay_rank"), "a": rates, "g": required(config, "rwkv_gate_rank")}
    if layer:
        # The first layer has no value to mix with.
        ranks["v"] = required(config, "rwkv_value_rank")
    for name, rank in ranks.items():
        out.matrix(layer, f"time_mix_{name}1", "recurrent", rank, hidden)
        out.matrix(layer, f"time_mix_{name}2", "recurrent", hidden, rank)
    for name in ("w0", "a0", *(("v0",) if layer else ()), "k_k", "k_a", "r_k", "ln", "ln_bias"):
        out.vector(layer, f"time_mix_{name}", hidden, "recurrent")
    out.vector(layer, "time_mix_lerp_fused", 6 * hidden, "recurrent")
    out.vector(layer, "channel_mix_lerp_k", hidden, "recurrent")


def _add_lightning(out: Collector, config: TransformerConfig, layer: int) -> None:
    """MiniMax's lightning attention: every query head has keys of its own, and an output gate."""
    hidden, heads = config.hidden_size, required(config, "num_attention_heads")
    inner = heads * (config.head_dim or hidden // heads)
    out.matrix(layer, "attn_qkv", "recurrent", 3 * inner, hidden)
    out.matrix(layer, "attn_gate", "recurrent", inner, hidden)
    out.norm(layer, "ssm_norm", inner)
    out.matrix(layer, "ssm_out", "recurrent", hidden, inner)


def _add_kimi_delta(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    """Kimi delta attention: three short convolutions, a decay and an output gate, of low rank where none is said to be whole."""
    hidden = config.hidden_size
    heads, width = required(config, "linear_num_value_heads"), required(config, "linear_value_head_dim")
    inner, kernel = heads * width, required(config, "linear_conv_kernel_dim")
    for name in ("q", "k", "v"):
        out.matrix(layer, f"attn_{name}", "recurrent", inner, hidden)
        out.matrix(layer, f"ssm_conv1d_{name}", "recurrent", inner, kernel)
    # Decay (f) and gate (g) pass through one head's width.
    for name, whole in (("ssm_f", traits.full_rank_decay), ("ssm_g", traits.full_rank_gate)):
        if whole:
            out.matrix(layer, name, "recurrent", inner, hidden)
            continue
        out.matrix(layer, f"{name}_a", "recurrent", width, hidden)
        out.matrix(layer, f"{name}_b", "recurrent", inner, width)
    out.vector(layer, "ssm_dt_bias", inner, "recurrent")
    out.vector(layer, "ssm_a", heads, "recurrent")
    out.matrix(layer, "ssm_beta", "recurrent", heads, hidden)
    out.norm(layer, "ssm_norm", width)
    out.matrix(layer, "ssm_out", "recurrent", hidden, inner)


def _add_delta_net(out: Collector, config: TransformerConfig, layer: int, *, split: bool) -> None:
    hidden = config.hidden_size
    heads = required(config, "linear_num_value_heads")
    keys = required(config, "linear_num_key_heads") * required(config, "linear_key_head_dim")
    value_width = required(config, "linear_value_head_dim")
    values = heads * value_width
    out.matrix(layer, "attn_qkv", "recurrent", 2 * keys + values, hidden)
    out.matrix(layer, "attn_gate", "recurrent", values, hidden)
    if split:
        out.matrix(layer, "ssm_alpha", "recurrent", heads, hidden)
        out.matrix(layer, "ssm_beta", "recurrent", heads, hidden)
    else:
        out.matrix(layer, "ssm_ba", "recurrent", 2 * heads, hidden)
    out.matrix(
        layer, "ssm_conv1d", "recurrent", 2 * keys + values, required(config, "linear_conv_kernel_dim")
    )
    out.vector(layer, "ssm_dt_bias", heads, "recurrent")
    out.vector(layer, "ssm_a", heads, "recurrent")
    out.norm(layer, "ssm_norm", value_width)
    out.matrix(layer, "ssm_out", "recurrent", hidden, values)


def _add_mamba(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    hidden, inner = config.hidden_size, required(config, "mamba_d_inner")
    state, kernel = required(config, "mamba_d_state"), required(config, "mamba_d_conv")
    rank = config.mamba_dt_rank or -(-hidden // 16)
    out.matrix(layer, "ssm_in", "recurrent", 2 * inner, hidden)
    out.matrix(layer, "ssm_conv1d", "recurrent", inner, kernel)
    out.vector(layer, "ssm_conv1d_bias", inner, "recurrent")
    out.matrix(layer, "ssm_x", "recurrent", rank + 2 * state, inner)
    out.matrix(layer, "ssm_dt", "recurrent", inner, rank)
    out.vector(layer, "ssm_dt_bias", inner, "recurrent")
    # A is two-dimensional but stays F32 whatever the mix.
    out.vector(layer, "ssm_a", inner * state, "recurrent")
    out.vector(layer, "ssm_d", inner, "recurrent")
    out.matrix(layer, "ssm_out", "recurrent", hidden, inner)
    if traits.dt_norms:
        out.norm(layer, "ssm_dt_norm", rank)
        out.norm(layer, "ssm_b_norm", state)
        out.norm(layer, "ssm_c_norm", state)


def _add_mamba2(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    hidden, inner = config.hidden_size, required(config, "mamba_d_inner")
    state, kernel = required(config, "mamba_d_state"), required(config, "mamba_d_conv")
    groups, heads = config.mamba_n_groups or 1, required(config, "mamba_num_heads")
    convolved = inner + 2 * groups * state
    out.matrix(layer, "ssm_in", "recurrent", inner + convolved + heads, hidden)
    out.matrix(layer, "ssm_conv1d", "recurrent", convolved, kernel)
    out.vector(layer, "ssm_conv1d_bias", convolved, "recurrent")
    for name in ("ssm_dt_bias", "ssm_a", "ssm_d"):
        out.vector(layer, name, heads, "recurrent")
    if traits.recurrent_norm:
        out.norm(layer, "ssm_norm", inner)
    out.matrix(layer, "ssm_out", "recurrent", hidden, inner)
