"""Configs in words of their own, against records whose sums over tensors equal the stored counts."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import CorruptCheckpointError, UnsupportedArchitectureError, describe_model, load_catalog
from willitrun.estimators.inventory import parameters
from willitrun.estimators.inventory_cache import kv_layout
from willitrun.records.models import TransformerConfig

NAS: dict[str, Any] = {
    "model_type": "nemotron-nas",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "vocab_size": 128256,
    "intermediate_size": None,
    "num_key_value_heads": None,
}
MULTIPLES = {2816: 0.5, 5632: 1.0, 7168: 1.3125, 14336: 2.625, 17920: 3.28125, 28672: 5.25}


def _config(model: str) -> TransformerConfig:
    config = load_catalog().models[model].transformer
    assert config is not None
    return config


def _described(config: dict[str, Any]) -> TransformerConfig:
    found = describe_model(config).transformer
    assert found is not None
    return found


def _same(found: TransformerConfig, model: str) -> None:
    expected = _config(model)
    assert parameters(found) == parameters(expected)
    assert kv_layout(found) == kv_layout(expected)


def _blocks() -> list[dict[str, Any]]:
    expected = _config("llama-3.3-nemotron-super-49b-v1")
    return [
        {
            "attention": {"no_op": True}
            if expected.layer_type(layer) == "mlp"
            else {"no_op": False, "n_heads_in_group": 8},
            "ffn": {"ffn_mult": MULTIPLES[size], "no_op": False},
        }
        for layer, size in enumerate(expected.layer_intermediate_sizes or ())
    ]


def test_blocks_that_a_search_chose() -> None:
    _same(_described({**NAS, "block_configs": _blocks()}), "llama-3.3-nemotron-super-49b-v1")


def test_blocks_that_are_one_matrix_are_refused() -> None:
    blocks = [*_blocks()[:-1], {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}}]
    with pytest.raises(UnsupportedArchitectureError, match="one matrix"):
        describe_model({**NAS, "block_configs": blocks})


@pytest.mark.parametrize("blocks", [None, [], [{}] * 80, [7] * 80, [{"attention": {}, "ffn": 3}] * 80])
def test_blocks_that_say_nothing_are_refused(blocks: object) -> None:
    with pytest.raises(CorruptCheckpointError):
        describe_model({**NAS, "block_configs": blocks})


def test_steps_of_two_counts_of_heads() -> None:
    kinds = ["full_attention", *["sliding_attention"] * 3]
    found = _described(
        {
            "model_type": "step3p5",
            "hidden_size": 4096,
            "intermediate_size": 11264,
            "num_hidden_layers": 45,
            "num_attention_heads": 64,
            "num_attention_groups": 8,
            "head_dim": 128,
            "vocab_size": 128896,
            "sliding_window": 512,
            "layer_types": [kinds[layer % 4] for layer in range(48)],
            "attention_other_setting": {"attention_type": "sliding_attention", "num_attention_heads": 96},
            "moe_layers_enum": ",".join(str(layer) for layer in range(3, 48)),
            "moe_num_experts": 288,
            "moe_top_k": 8,
            "moe_intermediate_size": 1280,
            "share_expert_dim": 1280,
            "num_nextn_predict_layers": 3,
        }
    )
    _same(found, "step-3.5-flash")


def test_two_layers_in_one() -> None:
    found = _described(
        {
            "model_type": "longcat_flash",
            "hidden_size": 6144,
            "ffn_hidden_size": 12288,
            "expert_ffn_hidden_size": 2048,
            "num_layers": 28,
            "num_attention_heads": 64,
            "kv_lora_rank": 512,
            "q_lora_rank": 1536,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "moe_topk": 12,
            "n_routed_experts": 512,
            "zero_expert_num": 256,
            "vocab_size": 131072,
        }
    )
    _same(found, "longcat-flash")


def test_layers_that_look_at_a_picture() -> None:
    found = _described(
        {
            "model_type": "mllama",
            "text_config": {
                "model_type": "mllama_text_model",
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 40,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
                "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
            },
            "vision_config": {
                "model_type": "mllama_vision_model",
                "image_size": 560,
                "patch_size": 14,
                "max_num_tiles": 4,
            },
        }
    )
    _same(found.model_copy(update={"vision": _config("llama-3.2-11b-vision").vision}), "llama-3.2-11b-vision")


def test_compressed_keys() -> None:
    found = _described(
        {
            "model_type": "deepseek_v4",
            "num_hidden_layers": 43,
            "hidden_size": 4096,
            "num_attention_heads": 64,
            "num_key_value_heads": 1,
            "head_dim": 512,
            "vocab_size": 129280,
            "sliding_window": 128,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 2048,
            "q_lora_rank": 1024,
            "qk_rope_head_dim": 64,
            "o_groups": 8,
            "o_lora_rank": 1024,
            "hc_mult": 4,
            "num_hash_layers": 3,
            "index_head_dim": 128,
            "index_n_heads": 64,
            "index_topk": 512,
            "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],
        }
    )
    _same(found, "deepseek-v4-flash")


@pytest.mark.parametrize("ratios", [None, "4", [4, -1], [4, "x"], [2.5]])
def test_ratios_that_are_no_numbers_are_refused(ratios: object) -> None:
    config = {
        "model_type": "deepseek_v4",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "compress_ratios": ratios,
    }
    with pytest.raises(CorruptCheckpointError):
        describe_model(config)


STEP: dict[str, Any] = {
    "model_type": "step3p5",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_attention_groups": 2,
    "vocab_size": 100,
    "moe_num_experts": 8,
    "moe_top_k": 2,
    "moe_intermediate_size": 32,
    "share_expert_dim": 32,
}
GLM: dict[str, Any] = {
    "model_type": "glm5_next_text",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 45,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "vocab_size": 154880,
    "n_routed_experts": 288,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 0,
    "qk_nope_head_dim": 256,
    "v_head_dim": 256,
    "index_head_dim": 128,
    "index_n_heads": 32,
    "index_topk": 2048,
    "index_kpool": 16,
    "hc_mult": 4,
    "num_nextn_predict_layers": 1,
}


@pytest.mark.parametrize(
    ("said", "dense"),
    [
        ({}, 3),
        ({"moe_layers_enum": "2,3,4,5,6,7,8"}, 2),
        ({"moe_layers_enum": " 2, 3, 4, 5, 6, 7 "}, 2),
        ({"moe_layers_enum": [1, 2, 3, 4, 5, 6, 7]}, 1),
        ({"mlp_layer_types": [*["dense"] * 4, *["sparse"] * 4, "dense"]}, 4),
        ({"mlp_layer_types": ["sparse"] * 8}, 0),
        ({"first_k_dense_replace": 5}, 5),
    ],
)
def test_which_layers_of_step_route(said: dict[str, Any], dense: int) -> None:
    assert _described({**STEP, **said}).first_k_dense_replace == dense


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"moe_layers_enum": "3-44"}, CorruptCheckpointError),
        ({"moe_layers_enum": "9" * 5000}, CorruptCheckpointError),
        ({"moe_layers_enum": [3, "4"]}, CorruptCheckpointError),
        ({"moe_layers_enum": "1,3,5,7"}, UnsupportedArchitectureError),
        ({"mlp_layer_types": ["dense", "sparse"] * 4}, UnsupportedArchitectureError),
    ],
)
def test_layers_that_cannot_be_told_apart_are_refused(said: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        describe_model({**STEP, **said})


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"mlp_layer_types": [*["dense"] * 3, *["sparse"] * 42], "linear_num_heads": 64},
        {
            "layer_types": [
                "linear_attention" if (at + 1) % 4 else "deepseek_sparse_attention" for at in range(45)
            ],
            "linear_attn_config": {"num_heads": 64, "head_dim": 128, "short_conv_kernel_size": 4},
        },
    ],
)
def test_glm_of_pooled_keys(said: dict[str, Any]) -> None:
    expected = _config("glm-5.3-flash")
    found = _described({**GLM, **said})
    _same(found.model_copy(update={"vision": expected.vision}), "glm-5.3-flash")


def test_ling_of_lightning_attention_is_not_taken_for_its_successor() -> None:
    config = {
        "model_type": "bailing_hybrid",
        "hidden_size": 2560,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_hidden_layers": 42,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 157184,
        "num_experts": 512,
        "num_experts_per_tok": 8,
        "num_shared_experts": 1,
        "first_k_dense_replace": 2,
        "kv_lora_rank": 512,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "head_dim": 128,
        "group_norm_size": 1,
        "linear_silu": True,
        "layer_group_size": 6,
        "num_nextn_predict_layers": 1,
    }
    _same(_described({**config, "short_conv_kernel_size": 4}), "ling-3.0-flash")
    with pytest.raises(UnsupportedArchitectureError, match="lightning"):
        describe_model(config)
