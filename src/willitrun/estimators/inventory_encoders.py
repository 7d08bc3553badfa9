"""The tensors of encoders beside a decoder (Whisper, T5), and Gemma 3n's extra streams."""

from __future__ import annotations

from willitrun.errors import MissingDataError
from willitrun.estimators.inventory_blocks import Collector, required
from willitrun.estimators.inventory_traits import Traits
from willitrun.records.models import TransformerConfig

__all__ = [
    "add_alternating_updates",
    "add_audio_encoder",
    "add_biased_encoder",
    "add_biased_projections",
    "add_latent_pooling",
    "add_projections",
    "add_text_encoder",
]

RELATIVE_BUCKETS = 32
STREAMS, SHORTCUT_RANK = 4, 64
LATENTS, LATENT_HEADS = 512, 8


def add_biased_projections(
    out: Collector, config: TransformerConfig, layer: int, role: str, part: str, *, keys: bool
) -> None:
    """BART's and Whisper's attention: square projections with biases, of which Whisper's ``keys`` have none."""
    hidden = config.hidden_size
    for name in ("q", "k", "v", "out"):
        out.matrix(layer, f"{role}_{name}", part, hidden, hidden)
    out.vector(layer, f"{role}_bias", (4 if keys else 3) * hidden)


def add_projections(out: Collector, config: TransformerConfig, layer: int, role: str, part: str) -> None:
    """T5's attention: projections to heads x head width and back, without biases."""
    hidden, heads = config.hidden_size, required(config, "num_attention_heads")
    inner = heads * (config.head_dim or hidden // heads)
    for name in ("q", "k", "v"):
        out.matrix(layer, f"{role}_{name}", part, inner, hidden)
    out.matrix(layer, f"{role}_out", part, hidden, inner)


def add_audio_encoder(out: Collector, config: TransformerConfig) -> None:
    """Whisper's encoder; its two input convolutions of three taps where ``num_mel_bins`` is given."""
    hidden, depth = config.hidden_size, config.encoder_layers
    if depth is None or config.max_source_positions is None or config.intermediate_size is None:
        raise MissingDataError("whisper needs encoder_layers, max_source_positions and encoder_ffn_dim.")
    with out.redirect("encoder"):
        for layer in range(depth):
            add_biased_projections(out, config, layer, "enc_attn", "encoder", keys=False)
            out.matrix(layer, "enc_ffn_up", "encoder", config.intermediate_size, hidden)
            out.matrix(layer, "enc_ffn_down", "encoder", hidden, config.intermediate_size)
            out.vector(layer, "enc_ffn_bias", config.intermediate_size + hidden)
            out.norm(layer, "enc_attn_norm", hidden, bias=True)
            out.norm(layer, "enc_ffn_norm", hidden, bias=True)
        if config.num_mel_bins:
            for name, channels in (("enc_conv1", config.num_mel_bins), ("enc_conv2", hidden)):
                out.matrix(None, name, "encoder", hidden, 3 * channels)
                out.vector(None, f"{name}_bias", hidden)
        out.matrix(None, "enc_position_embd", "encoder", config.max_source_positions, hidden)
        out.norm(None, "enc_output_norm", hidden, bias=True)


def add_biased_encoder(out: Collector, config: TransformerConfig, traits: Traits) -> None:
    """BART's encoder: norms behind the blocks, learnt positions and a norm of the embedding, as in its decoder."""
    hidden, inner = config.hidden_size, required(config, "intermediate_size")
    with out.redirect("encoder"):
        for layer in range(required(config, "encoder_layers")):
            add_biased_projections(out, config, layer, "enc_attn", "encoder", keys=True)
            out.matrix(layer, "enc_ffn_up", "encoder", inner, hidden)
            out.matrix(layer, "enc_ffn_down", "encoder", hidden, inner)
            out.vector(layer, "enc_ffn_bias", inner + hidden)
            for name in ("enc_attn_norm", "enc_ffn_norm"):
                out.norm(layer, name, hidden, bias=True)
        positions = required(config, "max_position_embeddings") + (traits.positions or 0)
        out.matrix(None, "enc_position_embd", "encoder", positions, hidden)
        out.norm(None, "enc_embd_norm", hidden, bias=True)


def add_text_encoder(out: Collector, config: TransformerConfig, traits: Traits) -> None:
    """T5's encoder, and the relative position tables of both stacks."""
    hidden, inner = config.hidden_size, required(config, "intermediate_size")
    with out.redirect("encoder"):
        for layer in range(required(config, "encoder_layers")):
            add_projections(out, config, layer, "enc_attn", "encoder")
            for name in ("enc_ffn_gate", "enc_ffn_up") if traits.gated else ("enc_ffn_up",):
                out.matrix(layer, name, "encoder", inner, hidden)
            out.matrix(layer, "enc_ffn_down", "encoder", hidden, inner)
            out.norm(layer, "enc_attn_norm", hidden)
            out.norm(layer, "enc_ffn_norm", hidden)
        out.norm(None, "enc_output_norm", hidden)
        heads = required(config, "num_attention_heads")
        out.matrix(None, "enc_attn_rel_b", "encoder", RELATIVE_BUCKETS, heads)
    out.matrix(None, "attn_rel_b", "attention", RELATIVE_BUCKETS, heads)


def add_alternating_updates(out: Collector, config: TransformerConfig, layer: int | None) -> None:
    """Gemma 3n: projections between streams (``layer`` None), or one layer's predictor and shortcut."""
    hidden = config.hidden_size
    if layer is None:
        out.matrix(None, "altup_proj", "dense_ffn", hidden, hidden, STREAMS - 1)
        out.matrix(None, "altup_unembd_proj", "dense_ffn", hidden, hidden, STREAMS - 1)
        return
    out.matrix(layer, "laurel_l", "dense_ffn", SHORTCUT_RANK, hidden)
    out.matrix(layer, "laurel_r", "dense_ffn", hidden, SHORTCUT_RANK)
    out.matrix(layer, "altup_router", "dense_ffn", STREAMS, hidden)
    out.vector(layer, "altup_predict_coef", STREAMS**3)
    out.vector(layer, "altup_correct_coef", STREAMS**2)
    for name in ("laurel_post_norm", "altup_router_norm", "altup_correct_scale"):
        out.norm(layer, name, hidden)


def add_latent_pooling(out: Collector, config: TransformerConfig) -> None:
    """NV-Embed: cross-attention to learnt latents, every head as wide as the model, then a gated block four times as wide."""
    hidden = config.hidden_size
    inner = LATENT_HEADS * hidden
    out.matrix(None, "latents", "output", LATENTS, hidden)
    for name in ("latent_attn_norm", "latent_context_norm", "latent_ffn_norm"):
        out.norm(None, name, hidden, bias=True)
    out.matrix(None, "latent_attn_q", "output", inner, hidden)
    out.matrix(None, "latent_attn_kv", "output", 2 * inner, hidden)
    out.matrix(None, "latent_attn_out", "output", hidden, inner)
    out.matrix(None, "latent_ffn_up", "output", 8 * hidden, hidden)
    out.matrix(None, "latent_ffn_down", "output", hidden, 4 * hidden)
    out.vector(None, "latent_ffn_bias", 9 * hidden, part="output")
