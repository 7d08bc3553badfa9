"""The tensors of one block: attention and feed-forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from willitrun.errors import MissingDataError
from willitrun.estimators.inventory_traits import Traits
from willitrun.kernels.weights import Part, TensorGroup
from willitrun.records.models import TransformerConfig

__all__ = ["Collector", "add_attention", "add_feed_forward", "dense_width", "head_widths", "required"]

_Key = tuple[str, str, int, int, int, bool]


def required(config: TransformerConfig, field: str) -> int:
    """A field of the config that this architecture can't do without."""
    value = getattr(config, field)
    if value is None:
        raise MissingDataError(f"{config.model_type} needs {field}, which the config does not give.")
    return int(value)


class Collector:
    """Gathers tensors and groups equal ones over layers."""

    def __init__(self, config: TransformerConfig) -> None:
        self.config = config
        self._layers: dict[_Key, list[int]] = {}
        self._part: str | None = None

    @contextmanager
    def redirect(self, part: str) -> Iterator[None]:
        """Book everything inside under another part."""
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    def _add(
        self, layer: int | None, role: str, part: str, width: int, rows: int, stack: int, matrix: bool
    ) -> None:
        if width * rows * stack == 0:
            return
        layers = self._layers.setdefault((role, self._part or part, width, rows, stack, matrix), [])
        if layer is not None:
            layers.append(layer)

    def matrix(self, layer: int | None, role: str, part: str, rows: int, width: int, stack: int = 1) -> None:
        """A matrix of ``rows`` outputs over ``width`` inputs, ``stack`` of them in one tensor."""
        self._add(layer, role, part, width, rows, stack, True)

    def vector(self, layer: int | None, role: str, size: int, part: str = "norm") -> None:
        """A one-dimensional tensor: a bias, a norm, one number per head."""
        self._add(layer, role, part, size, 1, 1, False)

    def norm(self, layer: int | None, role: str, size: int, *, bias: bool = False) -> None:
        """A norm's weight, with its bias where it has one."""
        self.vector(layer, role, size)
        if bias:
            self.vector(layer, f"{role}_bias", size)

    def norms(self, layer: int, count: int, *, bias: bool = False) -> None:
        """The norms of hidden width around the blocks of a layer."""
        for name in ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")[:count]:
            self.norm(layer, name, self.config.hidden_size, bias=bias)

    def adapters(self, columns: int) -> None:
        """Low-rank adapters of that many columns beside every matrix; one task reads a few of them, as of a table."""
        sides = sum(
            (width + rows) * stack * max(len(layers), 1)
            for (_, _, width, rows, stack, matrix), layers in self._layers.items()
            if matrix
        )
        self.matrix(None, "task_adapters", "embedding", columns, sides)

    def groups(self) -> tuple[TensorGroup, ...]:
        """Equal tensors together, in the order in which they first came."""
        return tuple(
            TensorGroup(role, cast(Part, part), width, rows, stack, tuple(layers), matrix)
            for (role, part, width, rows, stack, matrix), layers in self._layers.items()
        )


def head_widths(config: TransformerConfig, layer: int) -> tuple[int, int, int, int]:
    """Query heads, KV heads, width of a key head and of a value head of a layer."""
    heads = required(config, "num_attention_heads")
    kv_heads = config.num_key_value_heads or heads
    width = config.head_dim or config.hidden_size // heads
    if config.layer_type(layer) == "sliding_attention":
        heads = config.num_sliding_attention_heads or heads
    if config.layer_type(layer) == "full_attention" and config.layer_types:
        width = config.global_head_dim or width
        kv_heads = config.num_global_key_value_heads or kv_heads
    return heads, kv_heads, width, config.v_head_dim or width


def dense_width(config: TransformerConfig, traits: Traits, layer: int) -> int | None:
    """Width of the dense feed-forward block of a layer; None where the config does not say."""
    chosen = config.layer_intermediate_sizes
    if chosen:
        return chosen[layer % len(chosen)]
    return config.intermediate_size or traits.default_inner * config.hidden_size or None


