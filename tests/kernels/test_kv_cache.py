"""KV cache and recurrent state under each runtime's policy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.estimators.inventory_cache import kv_layout
from willitrun.kernels.kv_cells import CellsPolicy, cells_cache, cells_policy
from willitrun.kernels.kv_layouts import KV_FORMATS, KvLayout, recurrent_state
from willitrun.kernels.kv_pages import dynamic_cache, paged_bytes_per_token, paged_cache
from willitrun.records.models import TransformerConfig

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
MIB = 2**20


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((VECTORS / name).read_text(encoding="utf-8"))


CELLS = _load("kv_cells.toml")
PAGES = _load("kv_pages.toml")


@pytest.mark.parametrize("case", CELLS["case"], ids=lambda case: case["id"])
def test_cells_equal_what_llama_cpp_allocated(case: dict[str, Any]) -> None:
    layout = kv_layout(TransformerConfig(**CELLS["config"][case["config"]]))
    size = cells_cache(
        layout,
        case["n_ctx"],
        sequences=case["sequences"],
        unified=case["unified"],
        n_ubatch=case["n_ubatch"],
        swa_full=case["swa_full"],
        kind_k=case["kind"],
        kind_v=case["kind"],
    ).item()
    assert abs(size / MIB - case["printed_mib"]) < 0.0101  # two caches, each printed to 0.01


@pytest.mark.parametrize("case", PAGES["case"], ids=lambda case: case["id"])
def test_pages_equal_what_vllm_counted(case: dict[str, Any]) -> None:
    layout = kv_layout(TransformerConfig(**PAGES["config"][case["config"]]))
    size = paged_bytes_per_token(layout, tensor=case["tensor"], element_bytes=case["element_bytes"]).item()
    assert size == case["bytes_per_token"]
    printed = case["printed_pool_gib"] * 2**30 / case["printed_tokens"]
    assert size / printed == pytest.approx(1.0, abs=1e-3)


def test_published_figures_per_thousand_tokens() -> None:
    eight = KvLayout(full_k=32 * 1024, full_v=32 * 1024, kv_heads=8)
    seventy = KvLayout(full_k=80 * 1024, full_v=80 * 1024, kv_heads=8)
    assert cells_cache(eight, 1024).item() == 128 * MIB
    assert cells_cache(seventy, 1024).item() == 320 * MIB


def test_mamba_state_of_a_log() -> None:
    # llama.cpp b2447, mamba 2.8B: R 3.75 MiB + S 20 MiB.
    layout = KvLayout(0, 0, conv_state=64 * 3 * 5120, recurrent_state=64 * 16 * 5120)
    assert recurrent_state(layout).item() == int(23.75 * MIB)


def test_latent_attention_is_kept_expanded_by_transformers_and_old_builds() -> None:
    layout = KvLayout(61 * 576, 0, latent=1, expanded_k=61 * 128 * 192, expanded_v=61 * 128 * 128)
    # DeepseekV3Attention.forward updates the cache with key_states and value_states, after kv_b_proj.
    assert dynamic_cache(layout, 4096).item() == 61 * 4096 * 128 * (192 + 128) * 2
    # Build 5276, DeepSeek-R1 at 16,384 cells of q4_0 keys and f16 values (issue 13305): 13,176 + 31,232 MiB.
    old = cells_cache(layout, 16384, kind_k="q4_0", kind_v="f16", policy=CellsPolicy(latent=False))
    assert old.item() == (13176 + 31232) * MIB
    assert cells_cache(layout, 16384).item() == 61 * 16384 * 576 * 2


def test_latent_values_went_with_build_7826() -> None:
    layout = KvLayout(full_k=61 * 576, full_v=0, latent_v=61 * 512, latent=1)
    old = cells_cache(layout, 32768, policy=cells_policy(5614)).item()
    assert old == 4148 * MIB  # printed by build 5614 for DeepSeek-R1
    assert cells_cache(layout, 32768, policy=cells_policy(8000)).item() == 2196 * MIB


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (None, CellsPolicy()),
        (4000, CellsPolicy(256, False, False, False, False)),
        (5500, CellsPolicy(256, True, False, True, True)),
        (7000, CellsPolicy(latent_values=True)),
        (9000, CellsPolicy()),
    ],
)
def test_eras(build: int | None, expected: CellsPolicy) -> None:
    assert cells_policy(build) == expected


def test_builds_without_windows_fill_every_layer() -> None:
    layout = KvLayout(5 * 1024, 5 * 1024, 29 * 1024, 29 * 1024, window_tokens=1024)
    full = cells_cache(layout, 8192, policy=cells_policy(5000)).item()
    assert full == cells_cache(layout, 8192, swa_full=True).item()
    assert cells_cache(layout, 8192).item() < full


def test_unknown_type_and_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no cache type"):
        cells_cache(KvLayout(1024, 1024), 1024, kind_k="q9")
    with pytest.raises(ValueError, match="blocks of 32"):
        cells_cache(KvLayout(1000, 1000), 1024, kind_k="q8_0")
    with pytest.raises(TypeError):
        cells_cache(KvLayout(1024, 1024), np.array([1024], dtype=np.int32))


def test_ranks_beyond_the_heads_repeat_the_cache() -> None:
    layout = KvLayout(1024, 1024, kv_heads=4)
    assert paged_bytes_per_token(layout, tensor=8).item() == paged_bytes_per_token(layout, tensor=4).item()
    latent = KvLayout(61 * 576, 0, kv_heads=1, latent=1)
    assert paged_bytes_per_token(latent, tensor=8).item() == 61 * 576 * 2


def test_old_transformers_keep_the_previous_step() -> None:
    layout = KvLayout(1024, 1024)
    once = dynamic_cache(layout, 700).item()
    assert dynamic_cache(layout, 700, previous_step=True).item() == 2 * once


layouts = st.builds(
    KvLayout,
    full_k=st.integers(1, 64).map(lambda n: n * 256),
    full_v=st.integers(0, 64).map(lambda n: n * 256),
    windowed_k=st.integers(0, 64).map(lambda n: n * 256),
    windowed_v=st.integers(0, 64).map(lambda n: n * 256),
    window_tokens=st.integers(1, 8192),
    conv_state=st.integers(0, 10**6),
    recurrent_state=st.integers(0, 10**6),
    kv_heads=st.sampled_from([1, 2, 4, 8, 16]),
)


@given(
    layouts, st.lists(st.integers(1, 300_000), min_size=1, max_size=8), st.sampled_from(sorted(KV_FORMATS))
)
def test_arrays_and_scalars_agree(layout: KvLayout, contexts: list[int], kind: str) -> None:
    together = cells_cache(layout, np.array(contexts, dtype=np.int64), kind_k=kind, kind_v=kind)
    assert together.tolist() == [
        cells_cache(layout, context, kind_k=kind, kind_v=kind).item() for context in contexts
    ]
    paged = paged_cache(layout, np.array(contexts, dtype=np.int64))
    assert paged.tolist() == [paged_cache(layout, context).item() for context in contexts]


@given(layouts, st.integers(1, 200_000), st.integers(1, 4096), st.integers(1, 16))
def test_more_context_or_sequences_never_take_less(
    layout: KvLayout, context: int, more: int, sequences: int
) -> None:
    for policy in (paged_cache, dynamic_cache):
        assert policy(layout, context + more) >= policy(layout, context)
        assert policy(layout, context, sequences=sequences + 1) >= policy(
            layout, context, sequences=sequences
        )
    assert cells_cache(layout, context + more) >= cells_cache(layout, context)
    assert recurrent_state(layout, sequences=sequences + 1) >= recurrent_state(layout, sequences=sequences)


@given(layouts, st.integers(256, 200_000))
def test_fewer_bits_never_take_more(layout: KvLayout, context: int) -> None:
    sizes = [
        cells_cache(layout, context, kind_k=kind, kind_v=kind).item()
        for kind in ("f32", "f16", "q8_0", "q4_0")
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("kind", "allocated_mib"), [("f16", 3432.0), ("q8_0", 1823.25)])
def test_an_indexers_keys_have_the_type_of_keys(kind: str, allocated_mib: float) -> None:
    # GLM-5 at 32,768 cells as a real llama.cpp allocated it (python -m accuracy.memory.truth glm-5).
    layout = KvLayout(full_k=78 * 576, full_v=0, index_k=78 * 128, latent=1)
    assert cells_cache(layout, 32768, kind_k=kind, kind_v=kind).item() / MIB == allocated_mib
