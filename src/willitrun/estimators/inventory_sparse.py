"""What layers run beside a mixer and a feed-forward block: indexers, which score all tokens so that a layer's own attention
takes the best of them only, the second half of latent attention, and experts that every token passes."""

from __future__ import annotations

from willitrun.estimators.inventory_blocks import head_widths, required
from willitrun.estimators.inventory_cache import attends, latent_widths
from willitrun.estimators.inventory_compressed import OVERLAPPED, compress_ratio
from willitrun.estimators.inventory_traits import traits_of
from willitrun.frozen import frozen
from willitrun.records.models import TransformerConfig

__all__ = ["Indexers", "indexers_of", "latent_layers", "runs_beside_experts"]


@frozen
class Indexers:
    """What indexers add and what they save; widths are sums over layers of heads x (score width + value width) / 2.

    ``selected_width``, ``prefill_selected_width`` and the cache elements ``selected_k`` and ``selected_v`` are those of
    layers that attend to ``selected_tokens`` at most.
    """

    layers: int = 0
    width: int = 0
    selected_tokens: int = 0
    selected_width: int = 0
    prefill_selected_width: int = 0
    selected_k: int = 0
    selected_v: int = 0


def indexers_of(config: TransformerConfig) -> Indexers:
    """Return the indexers of a model; none where its configuration names none."""
    heads, side = config.index_n_heads, config.index_head_dim
    if not heads or not side:
        return Indexers()
    traits = traits_of(config.model_type)
    attention = traits.attention
    # Scores alone: half of what scores and values of a head take.
    width = heads * side // 2
    layers = widths = decode = prefill = keys = values = 0
    for layer in range(config.num_hidden_layers):
        if not attends(config, traits, layer):
            continue
        if attention == "compressed":
            if compress_ratio(config, layer) == OVERLAPPED:
                layers, widths = layers + 1, widths + width // OVERLAPPED
        elif attention == "latent":
            own_decode, own_prefill = latent_widths(config)
            layers, widths = layers + 1, widths + width // config.index_kpool
            decode, prefill = decode + own_decode, prefill + own_prefill
            keys += required(config, "kv_lora_rank") + required(config, "qk_rope_head_dim")
        elif layer >= config.first_k_dense_replace:
            count, kv_heads, key, value = head_widths(config, layer)
            layers, widths = layers + 1, widths + width
            decode, prefill = decode + count * (key + value) // 2, prefill + count * (key + value) // 2
            keys, values = keys + kv_heads * key, values + kv_heads * value
    # Compressed keys are few already; which of them a layer takes is left out.
    selected = config.index_topk or 0 if attention != "compressed" else 0
    if not selected:
        return Indexers(layers, widths)
    return Indexers(layers, widths, selected, decode, prefill, keys, values)


def latent_layers(config: TransformerConfig) -> int:
    """Layers of latent attention."""
    traits = traits_of(config.model_type)
    if traits.attention != "latent":
        return 0
    return sum(attends(config, traits, layer) for layer in range(config.num_hidden_layers))


def runs_beside_experts(config: TransformerConfig) -> bool:
    """Whether tokens pass a dense block, or experts shared by all, beside those that they are routed to."""
    traits = traits_of(config.model_type)
    shared = config.n_shared_experts or config.shared_expert_intermediate_size or traits.always_shared
    return bool(shared or traits.dense_beside_experts or traits.shortcut_experts)
