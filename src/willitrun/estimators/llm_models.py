"""A language model at a weight format, as one row of numbers for the kernels."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.inventory import experts_used, is_routed, is_tied
from willitrun.estimators.inventory_cache import (
    attention_widths,
    buffer_shape,
    cache_by_layer,
    feed_forward_width,
    kv_layout,
)
from willitrun.estimators.inventory_formats import era_of, quantiser_spread
from willitrun.estimators.inventory_gguf import loaded_config
from willitrun.estimators.inventory_sparse import indexers_of, latent_layers, runs_beside_experts
from willitrun.estimators.inventory_traits import traits_of
from willitrun.estimators.weight_sums import publisher_factors, sums_by_rule, sums_of_table
from willitrun.estimators.workloads import ENCODER_TASKS
from willitrun.frozen import derived, frozen
from willitrun.intervals import Interval
from willitrun.kernels.layer_shelf import LAYERS
from willitrun.kernels.llm_levels import classify_format, level_code
from willitrun.records.models import Model, TensorTable, TransformerConfig, VisionTower
from willitrun.records.recipes import Quantization

__all__ = ["ModelRow", "model_row"]


@frozen(eq=False)
class ModelRow:
    """One model at one format. Bytes are integers; widths and counts are elements summed over layers."""

    repeating: int
    experts: int
    output: int
    embedding: int
    total_bytes: int
    vision_bytes: int
    n_layers: int
    n_moe_layers: int
    n_blocks: int
    """Mixers (attention or recurrence) and feed-forward blocks: two in most layers."""
    n_routed_blocks: int
    dense_bytes: int
    lm_head_bytes: int
    dense_params: int
    lm_head_params: int
    expert_params: int
    n_experts: int
    n_experts_used: int
    largest_expert_bytes: int
    largest_dense_bytes: int
    layer_number: int
    n_full_kv_layers: int
    n_windowed_kv_layers: int
    hidden_size: int
    vocab_size: int
    feed_forward: int
    gated: int
    tower_hidden: int
    tower_feed_forward: int
    tower_heads: int
    tower_copies: int
    has_output: int
    head_total: int
    heads: int
    graph_feed_forward: int
    graph_key_value: int
    graph_gated: int
    graph_expert_output: int
    graph_latent: int
    graph_streams: int
    graph_host_streams: int
    graph_attention_hidden: int
    graph_attention_total: int
    graph_block_total: int
    graph_beside: int
    graph_number: int
    graph_windowed: int
    filled_width: int
    rope_bytes: int
    attention_width: int
    prefill_attention_width: int
    windowed_width: int
    n_extra_blocks: int
    """Blocks' worth of kernels that layers start beside: one for latent attention or shared experts, two for an indexer."""
    index_width: int
    selected_tokens: int
    selected_width: int
    prefill_selected_width: int
    selected_k: int
    selected_v: int
    full_k: int
    full_v: int
    windowed_k: int
    windowed_v: int
    window_tokens: int
    conv_state: int
    recurrent_state: int
    cross_k: int
    cross_v: int
    cross_positions: int
    index_k: int
    kv_heads: int
    n_kv_layers: int
    latent: int
    latent_v: int
    expanded_k: int
    expanded_v: int
    transposed_v: int
    transposed_windowed_v: int
    hybrid_padding: int
    reads_only: bool
    """Whether it is asked for a text's embedding or score, and no token is generated."""
    tied: bool
    weights_low: float
    weights_high: float
    exact: bool
    format: int
    element_bytes: int

    @derived
    def size_spread(self) -> Interval:
        """Factors around the bytes of weights: none where a rule gives them, else what was learnt of the format."""
        return Interval(self.weights_low, 1.0, self.weights_high, 1.0 if self.exact else 0.9)

    @derived
    def disk_bytes(self) -> Interval:
        """The whole of it in a file."""
        return Interval(self.weights_low, 1.0, self.weights_high).scale(float(self.total_bytes))


def _tower(tower: VisionTower) -> tuple[int, int]:
    """Width of a vision tower's feed-forward block, and copies of what it attends to."""
    # Loaded for models that have one.
    from willitrun.estimators.inventory_vision import tower_copies, tower_width

    return tower_width(tower), tower_copies(tower)


