"""Layers that differ one from the next, and what a model keeps beside keys and values."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, load_catalog
from willitrun.estimators.inventory import active_parameters, experts_used, parameters, tensor_inventory
from willitrun.estimators.inventory_cache import kv_layout
from willitrun.estimators.inventory_sparse import indexers_of
from willitrun.estimators.llm_models import model_row
from willitrun.records.models import TransformerConfig


def _config(model: str) -> TransformerConfig:
    config = load_catalog().models[model].transformer
    assert config is not None
    return config


@pytest.mark.parametrize(
    "model",
    [
        "llama-3.3-nemotron-super-49b-v1",
        "step-3.5-flash",
        "longcat-flash",
        "ling-3.0-flash",
        "rwkv7-2.9b-world",
        "deepseek-v4-flash",
        "deepseek-v4-pro",
        "llama-3-1-nemotron-ultra-253b-v1",
    ],
)
def test_sums_over_tensors_are_the_stored_count(model: str) -> None:
    assert parameters(_config(model), prediction_layers=True) == load_catalog().models[model].parameters


def test_layers_that_a_search_chose() -> None:
    config = _config("llama-3.3-nemotron-super-49b-v1")
    groups = tensor_inventory(config)
    attended = {layer for group in groups if group.role == "attn_q" for layer in group.layers}
    assert len(attended) == 49
    assert {group.rows for group in groups if group.role == "ffn_up"} == {
        2816, 5632, 7168, 14336, 17920, 28672
    }  # fmt: skip
    # Eight heads of 128, keys and values, in the layers that attend.
    assert kv_layout(config).full_k == 49 * 8 * 128


def test_layers_that_read_a_picture_keep_what_they_read() -> None:
    layout = kv_layout(_config("llama-3.2-11b-vision"))
    assert layout.full_k == 32 * 8 * 128
    assert layout.cross_k == 8 * 8 * 128
    assert layout.cross_positions == 4 * 1601


def test_windowed_layers_with_more_heads() -> None:
    config = _config("step-3.5-flash")
    queries = [group for group in tensor_inventory(config) if group.role == "attn_q"]
    rows = {group.rows: len(group.layers) for group in queries if group.part == "attention"}
    assert rows == {64 * 128: 12, 96 * 128: 33}


def test_experts_without_weights_count_half_as_many_as_with() -> None:
    config = _config("longcat-flash")
    assert experts_used(config) == 8
    assert round(active_parameters(config) / 1e9) == 28


def test_experts_of_pictures_are_not_read_for_text() -> None:
    config = _config("ernie-4.5-vl-28b-a3b")
    plain = config.model_copy(update={"vision_moe_intermediate_size": None})
    assert active_parameters(config) == active_parameters(plain)
    assert parameters(config) - parameters(plain) == 27 * 64 * (3 * 512 + 1) * 2560


def test_indexer_of_grouped_heads_lies_in_layers_that_route() -> None:
    layout = kv_layout(_config("minimax-m3"))
    assert layout.index_k == 57 * 128


def test_state_of_rwkv_does_not_grow() -> None:
    layout = kv_layout(_config("rwkv7-2.9b-world"))
    assert layout.full_k == layout.full_v == 0
    assert layout.recurrent_state == 32 * 2560 * 64
    assert layout.conv_state == 32 * 2 * 2560
    short, long = (
        assess(
            "rwkv7-2.9b-world",
            "rtx-4090",
            Workload(context_tokens=tokens),
            quantization="q8_0",
            runtime="llama.cpp",
        )
        for tokens in (2048, 65536)
    )
    assert short.memory is not None
    assert long.memory is not None
    assert short.memory.state_bytes == long.memory.state_bytes
    assert short.memory.kv_cache_bytes.best == long.memory.kv_cache_bytes.best == 0


def test_compressed_keys_grow_by_a_part_of_a_cell_for_each_token() -> None:
    layout = kv_layout(_config("deepseek-v4-flash"))
    # 21 layers of one cell for four tokens, 20 of one for 128, in whole blocks of 32; every layer has its window.
    assert layout.full_k == -(-(21 * 128 + 20 * 4) // 32) * 32
    assert layout.full_v == layout.windowed_v == 0
    assert layout.windowed_k == 43 * 512
    assert layout.window_tokens == 128
    assert layout.index_k == 21 * 32
    # Tokens and gates of blocks that are not full yet, of keys and of the indexer.
    assert layout.conv_state == 21 * 2 * 8 * 1024 + 20 * 2 * 128 * 512 + 21 * 2 * 8 * 256


def test_keys_of_an_indexer_are_pooled() -> None:
    assert kv_layout(_config("glm-5.3-flash")).index_k == -(-11 * 128 // 16 // 32) * 32


def test_whole_layers_that_a_search_left_out() -> None:
    config = _config("llama-3-1-nemotron-ultra-253b-v1")
    groups = tensor_inventory(config)
    assert sum(len(group.layers) for group in groups if group.role == "attn_norm") == 64
    assert sum(len(group.layers) for group in groups if group.role == "ffn_norm") == 81


def test_an_encoder_of_the_same_blocks_is_half_of_the_layers() -> None:
    config = _config("t5gemma-2-1b-1b")
    sizes = dict.fromkeys(("encoder", "attention", "dense_ffn"), 0)
    for group in tensor_inventory(config):
        if group.matrix and group.part in sizes:
            sizes[group.part] += group.elements
    assert sizes["encoder"] == sizes["attention"] + sizes["dense_ffn"]


@pytest.mark.parametrize(
    ("model", "layers", "selected", "width"),
    [
        ("glm-5", 78, 2048, 78 * 32 * 128 // 2),
        ("deepseek-v3.2", 61, 2048, 61 * 64 * 128 // 2),
        # Three layers in four keep a state; keys of sixteen tokens are pooled.
        ("glm-5.3-flash", 11, 2048, 11 * (32 * 128 // 2 // 16)),
        # The first three layers are dense.
        ("minimax-m3", 57, 2048, 57 * 4 * 128 // 2),
        # Every layer that keeps one cell of four tokens has an indexer of these cells.
        ("deepseek-v4-flash", 21, 0, 21 * (64 * 128 // 2 // 4)),
        ("deepseek-r1", 0, 0, 0),
    ],
)
def test_indexers_choose_what_a_layer_attends_to(model: str, layers: int, selected: int, width: int) -> None:
    found = indexers_of(_config(model))
    assert (found.layers, found.selected_tokens, found.width) == (layers, selected, width)


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        ("llama-3.1-8b", 0),
        ("qwen3-235b-a22b", 0),
        # 61 layers of latent attention, 58 with shared experts.
        ("deepseek-r1", 61 + 58),
        # 78 indexers, latent attention in each of these layers, 75 with shared experts.
        ("glm-5", 2 * 78 + 78 + 75),
        # A dense block beside the experts of each layer.
        ("gemma-4-26b-a4b", 30),
        # Layers of one block, 23 of which route and share.
        ("nemotron-3-nano-30b-a3b", 23),
    ],
)
def test_blocks_beside_a_mixer_and_a_feed_forward_are_counted(model: str, blocks: int) -> None:
    catalog = load_catalog()
    row = model_row(catalog.models[model], catalog.quantizations["bf16"], "safetensors", catalog)
    assert row.n_extra_blocks == blocks
