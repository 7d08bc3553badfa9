"""Training peaks whose configuration is fully stated: Megatron runs on 8 GPUs measured for SimuMax.

Names spell the run: ``llama3_70b_l12_tp4_pp1_dp2_mbc4_cef`` is 12 layers of Llama-3-70B, tensor parallel 4 with
sequence parallelism, micro-batches of 1 x 4,096 tokens, bf16 weights, float32 gradients, a distributed AdamW,
flash attention and a fused cross entropy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from willitrun.estimators.inventory import tensor_inventory
from willitrun.kernels.training import (
    TrainingBlock,
    block_activation_bytes,
    logits_activation_bytes,
    training_states,
)
from willitrun.records.models import TransformerConfig

__all__ = ["Run", "score"]

GIB = 2**30
_SHAPES = {"llama3_70b": (8192, 28672, 64, 8), "llama3_405b": (16384, 53248, 128, 8)}


@dataclass(frozen=True)
class Run:
    """One training run: measured and predicted peak of a rank [bytes]."""

    row: str
    name: str
    measured_bytes: float
    predicted_bytes: int

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured_bytes / self.predicted_bytes


def _part(name: str, key: str, default: int) -> int:
    found = re.search(rf"_{key}(\d+)(?:_|$)", name)
    return int(found.group(1)) if found else default


def score(path: Path) -> Iterator[Run]:
    """Score the dense runs of ``mem_other.csv``."""
    table = pd.read_csv(path)
    for _, row in table[table.domain.str.contains("SimuMax")].iterrows():
        name = str(row.model)
        shape = next((value for key, value in _SHAPES.items() if name.startswith(key)), None)
        if shape is not None:
            yield Run(row.row_id, name, float(row.value) * GIB, _peak(name, shape))


def _peak(name: str, shape: tuple[int, int, int, int]) -> int:
    hidden, inner, heads, kv_heads = shape
    layers, tensor = _part(name, "l", 0), _part(name, "tp", 1)
    stages, data, context = _part(name, "pp", 1), _part(name, "dp", 1), _part(name, "cp", 1)
    tokens = _part(name, "seq", 4096) // context
    config = TransformerConfig(
        model_type="llama",
        num_hidden_layers=layers // stages,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=128256,
    )
    # The first stage holds the embedding but not the output matrix, and as many micro-batches as stages.
    held = sum(
        group.elements
        for group in tensor_inventory(config)
        if stages == 1 or group.role not in ("output", "output_norm")
    )
    states = training_states(-(-held // tensor), gradient_bytes=4, zero_stage=1, ranks=data * context)
    head = hidden // heads
    block = TrainingBlock(hidden, inner, hidden, kv_heads * head, heads)
    each = block_activation_bytes(block, tokens, batch=1, tensor=tensor, sequence_parallel=True).item()
    live = each * layers // stages * stages
    logits = 0
    if stages == 1:
        logits = logits_activation_bytes(
            tokens, batch=1, vocabulary=config.vocab_size, tensor=tensor, copy_bytes=4
        ).item()
    return int(states.device_total.item() + live + logits)
