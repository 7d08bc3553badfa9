"""Tensor inventory: counts, weights by part, and what is refused."""

from __future__ import annotations

import json
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from willitrun import load_catalog
from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.inventory import active_parameters, parameters, tensor_inventory
from willitrun.estimators.inventory_architectures import TRAITS
from willitrun.estimators.inventory_cache import attention_widths, buffer_shape, kv_layout
from willitrun.estimators.inventory_formats import weight_groups
from willitrun.estimators.inventory_traits import Traits, traits_of
from willitrun.estimators.llm_models import model_row
from willitrun.kernels.columns import columns_of
from willitrun.kernels.llm_ground import work_of
from willitrun.records.models import TransformerConfig
from willitrun.records.recipes import Quantization

TESTS = Path(__file__).resolve().parents[1]
WEIGHTS = tomllib.loads((TESTS / "vectors" / "weights.toml").read_text(encoding="utf-8"))
RECORDS = tomllib.loads((TESTS.parent / "catalogs" / "quantizations.toml").read_text(encoding="utf-8"))
QUANTIZATIONS = {entry["id"]: Quantization(**entry) for entry in RECORDS["quantization"]}


def llama(**changes: Any) -> TransformerConfig:
    fields: dict[str, Any] = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    return TransformerConfig(**(fields | changes))


@pytest.mark.parametrize("case", WEIGHTS["case"], ids=lambda case: case["id"])
def test_weights_equal_published_files(case: dict[str, Any]) -> None:
    config = TransformerConfig(**WEIGHTS["config"][case["config"]])
    groups = weight_groups(
        config,
        QUANTIZATIONS[case["quantization"]],
        container=case["container"],
        imatrix=case["imatrix"],
    )
    assert abs(groups.total_bytes + case["extra"] - case["bytes"]) <= case["precision_bytes"] + (
        1024 if case["precision_bytes"] else 0
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (llama(), 8_030_261_248),
        (
            TransformerConfig(
                model_type="gpt2",
                num_hidden_layers=12,
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                vocab_size=50257,
                max_position_embeddings=1024,
            ),
            124_439_808,
        ),
        (
            TransformerConfig(
                model_type="bert",
                num_hidden_layers=12,
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                vocab_size=30522,
                max_position_embeddings=512,
                is_encoder_only=True,
            ),
            109_482_240,
        ),
        (
            TransformerConfig(
                model_type="whisper",
                num_hidden_layers=4,
                encoder_layers=4,
                hidden_size=384,
                intermediate_size=1536,
                num_attention_heads=6,
                vocab_size=51865,
                max_position_embeddings=448,
                max_source_positions=1500,
                mamba_d_conv=None,
            ),
            None,
        ),
    ],
)
def test_parameter_counts(config: TransformerConfig, expected: int | None) -> None:
    if expected is None:
        # The mel front end (two convolutions) is not in the transformer's fields: 80 x 384 x 3 + 384^2 x 3 + biases.
        expected = 37_760_640 - (80 * 384 * 3 + 384 * 384 * 3 + 2 * 384)
    assert parameters(config) == expected


KIMI_END = ("linear_attention", "linear_attention", "full_attention")
LFM2 = ("conv", "conv", "full_attention") * 3 + ("conv", "full_attention") * 3 + ("conv",)

