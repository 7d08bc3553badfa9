"""Peaks of transformers under eager PyTorch: optimum-benchmark runs and Qwen's own speed tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.memory.configurations import config_of, models
from accuracy.memory.formats import quantizations
from willitrun.errors import WillItRunError
from willitrun.estimators.inventory_cache import feed_forward_width, kv_layout
from willitrun.estimators.inventory_formats import weight_groups
from willitrun.kernels.activations import eager_transformer_peak
from willitrun.kernels.kv_pages import dynamic_cache
from willitrun.records.models import TransformerConfig

__all__ = ["Peak", "score"]

MB, GB = 10**6, 10**9
MIB, GIB = 2**20, 2**30

# Checkpoints of the tables that stand for an architecture of the fact sheet.
_SHAPES = {
    "llama-2-7b": (32, 4096, 11008, 32, 32, 32000),
    "llama-7b": (32, 4096, 11008, 32, 32, 32000),
    "llama-2-13b": (40, 5120, 13824, 40, 40, 32000),
    "llama-13b": (40, 5120, 13824, 40, 40, 32000),
    "llama-30b": (60, 6656, 17920, 52, 52, 32000),
    "llama-65b": (80, 8192, 22016, 64, 64, 32000),
    "llama-2-70b": (80, 8192, 28672, 64, 8, 32000),
}


@dataclass(frozen=True)
class Peak:
    """One measurement and the prediction of weights + cache + activations [bytes]."""

    row: str
    domain: str
    model: str
    metric: str
    measured_bytes: float
    predicted_bytes: int
    weights_bytes: int
    tokens: int
    sequences: int
    devices: int
    run: str = ""
    """Source and settings, which the metrics of one run share."""

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured_bytes / self.predicted_bytes


def _llama(name: str) -> TransformerConfig | None:
    plain = name.lower().rpartition("/")[2].removesuffix("-hf").removesuffix("-gptq").removesuffix("-awq")
    shape = _SHAPES.get(plain)
    if shape is None:
        return None
    layers, hidden, inner, heads, kv_heads, vocabulary = shape
    return TransformerConfig(
        model_type="llama",
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
    )


def _by_name(path: Path) -> dict[str, TransformerConfig]:
    found = {}
    for row in models(path):
        try:
            config = config_of(row)
        except ValueError:
            continue
        if config is not None:
            found[row["id"].rpartition("/")[2].lower()] = config
    return found


_FORMATS = {"bf16": "bf16", "fp8": "fp8", "awq": "awq-int4", "awq-int4": "awq-int4", "gptq-int4": "gptq-int4"}
_FORMATS |= {"gptq-int8": "gptq-int8", "gptq": "gptq-int4", "none": "f16", "bnb": "nf4-single"}


def score(path: Path, facts: Path) -> Iterator[Peak]:
    """Score the rows of ``mem_other.csv`` that transformers produced."""
    known, configs = quantizations(), _by_name(facts)
    for _, row in pd.read_csv(path).iterrows():
        if row.evidence != "measured" or not str(row.domain).startswith("llm/"):
            continue
        fields = json.loads(row.config) if isinstance(row.config, str) else {}
        if "optimum" in row.domain:
            found = _optimum(row, fields, known)
        elif "speed benchmark" in row.domain:
            found = _table(row, fields, known, configs)
        else:
            continue
        if found is not None:
            yield found


def _optimum(row: Any, fields: dict[str, str], known: Any) -> Peak | None:
    config = _llama(str(row.model))
    if config is None:
        return None
    sequences = int(fields.get("benchmark.input_shapes.batch_size", "1"))
    prompt = int(fields.get("benchmark.input_shapes.sequence_length", "256"))
    new = int(fields.get("benchmark.new_tokens", "0") or 0)
    scheme = fields.get("backend.quantization_scheme", "none").lower()
    if scheme not in _FORMATS:
        return None
    tokens = prompt if row.metric.startswith("forward") else prompt + new
    devices = str(row.gpu).count("NVIDIA")
    return _peak(row, config, known[_FORMATS[scheme]], prompt, tokens, sequences, MB, devices, True)


def _table(
    row: Any, fields: dict[str, str], known: Any, configs: dict[str, TransformerConfig]
) -> Peak | None:
    name = str(fields.get("Model", row.model)).lower()
    config = configs.get(name) or configs.get(name.removesuffix("-instruct"))
    scheme = str(fields.get("Quantization", "")).lower()
    length = fields.get("Input Length") or fields.get("Input length")
    if config is None or scheme not in _FORMATS or length is None:
        return None
    prompt = int(length)
    unit = GIB if row.unit == "GB" else MIB  # printed "GB" and "MB", computed with powers of 1024
    devices = int(fields.get("GPU Num", "1"))
    everything = "Qwen2 " in row.domain
    return _peak(row, config, known[_FORMATS[scheme]], prompt, prompt + 2048, 1, unit, devices, everything)


def _peak(
    row: Any,
    config: TransformerConfig,
    quantization: Any,
    prompt: int,
    tokens: int,
    sequences: int,
    unit: int,
    devices: int,
    all_logits: bool,
) -> Peak | None:
    try:
        weights = weight_groups(config, quantization).total_bytes
        layout = kv_layout(config)
    except WillItRunError:
        return None
    old = "optimum" in str(row.domain) and str(row.metric).startswith("generate")
    cache = dynamic_cache(layout, tokens, sequences=sequences, previous_step=old).item()
    live = eager_transformer_peak(
        prompt,
        sequences=sequences,
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        feed_forward=feed_forward_width(config),
        heads=config.num_attention_heads or 1,
        all_logits=all_logits,
    ).item()
    measured = float(row.value) * unit
    return Peak(
        row.row_id,
        row.domain,
        str(row.model),
        row.metric,
        measured,
        weights + (max(cache, cache // 2 + live) if old else cache + live),
        weights,
        tokens,
        sequences,
        devices,
        f"{row.source_url} {row.model} {row.config}",
    )
