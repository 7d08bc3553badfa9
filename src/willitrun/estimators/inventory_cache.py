"""What one token leaves in the cache, from the architecture fields."""

from __future__ import annotations

from functools import lru_cache

from willitrun.estimators.ggml_graphs import graph_number
from willitrun.estimators.inventory_blocks import head_widths, required
from willitrun.estimators.inventory_traits import Traits, checked_traits, traits_of
from willitrun.kernels.compute_buffers import BufferShape
from willitrun.kernels.kv_layouts import KvLayout
from willitrun.records.models import TransformerConfig

__all__ = ["attention_widths", "buffer_shape", "cache_by_layer", "feed_forward_width", "kv_layout"]


BLOCK = 32
"""Elements that a quantized cache stores together."""


class _Sums:
    """Elements over all layers, added up one layer at a time."""

    def __init__(self) -> None:
        self.full_k = self.full_v = 0
        self.windowed_k = self.windowed_v = 0
        self.latent_v = 0
        self.expanded_k = self.expanded_v = 0
        self.conv_state = self.recurrent_state = 0
        self.index_k = 0
        self.cross = 0
        self.empty_layers = 0
        self.layers = self.windowed_layers = 0
        self.kv_heads = 0
        self.widest_v = 0

    @property
    def transposed(self) -> tuple[int, int]:
        """What values take more where every layer's are as wide as the widest layer's: full, windowed."""
        full = self.layers + self.empty_layers - self.windowed_layers
        return full * self.widest_v - self.full_v, self.windowed_layers * self.widest_v - self.windowed_v

    @property
    def hybrid_padding(self) -> int:
        """Elements of the layers that fill the last group up."""
        full = self.layers - self.windowed_layers
        if not full or not self.windowed_layers:
            return 0
        few, many = sorted((full, self.windowed_layers))
        wide = (
            self.windowed_k + self.windowed_v if many == self.windowed_layers else self.full_k + self.full_v
        )
        return (-many % few) * (wide // many)


@lru_cache(maxsize=512)
def kv_layout(config: TransformerConfig) -> KvLayout:
    """Elements per cell and of the recurrent state, summed over layers.

    Prediction layers keep no cache in plain decoding; encoders keep none at all; layers that share the cache
    of an earlier one add nothing.

    Parameters
    ----------
    config
        The architecture.

    Examples
    --------
    >>> config = TransformerConfig(model_type="llama", num_hidden_layers=32, hidden_size=4096,
    ...     intermediate_size=14336, num_attention_heads=32, num_key_value_heads=8, vocab_size=128256)
    >>> kv_layout(config).full_k
    32768
    """
    traits = checked_traits(config)
    if traits.encoder or config.is_encoder_only:
        return KvLayout(0, 0)
    latent = traits.attention == "latent" and not traits.whole_latent
    sums = _Sums()
    for layer in range(config.num_hidden_layers):
        _add_layer(sums, config, traits, layer)
    window = config.attention_chunk_size or config.sliding_window or 0
    pooled = traits.attention == "compressed" or config.index_kpool > 1
    cross = sums.cross
    if traits.cross_attention:
        heads, _, _, value = head_widths(config, 0)
        cross = config.num_hidden_layers * heads * value
    return KvLayout(
        full_k=_in_blocks(sums.full_k, pooled),
        full_v=sums.full_v,
        windowed_k=sums.windowed_k,
        windowed_v=sums.windowed_v,
        window_tokens=window if sums.windowed_k else 0,
        hybrid_padding=sums.hybrid_padding,
        conv_state=sums.conv_state,
        recurrent_state=sums.recurrent_state,
        cross_k=cross,
        cross_v=cross,
        cross_positions=(config.max_source_positions or 0) if cross else 0,
        index_k=_in_blocks(sums.index_k, pooled),
        kv_heads=max(sums.kv_heads, 1),
        n_kv_layers=sums.layers,
        latent_v=sums.latent_v,
        expanded_k=sums.expanded_k,
        expanded_v=sums.expanded_v,
        latent=int(latent),
        transposed_v=0 if latent else sums.transposed[0],
        transposed_windowed_v=0 if latent else sums.transposed[1],
    )


def _in_blocks(elements: int, pooled: bool) -> int:
    """Elements of a token; where several tokens share a cell a token has a part of a quantized block."""
    return -(-elements // BLOCK) * BLOCK if pooled else elements


@lru_cache(maxsize=512)
def cache_by_layer(config: TransformerConfig) -> tuple[tuple[int, int, int], ...]:
    """Elements that each layer keeps: per token where it sees everything, where it sees a window, and of its state.

    Examples
    --------
    >>> config = TransformerConfig(model_type="gemma2", num_hidden_layers=2, hidden_size=512, num_attention_heads=4,
    ...     head_dim=128, vocab_size=100, sliding_window=64, layer_types=("sliding_attention", "full_attention"))
    >>> cache_by_layer(config)
    ((0, 1024, 0), (1024, 0, 0))
    """
    traits = checked_traits(config)
    if traits.encoder or config.is_encoder_only:
        return ((0, 0, 0),) * config.num_hidden_layers
    found = []
    for layer in range(config.num_hidden_layers):
        sums = _Sums()
        _add_layer(sums, config, traits, layer)
        full = sums.full_k + sums.full_v + sums.index_k
        found.append((full, sums.windowed_k + sums.windowed_v, sums.conv_state + sums.recurrent_state))
    return tuple(found)


def _add_layer(sums: _Sums, config: TransformerConfig, traits: Traits, layer: int) -> None:
    if recurs(config, traits, layer):
        _add_state(sums, config, traits)
        if not traits.parallel_mixers:
            return
    kind = config.layer_type(layer)
    if kind == "cross_attention":
        _, kv_heads, _, value = head_widths(config, layer)
        sums.cross += kv_heads * value
    if kind == "mlp" and not traits.one_block_layers:
        sums.empty_layers += 1
    kept = layer < config.num_hidden_layers - config.num_kv_shared_layers
    if kept and kind not in ("mlp", "moe", "cross_attention"):
        _add_cell(sums, config, traits, layer)


def recurs(config: TransformerConfig, traits: Traits, layer: int) -> bool:
    """Whether a layer keeps a recurrent state."""
    if traits.recurrence == "none":
        return False
    if traits.parallel_mixers:
        return True
    if config.layer_types is None:
        return traits.one_block_layers
    return config.layer_type(layer) in ("linear_attention", "mamba", "rwkv", "conv")


def attends(config: TransformerConfig, traits: Traits, layer: int) -> bool:
    """Whether a layer attends to the tokens before."""
    if config.layer_type(layer) in ("mlp", "moe", "cross_attention"):
        return False
    return traits.parallel_mixers or not recurs(config, traits, layer)


def _add_cell(sums: _Sums, config: TransformerConfig, traits: Traits, layer: int) -> None:
    sums.layers += 1
    if traits.attention == "compressed":
        _add_compressed_cell(sums, config, layer)
        return
    if traits.attention == "latent":
        heads = required(config, "num_attention_heads")
        rope = required(config, "qk_rope_head_dim")
        if traits.whole_latent:
            sums.full_k += heads * (required(config, "qk_nope_head_dim") + rope)
            sums.full_v += heads * required(config, "v_head_dim")
            sums.widest_v = heads * required(config, "v_head_dim")
            sums.kv_heads = heads
            return
        sums.full_k += required(config, "kv_lora_rank") + rope
        sums.latent_v += required(config, "kv_lora_rank")
        sums.expanded_k += heads * (required(config, "qk_nope_head_dim") + rope)
        sums.expanded_v += heads * required(config, "v_head_dim")
        sums.kv_heads = 1
        sums.index_k += (config.index_head_dim or 0) // config.index_kpool
        return
    _, kv_heads, key, value = head_widths(config, layer)
    if config.index_n_heads and layer >= config.first_k_dense_replace:
        sums.index_k += config.index_head_dim or 0
    sums.widest_v = max(sums.widest_v, kv_heads * value)
    if config.layer_type(layer) in ("sliding_attention", "chunked_attention"):
        sums.windowed_k += kv_heads * key
        sums.windowed_v += kv_heads * value
        sums.windowed_layers += 1
        sums.kv_heads = max(sums.kv_heads, kv_heads)
    else:
        sums.full_k += kv_heads * key
        sums.full_v += kv_heads * value
        sums.kv_heads = max(sums.kv_heads, kv_heads)


def _add_compressed_cell(sums: _Sums, config: TransformerConfig, layer: int) -> None:
    """Every layer keeps a window of keys, which are values as well; what lies behind is kept in blocks of tokens."""
    from willitrun.estimators.inventory_compressed import OVERLAPPED, compress_ratio

    width, ratio = required(config, "head_dim"), compress_ratio(config, layer)
    sums.windowed_k += width
    sums.windowed_layers += 1
    sums.kv_heads = 1
    if ratio:
        sums.full_k += width // ratio
        # Tokens of a block that is not full yet, and their gates.
        overlap = 2 if ratio == OVERLAPPED else 1
        sums.conv_state += 2 * overlap * overlap * ratio * width
    if ratio == OVERLAPPED:
        side = required(config, "index_head_dim")
        sums.index_k += side // ratio
        sums.conv_state += 2 * 2 * 2 * ratio * side


def _add_state(sums: _Sums, config: TransformerConfig, traits: Traits) -> None:
    if traits.recurrence in ("delta", "delta-split"):
        heads = required(config, "linear_num_value_heads")
        key_width = required(config, "linear_key_head_dim")
        values = heads * required(config, "linear_value_head_dim")
        keys = required(config, "linear_num_key_heads") * key_width
        sums.conv_state += (required(config, "linear_conv_kernel_dim") - 1) * (2 * keys + values)
        sums.recurrent_state += values * key_width
    elif traits.recurrence == "kda":
        values = required(config, "linear_num_value_heads") * required(config, "linear_value_head_dim")
        sums.conv_state += (required(config, "linear_conv_kernel_dim") - 1) * 3 * values
        sums.recurrent_state += values * required(config, "linear_key_head_dim")
    elif traits.recurrence == "lightning":
        heads = required(config, "num_attention_heads")
        width = config.head_dim or config.hidden_size // heads
        sums.recurrent_state += heads * width * width
    elif traits.recurrence == "rwkv7":
        # The stream of the token before, for time and for channel mixing, and a square for each head.
        sums.conv_state += 2 * config.hidden_size
        sums.recurrent_state += config.hidden_size * required(config, "head_dim")
    elif traits.recurrence == "conv":
        kernel = config.mamba_d_conv or required(config, "linear_conv_kernel_dim")
        sums.conv_state += (kernel - 1) * config.hidden_size
    else:
        inner, state = required(config, "mamba_d_inner"), required(config, "mamba_d_state")
        groups = (config.mamba_n_groups or 1) if traits.recurrence == "mamba2" else 0
        sums.conv_state += (required(config, "mamba_d_conv") - 1) * (inner + 2 * groups * state)
        sums.recurrent_state += inner * state


def latent_widths(config: TransformerConfig) -> tuple[int, int]:
    """Heads x (score width + value width) / 2 of one layer of latent attention: absorbed, and expanded."""
    heads = required(config, "num_attention_heads")
    rank, rope = required(config, "kv_lora_rank"), required(config, "qk_rope_head_dim")
    nope, value = required(config, "qk_nope_head_dim"), required(config, "v_head_dim")
    return heads * (2 * rank + rope) // 2, heads * (nope + rope + value) // 2


def attention_widths(config: TransformerConfig) -> tuple[int, int, int]:
    """Sums over layers of heads x (score width + value width) / 2: full decode, full prefill, windowed.

    Latent attention decodes in absorbed form (latent + rope, and latent) and prefills expanded.
    """
    traits = traits_of(config.model_type)
    decode = prefill = windowed = 0
    for layer in range(config.num_hidden_layers):
        if not attends(config, traits, layer):
            continue
        if traits.attention == "latent":
            own_decode, own_prefill = latent_widths(config)
            decode, prefill = decode + own_decode, prefill + own_prefill
            continue
        heads, _, key, value = head_widths(config, layer)
        width = heads * (key + value) // 2
        if traits.attention == "compressed":
            from willitrun.estimators.inventory_compressed import compress_ratio

            ratio = compress_ratio(config, layer)
            decode += width // ratio if ratio else 0
            prefill += width // ratio if ratio else 0
        if config.layer_type(layer) in ("sliding_attention", "chunked_attention"):
            windowed += width
        else:
            decode += width
            prefill += width
    return decode, prefill, windowed


def feed_forward_width(config: TransformerConfig) -> int:
    """Widest feed-forward block that one token passes through: dense, or experts used and shared ones."""
    dense = config.intermediate_size or 0
    if not config.num_experts:
        return dense
    expert = config.moe_intermediate_size or dense
    shared = config.shared_expert_intermediate_size or (config.n_shared_experts or 0) * expert
    if traits_of(config.model_type).always_shared:
        shared = shared or expert
    routed = (config.num_experts_per_tok or 1) * expert + shared
    return max(dense if config.first_k_dense_replace or config.moe_layer_interval > 1 else 0, routed)


def buffer_shape(config: TransformerConfig) -> BufferShape:
    """Widths that decide the compute buffer of a graph."""
    traits = traits_of(config.model_type)
    heads = config.num_attention_heads or 0
    latent = key_value = 0
    if heads and traits.attention == "latent":
        nope, rope = required(config, "qk_nope_head_dim"), required(config, "qk_rope_head_dim")
        head = nope + rope
        latent = heads * (2 * required(config, "kv_lora_rank") + nope + 3 * rope)
    elif heads:
        head = max(config.head_dim or config.hidden_size // heads, config.global_head_dim or 0)
        # Parts of a fused projection are views of it.
        fused = traits.fused_qkv and not traits.qkv_bias
        key_value = 0 if fused else 2 * (config.num_key_value_heads or heads) * head
    else:
        head = 0
    dense = config.intermediate_size or traits.default_inner * config.hidden_size
    used = config.num_experts_per_tok or 1
    expert = (config.moe_intermediate_size or dense) if config.num_experts else 0
    every = config.num_experts and not config.first_k_dense_replace and config.moe_layer_interval == 1
    narrow = 0 < 2 * expert < config.hidden_size
    return BufferShape(
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        heads=heads,
        head_total=heads * head,
        feed_forward=max(0 if every else dense, used * expert),
        has_output=int(traits.head and not config.is_encoder_only),
        key_value=key_value,
        gated=int(traits.gated),
        expert_output=used * config.hidden_size if narrow else 0,
        latent=latent,
        streams=_streams_below_logits(config, traits),
        host_streams=_host_streams(config, traits),
        attention_hidden=1 if traits.encoder or traits.post_norm else 2,
        attention_total=(3 if traits.query_gate else 2) * heads * head,
        block_total=0
        if traits.encoder or traits.recurrence != "none" or (traits.fused_qkv and traits.fused_gate_up)
        else heads * head,
        beside=config.num_hidden_layers * (config.hidden_size_per_layer_input or 0),
        windowed=int(
            any(kind in ("sliding_attention", "chunked_attention") for kind in config.layer_types or ())
        ),
        graph=graph_number(config),
    )


def _streams_below_logits(config: TransformerConfig, traits: Traits) -> int:
    """Tensors of hidden width that lie below the logits when these are allocated.

    One where the last block ends in a sum that overwrites its own output. A second one is left below where that
    output had to move up: norms behind the blocks or with a bias, a fused block, shared or biased experts, recurrent
    mixers.
    """
    shared = config.n_shared_experts or config.shared_expert_intermediate_size or traits.always_shared
    if config.hidden_size_per_layer_input:
        return 3
    if traits.attention == "latent":
        # Without a low rank for queries the outputs of the last experts are not overwritten either.
        return 2 if config.q_lora_rank else 3 + (config.num_experts_per_tok or 0)
    if (
        config.num_experts
        and shared
        and not (traits.shared_gate or traits.always_shared or traits.recurrence != "none")
    ):
        return 3
    moved = (
        traits.recurrence != "none"
        or traits.post_norm
        or (traits.fused_qkv and traits.fused_gate_up)
        or traits.expert_bias
        or (config.num_experts and shared)
        or (traits.norm_bias and traits.norms == 2)
    )
    return 2 if moved else 1


def _host_streams(config: TransformerConfig, traits: Traits) -> int:
    """The same where host and device are one: the embedded tokens come on top, or take a place that was free."""
    streams = _streams_below_logits(config, traits)
    shared = config.n_shared_experts or config.shared_expert_intermediate_size or traits.always_shared
    if traits.recurrence in ("mamba", "mamba2", "conv") and not traits.one_block_layers:
        return streams + 2 if config.num_experts and shared else streams
    if traits.post_norm or (streams == 3 and traits.attention != "latent"):
        return streams
    return streams + (2 if config.num_experts and traits.always_shared else 1)