@lru_cache(maxsize=4096)
def _row(
    config: TransformerConfig,
    tensors: TensorTable | None,
    quantization: Quantization,
    container: str,
    imatrix: bool | None,
    factors: tuple[float, float, float],
    native: str,
    released: date | None,
    embeds: bool,
) -> ModelRow:
    low, best, high = factors
    if container == "gguf":
        config = loaded_config(config)
    if tensors is not None:
        weights, low, high = sums_of_table(config, tensors), 1.0, 1.0
    else:
        weights = sums_by_rule(config, quantization, container, imatrix, native, era_of(released))
        if not weights.exact:
            weights = weights.scaled(best)
            low, high = low / best, high / best
        elif container == "gguf":
            least, most = quantiser_spread(
                config, quantization, imatrix=imatrix, released=released, native=native
            )
            low, high = least / weights.stored, most / weights.stored
    layout = kv_layout(config)
    decode_width, prefill_width, windowed_width = attention_widths(config)
    indexers = indexers_of(config)
    width, copies = _tower(config.vision) if config.vision else (0, 0)
    gguf = container == "gguf"
    # llama.cpp keeps token_embd on the host and, where it is tied, a copy on the device as output matrix.
    on_device = weights.output_matrix + weights.rest
    embedding = weights.embedding
    if not gguf:
        on_device = weights.rest + weights.embedding + (0 if is_tied(config) else weights.output_matrix)
        embedding = 0
    kept = cache_by_layer(config)
    routed = [layer for layer in range(config.num_hidden_layers) if _routes(config, layer)]
    shape = buffer_shape(config)
    one_block = traits_of(config.model_type).one_block_layers
    routed_blocks = sum(not one_block or config.layer_type(layer) == "moe" for layer in routed)
    routed_blocks = routed_blocks if weights.experts else 0
    return ModelRow(
        repeating=weights.repeating,
        experts=weights.experts,
        output=on_device,
        embedding=embedding,
        total_bytes=weights.repeating
        + weights.rest
        + weights.embedding
        + (0 if is_tied(config) else weights.output_matrix),
        vision_bytes=weights.vision,
        n_layers=config.num_hidden_layers,
        n_moe_layers=len(routed) if weights.experts else 0,
        n_blocks=config.num_hidden_layers * (1 if one_block else 2),
        n_routed_blocks=routed_blocks,
        dense_bytes=weights.dense_bytes,
        lm_head_bytes=weights.output_matrix,
        dense_params=weights.dense_params,
        lm_head_params=weights.lm_head_params,
        expert_params=weights.expert_params,
        n_experts=(config.num_experts or 1) if weights.experts else 1,
        n_experts_used=round(experts_used(config)) if weights.experts else 1,
        largest_expert_bytes=weights.largest_expert,
        largest_dense_bytes=weights.largest_dense,
        layer_number=LAYERS.add(
            tuple(
                (whole - experts, experts, *cells)
                for (whole, experts), cells in zip(weights.layers, kept, strict=True)
            )
        ),
        n_full_kv_layers=sum(full > 0 for full, _, _ in kept),
        n_windowed_kv_layers=sum(windowed > 0 for _, windowed, _ in kept),
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        feed_forward=feed_forward_width(config),
        gated=int(traits_of(config.model_type).gated),
        tower_hidden=(config.vision.hidden_size or 0) if config.vision else 0,
        tower_feed_forward=width,
        tower_copies=copies,
        tower_heads=(config.vision.num_attention_heads or 0) if config.vision else 0,
        has_output=int(shape.has_output),  # type: ignore[arg-type]
        head_total=int(shape.head_total),  # type: ignore[arg-type]
        heads=int(shape.heads),  # type: ignore[arg-type]
        graph_feed_forward=int(shape.feed_forward),  # type: ignore[arg-type]
        graph_key_value=int(shape.key_value),  # type: ignore[arg-type]
        graph_gated=int(shape.gated),  # type: ignore[arg-type]
        graph_expert_output=int(shape.expert_output),  # type: ignore[arg-type]
        graph_latent=int(shape.latent),  # type: ignore[arg-type]
        graph_streams=int(shape.streams),  # type: ignore[arg-type]
        graph_host_streams=int(shape.host_streams),  # type: ignore[arg-type]
        graph_attention_hidden=int(shape.attention_hidden),  # type: ignore[arg-type]
        graph_attention_total=int(shape.attention_total),  # type: ignore[arg-type]
        graph_block_total=int(shape.block_total),  # type: ignore[arg-type]
        graph_beside=int(shape.beside),  # type: ignore[arg-type]
        graph_number=int(shape.graph),  # type: ignore[arg-type]
        graph_windowed=int(shape.windowed),  # type: ignore[arg-type]
        filled_width=_filled_width(config, quantization),
        rope_bytes=_rope_bytes(config),
        attention_width=decode_width,
        prefill_attention_width=prefill_width,
        windowed_width=windowed_width,
        n_extra_blocks=2 * indexers.layers
        + latent_layers(config)
        + (routed_blocks if runs_beside_experts(config) else 0),
        index_width=indexers.width,
        selected_tokens=indexers.selected_tokens,
        selected_width=indexers.selected_width,
        prefill_selected_width=indexers.prefill_selected_width,
        selected_k=indexers.selected_k,
        selected_v=indexers.selected_v,
        full_k=int(layout.full_k),  # type: ignore[arg-type]
        full_v=int(layout.full_v),  # type: ignore[arg-type]
        windowed_k=int(layout.windowed_k),  # type: ignore[arg-type]
        windowed_v=int(layout.windowed_v),  # type: ignore[arg-type]
        window_tokens=int(layout.window_tokens),  # type: ignore[arg-type]
        conv_state=int(layout.conv_state),  # type: ignore[arg-type]
        recurrent_state=int(layout.recurrent_state),  # type: ignore[arg-type]
        cross_k=int(layout.cross_k),  # type: ignore[arg-type]
        cross_v=int(layout.cross_v),  # type: ignore[arg-type]
        cross_positions=int(layout.cross_positions),  # type: ignore[arg-type]
        index_k=int(layout.index_k),  # type: ignore[arg-type]
        kv_heads=int(layout.kv_heads),  # type: ignore[arg-type]
        n_kv_layers=int(layout.n_kv_layers),  # type: ignore[arg-type]
        latent=int(layout.latent),  # type: ignore[arg-type]
        latent_v=int(layout.latent_v),  # type: ignore[arg-type]
        expanded_k=int(layout.expanded_k),  # type: ignore[arg-type]
        expanded_v=int(layout.expanded_v),  # type: ignore[arg-type]
        transposed_v=int(layout.transposed_v),  # type: ignore[arg-type]
        transposed_windowed_v=int(layout.transposed_windowed_v),  # type: ignore[arg-type]
        hybrid_padding=int(layout.hybrid_padding),  # type: ignore[arg-type]
        reads_only=embeds
        or config.is_encoder_only
        or not layout.full_k + layout.windowed_k + layout.recurrent_state,  # type: ignore[operator]
        tied=is_tied(config),
        weights_low=low,
        weights_high=high,
        exact=weights.exact,
        format=level_code("format", classify_format(quantization.id)),
        element_bytes=4 if quantization.id == "f32" else 2,
    )


