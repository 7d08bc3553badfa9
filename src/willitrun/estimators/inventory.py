"""Every weight tensor of a language model, from its architecture fields."""

from __future__ import annotations

from functools import lru_cache

from willitrun.errors import MissingDataError, UnsupportedArchitectureError
from willitrun.estimators.inventory_blocks import (
    Collector,
    add_attention,
    add_feed_forward,
    dense_width,
    required,
)
from willitrun.estimators.inventory_traits import Traits, checked_traits, traits_of
from willitrun.kernels.weights import TensorGroup
from willitrun.records.models import TransformerConfig

__all__ = ["active_parameters", "parameters", "tensor_inventory"]


@lru_cache(maxsize=512)
def tensor_inventory(config: TransformerConfig) -> tuple[TensorGroup, ...]:
    """Every weight tensor by role, shape and layers.

    Prediction layers (MTP) have the part ``prediction`` and lie behind the last layer; a vision tower is one
    group of part ``vision`` where its size is known.

    Raises
    ------
    UnsupportedArchitectureError
        For a ``model_type`` that this library does not know: nothing is guessed from neighbours.
    MissingDataError
        Where the architecture needs a field that the config does not give.

    Examples
    --------
    >>> config = TransformerConfig(model_type="llama", num_hidden_layers=2, hidden_size=64,
    ...     intermediate_size=128, num_attention_heads=4, num_key_value_heads=2, vocab_size=100)
    >>> sum(group.elements for group in tensor_inventory(config))
    86848
    """
    traits = checked_traits(config)
    out = Collector(config)
    _add_embeddings(out, config, traits)
    for layer in range(config.num_hidden_layers):
        _add_layer(out, config, traits, layer)
    _add_encoders(out, config, traits)
    if traits.final_norm:
        out.norm(None, "output_norm", config.hidden_size, bias=traits.norm_bias)
    if traits.residual_scores:
        out.norm(None, "output_residual_score", config.hidden_size)
    if traits.hyper_head:
        from willitrun.estimators.inventory_compressed import add_hyper_head

        add_hyper_head(out, config, None)
    if traits.head and not is_tied(config):
        out.matrix(None, "output", "output", config.vocab_size, config.hidden_size)
    if traits.head_bias:
        out.vector(None, "output_bias", config.vocab_size)
    for ahead in range(config.num_nextn_predict_layers):
        _add_prediction_layer(out, config, traits, config.num_hidden_layers + ahead)
    if traits.task_adapters:
        out.adapters(traits.task_adapters)
    if config.vision:
        # Loaded, as what follows here, for the architectures that have it.
        from willitrun.estimators.inventory_vision import vision_parameters

        tower = vision_parameters(config.vision, config.hidden_size)
        if tower:
            out.matrix(None, "vision", "vision", 1, tower)
    return out.groups()


def _add_encoders(out: Collector, config: TransformerConfig, traits: Traits) -> None:
    if config.model_type == "whisper":
        from willitrun.estimators.inventory_encoders import add_audio_encoder

        add_audio_encoder(out, config)
    if traits.biased_encoder:
        from willitrun.estimators.inventory_encoders import add_biased_encoder

        add_biased_encoder(out, config, traits)
    if traits.relative_bias:
        from willitrun.estimators.inventory_encoders import add_text_encoder

        add_text_encoder(out, config, traits)
    if traits.mirrored_encoder:
        with out.redirect("encoder"):
            for layer in range(required(config, "encoder_layers")):
                out.norms(layer, traits.norms)
                add_attention(out, config, traits, layer)
                add_feed_forward(out, config, traits, layer, routed=False)
            out.norm(None, "enc_output_norm", config.hidden_size)
            # The end of a picture has an embedding of its own.
            out.vector(None, "eoi_embd", config.hidden_size)
    if traits.alternating_updates:
        from willitrun.estimators.inventory_encoders import add_alternating_updates

        add_alternating_updates(out, config, None)
    if traits.latent_pooling:
        from willitrun.estimators.inventory_encoders import add_latent_pooling

        add_latent_pooling(out, config)


