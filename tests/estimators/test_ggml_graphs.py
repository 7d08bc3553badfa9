"""Recorded graphs against buffers that a real llama.cpp reserved, and what is not in the records."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from willitrun import load_catalog
from willitrun.estimators.ggml_graphs import GRAPHS, block_names, graph_number, graph_plan, shape_key
from willitrun.estimators.ggml_widths import layer_kind, rotates
from willitrun.kernels.ggml_walk import walk_graph
from willitrun.records.models import TransformerConfig

FILE = Path(__file__).parents[1] / "vectors" / "llamacpp_loads.csv"
MIB = 2**20
LLAMA = TransformerConfig(
    model_type="llama",
    num_hidden_layers=32,
    hidden_size=4096,
    intermediate_size=14336,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=128256,
)


def _plain_loads(kind: str = "") -> list[dict[str, str]]:
    """Loads with one sequence, a cache of one type (float16) and no window, where cells are the context."""
    lines = [line for line in FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return [row for row in rows if not row["n_seq_max"] and row["type_k"] == kind and row["n_ctx"] != "1000"]


def _config(model: str) -> TransformerConfig:
    config = load_catalog().models[model].transformer
    assert config is not None
    return config


def test_walks_are_what_a_real_allocator_reserved() -> None:
    exact = walked = 0
    for row in _plain_loads():
        config = _config(row["model"])
        if config.is_encoder_only or config.sliding_window or config.attention_chunk_size:
            continue
        plan = graph_plan(config, card=bool(row["devices"]), flash=row["flash"] == "1")
        assert plan is not None, row["model"]
        walked += 1
        size = walk_graph(plan, int(row["n_ubatch"]), int(row["n_ctx"]))
        exact += abs(size / MIB - float(row["compute_mib"])) < 0.0001
    assert walked > 200
    assert exact == walked


def test_rotations_of_a_quantized_cache_are_walked() -> None:
    exact = walked = turned = 0
    for row in _plain_loads("8"):
        config = _config(row["model"])
        if config.is_encoder_only or config.sliding_window or config.attention_chunk_size:
            continue
        plan = graph_plan(config, card=bool(row["devices"]), flash=True, rotated="kv")
        assert plan is not None, row["model"]
        walked += 1
        turned += rotates(config)
        size = walk_graph(plan, int(row["n_ubatch"]), int(row["n_ctx"]))
        exact += abs(size / MIB - float(row["compute_mib"])) < 0.0001
    assert walked > turned > 20
    assert exact == walked


def test_other_widths_of_a_recorded_architecture() -> None:
    # Llama 3.1 70B, one device, 8,192 cells, flash attention: logits of 512 tokens and the stream below them.
    config = LLAMA.model_copy(
        update={
            "num_hidden_layers": 80,
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_attention_heads": 64,
        }
    )
    plan = graph_plan(config, card=True, flash=True)
    assert plan is not None
    assert walk_graph(plan, 512, 8192) == (128256 + 8192) * 512 * 4


def test_an_architecture_of_another_name_has_the_same_graph() -> None:
    mistral = LLAMA.model_copy(update={"model_type": "mistral"})
    found, expected = (graph_plan(each, card=True, flash=True) for each in (mistral, LLAMA))
    assert found is not None
    assert expected is not None
    assert (found.start, found.blocks, found.order) == (expected.start, expected.blocks, expected.order)


@pytest.mark.parametrize(
    "config",
    [
        LLAMA.model_copy(update={"model_type": "t5"}),
        LLAMA.model_copy(update={"num_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1}),
        LLAMA.model_copy(update={"layer_types": ("mamba", "full_attention")}),
    ],
)
def test_graphs_that_were_not_recorded_are_not_guessed(config: TransformerConfig) -> None:
    assert graph_plan(config, card=True, flash=True) is None


def test_plans_are_numbered_once() -> None:
    number = graph_number(LLAMA)
    assert number == graph_number(LLAMA.model_copy()) > 0
    assert GRAPHS.plan(number, card=True, flash=True) is GRAPHS.plan(number, card=True, flash=True)


def test_names_of_blocks_say_what_lies_around_and_what_still_comes() -> None:
    assert block_names(["a", "b", "a"]) == [">a>b>a", "a>b>a>", "b>a>>"]
    assert layer_kind(_config("mixtral-8x7b"), 0) == "full_attention+moe"
    assert shape_key(LLAMA) == "llama:full_attention"
    assert layer_kind(_config("smollm3-3b"), 3) == "full_attention+nope"
    assert shape_key(_config("nemotron-3-super-120b-a12b")).endswith(",latent-experts")
    assert shape_key(_config("embeddinggemma-300m")).endswith(",embeds")