# Counts as published on the checkpoints.
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "t5-small": (
        {
            "model_type": "t5",
            "num_hidden_layers": 6,
            "encoder_layers": 6,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "num_key_value_heads": None,
            "head_dim": 64,
            "vocab_size": 32128,
            "tie_word_embeddings": True,
        },
        60_506_624,
    ),
    "opt-125m": (
        {
            "model_type": "opt",
            "num_hidden_layers": 12,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_key_value_heads": 12,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
        },
        125_239_296,
    ),
    "distilbert-base": (
        {
            "model_type": "distilbert",
            "num_hidden_layers": 6,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_key_value_heads": None,
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "is_encoder_only": True,
        },
        66_362_880,
    ),
    "falcon-7b": (
        {
            "model_type": "falcon",
            "hidden_size": 4544,
            "intermediate_size": None,
            "num_attention_heads": 71,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "vocab_size": 65024,
        },
        6_921_720_704,
    ),
    "falcon-40b": (
        {
            "model_type": "falcon",
            "num_hidden_layers": 60,
            "hidden_size": 8192,
            "intermediate_size": None,
            "num_attention_heads": 128,
            "head_dim": 64,
            "vocab_size": 65024,
        },
        41_303_293_952,
    ),
    "phi-2": (
        {
            "model_type": "phi",
            "hidden_size": 2560,
            "intermediate_size": None,
            "num_key_value_heads": None,
            "head_dim": 80,
            "vocab_size": 51200,
        },
        2_779_683_840,
    ),
    "ling-mini-2.0": (
        {
            "model_type": "bailing_moe_v2",
            "num_hidden_layers": 20,
            "hidden_size": 2048,
            "intermediate_size": 5120,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "vocab_size": 157184,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 512,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
        },
        16_255_643_392,
    ),
    "minimax-text-01": (
        {
            "model_type": "minimax",
            "num_hidden_layers": 80,
            "hidden_size": 6144,
            "num_attention_heads": 64,
            "head_dim": 128,
            "vocab_size": 200064,
            "num_experts": 32,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 9216,
            "layer_types": ("linear_attention",) * 7 + ("full_attention",),
        },
        456_089_655_296,
    ),
    "mamba-2.8b": (
        {
            "model_type": "mamba",
            "num_hidden_layers": 64,
            "hidden_size": 2560,
            "vocab_size": 50280,
            "mamba_d_inner": 5120,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_dt_rank": 160,
            "tie_word_embeddings": True,
        },
        2_768_345_600,
    ),
    "lfm2-1.2b": (
        {
            "model_type": "lfm2",
            "num_hidden_layers": 16,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "head_dim": 64,
            "vocab_size": 65536,
            "linear_conv_kernel_dim": 3,
            "layer_types": LFM2,
        },
        1_170_340_608,
    ),
    "kimi-linear-48b": (
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 27,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_key_value_heads": None,
            "vocab_size": 163840,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 1024,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "linear_num_value_heads": 32,
            "linear_num_key_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_conv_kernel_dim": 4,
            "layer_types": (*((("linear_attention",) * 3 + ("full_attention",)) * 6), *KIMI_END),
        },
        49_122_681_728,
    ),
    "mimo-v2-flash": (
        {
            "model_type": "mimo_v2_flash",
            "num_hidden_layers": 48,
            "intermediate_size": 16384,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "num_global_key_value_heads": 4,
            "head_dim": 192,
            "v_head_dim": 128,
            "vocab_size": 152576,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 2048,
            "first_k_dense_replace": 1,
            "sliding_window": 128,
            "layer_types": ("full_attention",) * 9 + ("sliding_attention",) * 39,
        },
        308_778_768_832 + 47 * 256,  # the sheet leaves out the vectors that correct expert selection
    ),
    "qwen3-vl-8b": (
        {
            "model_type": "qwen3_vl_text",
            "num_hidden_layers": 36,
            "intermediate_size": 12288,
            "head_dim": 128,
            "vocab_size": 151936,
            "vision": {
                "model_type": "qwen3_vl",
                "hidden_size": 1152,
                "num_hidden_layers": 27,
                "intermediate_size": 4304,
                "patch_size": 16,
                "spatial_merge_size": 2,
            },
        },
        8_767_123_696,
    ),
}


def test_lightning_attention_keeps_one_square_per_head() -> None:
    changes, _ = PUBLISHED["minimax-text-01"]
    layout = kv_layout(llama(**changes))
    assert layout.recurrent_state == 70 * 64 * 128 * 128
    assert (layout.conv_state, layout.full_k) == (0, 10 * 8 * 128)


def test_mistral_small_4_leaves_the_tower_of_its_family() -> None:
    """119,401,317,952 stored: text, Pixtral tower with projector, and the scales of FP8 (528 per layer)."""
    config = llama(
        model_type="mistral4",
        num_hidden_layers=36,
        intermediate_size=12288,
        num_attention_heads=32,
        num_key_value_heads=32,
        vocab_size=131072,
        num_experts=128,
        num_experts_per_tok=4,
        moe_intermediate_size=2048,
        n_shared_experts=1,
        kv_lora_rank=256,
        q_lora_rank=1024,
        qk_rope_head_dim=64,
        qk_nope_head_dim=64,
        v_head_dim=128,
    )
    # Mistral Small 3.1 has 438,958,080 with a text width of 5120; its projector is 1024 -> width -> width.
    tower = 438_958_080 - (1024 * 5120 + 5120**2) + (1024 * 4096 + 4096**2)
    assert parameters(config) + tower + 36 * 528 == 119_401_317_952


