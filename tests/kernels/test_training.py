"""Training states and activations."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.training import (
    OPTIMIZER_BYTES,
    TrainingBlock,
    block_activation_bytes,
    core_attention_bytes,
    logits_activation_bytes,
    lora_parameters,
    model_activation_bytes,
    training_states,
)

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def _rows() -> list[dict[str, str]]:
    text = (VECTORS / "training.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["id"])
def test_states_match_the_closed_form(row: dict[str, str]) -> None:
    states = training_states(
        int(row["trained"]),
        optimizer=row["optimizer"],
        zero_stage=int(row["zero_stage"]),
        ranks=int(row["ranks"]),
    )
    assert states.device_total.item() == int(row["bytes"]), row["derivation"]


def test_offloading_moves_states_to_the_host() -> None:
    here = training_states(10**9)
    away = training_states(10**9, offload_optimizer=True)
    assert away.host.item() == here.master.item() + here.optimizer.item()
    assert away.device_total.item() + away.host.item() == here.device_total.item()


def test_lora_trains_little_beside_a_frozen_base() -> None:
    trained = lora_parameters([4096, 1024], [4096, 4096], [32, 32], 16).item()
    assert trained == 16 * 32 * (8192 + 5120)
    states = training_states(trained, frozen_bytes=5_700_000_000)
    assert states.parameters.item() == 5_700_000_000 + 2 * trained


def test_gpt_block_of_the_recomputation_paper() -> None:
    # s b h (34 + 5 a s / h) with t = 1; GPT-3 175B: s 2048, h 12288, a 96.
    block = TrainingBlock(12288, 4 * 12288, 12288, 12288, 96, gated=False, dropout=True)
    size = block_activation_bytes(block, 2048, batch=1, flash_attention=False).item()
    assert size == 2048 * (34 * 12288 + 5 * 96 * 2048)
    sharded = block_activation_bytes(
        block, 2048, batch=1, tensor=8, sequence_parallel=True, flash_attention=False
    ).item()
    assert sharded == size // 8
    partly = block_activation_bytes(block, 2048, batch=1, tensor=8, flash_attention=False).item()
    assert partly == 2048 * (10 * 12288 + 24 * 12288 // 8 + 5 * 96 * 2048 // 8)


def test_recomputation_modes_are_ordered() -> None:
    block = TrainingBlock(4096, 14336, 4096, 1024, 32)
    each = block_activation_bytes(block, 4096, batch=2, flash_attention=False)
    scores = core_attention_bytes(block, 4096, batch=2, flash_attention=False)
    assert scores.item() == 2 * 4096 * 32 * 4096 * 4
    sizes = [
        model_activation_bytes(
            each, 4096, batch=2, hidden=4096, layers=32, checkpointing=mode, selective_bytes=scores
        ).item()
        for mode in ("none", "selective", "full")
    ]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(ValueError, match="checkpointing"):
        model_activation_bytes(each, 1, batch=1, hidden=1, layers=1, checkpointing="some")


def test_selective_recomputation_leaves_34_bytes_of_a_gpt_block() -> None:
    """Korthikanti et al. (2022), table 2: ``34 s b h / t`` with sequence parallelism, whatever the context."""
    block = TrainingBlock(12288, 4 * 12288, 12288, 12288, 96, gated=False, dropout=True)
    for tensor in (1, 8):
        each = block_activation_bytes(
            block, 2048, batch=1, tensor=tensor, sequence_parallel=True, flash_attention=False
        )
        core = core_attention_bytes(block, 2048, batch=1, tensor=tensor, flash_attention=False)
        kept = model_activation_bytes(
            each, 2048, batch=1, hidden=12288, layers=96, checkpointing="selective", selective_bytes=core
        )
        assert kept.item() == 96 * 34 * 2048 * 12288 // tensor


def test_fused_cross_entropy_keeps_no_logits() -> None:
    assert logits_activation_bytes(2048, batch=4, vocabulary=128256, fused_cross_entropy=True).item() == 0
    whole = logits_activation_bytes(2048, batch=4, vocabulary=128256).item()
    assert whole == 2048 * 4 * 128256 * 10


@given(
    st.integers(1, 10**12),
    st.sampled_from(sorted(OPTIMIZER_BYTES)),
    st.integers(0, 2),
    st.integers(1, 512),
)
def test_sharding_further_never_takes_more(count: int, optimizer: str, stage: int, ranks: int) -> None:
    less = training_states(count, optimizer=optimizer, zero_stage=stage, ranks=ranks).device_total
    more = training_states(count, optimizer=optimizer, zero_stage=stage + 1, ranks=ranks).device_total
    assert more <= less


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=6), st.integers(0, 3))
def test_arrays_and_scalars_agree(counts: list[int], stage: int) -> None:
    together = training_states(np.array(counts, dtype=np.int64), zero_stage=stage, ranks=8).device_total
    assert together.tolist() == [
        training_states(count, zero_stage=stage, ranks=8).device_total.item() for count in counts
    ]
