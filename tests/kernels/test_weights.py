"""Block formats and the standard quantiser's choices."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.kernels.gguf_mixes import STANDARD_MIXES, Era, MixContext, fallback_format, tensor_format
from willitrun.kernels.weights import BLOCK_LAYOUTS, FORMAT_CODES, TensorGroup, as_int64, bytes_of

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def _rows() -> list[dict[str, str]]:
    text = (VECTORS / "formats.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["format"])
def test_bytes_of_a_matrix_match_the_hand_count(row: dict[str, str]) -> None:
    size = bytes_of(int(row["elements"]), int(row["row_width"]), FORMAT_CODES[row["format"]])
    assert size.dtype == np.int64
    assert size.item() == int(row["bytes"]), row["derivation"]


def test_every_format_has_a_vector() -> None:
    assert {row["format"] for row in _rows()} == set(BLOCK_LAYOUTS)


@pytest.mark.parametrize("bad", [np.int32(5), np.array([1], dtype=np.int32), 1.5, np.array([1.0])])
def test_narrow_and_inexact_counts_are_refused(bad: object) -> None:
    with pytest.raises(TypeError):
        as_int64(bad)  # type: ignore[arg-type]


def test_counts_above_int64_are_refused() -> None:
    with pytest.raises(OverflowError):
        as_int64(2**63)


def test_large_tensors_do_not_wrap() -> None:
    assert bytes_of(2**43, 4096, FORMAT_CODES["f32"]).item() == 2**45


def test_partial_blocks_are_refused_where_gguf_has_none() -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        bytes_of(2880, 2880, FORMAT_CODES["q4_k"])
    with pytest.raises(ValueError, match="whole rows"):
        bytes_of(100, 64, FORMAT_CODES["f16"])


@given(
    rows=st.integers(1, 5000),
    blocks=st.integers(1, 64),
    names=st.lists(st.sampled_from(sorted(BLOCK_LAYOUTS)), min_size=1, max_size=6),
)
def test_arrays_and_scalars_agree(rows: int, blocks: int, names: list[str]) -> None:
    width = blocks * 256
    codes = np.array([FORMAT_CODES[name] for name in names], dtype=np.int64)
    together = bytes_of(rows * width, width, codes)
    alone = [bytes_of(rows * width, width, int(code)).item() for code in codes]
    assert together.tolist() == alone


@given(rows=st.integers(1, 1000), name=st.sampled_from(sorted(BLOCK_LAYOUTS)))
def test_more_rows_never_take_less(rows: int, name: str) -> None:
    code = FORMAT_CODES[name]
    assert bytes_of((rows + 1) * 512, 512, code) >= bytes_of(rows * 512, 512, code)


@pytest.mark.parametrize(
    ("target", "width", "expected"),
    [
        ("q4_k", 2880, "q5_0"),
        ("q5_k", 2880, "q5_1"),
        ("q6_k", 2880, "q8_0"),
        ("q3_k", 2880, "q4_0"),
        ("iq4_xs", 2880, "iq4_nl"),
        ("q8_0", 48, "f16"),
        ("q6_k", 4096, "q6_k"),
    ],
)
def test_fallbacks_of_narrow_rows(target: str, width: int, expected: str) -> None:
    assert fallback_format(target, width) == expected


def _value(layers: int = 32) -> TensorGroup:
    return TensorGroup("attn_v", "attention", 4096, 1024, layers=tuple(range(layers)))


@pytest.mark.parametrize(
    ("mix", "layer", "context", "expected"),
    [
        ("q4_k_m", 0, MixContext(32, 4, n_value_tensors=32), "q6_k"),
        ("q4_k_m", 5, MixContext(32, 4, n_value_tensors=32), "q4_k"),
        ("q4_k_m", 6, MixContext(32, 4, n_value_tensors=32), "q6_k"),
        ("q4_k_m", 31, MixContext(32, 4, n_value_tensors=32), "q6_k"),
        ("q4_k_m", 20, MixContext(80, 8, seventy_b=True, n_value_tensors=80), "q5_k"),
        ("q4_k_m", 5, MixContext(32, 4, n_experts=8, n_value_tensors=32), "q8_0"),
        ("q2_k", 5, MixContext(32, 4, n_value_tensors=32), "q4_k"),
        ("q2_k", 5, MixContext(32, 1, n_value_tensors=32), "q3_k"),
        ("q3_k_m", 1, MixContext(32, 4, n_value_tensors=32), "q5_k"),
        ("q3_k_m", 2, MixContext(32, 4, n_value_tensors=32), "q4_k"),
        ("q4_k_s", 3, MixContext(32, 4, n_value_tensors=32), "q5_k"),
        ("iq4_xs", 9, MixContext(32, 4, n_value_tensors=32), "q5_k"),
        ("iq2_xxs", 9, MixContext(32, 1, n_value_tensors=32), "q2_k"),
        ("iq2_m", 9, MixContext(32, 1, n_value_tensors=32), "iq3_s"),
        ("iq3_xxs", 9, MixContext(32, 1, imatrix=True, n_value_tensors=32), "iq3_xxs"),
    ],
)
def test_value_projection(mix: str, layer: int, context: MixContext, expected: str) -> None:
    assert tensor_format(_value(context.n_layers), layer, mix, context) == expected


@pytest.mark.parametrize("mix", sorted(STANDARD_MIXES))
def test_router_and_norms_stay_float(mix: str) -> None:
    context = MixContext(32)
    router = TensorGroup("ffn_gate_inp", "router", 4096, 64, layers=(0,))
    norm = TensorGroup("attn_norm", "norm", 4096, layers=(0,), matrix=False)
    assert tensor_format(router, 0, mix, context) == "f32"
    assert tensor_format(norm, 0, mix, context) == "f32"


def test_fused_projections_change_with_the_era() -> None:
    fused = TensorGroup("attn_qkv", "attention", 4096, 12288, layers=tuple(range(32)))
    before = MixContext(32, 1, n_value_tensors=32)
    since = MixContext(32, 1, n_value_tensors=32, era="2026")
    assert tensor_format(fused, 5, "q4_k_m", before) == "q5_k"
    assert tensor_format(fused, 5, "q4_k_m", since) == "q4_k"


def test_falcon_and_tied_embeddings_have_rules_of_their_own() -> None:
    output = TensorGroup("output", "output", 4544, 65024)
    assert tensor_format(output, 0, "q4_k_m", MixContext(32, falcon=True)) == "q8_0"
    embedding = TensorGroup("token_embd", "embedding", 4096, 128256)
    assert tensor_format(embedding, 0, "q4_k_m", MixContext(32, tied=True)) == "q6_k"
    assert tensor_format(embedding, 0, "q4_k_m", MixContext(32)) == "q4_k"


def test_mxfp4_mix_quantizes_experts_only() -> None:
    experts = TensorGroup("ffn_up_exps", "experts", 2880, 2880, 32, (0,))
    query = TensorGroup("attn_q", "attention", 2880, 4096, layers=(0,))
    assert tensor_format(experts, 0, "mxfp4_moe", MixContext(24, 8, 32)) == "mxfp4"
    assert tensor_format(query, 0, "mxfp4_moe", MixContext(24, 8, 32)) == "q8_0"


def test_q2_k_of_2023_kept_most_matrices_at_q3_k() -> None:
    """TheBloke's mistral-7b Q2_K: 65 tensors Q2_K (q, k, token_embd), 160 Q3_K, as its loader log prints."""
    old = MixContext(32, 4, n_value_tensors=32, era="2023")
    names = {
        "attn_q": "q2_k", "attn_k": "q2_k", "attn_v": "q3_k", "attn_output": "q3_k",
        "ffn_gate": "q3_k", "ffn_up": "q3_k", "ffn_down": "q3_k",
    }  # fmt: skip
    for role, wanted in names.items():
        group = TensorGroup(role, "attention", 4096, 4096, layers=tuple(range(32)))
        assert tensor_format(group, 5, "q2_k", old) == wanted
    assert tensor_format(TensorGroup("token_embd", "embedding", 4096, 32000), 0, "q2_k", old) == "q2_k"


def test_experts_published_in_mxfp4_stay_mxfp4() -> None:
    context = MixContext(24, 8, 32, native_experts="mxfp4")
    experts = TensorGroup("ffn_up_exps", "experts", 2880, 2880, 32, layers=(0,))
    assert tensor_format(experts, 0, "q4_k_m", context) == "mxfp4"
    assert tensor_format(experts, 0, "f16", context) == "mxfp4"
    assert tensor_format(experts, 0, "q4_k_m", MixContext(24, 8, 32)) == "q5_0"


@pytest.mark.parametrize(("era", "wanted"), [("2024", "q4_k"), ("2026", "q6_k")])
def test_embeddings_per_layer_count_as_output_since_2026(era: Era, wanted: str) -> None:
    per_layer = TensorGroup("per_layer_token_embd", "embedding", 8960, 262144)
    assert tensor_format(per_layer, 0, "q4_k_m", MixContext(35, 4, tied=True, era=era)) == wanted