@pytest.mark.parametrize(
    ("layers", "encoder", "hidden", "heads", "vocabulary", "bins", "expected"),
    [
        (4, 4, 384, 6, 51865, 80, 37_760_640),
        (32, 32, 1280, 20, 51866, 128, 1_543_490_560),
        (4, 32, 1280, 20, 51866, 128, 808_878_080),
    ],
    ids=["tiny", "large-v3", "large-v3-turbo"],
)
def test_whisper_with_its_front_end(
    layers: int, encoder: int, hidden: int, heads: int, vocabulary: int, bins: int, expected: int
) -> None:
    config = TransformerConfig(
        model_type="whisper",
        num_hidden_layers=layers,
        encoder_layers=encoder,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_attention_heads=heads,
        vocab_size=vocabulary,
        max_position_embeddings=448,
        max_source_positions=1500,
        num_mel_bins=bins,
    )
    assert parameters(config) == expected
    groups = weight_groups(config, QUANTIZATIONS["f16"])
    assert 2 * expected <= groups.total_bytes < 2.01 * expected


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_counts(name: str) -> None:
    changes, expected = PUBLISHED[name]
    assert parameters(llama(**changes)) == expected


def test_gemma3n_file_has_these_tensors() -> None:
    # A loader printed f32 422, f16 108, q4_K 281, q6_K 36 and 4.50 GiB for gemma-3n-E4B Q4_K_M: the embeddings
    # per layer count as output. Files of most publishers of 2025 keep them at the base type.
    config = llama(
        model_type="gemma3n_text",
        num_hidden_layers=35,
        hidden_size=2048,
        intermediate_size=16384,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=256,
        vocab_size=262144,
        hidden_size_per_layer_input=256,
        vocab_size_per_layer_input=262144,
        num_kv_shared_layers=15,
        sliding_window=512,
        layer_types=("sliding_attention",) * 4 + ("full_attention",),
    )
    groups = weight_groups(config, QUANTIZATIONS["q4_k_m"], container="gguf", era="2026")
    assert groups.formats == {"f32": 422, "f16": 108, "q4_k": 281, "q6_k": 36}
    assert round(groups.total_bytes / 2**30, 2) == 4.50
    # 20 of 35 layers keep a cache: 288 MiB at 32,768 cells, as build 5775 printed.
    layout = kv_layout(config)
    assert (layout.full_k + layout.full_v) * 32768 * 2 + (
        layout.windowed_k + layout.windowed_v
    ) * 1024 * 2 == 288 * 2**20


def test_mixture_counts_by_share() -> None:
    config = TransformerConfig(
        model_type="mixtral",
        num_hidden_layers=32,
        hidden_size=4096,
        intermediate_size=14336,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=32000,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=14336,
    )
    assert parameters(config) == 46_702_792_704
    assert active_parameters(config) == 12_879_925_248
    assert active_parameters(llama()) == parameters(llama())


def test_parts_and_layers_sum_to_the_total() -> None:
    config = llama()
    groups = weight_groups(config, QUANTIZATIONS["q4_k_m"], container="gguf")
    outside = groups.bytes_of_part("embedding") + groups.bytes_of_part("output")
    norm = 4096 * 4  # the final norm lies outside the layers
    assert sum(groups.layer_bytes) + outside + norm == groups.total_bytes
    assert sum(groups.parameters_by_part.values()) == parameters(config)
    assert groups.largest_expert_bytes == 0


def test_tied_output_counts_once_and_is_read() -> None:
    tied = weight_groups(llama(tie_word_embeddings=True), QUANTIZATIONS["q8_0"], container="gguf")
    assert tied.bytes_of_part("output") == 0
    assert tied.output_matrix_bytes == tied.bytes_of_part("embedding") > 0


@pytest.mark.parametrize("name", sorted(QUANTIZATIONS))
def test_every_quantization_gives_bytes(name: str) -> None:
    groups = weight_groups(llama(), QUANTIZATIONS[name])
    assert 1.5e9 < groups.total_bytes < 33e9
    assert groups.exact == QUANTIZATIONS[name].exact


def test_a_better_rank_is_never_much_smaller() -> None:
    ranked = sorted(
        (
            entry
            for entry in QUANTIZATIONS.values()
            if entry.kind in ("gguf-type", "gguf-mix")
            and entry.exact
            and entry.id not in ("mxfp4_moe", "tq1_0", "tq2_0")  # made for mixtures and ternary models
        ),
        key=lambda entry: entry.quality_rank,
    )
    sizes = [weight_groups(llama(), entry, container="gguf").total_bytes for entry in ranked]
    assert all(later > earlier * 0.85 for earlier, later in pairwise(sizes))


