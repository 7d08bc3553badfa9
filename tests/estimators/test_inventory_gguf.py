"""What llama.cpp's converters write, and the types that the quantiser gives it, against files that loaders read."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from willitrun import Workload, describe_model, estimate_memory
from willitrun.estimators.inventory import tensor_inventory
from willitrun.estimators.inventory_cache import kv_layout
from willitrun.estimators.inventory_formats import era_of, quantiser_spread, weight_groups
from willitrun.estimators.inventory_gguf import loaded_config, mix_context, moved_tensors, stored_tensors
from willitrun.kernels.kv_cells import cells_cache
from willitrun.records.models import TransformerConfig
from willitrun.records.recipes import Quantization

TESTS = Path(__file__).resolve().parents[1]
VECTORS = tomllib.loads((TESTS / "vectors" / "gguf_types.toml").read_text(encoding="utf-8"))
RECORDS = tomllib.loads((TESTS.parent / "catalogs" / "quantizations.toml").read_text(encoding="utf-8"))
QUANTIZATIONS = {entry["id"]: Quantization(**entry) for entry in RECORDS["quantization"]}
UNITS = {"GiB": 2**30, "MiB": 2**20}


def config_of(model_type: str, **fields: Any) -> TransformerConfig:
    plain: dict[str, Any] = {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "vocab_size": 32000,
    }
    return TransformerConfig(model_type=model_type, **(plain | fields))


MLA = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}


@pytest.mark.parametrize("case", VECTORS["case"], ids=lambda case: case["id"])
def test_types_equal_what_loaders_print(case: dict[str, Any]) -> None:
    groups = weight_groups(
        TransformerConfig(**VECTORS["config"][case["config"]]),
        QUANTIZATIONS[case["quantization"]],
        container="gguf",
        imatrix=case["imatrix"],
        era=case["era"],
        native=case.get("native"),
    )
    assert {kind: count for kind, count in groups.formats.items() if kind != "f32"} == case["types"]
    unit = UNITS[case["size_unit"]]
    # A loader may add its rope factors; half a step of print.
    assert abs(groups.file_bytes - case["size"] * unit) <= 0.5 * 10 ** -case["decimals"] * unit + 1024


def test_up_projection_of_latent_attention_was_whole_until_april_2025() -> None:
    config = config_of("deepseek_v2", **MLA)
    before = {group.role: group for group in stored_tensors(config, "2024")}
    since = {group.role: group for group in stored_tensors(config, "2025")}
    assert "attn_k_b" not in before
    assert "attn_kv_b" not in since
    whole = before["attn_kv_b"]
    assert (whole.width, whole.rows, whole.stack) == (512, 16 * 256, 1)
    assert whole.elements == since["attn_k_b"].elements + since["attn_v_b"].elements
    assert moved_tensors(config, "2025")
    assert not moved_tensors(config_of("llama"), "2025")


def test_a_model_of_2024_has_files_of_both_layouts() -> None:
    # 128 columns of a head are no whole blocks of 256: Q5_0 instead of Q4_K.
    mix = QUANTIZATIONS["q4_k_m"]
    config = config_of("deepseek_v2", **MLA)
    assert era_of(date(2024, 12, 26)) == "2025"
    old = quantiser_spread(config, mix, imatrix=None, released=date(2024, 12, 26), native=None)
    new = quantiser_spread(config, mix, imatrix=None, released=date(2025, 8, 21), native=None)
    assert old[0] < old[1]
    assert new[0] == new[1] == old[1]


def test_minicpm3_keeps_its_projection_and_caches_every_head() -> None:
    config = config_of("minicpm3", q_lora_rank=768, **(MLA | {"kv_lora_rank": 256}))
    assert "attn_kv_b" in {group.role for group in stored_tensors(config, "2026")}
    layout = kv_layout(config)
    # 16 layers x 16 heads x (192 + 128) elements x 2 bytes.
    assert cells_cache(layout, 256).item() == 256 * 16 * 16 * (192 + 128) * 2
    assert not layout.latent


def test_baichuan_is_taken_apart() -> None:
    stored = {group.role: group for group in stored_tensors(config_of("baichuan"))}
    assert "attn_qkv" not in stored
    assert {stored[role].rows for role in ("attn_q", "attn_k", "attn_v")} == {2048}
    whole = sum(group.elements for group in tensor_inventory(config_of("baichuan")))
    assert sum(group.elements for group in stored.values()) == whole


@pytest.mark.parametrize(("model_type", "dropped"), [("bert", 0), ("xlm-roberta", 2), ("roberta", 2)])
def test_encoders_lose_pooler_and_first_positions(model_type: str, dropped: int) -> None:
    config = config_of(model_type, max_position_embeddings=514)
    stored = {group.role: group for group in stored_tensors(config)}
    assert not {"pooler", "pooler_bias"} & set(stored)
    assert stored["position_embd"].rows == 514 - dropped


@pytest.mark.parametrize(("model_type", "kept"), [("glm4_moe", True), ("qwen3_moe", False)])
def test_prediction_layers_count_where_the_file_holds_them(model_type: str, kept: bool) -> None:
    config = config_of(
        model_type,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=512,
        num_nextn_predict_layers=1,
    )
    groups = stored_tensors(config)
    context = mix_context(config, groups, era="2025", imatrix=False, raised=frozenset(), native_experts=None)
    assert context.n_layers == 16 + kept
    sizes = weight_groups(config, QUANTIZATIONS["q8_0"], container="gguf")
    # Loaders skip the layer: memory does not hold what the file does.
    assert (sizes.file_bytes > sizes.total_bytes) is kept


def test_first_layer_without_attention_has_no_query_groups() -> None:
    """LFM2 writes KV heads by layer: the quantiser reads those of layer 0, a convolution, and finds 0."""
    kinds = ("conv", "conv", "full_attention", "conv")
    config = config_of("lfm2", num_key_value_heads=4, layer_types=kinds, mamba_d_conv=3)
    found = weight_groups(config, QUANTIZATIONS["q2_k"], container="gguf").formats
    # 4 attn_v and 4 attn_output and 16 ffn_down Q3_K; none of the values Q4_K in spite of four queries each.
    assert found["q3_k"] == 24
    assert "q4_k" not in found
    plain = weight_groups(config_of("llama", num_key_value_heads=4), QUANTIZATIONS["q2_k"], container="gguf")
    assert plain.formats["q4_k"] == 16


def test_windows_that_llama_cpp_does_not_read_are_cached_whole() -> None:
    window = {"sliding_window": 4096, "layer_types": ("sliding_attention",), "num_key_value_heads": 8}
    mistral, gemma = (config_of(name, **window) for name in ("mistral", "gemma2"))
    assert kv_layout(loaded_config(mistral)).window_tokens == 0
    assert kv_layout(loaded_config(mistral)).full_k == 16 * 8 * 128
    assert loaded_config(gemma) is gemma
    request = {"workload": Workload(context_tokens=32768, prompt_tokens=1, output_tokens=1)}
    sizes = [
        estimate_memory(
            "mistral-7b-v0.1", "rtx-4090", **request, quantization=kind, runtime=name
        ).kv_cache_bytes.best
        for kind, name in (("q4_k_m", "llama.cpp"), ("awq-int4", "vllm"))
    ]
    # 32 layers of 8 heads of 128, keys and values in two bytes.
    assert sizes[0] == 32768 * 32 * 2 * 8 * 128 * 2
    assert sizes[1] < sizes[0] / 2


def test_rows_without_a_token_may_be_cut() -> None:
    # Load logs of Gemma 3 4B in Q4_K_M: 2,368.31 MiB with 262,208 rows (Unsloth's file, whose configuration names them).
    model = describe_model("gemma-3-4b")
    assert model.transformer is not None
    mix = QUANTIZATIONS["q4_k_m"]
    least, most = quantiser_spread(model.transformer, mix, imatrix=None, released=model.released, native=None)
    assert round(most / 2**20, 2) == 2368.31
    assert most - least == 64 * 2560 // 256 * 210