def _add_recurrence(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    from willitrun.estimators.inventory_recurrence import add_recurrence

    add_recurrence(out, config, traits, layer)


def _add_cross_attention(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    from willitrun.estimators.inventory_encoders import add_biased_projections, add_projections

    if traits.relative_bias:
        add_projections(out, config, layer, "cross_attn", "attention")
    else:
        add_biased_projections(out, config, layer, "cross_attn", "attention", keys=traits.biased_encoder)


def is_tied(config: TransformerConfig) -> bool:
    """Whether embedding and output matrix are one tensor."""
    traits = traits_of(config.model_type)
    return config.tie_word_embeddings if traits.tied is None else traits.tied


def _add_embeddings(out: Collector, config: TransformerConfig, traits: Traits) -> None:
    hidden = config.hidden_size
    out.matrix(None, "token_embd", "embedding", config.vocab_size + traits.reserved_rows, hidden)
    if traits.positions is not None:
        if config.max_position_embeddings is None:
            raise MissingDataError(
                f"{config.model_type} needs max_position_embeddings for its position table."
            )
        out.matrix(
            None, "position_embd", "embedding", config.max_position_embeddings + traits.positions, hidden
        )
    if traits.token_types:
        out.matrix(None, "token_types", "embedding", traits.token_types, hidden)
    if traits.embedding_norm:
        out.norm(None, "token_embd_norm", hidden, bias=traits.norm_bias)
    if traits.position_buckets:
        heads = required(config, "num_attention_heads")
        out.matrix(None, "relative_attention_bias", "embedding", traits.position_buckets, heads)
    if traits.relative_positions:
        out.matrix(None, "relative_embd", "embedding", traits.relative_positions, hidden)
        out.norm(None, "relative_embd_norm", hidden, bias=traits.norm_bias)
    if traits.pooler:
        out.matrix(None, "pooler", "output", hidden, hidden)
        out.vector(None, "pooler_bias", hidden, part="output")
    per_layer = config.hidden_size_per_layer_input
    if per_layer:
        width = per_layer * config.num_hidden_layers
        rows = config.vocab_size_per_layer_input or config.vocab_size
        out.matrix(None, "per_layer_token_embd", "embedding", rows, width)
        out.matrix(None, "per_layer_model_proj", "dense_ffn", width, hidden)
        out.norm(None, "per_layer_proj_norm", per_layer)


def _add_layer(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    kind = config.layer_type(layer)
    if traits.encoder and config.layer_types is None:
        kind = "full_attention"
    recurrent = kind in ("linear_attention", "mamba", "rwkv", "conv")
    if recurrent and traits.recurrence == "none":
        raise UnsupportedArchitectureError(f"{config.model_type} has no known {kind} layer.")
    if traits.recurrence == "mamba" and traits.one_block_layers:
        recurrent = True
    if traits.recurrence == "mamba2" and config.model_type == "mamba2":
        recurrent = True
    if traits.one_block_layers:
        out.norms(layer, 1, bias=traits.norm_bias)
        if recurrent:
            _add_recurrence(out, config, traits, layer)
        elif kind in ("mlp", "moe"):
            add_feed_forward(out, config, traits, layer, routed=kind == "moe")
        else:
            add_attention(out, config, traits, layer)
        return
    if kind == "mlp":
        # A search left the attention of this layer out, of some the whole layer.
        if dense_width(config, traits, layer) == 0:
            return
        out.norm(layer, "ffn_norm", config.hidden_size, bias=traits.norm_bias)
        add_feed_forward(out, config, traits, layer, routed=False)
        return
    grouped = traits.grouped_norms if (config.num_key_value_heads or 1) > 1 else 0
    out.norms(layer, grouped or traits.norms, bias=traits.norm_bias)
    if recurrent or traits.parallel_mixers:
        _add_recurrence(out, config, traits, layer)
    if not recurrent:
        add_attention(out, config, traits, layer)
    if traits.relative_bias or traits.cross_attention:
        _add_cross_attention(out, config, traits, layer)
    add_feed_forward(out, config, traits, layer, routed=is_routed(config, layer))
    per_layer = config.hidden_size_per_layer_input
    if per_layer:
        out.matrix(layer, "per_layer_inp_gate", "dense_ffn", per_layer, config.hidden_size)
        out.matrix(layer, "per_layer_proj", "dense_ffn", config.hidden_size, per_layer)
        out.norm(layer, "per_layer_post_norm", config.hidden_size)
    if traits.alternating_updates:
        from willitrun.estimators.inventory_encoders import add_alternating_updates

        add_alternating_updates(out, config, layer)
    if traits.layer_scalars:
        out.vector(layer, "layer_scalar", traits.layer_scalars)
    if config.hc_mult:
        from willitrun.estimators.inventory_compressed import add_hyper_connections

        add_hyper_connections(out, config, layer)
    for number in range(traits.residual_scores):
        out.norm(layer, f"residual_score_{number}", config.hidden_size)


def is_routed(config: TransformerConfig, layer: int) -> bool:
    """Whether the feed-forward block of a layer is a mixture of experts."""
    if not config.num_experts or config.num_experts < 2 or layer < config.first_k_dense_replace:
        return False
    return (layer - config.first_k_dense_replace + 1) % config.moe_layer_interval == 0


def experts_used(config: TransformerConfig) -> float:
    """Experts with weights that one token passes through; of those that it chooses, some may hold none."""
    experts = config.num_experts or 1
    return (config.num_experts_per_tok or 1) * experts / (experts + config.zero_expert_num)


def _add_prediction_layer(out: Collector, config: TransformerConfig, traits: Traits, layer: int) -> None:
    hidden = config.hidden_size
    with out.redirect("prediction"):
        out.norms(layer, traits.norms, bias=traits.norm_bias)
        add_attention(out, config, traits, layer, full=True)
        routed = bool(config.num_experts) and not traits.dense_prediction
        add_feed_forward(out, config, traits, layer, routed=routed)
        if traits.hyper_head:
            from willitrun.estimators.inventory_compressed import add_hyper_connections, add_hyper_head

            add_hyper_connections(out, config, layer)
            add_hyper_head(out, config, layer)
        if traits.prediction_matrix != "none":
            name = f"nextn_{traits.prediction_matrix}"
            out.matrix(layer, name, "prediction", config.vocab_size, hidden)
        out.matrix(layer, "nextn_eh_proj", "prediction", hidden, 2 * hidden)
        for name in ("nextn_enorm", "nextn_hnorm", "nextn_shared_head_norm"):
            out.norm(layer, name, hidden)


def parameters(config: TransformerConfig, *, prediction_layers: bool = False) -> int:
    """Weights of the model [elements], tied matrices once.

    ``prediction_layers`` adds the MTP layers that a checkpoint may store behind the last one.
    """
    return sum(
        group.elements
        for group in tensor_inventory(config)
        if prediction_layers or group.part != "prediction"
    )


def active_parameters(config: TransformerConfig) -> int:
    """Weights that one token passes through [elements]: routed experts by their share, no vision tower.

    The embedding counts, as publishers count it; where it is tied it serves as the output matrix too.
    """
    total = 0
    for group in tensor_inventory(config):
        if group.part in ("prediction", "vision"):
            continue
        if group.part == "experts":
            total += round(group.elements // (config.num_experts or 1) * experts_used(config))
        else:
            total += group.elements
    return total