def test_experts_and_shared_experts_are_told_apart() -> None:
    config = TransformerConfig(
        model_type="deepseek_v2",
        num_hidden_layers=27,
        hidden_size=2048,
        intermediate_size=10944,
        num_attention_heads=16,
        vocab_size=102400,
        num_experts=64,
        num_experts_per_tok=6,
        moe_intermediate_size=1408,
        n_shared_experts=2,
        first_k_dense_replace=1,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
    )
    assert parameters(config) == 15_706_484_224
    groups = weight_groups(config, QUANTIZATIONS["bf16"], container="safetensors")
    assert groups.parameters_by_part["experts"] == 26 * 64 * 3 * 2048 * 1408
    assert groups.parameters_by_part["shared_experts"] == 26 * 3 * 2048 * 2816
    assert groups.expert_layer_bytes[0] == 0 < groups.expert_layer_bytes[1]
    layout = kv_layout(config)
    assert (layout.full_k, layout.full_v, layout.latent) == (27 * 576, 0, 1)
    assert (layout.expanded_k, layout.expanded_v) == (27 * 16 * 192, 27 * 16 * 128)


def test_hybrids_keep_cache_in_attention_layers_only() -> None:
    config = TransformerConfig(
        model_type="qwen3_next",
        num_hidden_layers=48,
        hidden_size=2048,
        intermediate_size=5120,
        num_attention_heads=16,
        num_key_value_heads=2,
        head_dim=256,
        vocab_size=151936,
        layer_types=("linear_attention", "linear_attention", "linear_attention", "full_attention"),
        num_experts=512,
        num_experts_per_tok=10,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
    )
    assert parameters(config) == 79_674_391_296
    layout = kv_layout(config)
    assert layout.full_k == 12 * 512
    assert layout.recurrent_state == 36 * 32 * 128 * 128
    assert layout.conv_state == 36 * 3 * 8192


def test_shared_layers_keep_no_cache() -> None:
    config = TransformerConfig(
        model_type="gemma4_text",
        num_hidden_layers=10,
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
        global_head_dim=128,
        vocab_size=1000,
        sliding_window=512,
        num_kv_shared_layers=5,
        layer_types=("sliding_attention",) * 4 + ("full_attention",),
    )
    layout = kv_layout(config)
    assert (layout.full_k, layout.windowed_k) == (128, 4 * 64)
    assert kv_layout(config.model_copy(update={"num_kv_shared_layers": 0})).full_k == 256


def test_unknown_architectures_fail_closed() -> None:
    with pytest.raises(UnsupportedArchitectureError):
        tensor_inventory(llama(model_type="llama17"))
    with pytest.raises(UnsupportedArchitectureError):
        tensor_inventory(llama(kv_lora_rank=512))
    with pytest.raises(MissingDataError, match="layer_types"):
        tensor_inventory(llama(model_type="jamba"))
    with pytest.raises(MissingDataError, match="intermediate_size"):
        tensor_inventory(llama(intermediate_size=None))


def test_a_format_is_refused_in_the_wrong_container() -> None:
    with pytest.raises(UnsupportedFormatError):
        weight_groups(llama(), QUANTIZATIONS["awq-int4"], container="gguf")
    with pytest.raises(UnsupportedFormatError):
        weight_groups(llama(), QUANTIZATIONS["q4_k_m"], container="safetensors")


def test_widths_of_attention_and_buffers() -> None:
    assert attention_widths(llama()) == (32 * 4096, 32 * 4096, 0)
    shape = buffer_shape(llama())
    assert (shape.vocabulary, shape.hidden, shape.heads, shape.head_total) == (128256, 4096, 32, 4096)


def test_prediction_layers_are_apart() -> None:
    plain = llama(model_type="mimo", head_dim=128)
    with_layer = plain.model_copy(update={"num_nextn_predict_layers": 1})
    assert parameters(with_layer) == parameters(plain)
    assert parameters(with_layer, prediction_layers=True) > parameters(plain)
    assert kv_layout(with_layer) == kv_layout(plain)