def model_row(
    model: Model,
    quantization: Quantization,
    container: str,
    catalog: Catalog,
    *,
    imatrix: bool | None = None,
) -> ModelRow:
    """The row of a model at a format, in the container that the runtime reads.

    Raises
    ------
    MissingDataError
        The model has no architecture fields.
    UnsupportedArchitectureError, UnsupportedFormatError
        No rule gives the tensors of this architecture, or the bytes of this format.
    """
    if model.transformer is None:
        raise MissingDataError(
            f"{model.name}: no source gives its architecture fields.",
            hint="Describe it by its config.json, or by a checkpoint file.",
        )
    factors = publisher_factors(quantization, catalog)
    tensors = model.tensors if quantization.id == model.quantization else None
    return _row(
        model.transformer,
        tensors,
        quantization,
        container,
        imatrix,
        factors,
        model.quantization,
        model.released,
        model.task in ENCODER_TASKS,
    )


def _filled_width(config: TransformerConfig, quantization: Quantization) -> int:
    """Width of an expert whose kernels need it filled up; 0 where no expert is."""
    if quantization.id != "mxfp4" or not config.num_experts:
        return 0
    return config.moe_intermediate_size or config.intermediate_size or 0


_INTERPOLATED = frozenset({"gemma3_text"})
"""Positions of the full layers are interpolated (``rope_type: linear``): their table is as many times longer."""


def _rope_bytes(config: TransformerConfig) -> int:
    """Sines and cosines of all positions in two bytes: half a head's width of each, and one table for each theta."""
    heads = config.num_attention_heads
    if not heads or not config.max_position_embeddings or traits_of(config.model_type).positions is not None:
        return 0
    width = config.qk_rope_head_dim or config.head_dim or config.hidden_size // heads
    tables = 1 + (config.rope_scaling_factor or 1) if config.model_type in _INTERPOLATED else 1
    return round(2 * width * config.max_position_embeddings * tables)


def _routes(config: TransformerConfig, layer: int) -> bool:
    return config.layer_type(layer) == "moe" or is_routed(config, layer)