def add_attention(
    out: Collector, config: TransformerConfig, traits: Traits, layer: int, *, full: bool = False
) -> None:
    """Projections, biases and norms of one attention block."""
    if traits.attention == "compressed":
        from willitrun.estimators.inventory_compressed import add_compressed_attention

        add_compressed_attention(out, config, layer)
        return
    if traits.attention == "latent":
        _add_latent_attention(out, config, layer, gate=traits.output_gate)
        if traits.head_gate:
            out.matrix(layer, "attn_gate", "attention", config.num_attention_heads or 1, config.hidden_size)
        return
    hidden = config.hidden_size
    heads, kv_heads, key, value = head_widths(config, layer)
    shared = (
        config.num_kv_shared_layers > 0
        and layer >= config.num_hidden_layers - config.num_kv_shared_layers
        and not full
        and not traits.alternating_updates  # these checkpoints store the matrices all the same
    )
    value_is_key = (
        config.attention_k_eq_v and config.layer_type(layer) == "full_attention" and bool(config.layer_types)
    )
    q_rows = heads * key * (2 if traits.query_gate else 1)
    k_rows = 0 if shared else kv_heads * key
    v_rows = 0 if shared or value_is_key else kv_heads * value
    if traits.fused_qkv:
        out.matrix(layer, "attn_qkv", "attention", q_rows + k_rows + v_rows, hidden)
    else:
        out.matrix(layer, "attn_q", "attention", q_rows, hidden)
        out.matrix(layer, "attn_k", "attention", k_rows, hidden)
        out.matrix(layer, "attn_v", "attention", v_rows, hidden)
    out.matrix(layer, "attn_output", "attention", hidden, heads * value)
    follows = bool(config.attention_bias)
    if follows if traits.qkv_bias is None else traits.qkv_bias:
        biased = q_rows + v_rows if config.model_type == "whisper" else q_rows + k_rows + v_rows
        out.vector(layer, "attn_qkv_bias", biased)
    if follows if traits.o_bias is None else traits.o_bias:
        out.vector(layer, "attn_output_bias", hidden)
    if traits.qk_norm == "head":
        out.norm(layer, "attn_q_norm", key)
        if not shared:
            out.norm(layer, "attn_k_norm", key)
    elif traits.qk_norm == "full":
        out.norm(layer, "attn_q_norm", heads * key)
        out.norm(layer, "attn_k_norm", kv_heads * key)
    windowed = config.layer_type(layer) == "sliding_attention"
    if traits.sinks or (traits.window_sinks and windowed):
        out.vector(layer, "attn_sinks", heads)
    if traits.head_gate:
        out.matrix(layer, "attn_gate", "attention", heads, hidden)
    if traits.token_temperatures:
        out.matrix(layer, "attn_tau", "attention", 2 * heads, q_rows + k_rows + v_rows)
        out.vector(layer, "attn_tau_alpha", heads)
    if traits.activation_norm:
        out.norm(layer, "attn_sub_norm", hidden)
    if config.layer_type(layer) == "cross_attention":
        # Mllama: queries and keys of an image are normed, and both blocks pass through a gate.
        for name in ("attn_q_norm", "attn_k_norm"):
            out.norm(layer, name, key)
        out.vector(layer, "cross_attn_gates", 2)
    if config.index_n_heads and config.index_head_dim and layer >= config.first_k_dense_replace:
        out.matrix(layer, "indexer_q", "attention", config.index_n_heads * config.index_head_dim, hidden)
        out.matrix(layer, "indexer_k", "attention", config.index_head_dim, hidden)
        for name in ("indexer_q_norm", "indexer_k_norm"):
            out.norm(layer, name, config.index_head_dim)


def _add_latent_attention(out: Collector, config: TransformerConfig, layer: int, *, gate: bool) -> None:
    hidden = config.hidden_size
    heads = required(config, "num_attention_heads")
    rank, rope = required(config, "kv_lora_rank"), required(config, "qk_rope_head_dim")
    nope, value = required(config, "qk_nope_head_dim"), required(config, "v_head_dim")
    if config.q_lora_rank:
        out.matrix(layer, "attn_q_a", "attention", config.q_lora_rank, hidden)
        out.norm(layer, "attn_q_a_norm", config.q_lora_rank)
        out.matrix(layer, "attn_q_b", "attention", heads * (nope + rope), config.q_lora_rank)
    else:
        out.matrix(layer, "attn_q", "attention", heads * (nope + rope), hidden)
    out.matrix(layer, "attn_kv_a_mqa", "attention", rank + rope, hidden)
    out.norm(layer, "attn_kv_a_norm", rank)
    # GGUF stores the up-projection split and transposed per head, ready for the absorbed form.
    out.matrix(layer, "attn_k_b", "attention", rank, nope, heads)
    out.matrix(layer, "attn_v_b", "attention", value, rank, heads)
    out.matrix(layer, "attn_output", "attention", hidden, heads * value)
    if gate:
        out.matrix(layer, "attn_gate", "attention", heads * value, hidden)
    if config.index_n_heads and config.index_head_dim:
        query = config.q_lora_rank or hidden
        out.matrix(layer, "indexer_q_b", "attention", config.index_n_heads * config.index_head_dim, query)
        out.matrix(layer, "indexer_k", "attention", config.index_head_dim, hidden)
        out.norm(layer, "indexer_k_norm", config.index_head_dim, bias=True)
        out.matrix(layer, "indexer_proj", "attention", config.index_n_heads, hidden)
        if config.index_kpool > 1:
            out.matrix(layer, "indexer_kpool_gate", "attention", config.index_head_dim, hidden)
            out.vector(layer, "indexer_kpool_ape", config.index_kpool * config.index_head_dim, "attention")


