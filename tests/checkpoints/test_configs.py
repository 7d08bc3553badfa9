"""config.json: synonyms, defaults, patterns, quantization, and values that can't be."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.checkpoints import describe_model
from willitrun.checkpoints.layer_patterns import shortest_period
from willitrun.checkpoints.text_configs import class_defaults
from willitrun.errors import (
    CheckpointError,
    CorruptCheckpointError,
    UnsupportedArchitectureError,
    UnsupportedFormatError,
)
from willitrun.estimators.inventory import parameters

BASE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
S, F, L, M = "sliding_attention", "full_attention", "linear_attention", "mamba"


def text(**changes):
    config = {key: value for key, value in {**BASE, **changes}.items() if value != "absent"}
    return describe_model(config).transformer


def test_a_file_and_its_mapping_agree(store):
    path = store("config.json", BASE)
    from_file, from_mapping = describe_model(path), describe_model(BASE)
    assert from_file.transformer == from_mapping.transformer
    assert from_file.origin == path.parent.name
    assert "/" not in from_file.model_dump_json().replace("application/", "")


def test_absent_heads_default_to_the_class_and_null_heads_to_all():
    assert text(num_key_value_heads="absent").num_key_value_heads == 4
    assert text(model_type="mistral", num_key_value_heads="absent").num_key_value_heads == 8
    assert text(model_type="mistral", num_key_value_heads=None).num_key_value_heads == 4


def test_old_names_are_synonyms():
    config = describe_model(
        {
            "model_type": "gpt2",
            "n_layer": 12,
            "n_embd": 768,
            "n_head": 12,
            "vocab_size": 50257,
            "n_positions": 1024,
        }
    ).transformer
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (12, 768, 3072)
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (1024, True)


def test_multi_query_of_falcon():
    config = describe_model(
        {
            "model_type": "falcon",
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "vocab_size": 65024,
            "multi_query": True,
            "new_decoder_architecture": False,
        }
    ).transformer
    assert (config.num_key_value_heads, config.intermediate_size, config.head_dim) == (1, 4 * 4544, 64)


@pytest.mark.parametrize(
    ("changes", "pattern", "window"),
    [
        ({}, None, None),
        ({"model_type": "mistral", "sliding_window": 4096}, (S,), 4096),
        ({"model_type": "mistral", "sliding_window": None}, None, None),
        ({"model_type": "gemma2"}, (S, F), 4096),
        ({"model_type": "gemma3_text", "sliding_window": 512}, (S,) * 5 + (F,), 512),
        (
            {"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 4},
            (S, S, S, F),
            512,
        ),
        ({"model_type": "cohere2"}, (S, S, S, F), 4096),
        ({"model_type": "olmo3"}, (S, S, S, F), 4096),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, None, None),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 4096,
                "use_sliding_window": True,
                "max_window_layers": 6,
            },
            (F,) * 6 + (S,) * 2,
            4096,
        ),
        (
            {"model_type": "exaone4", "sliding_window_pattern": "LLLG", "sliding_window": 4096},
            (S, S, S, F),
            4096,
        ),
        ({"model_type": "exaone4", "sliding_window": None}, None, None),
        ({"layer_types": [F] * 8}, None, None),
        ({"layer_types": [S, F] * 4, "sliding_window": 32}, (S, F), 32),
    ],
)
def test_sliding_patterns(changes, pattern, window):
    config = text(**changes)
    assert (config.layer_types, config.sliding_window) == (pattern, window)


def test_gpt_oss_alternates_and_routes():
    config = text(
        model_type="gpt_oss", head_dim=64, num_local_experts=32, num_experts_per_tok=4, sliding_window=128
    )
    assert config.layer_types == (S, F)
    assert (config.num_experts, config.num_experts_per_tok) == (32, 4)


def test_linear_attention_interval():
    config = text(model_type="qwen3_next", full_attention_interval=4, num_experts=16, num_experts_per_tok=2)
    assert config.layer_types == (L, L, L, F)
    assert (config.linear_num_value_heads, config.linear_conv_kernel_dim) == (32, 4)


def test_nemotron_h_counts_its_pattern():
    config = text(model_type="nemotron_h", hybrid_override_pattern="M-M*ME", num_hidden_layers="absent")
    assert config.num_hidden_layers == 6
    assert config.layer_types == ("mamba", "mlp", "mamba", F, "mamba", "moe")
    assert config.mamba_d_inner == 128 * 64


def test_jamba_periods():
    config = text(model_type="jamba", attn_layer_period=8, attn_layer_offset=4)
    assert config.layer_types == (M, M, M, M, F)
    assert (config.moe_layer_interval, config.mamba_d_inner, config.mamba_dt_rank) == (2, 128, 4)


def test_lfm2_takes_two_thirds():
    config = text(model_type="lfm2", full_attn_idxs=[2, 5], block_multiple_of=16)
    assert config.layer_types == ("conv", "conv", F)
    assert config.intermediate_size == 96


def test_llama4_widths_change_places():
    config = describe_model(
        {
            "model_type": "llama4",
            "text_config": {**BASE, "model_type": "llama4_text", "intermediate_size_mlp": 256},
        }
    ).transformer
    assert (config.intermediate_size, config.moe_intermediate_size, config.n_shared_experts) == (256, 128, 1)
    assert config.layer_types == ("chunked_attention",) * 3 + (F,)


def test_gemma4_routes_only_on_request():
    assert text(model_type="gemma4_text", num_experts=8, top_k_experts=2).num_experts is None
    config = text(model_type="gemma4_text", num_experts=8, top_k_experts=2, enable_moe_block=True)
    assert (config.num_experts, config.global_head_dim) == (8, 512)


def test_nested_text_takes_class_defaults_for_all():
    model = describe_model(
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "num_hidden_layers": 34,
                "intermediate_size": 10240,
                "sliding_window": 1024,
            },
            "vision_config": {
                "hidden_size": 1152,
                "num_hidden_layers": 27,
                "patch_size": 14,
                "image_size": 896,
            },
            "torch_dtype": "bfloat16",
        }
    )
    assert model.task == "image-text-to-text"
    assert (model.transformer.num_attention_heads, model.transformer.vocab_size) == (8, 262208)
    assert model.transformer.vision.image_size == 896
    assert model.transformer.vision.parameters is None


@pytest.mark.parametrize(
    ("tower", "published"),
    [
        # google/siglip-so400m-patch14-384 without its pooling head; the tower of Qwen2.5-VL-7B without merger.
        (
            {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27,
             "intermediate_size": 4304, "patch_size": 14, "image_size": 384},
            412_442_352,
        ),
        (
            {"model_type": "clip_vision_model", "hidden_size": 1024, "num_hidden_layers": 24,
             "intermediate_size": 4096, "patch_size": 14, "image_size": 336},
            303_507_456,
        ),
    ],
)  # fmt: skip
def test_vision_towers_are_counted_by_shape(tower, published):
    config = {"model_type": "llava", "text_config": BASE, "vision_config": tower}
    model = describe_model(config)
    assert math.isclose(model.transformer.vision.parameters, published, rel_tol=0.01)
    assert "without the projector" in model.parameters_note


def test_the_outer_config_ties_the_inner_one():
    inner = {**BASE, "model_type": "qwen3_vl_text"}
    outer = {"model_type": "qwen3_vl", "text_config": inner}
    assert describe_model({**outer, "tie_word_embeddings": True}).transformer.tie_word_embeddings
    assert not describe_model({**outer, "tie_word_embeddings": False}).transformer.tie_word_embeddings


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForMaskedLM", "fill-mask"),
        ("BertModel", "feature-extraction"),
        ("BertForSequenceClassification", "feature-extraction"),
    ],
)
def test_encoders(architecture, task):
    model = describe_model({**BASE, "model_type": "bert", "architectures": [architecture]})
    assert model.task == task
    assert model.transformer.is_encoder_only


def test_rerankers_have_one_label():
    changes = {"model_type": "xlm-roberta", "architectures": ["XLMRobertaForSequenceClassification"]}
    assert describe_model({**BASE, **changes, "id2label": {"0": "LABEL_0"}}).task == "text-ranking"


def test_whisper():
    model = describe_model(
        {
            "model_type": "whisper",
            "d_model": 1280,
            "encoder_layers": 32,
            "decoder_layers": 4,
            "num_hidden_layers": 32,
            "encoder_attention_heads": 20,
            "decoder_attention_heads": 20,
            "decoder_ffn_dim": 5120,
            "encoder_ffn_dim": 5120,
            "vocab_size": 51866,
            "num_mel_bins": 128,
            "torch_dtype": "float16",
        }
    )
    assert model.task == "automatic-speech-recognition"
    assert (model.transformer.num_hidden_layers, model.transformer.encoder_layers) == (4, 32)
    assert (model.speech.num_mel_bins, model.speech.window_s, model.quantization) == (128, 30.0, "f16")
    from willitrun.estimators.inventory import parameters

    # openai/whisper-large-v3-turbo publishes 809 M.
    assert math.isclose(parameters(model.transformer), 809e6, rel_tol=0.01)


@pytest.mark.parametrize(
    ("config", "architecture", "side"),
    [
        ({"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 224, 224]}},
         "resnet50", 224),
        ({"model_type": "resnet", "depths": [3, 4, 6, 3], "layer_type": "bottleneck"}, "resnet50", 224),
        ({"model_type": "vit", "hidden_size": 768, "image_size": 384}, "vit_base_patch16_384", 384),
        ({"model_type": "deit", "hidden_size": 192}, "deit_tiny_patch16_224", 224),
        ({"model_type": "convnext"}, "convnext_tiny", 224),
        ({"model_type": "swin"}, "swin_tiny_patch4_window7_224", 224),
        ({"model_type": "dinov2", "hidden_size": 1024, "num_hidden_layers": 24, "image_size": 518},
         "vit_large_patch14_dinov2", 518),
        ({"model_type": "efficientnet", "width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224},
         "efficientnet_b0", 224),
    ],
)  # fmt: skip
def test_image_models(config, architecture, side):
    vision = describe_model(config).vision
    assert (vision.architecture, vision.image_size) == (architecture, side)


def test_an_unknown_shape_fails_closed():
    with pytest.raises(UnsupportedArchitectureError, match="no known resnet"):
        describe_model({"model_type": "resnet", "depths": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq-int4"),
        ({"quant_method": "gptq", "bits": 4}, "gptq-int4"),
        ({"quant_method": "gptq", "bits": 8}, "gptq-int8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "float-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
        ),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "exl2", "bits": 4.0}, "exl2-4.0"),
        ({"quant_method": "exl2", "bits": 4.25}, "exl2-4.25"),
        ({"group_size": 64, "bits": 4}, "mlx-4bit"),
    ],
)
def test_quantization_names(block, name):
    assert describe_model({**BASE, "quantization_config": block}).quantization == name


@pytest.mark.parametrize("block", [{"quant_method": "sorcery"}, {}, {"quant_method": "compressed-tensors"}])
def test_unknown_quantization_is_an_error_unless_empty(block):
    config = {**BASE, "quantization_config": block}
    if block:
        with pytest.raises(UnsupportedFormatError):
            describe_model(config)
    else:
        assert describe_model(config).quantization == "bf16"


@pytest.mark.parametrize(
    ("dtype", "name"), [("float16", "f16"), ("torch.bfloat16", "bf16"), ("float32", "f32")]
)
def test_dtypes(dtype, name):
    assert describe_model({**BASE, "torch_dtype": dtype}).quantization == name
    assert describe_model({**BASE, "dtype": dtype}).quantization == name


def test_an_assumed_dtype_is_flagged():
    assert "bf16 assumed" in describe_model(BASE).flags[0]


@pytest.mark.parametrize("model_type", ["llama9000", "t5", "", "\ud800", "x" * 500, 7, None, ["llama"], {}])
def test_unknown_types_fail_closed(model_type):
    with pytest.raises(CheckpointError):
        describe_model({**BASE, "model_type": model_type})


@pytest.mark.parametrize("key", ["model_type", "hidden_size", "num_hidden_layers"])
def test_missing_keys_are_named(key):
    with pytest.raises(CorruptCheckpointError, match=key) as caught:
        describe_model({name: value for name, value in BASE.items() if name != key})
    assert caught.value.code == "missing-key"


def test_types_without_a_class_must_state_everything():
    complete = {**BASE, "model_type": "internlm2"}
    assert describe_model(complete).transformer.vocab_size == 100
    with pytest.raises(CorruptCheckpointError, match="vocab_size"):
        describe_model({key: value for key, value in complete.items() if key != "vocab_size"})


@pytest.mark.parametrize("value", [-1, 0, 2**63, True, "64", 1.5, [64, 32], {}, float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"])
def test_sizes_that_cannot_be(key, value):
    with pytest.raises(CorruptCheckpointError, match=key):
        describe_model({**BASE, key: value})


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 3},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["sideways_attention"] * 8},
        {"layer_types": [["full_attention"]] * 8},
        {"layer_types": "full_attention"},
        {"hybrid_override_pattern": "M?", "model_type": "nemotron_h"},
        {"tie_word_embeddings": 1},
        {"model_type": "mixtral", "num_experts_per_tok": 9},
        {"model_type": "qwen3_moe", "mlp_only_layers": [3]},
        {"quantization_config": 7},
        {"vision_config": [1]},
        {"rope_scaling": {"factor": -1}},
        {"rope_scaling": {"factor": "eight"}},
    ],
)
def test_contradictions(changes):
    with pytest.raises(CheckpointError):
        describe_model({**BASE, **changes})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"llama"',
        b"{",
        b"\xff\xfe{}",
        b'{"model_type": "llama", "hidden_size": NaN}',
        b'{"a": ' * 70 + b"1" + b"}" * 70,
        b'{"a":' + b"[" * 100_000,
        b'{"a": 1, "a": 1}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": [' + b"{}," * 30_000 + b"{}]}",
        b" " * (5 << 20),
    ],
)
def test_bad_json(content, store):
    with pytest.raises(CorruptCheckpointError):
        describe_model(store("config.json", content))


def test_infinity_passes_where_python_wrote_it(store):
    """nvidia/Nemotron-H publishes ``"time_step_limit": [0.0, Infinity]``."""
    model = describe_model(store("config.json", json.dumps({**BASE, "time_step_limit": [0.0, math.inf]})))
    assert model.transformer.hidden_size == 64
    with pytest.raises(CorruptCheckpointError, match="hidden_size"):
        describe_model(store("config.json", json.dumps({**BASE, "hidden_size": math.inf})))


def test_model_optimizer_keeps_its_quantization_beside(store):
    store("hf_quant_config.json", {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}})
    assert describe_model(store("config.json", {**BASE, "torch_dtype": "bfloat16"})).quantization == "nvfp4"


def test_other_group_sizes_are_a_stated_doubt():
    weights = {"num_bits": 4, "type": "int", "group_size": 32}
    block = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"a": {"weights": weights}},
    }
    model = describe_model({**BASE, "quantization_config": block})
    assert model.quantization == "gptq-int4"
    assert "groups of 32" in model.flags[0]


def test_the_text_part_may_name_the_quantization():
    inner = {**BASE, "quantization_config": {"quant_method": "fp8"}}
    assert (
        describe_model({"model_type": "llava", "dtype": "bfloat16", "text_config": inner}).quantization
        == "fp8"
    )


def test_a_self_containing_mapping():
    config = dict(BASE)
    config["text_config"] = config
    with pytest.raises(CorruptCheckpointError, match="nested"):
        describe_model(config)


def test_every_class_default_describes_itself():
    """The table of defaults holds what the reader needs, for each type that it lists."""
    from willitrun.checkpoints.text_configs import read_text_config

    for model_type in class_defaults():
        if model_type in ("whisper", "nemotron_h", "dots1", "deepseek_v2", "glm4_moe", "glm4v_moe_text"):
            # These classes leave a key open that every published config states.
            continue
        config = read_text_config({}, model_type, "defaults", outer={})
        assert config.model_type


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
_KEYS = sorted(
    {key for defaults in class_defaults().values() for key in defaults}
    | {"layer_types", "quantization_config", "vision_config", "text_config", "rope_scaling", "architectures",
       "torch_dtype", "dtype", "hybrid_override_pattern", "mlp_only_layers", "id2label", "full_attn_idxs",
       "no_rope_layers", "attn_layer_indices", "architecture", "pretrained_cfg", "depths", "image_size"}
)  # fmt: skip


@given(
    model_type=st.sampled_from(
        [*sorted(class_defaults()), "vit", "resnet", "swin", "timm_wrapper", "gemma3"]
    ),
    changes=st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4),
)
def test_any_config_is_a_model_or_a_checkpoint_error(model_type, changes):
    config = {**BASE, "model_type": model_type, **changes}
    try:
        model = describe_model(config)
    except CheckpointError:
        return
    json.loads(model.model_dump_json())


@given(data=st.data())
def test_mutated_text_is_a_model_or_a_checkpoint_error(data, tmp_path_factory):
    raw = bytearray(json.dumps(BASE).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.one_of(st.sampled_from(b'0123456789{}[]",:-.eE\\\xff\0'), st.integers(0, 255)))
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_bytes(bytes(raw))
    with suppress(CheckpointError):
        describe_model(path)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12))
def test_the_shortest_period_repeats_to_the_whole(kinds):
    pattern = shortest_period(tuple(kinds))
    assert tuple(pattern[at % len(pattern)] for at in range(len(kinds))) == tuple(kinds)
    for shorter in range(1, len(pattern)):
        assert tuple(kinds[at % shorter] for at in range(len(kinds))) != tuple(kinds)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, "fp8"),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "modelopt",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
            },
            "nvfp4",
        ),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4"),
    ],
)
def test_modelopt_names_its_format(block, expected):
    model = describe_model({**BASE, "quantization_config": block})
    assert (model.quantization, model.flags) == (expected, ())


def test_modelopt_mixtures_are_flagged_or_refused():
    layers = {"a": {"quant_algo": "NVFP4"}, "b": {"quant_algo": "NVFP4"}, "c": {"quant_algo": "FP8"}}
    block = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
    model = describe_model({**BASE, "quantization_config": {**block, "quantized_layers": layers}})
    assert model.quantization == "nvfp4"
    assert any("several formats" in flag for flag in model.flags)
    for bad in (block, {**block, "quantized_layers": {"a": {"quant_algo": "W3"}}}):
        with pytest.raises(UnsupportedFormatError):
            describe_model({**BASE, "quantization_config": bad})


def test_sparse_attention_reads_the_whole_cache_row():
    ranks = {"kv_lora_rank": 512, "q_lora_rank": 768, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64}
    config = text(
        model_type="glm_moe_dsa",
        v_head_dim=128,
        layer_types=["deepseek_sparse_attention"] * BASE["num_hidden_layers"],
        **ranks,
    )
    assert config.layer_types is None


def test_a_tower_without_a_type_keeps_its_fields():
    ranks = {"kv_lora_rank": 512, "q_lora_rank": 768, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64}
    model = describe_model(
        {
            "model_type": "kimi_k25",
            "text_config": {**BASE, "model_type": "kimi_k2", "v_head_dim": 128, **ranks},
            "vision_config": {
                "model_type": "",
                "patch_size": 14,
                "vt_hidden_size": 1152,
                "vt_num_hidden_layers": 27,
            },
        }
    )
    tower = model.transformer.vision
    assert (tower.model_type, tower.hidden_size, tower.num_hidden_layers) == (None, 1152, 27)


def test_blocks_count_where_the_layers_are_not_counted():
    config = text(
        model_type="nemotron_h",
        num_hidden_layers="absent",
        layers_block_type=["mamba", "moe", "attention", "mlp"],
        mamba_num_heads=8,
        mamba_head_dim=64,
        ssm_state_size=128,
        n_groups=8,
        conv_kernel=4,
        n_routed_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
    )
    assert config.num_hidden_layers == 4


def test_opt_and_its_odd_sibling():
    config = text(model_type="opt", intermediate_size="absent", ffn_dim=256, num_key_value_heads="absent")
    assert (config.intermediate_size, config.tie_word_embeddings) == (256, True)
    with pytest.raises(UnsupportedArchitectureError):
        text(model_type="opt", word_embed_proj_dim=32)
    with pytest.raises(UnsupportedArchitectureError):
        text(model_type="opt", do_layer_norm_before=False)


def test_minimax_and_mistral4_give_their_stored_counts():
    minimax = describe_model(
        {
            "model_type": "minimax",
            "hidden_size": 6144,
            "intermediate_size": 9216,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 200064,
            "num_local_experts": 32,
            "layer_types": (["linear_attention"] * 7 + ["full_attention"]) * 10,
        }
    ).transformer
    assert len(minimax.layer_types) == 8
    assert parameters(minimax) == 456_089_655_296
    mistral = describe_model(
        {"model_type": "mistral4", "hidden_size": 4096, "num_hidden_layers": 36}
    ).transformer
    assert parameters(mistral) == 118_972_826_624


def test_ling_by_its_norms():
    ling = {
        "model_type": "bailing_moe",
        "hidden_size": 2048,
        "intermediate_size": 5120,
        "moe_intermediate_size": 512,
        "num_hidden_layers": 20,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 157184,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_shared_experts": 1,
        "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "use_qkv_bias": False,
        "max_position_embeddings": 32768,
    }
    described = describe_model(ling).transformer
    assert (described.model_type, parameters(described)) == ("bailing_moe_v2", 16_255_643_392)
    with pytest.raises(UnsupportedArchitectureError):
        describe_model({**ling, "use_qk_norm": False})


def test_encoders_with_relative_positions():
    base = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "max_position_embeddings": 512,
    }
    deberta = {
        **base,
        "model_type": "deberta-v2",
        "vocab_size": 128_100,
        "position_buckets": 256,
        "position_biased_input": False,
        "type_vocab_size": 0,
    }
    # microsoft/deberta-v3-large with the classifier's pooler, without its last row of weights.
    described = describe_model(deberta).transformer
    assert (described.is_encoder_only, parameters(described)) == (True, 435_061_760)
    for change in ({"position_buckets": 128}, {"conv_kernel_size": 3}, {"position_biased_input": True}):
        with pytest.raises(UnsupportedArchitectureError):
            describe_model({**deberta, **change})
    mpnet = {**base, "model_type": "mpnet", "vocab_size": 30_527, "max_position_embeddings": 514}
    small = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    }
    assert parameters(describe_model({**mpnet, **small}).transformer) == 109_486_464