@pytest.mark.shared
def test_counts_agree_with_the_fact_sheet(shared_data: Path) -> None:
    """Every architecture with a count computed from its raw config is met to 0.1 %, vision towers aside."""
    checked = 0
    for line in (shared_data / "models.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        arch = row.get("arch") or {}
        known = {"llama", "qwen2", "qwen3", "mistral", "phi3"}
        if row.get("arch_confidence") != "high" or arch.get("model_type") not in known:
            continue
        if not row.get("params_from_config"):
            continue
        config = TransformerConfig(
            model_type=arch["model_type"],
            num_hidden_layers=arch["n_layers"],
            hidden_size=arch["hidden_size"],
            intermediate_size=arch["intermediate_size"],
            num_attention_heads=arch["n_heads"],
            num_key_value_heads=arch["n_kv_heads"],
            head_dim=arch["head_dim"],
            vocab_size=arch["vocab_size"],
            tie_word_embeddings=bool(arch.get("tie_embeddings")),
        )
        assert parameters(config) == row["params_from_config"], row["id"]
        checked += 1
    assert checked > 20


def test_the_table_covers_common_families() -> None:
    assert {"llama", "qwen2", "qwen3_moe", "gemma3_text", "deepseek_v3", "gpt_oss", "mamba", "bert"} <= set(
        TRAITS
    )
    assert all(traits_of(model_type) == Traits(**row) for model_type, row in TRAITS.items())


def test_nvfp4_leaves_attention_of_mixtures_alone() -> None:
    """A loader's four ranks of nvidia/DeepSeek-R1-0528-FP4 take 94.08 GiB each, of which all hold q_a and kv_a."""
    config = TransformerConfig(**WEIGHTS["config"]["deepseek-v3.1"])
    groups = weight_groups(config, QUANTIZATIONS["nvfp4"])
    assert groups.bytes_of_part("attention") == 2 * groups.parameters_by_part["attention"]
    assert groups.bytes_of_part("experts") < 0.57 * groups.parameters_by_part["experts"]
    repeated = 2 * 61 * (1536 + 512 + 64) * 7168  # q_a and kv_a, bfloat16
    absorbed = 2 * 61 * 128 * 512 * (128 + 128)  # vLLM's copies of the up-projection
    assert (groups.total_bytes + absorbed + 3 * repeated) / 4 / 2**30 == pytest.approx(94.08, rel=2e-3)
    mixture = weight_groups(TransformerConfig(**WEIGHTS["config"]["qwen3-30b-a3b"]), QUANTIZATIONS["nvfp4"])
    assert mixture.bytes_of_part("attention") == 2 * mixture.parameters_by_part["attention"]
    assert mixture.bytes_of_part("experts") < 0.57 * mixture.parameters_by_part["experts"]
    gemma = load_catalog().models["gemma-4-31b"].transformer
    assert gemma is not None
    dense = weight_groups(gemma, QUANTIZATIONS["nvfp4"])
    assert dense.bytes_of_part("attention") == 2 * dense.parameters_by_part["attention"]
    plain = weight_groups(llama(), QUANTIZATIONS["nvfp4"])
    assert plain.bytes_of_part("attention") < 0.57 * plain.parameters_by_part["attention"]


@pytest.mark.parametrize(
    ("model", "quantization", "total_size", "off"),
    # `metadata.total_size` of the index files of the repositories leo-kreisman/Qwen3.5-9B-MLX-8bit (57b6613) and
    # root-hypercube/qwen3-mlx (3bdd51a) on GitHub. What is off are 24 layers' 32 decays, which MLX keeps in float32.
    [("qwen3.5-9b", "mlx-8bit", 10_426_433_504, 24 * 32 * 2), ("qwen3-1.7b", "bf16", 3_441_149_952, 0)],
)
def test_index_files_of_published_checkpoints(
    model: str, quantization: str, total_size: int, off: int
) -> None:
    config = load_catalog().models[model].transformer
    assert config is not None
    groups = weight_groups(config, load_catalog().quantizations[quantization], container="safetensors")
    assert groups.total_bytes + groups.bytes_of_part("vision") + off == total_size


@pytest.mark.parametrize(
    ("model", "layers", "routed"),
    # 23 Mamba, 23 mixture and 6 attention layers, each of one block; 48 layers of a mixer and a mixture.
    [("nemotron-3-nano-30b-a3b", 26.0, 23.0), ("qwen3-30b-a3b", 48.0, 48.0)],
)
def test_a_layer_of_one_block_counts_half(model: str, layers: float, routed: float) -> None:
    catalog = load_catalog()
    row = model_row(catalog.models[model], catalog.quantizations["q4_k_m"], "gguf", catalog)
    found = work_of(columns_of([row]), 2.0, 2.0)
    assert (found.n_layers[0], found.n_moe_layers[0]) == (layers, routed)