def add_feed_forward(
    out: Collector, config: TransformerConfig, traits: Traits, layer: int, *, routed: bool
) -> None:
    """Dense block, or router, experts and shared experts."""
    hidden = config.hidden_size
    if not routed or traits.dense_beside_experts or traits.shortcut_experts:
        width = dense_width(config, traits, layer)
        if width is None and not routed:
            width = required(config, "intermediate_size")
        if width is not None:
            if config.use_double_wide_mlp and _is_shared(config, layer):
                width *= 2
            _add_mlp(out, traits, layer, "dense_ffn", "", width, hidden)
    if not routed:
        return
    experts = required(config, "num_experts")
    width = config.moe_intermediate_size or required(config, "intermediate_size")
    latent = config.moe_latent_size or hidden
    choices = experts + config.zero_expert_num
    out.matrix(layer, "ffn_gate_inp", "router", choices, hidden)
    if traits.router_bias:
        out.vector(layer, "ffn_gate_inp_bias", choices)
    if layer < config.num_hash_layers:
        used = required(config, "num_experts_per_tok")
        out.vector(layer, "ffn_gate_tid2eid", config.vocab_size * used, "embedding")
    elif traits.score_bias:
        out.vector(layer, "exp_probs_b", choices)
    if config.vision_moe_intermediate_size:
        rows = 3 * config.vision_moe_intermediate_size * experts + experts
        out.matrix(layer, "ffn_vision_exps", "vision", rows, hidden)
    if config.moe_latent_size:
        if traits.latent_norm:
            out.norm(layer, "ffn_latent_norm", latent)
        out.matrix(layer, "ffn_latent_down", "shared_experts", latent, hidden)
        out.matrix(layer, "ffn_latent_up", "shared_experts", hidden, latent)
    if traits.gated if traits.gated_experts is None else traits.gated_experts:
        out.matrix(layer, "ffn_gate_exps", "experts", width, latent, experts)
    out.matrix(layer, "ffn_up_exps", "experts", width, latent, experts)
    out.matrix(layer, "ffn_down_exps", "experts", latent, width, experts)
    if traits.down_bias:
        out.vector(layer, "ffn_down_bias", hidden)
    if traits.expert_bias:
        out.vector(layer, "ffn_exps_bias", experts * (2 * width + hidden), "experts")
    shared = config.shared_expert_intermediate_size or (config.n_shared_experts or 0) * width
    if traits.always_shared:
        shared = shared or width
    if shared:
        _add_mlp(out, traits, layer, "shared_experts", "_shexp", shared, hidden)
        if traits.shared_gate:
            out.vector(layer, "ffn_gate_inp_shexp", hidden)
    if traits.dense_beside_experts:
        # Gemma 4: three more norms, a scale over channels and one per expert around the mixture.
        for name in ("ffn_pre_norm_2", "ffn_post_norm_1", "ffn_post_norm_2", "ffn_gate_inp_scale"):
            out.norm(layer, name, hidden)
        out.vector(layer, "ffn_down_exps_scale", experts)


def _is_shared(config: TransformerConfig, layer: int) -> bool:
    return config.num_kv_shared_layers > 0 and layer >= config.num_hidden_layers - config.num_kv_shared_layers


def _add_mlp(
    out: Collector, traits: Traits, layer: int, part: str, suffix: str, width: int, hidden: int
) -> None:
    if traits.gated and traits.fused_gate_up:
        out.matrix(layer, f"ffn_up{suffix}", part, 2 * width, hidden)
    else:
        if traits.gated:
            out.matrix(layer, f"ffn_gate{suffix}", part, width, hidden)
        out.matrix(layer, f"ffn_up{suffix}", part, width, hidden)
    out.matrix(layer, f"ffn_down{suffix}", part, hidden, width)
    if traits.ffn_bias:
        out.vector(layer, f"ffn_bias{suffix}", width + hidden)
    elif traits.down_bias:
        out.vector(layer, f"ffn_down_bias{suffix}", hidden)
    if traits.activation_norm:
        out.norm(layer, "ffn_sub_norm", width)
