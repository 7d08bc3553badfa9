"""The tensors of attention over compressed keys (DeepSeek V4), and of residual streams that are mixed (hyper-connections)."""

from __future__ import annotations

from willitrun.estimators.inventory_blocks import Collector, required
from willitrun.records.models import TransformerConfig

__all__ = ["add_compressed_attention", "add_hyper_connections", "add_hyper_head", "compress_ratio"]

OVERLAPPED = 4
"""The ratio whose blocks overlap, and whose layers choose among them with an indexer."""


def compress_ratio(config: TransformerConfig, layer: int) -> int:
    """Tokens that become one cell of a layer behind its window; 0 where there is none.

    Examples
    --------
    >>> config = TransformerConfig(model_type="deepseek_v4", num_hidden_layers=4, hidden_size=64, vocab_size=10,
    ...     compress_ratios=(0, 4, 128))
    >>> [compress_ratio(config, layer) for layer in range(4)]
    [0, 4, 128, 0]
    """
    ratios = config.compress_ratios or ()
    return ratios[layer] if layer < len(ratios) else 0


def add_compressed_attention(out: Collector, config: TransformerConfig, layer: int) -> None:
    """One head of keys that are values, too; outputs come together in groups of low rank."""
    hidden, heads = config.hidden_size, required(config, "num_attention_heads")
    width, rank = required(config, "head_dim"), required(config, "q_lora_rank")
    groups, narrow = required(config, "o_groups"), required(config, "o_lora_rank")
    out.matrix(layer, "attn_q_a", "attention", rank, hidden)
    out.norm(layer, "attn_q_a_norm", rank)
    out.matrix(layer, "attn_q_b", "attention", heads * width, rank)
    out.matrix(layer, "attn_kv", "attention", width, hidden)
    out.norm(layer, "attn_kv_norm", width)
    out.vector(layer, "attn_sinks", heads)
    out.matrix(layer, "attn_output_a", "attention", narrow, heads * width // groups, groups)
    out.matrix(layer, "attn_output_b", "attention", hidden, groups * narrow)
    ratio = compress_ratio(config, layer)
    if not ratio:
        return
    _add_compressor(out, config, layer, "attn_compressor", width, ratio)
    if ratio != OVERLAPPED:
        return
    count, side = required(config, "index_n_heads"), required(config, "index_head_dim")
    out.matrix(layer, "indexer_proj", "attention", count, hidden)
    out.matrix(layer, "indexer_q_b", "attention", count * side, rank)
    _add_compressor(out, config, layer, "indexer_compressor", side, ratio)


def _add_compressor(
    out: Collector, config: TransformerConfig, layer: int, role: str, width: int, ratio: int
) -> None:
    wide = width * (2 if ratio == OVERLAPPED else 1)
    for name in ("kv", "gate"):
        out.matrix(layer, f"{role}_{name}", "attention", wide, config.hidden_size)
    out.vector(layer, f"{role}_ape", ratio * wide, "attention")
    out.norm(layer, f"{role}_norm", width)


def add_hyper_connections(out: Collector, config: TransformerConfig, layer: int) -> None:
    """Weights that mix the streams before and behind each of a layer's two blocks."""
    streams = required(config, "hc_mult")
    mixes = (2 + streams) * streams
    for block in ("attn", "ffn"):
        out.matrix(layer, f"hc_{block}_fn", "norm", mixes, streams * config.hidden_size)
        out.vector(layer, f"hc_{block}_base", mixes)
        out.vector(layer, f"hc_{block}_scale", 3)


def add_hyper_head(out: Collector, config: TransformerConfig, layer: int | None) -> None:
    """Weights that put the streams together behind the last layer."""
    streams = required(config, "hc_mult")
    out.matrix(layer, "hc_head_fn", "norm", streams, streams * config.hidden_size)
    out.vector(layer, "hc_head_base", streams)
    out.vector(layer, "hc_head_scale", 1)
