"""The LLM speed kernel: terms that sum, monotony with one field changed, worked cases with the shipped calibration."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_levels import (
    AXES,
    UNKNOWN,
    classify_format,
    classify_generation,
    classify_memory,
    level_code,
    resolve,
)
from willitrun.kernels.llm_peaks import product_codes, select_compute_peak
from willitrun.kernels.llm_speed import BOUNDS, LlmSpeed, predict, wait_turn

CALIBRATION = Path(__file__).parents[2] / "catalogs" / "calibrations" / "llm-speed.toml"
ROUNDING = 1 + 1e-9


def column(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float64)


def columns(kind: type, values: dict[str, float]) -> Any:
    return kind(**{name: column(value) for name, value in values.items()})


#: meta-llama/Llama-3.1-8B at Q4_K_M: 32 layers, 32 heads, 8 KV heads of 128, vocabulary 128,256.
LLAMA_8B = {
    "dense_bytes": 4.21e9,
    "lm_head_bytes": 0.43e9,
    "expert_bytes": 0.0,
    "n_experts": 1.0,
    "n_experts_used": 1.0,
    "n_layers": 32.0,
    "n_moe_layers": 0.0,
    "dense_params": 6.98e9,
    "lm_head_params": 0.525e9,
    "expert_params": 0.0,
    "attention_width": 32.0 * 4096,
    "prefill_attention_width": 32.0 * 4096,
    "windowed_width": 0.0,
    "window_tokens": float(1 << 30),
    "n_launched": 32.0,
    "selected_width": 0.0,
    "prefill_selected_width": 0.0,
    "selected_tokens": float(1 << 30),
    "kv_bytes_per_token": 131072.0,
    "windowed_kv_bytes_per_token": 0.0,
    "selected_kv_bytes_per_token": 0.0,
    "state_bytes": 0.0,
    "kv_heads": 8.0,
    "hidden_size": 4096.0,
}
#: Qwen/Qwen3-30B-A3B at Q4_K_M: 48 layers, 128 experts of which 8 are used.
QWEN_30B_A3B = LLAMA_8B | {
    "dense_bytes": 0.56e9,
    "lm_head_bytes": 0.255e9,
    "expert_bytes": 17.5e9,
    "n_experts": 128.0,
    "n_experts_used": 8.0,
    "n_layers": 48.0,
    "n_moe_layers": 48.0,
    "n_launched": 48.0,
    "dense_params": 0.92e9,
    "lm_head_params": 0.311e9,
    "expert_params": 28.99e9,
    "attention_width": 48.0 * 4096,
    "prefill_attention_width": 48.0 * 4096,
    "kv_bytes_per_token": 98304.0,
    "kv_heads": 4.0,
    "hidden_size": 2048.0,
}
#: meta-llama/Llama-3.3-70B at Q4_K_M: 80 layers, 64 heads, 8 KV heads.
LLAMA_70B = LLAMA_8B | {
    "dense_bytes": 41.2e9,
    "lm_head_bytes": 0.86e9,
    "n_layers": 80.0,
    "n_launched": 80.0,
    "dense_params": 68.45e9,
    "lm_head_params": 1.05e9,
    "attention_width": 80.0 * 8192,
    "prefill_attention_width": 80.0 * 8192,
    "kv_bytes_per_token": 327680.0,
    "hidden_size": 8192.0,
}
#: zai-org/GLM-5 in FP8: 78 layers of latent attention, each with an indexer of 32 heads of 128 that takes 2,048 tokens.
GLM_5 = LLAMA_8B | {
    "dense_bytes": 17.4e9,
    "lm_head_bytes": 1.9e9,
    "expert_bytes": 725e9,
    "n_experts": 256.0,
    "n_experts_used": 8.0,
    "n_layers": 78.0,
    "n_moe_layers": 75.0,
    "n_launched": 232.5,
    "dense_params": 17.2e9,
    "lm_head_params": 0.95e9,
    "expert_params": 724.8e9,
    "attention_width": 78.0 * 2048,
    "prefill_attention_width": 78.0 * 2048,
    "selected_width": 78.0 * 34816,
    "prefill_selected_width": 78.0 * 16384,
    "selected_tokens": 2048.0,
    "kv_bytes_per_token": 78.0 * 704,
    "selected_kv_bytes_per_token": 78.0 * 576,
    "kv_heads": 1.0,
    "hidden_size": 6144.0,
}
#: NVIDIA GeForce RTX 4090 beside dual-channel DDR5-5600.
RTX_4090 = {
    "memory_bytes_per_s": 1008e9,
    "compute_flop_per_s": 660.6e12,
    "attention_flop_per_s": 165.2e12,
    "issue_per_s": 128 * 2.52e9,
    "compute_w": 450.0,
    "link_bytes_per_s": 31.5e9,
    "link_latency_s": 6e-6,
    "link_peer_s": 3.5e-6,
    "host_bytes_per_s": 89.6e9,
    "host_flop_per_s": np.inf,
    "pcie_bytes_per_s": 31.5e9,
}
ONE_STREAM = {
    "concurrency": 1.0,
    "prompt_tokens": 512.0,
    "cached_tokens": 0.0,
    "output_tokens": 128.0,
    "context_tokens": 576.0,
    "microbatch_tokens": 512.0,
    "prefill_sequences": 1.0,
    "held_steps": 0.0,
    "interference": 0.0,
    "draft_tokens": 0.0,
    "acceptance": 0.0,
    "host_dense_fraction": 0.0,
    "host_expert_fraction": 0.0,
    "tensor": 1.0,
    "pipeline": 1.0,
    "data": 1.0,
    "expert_shards": 1.0,
    "max_sequences": np.inf,
    "kv_pool_bytes": np.inf,
}
#: Plausible values so that properties do not rest on a fit.
PLAIN = {
    "weights": 1.1,
    "experts": 1.1,
    "kv": 1.5,
    "fetch": 0.1,
    "unpack": 0.1,
    "linear": 2.0,
    "attention": 4.0,
    "step": 2e-4,
    "layer": 5e-5,
    "moe_layer": 3e-5,
    "sequence": 8e-6,
    "prefill_linear": 2.0,
    "prefill_issue": 1e-3,
    "prefill_power": 1e-12,
    "prefill_attention": 4.0,
    "prefill_layer": 2e-4,
    "scan": 0.05,
    "prefill_experts": 2.0,
    "expert_tile": 40.0,
    "link": 1.5,
    "hop": 1.0,
    "host": 1.4,
    "host_layer": 1e-4,
    "pcie": 1.25,
    "request": 0.05,
    "notice": 2.0,
    "queue": 0.08,
    "overlap": 0.7,
}


def run(
    work: dict[str, float] | None = None,
    rates: dict[str, float] | None = None,
    load: dict[str, float] | None = None,
    coefficients: LlmCoefficients | None = None,
) -> LlmSpeed:
    return predict(
        columns(LlmWork, work or LLAMA_8B),
        columns(LlmRates, RTX_4090 | (rates or {})),
        columns(LlmLoad, ONE_STREAM | (load or {})),
        coefficients or columns(LlmCoefficients, PLAIN),
    )


@pytest.fixture(scope="module")
def calibration() -> dict[str, Any]:
    return tomllib.loads(CALIBRATION.read_text(encoding="utf-8"))


def shipped(calibration: dict[str, Any], **levels: str) -> LlmCoefficients:
    codes = {axis: np.array([level_code(axis, levels.get(axis))]) for axis in AXES}
    return resolve(calibration["coefficients"], calibration["levels"], codes)


LLAMA_CPP_4090 = {
    "vendor": "nvidia",
    "memory_class": "gddr",
    "runtime": "llama.cpp",
    "backend": "cuda",
    "era": "since-2026",
    "format": "kquant",
    "generation": "ada",
}

works = st.sampled_from([LLAMA_8B, QWEN_30B_A3B, LLAMA_70B, GLM_5])
loads = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 256).map(float),
        "prompt_tokens": st.integers(1, 20000).map(float),
        "cached_tokens": st.integers(0, 20000).map(float),
        "output_tokens": st.integers(1, 2000).map(float),
        "context_tokens": st.integers(0, 100000).map(float),
        "interference": st.sampled_from([0.0, 1.0]),
        "microbatch_tokens": st.sampled_from([128.0, 512.0, 8192.0]),
        "draft_tokens": st.sampled_from([0.0, 3.0]),
        "acceptance": st.floats(0.0, 1.0),
        "host_dense_fraction": st.floats(0.0, 1.0),
        "host_expert_fraction": st.floats(0.0, 1.0),
        "tensor": st.sampled_from([1.0, 2.0, 4.0]),
        "pipeline": st.sampled_from([1.0, 2.0]),
    }
)


#: What a prefill waits for: the bound of each of its terms.
_PREFILL_BOUNDS = {
    "dense-weights": "memory-bandwidth",
    "expert-weights": "memory-bandwidth",
    "linear-compute": "compute",
    "expert-compute": "compute",
    "attention-compute": "compute",
    "recurrent-scan": "compute",
    "lm-head": "compute",
    "streamed-weights": "host-memory",
    "collectives": "interconnect",
    "layer-launch": "launch",
    "moe-launch": "launch",
}


@given(works, loads)
def test_a_prefill_is_bound_by_what_its_terms_say(work: dict[str, float], load: dict[str, float]) -> None:
    speed = run(work, load=load)
    sums = dict.fromkeys(BOUNDS, 0.0)
    for name, value in speed.prefill_terms:
        sums[_PREFILL_BOUNDS[name]] += float(np.ravel(value)[0])
    found = BOUNDS[int(np.ravel(speed.prefill_bound)[0])]
    assert sums[found] >= max(sums.values()) * (1 - 1e-9)


@given(works, loads)
def test_terms_sum_to_the_prediction(work: dict[str, float], load: dict[str, float]) -> None:
    speed = run(work, load=load)
    np.testing.assert_allclose(sum(value for _, value in speed.terms), speed.step_s, rtol=1e-12)
    np.testing.assert_allclose(sum(value for _, value in speed.prefill_terms), speed.prefill_s, rtol=1e-12)
    assert len({name for name, _ in speed.terms}) == len(speed.terms)
    assert all((value >= 0).all() for _, value in speed.terms)


@given(
    works,
    loads,
    st.sampled_from(
        [
            "memory_bytes_per_s",
            "compute_flop_per_s",
            "attention_flop_per_s",
            "issue_per_s",
            "compute_w",
            "link_bytes_per_s",
            "host_bytes_per_s",
            "pcie_bytes_per_s",
        ]
    ),
    st.floats(1.0, 100.0),
)
def test_a_faster_part_never_slows(
    work: dict[str, float], load: dict[str, float], field: str, by: float
) -> None:
    slow = run(work, load=load)
    fast = run(work, {field: RTX_4090[field] * by}, load)
    assert (fast.step_s <= slow.step_s * ROUNDING).all()
    assert (fast.prefill_s <= slow.prefill_s * ROUNDING).all()
    assert (fast.time_per_output_token_s <= slow.time_per_output_token_s * ROUNDING).all()
    assert (fast.time_to_first_token_s <= slow.time_to_first_token_s * ROUNDING).all()


@given(works, loads, st.floats(1.0, 50.0))
def test_longer_context_never_speeds_up(work: dict[str, float], load: dict[str, float], by: float) -> None:
    short, long = run(work, load=load), run(work, load=load | {"context_tokens": load["context_tokens"] * by})
    assert (long.step_s * ROUNDING >= short.step_s).all()


@given(works, loads, st.integers(1, 64))
def test_more_sequences_never_speed_up_one(work: dict[str, float], load: dict[str, float], more: int) -> None:
    few, many = run(work, load=load), run(work, load=load | {"concurrency": load["concurrency"] + more})
    assert (many.step_s * ROUNDING >= few.step_s).all()
    assert (many.time_per_output_token_s * ROUNDING >= few.time_per_output_token_s).all()
    assert (many.loaded_time_to_first_token_s * ROUNDING >= few.loaded_time_to_first_token_s).all()


@given(works, loads, st.integers(1, 10000))
def test_a_longer_prompt_never_prefills_sooner(
    work: dict[str, float], load: dict[str, float], more: int
) -> None:
    short = run(work, load=load)
    long = run(work, load=load | {"prompt_tokens": load["prompt_tokens"] + more})
    assert (long.prefill_s * ROUNDING >= short.prefill_s).all()


@given(works, loads, st.sampled_from([2.0, 4.0, 8.0]))
def test_tensor_parallel_is_never_better_than_linear(
    work: dict[str, float], load: dict[str, float], ranks: float
) -> None:
    resident = load | {"host_dense_fraction": 0.0, "host_expert_fraction": 0.0, "pipeline": 1.0}
    one = run(work, load=resident | {"tensor": 1.0, "expert_shards": 1.0})
    many = run(work, load=resident | {"tensor": ranks, "expert_shards": ranks})
    assert (many.step_s * ranks * ROUNDING >= one.step_s).all()
    assert (many.prefill_s * ranks * ROUNDING >= one.prefill_s).all()


@settings(max_examples=20)
@given(st.lists(st.tuples(works, loads), min_size=2, max_size=6))
def test_a_block_equals_its_rows(rows: list[tuple[dict[str, float], dict[str, float]]]) -> None:
    def stack(kind: type, values: list[dict[str, float]]) -> Any:
        return kind(**{f.name: np.array([row[f.name] for row in values]) for f in fields(kind)})

    block = predict(
        stack(LlmWork, [work for work, _ in rows]),
        columns(LlmRates, RTX_4090),
        stack(LlmLoad, [ONE_STREAM | load for _, load in rows]),
        columns(LlmCoefficients, PLAIN),
    )
    for index, (work, load) in enumerate(rows):
        single = run(work, load=load)
        assert block.step_s[index] == pytest.approx(single.step_s[0], rel=1e-14)
        assert block.prefill_s[index] == pytest.approx(single.prefill_s[0], rel=1e-14)
        assert block.bound[index] == single.bound[0]


@pytest.mark.parametrize("stages", [2.0, 8.0])
def test_stages_save_what_overlaps(stages: float) -> None:
    """All micro-batches over all stages, the first of them alone; hand-overs leave a share of what that saves."""

    linked = {"link_latency_s": 0.0, "link_peer_s": 0.0, "link_bytes_per_s": 1e18}

    def time(overlap: float, load: dict[str, float]) -> float:
        coefficients = columns(LlmCoefficients, PLAIN | {"overlap": overlap})
        return float(run(rates=linked, load=load, coefficients=coefficients).prefill_s[0])

    prompt = {"prompt_tokens": 4096.0, "microbatch_tokens": 512.0, "pipeline": stages}
    alone, whole, part = (time(overlap, prompt) for overlap in (0.0, 1.0, 0.5))
    assert alone == pytest.approx(time(1.0, prompt | {"pipeline": 1.0}))
    assert whole == pytest.approx(alone * (8 + stages - 1) / (8 * stages), rel=0.01)
    assert part == pytest.approx((alone + whole) / 2, rel=0.01)
    # No more than all of it, whatever a fit may say.
    assert time(1.5, prompt) == whole
    # One micro-batch overlaps with nothing.
    single = prompt | {"prompt_tokens": 512.0}
    assert time(1.0, single) == time(0.0, single)


@given(st.floats(1e-3, 10.0), st.integers(0, 500), st.floats(1e-3, 1e3))
def test_a_prompt_waits_for_no_more_than_all_others(taken: float, others: int, own: float) -> None:
    """``own`` is what a sequence is away for beside what the prompts of the others add to it."""

    def wait(count: float) -> float:
        away = own + count * taken
        return float(wait_turn(np.array([taken]), np.array([count]), np.array([away]))[0])

    rounding = 1e-9 * (own + (others + 1.0) * taken)
    assert wait(0.0) <= rounding
    assert 0.0 <= wait(float(others)) <= others * taken + rounding
    assert wait(float(others)) <= wait(others + 1.0) + rounding


def test_all_reduces_of_more_ranks_take_what_they_share_the_link_with() -> None:
    linked = {"link_bytes_per_s": 1e18, "link_latency_s": 5e-6, "link_peer_s": 1e-6}

    def link_s(ranks: float) -> float:
        return float(dict(run(rates=linked, load={"tensor": ranks}).terms)["collectives"][0])

    alone, two, eight = map(link_s, (1.0, 2.0, 8.0))
    assert alone == 0.0
    assert two == pytest.approx(2 * 32 * 5e-6, rel=1e-3)
    assert eight == pytest.approx(two * 11 / 5, rel=1e-3)


def test_offload_runs_at_the_speed_of_host_memory() -> None:
    resident, half = run(LLAMA_70B), run(LLAMA_70B, load={"host_dense_fraction": 0.5})
    host_s = dict(half.terms)["host-weights"][0]
    assert host_s == pytest.approx(0.5 * LLAMA_70B["dense_bytes"] / 89.6e9 * PLAIN["host"], rel=1e-12)
    assert half.step_s[0] > resident.step_s[0]
    assert BOUNDS[half.bound[0]] == "host-memory"


def test_a_full_cache_saturates() -> None:
    # Sequences in flight are at all depths: each takes what one of mean depth takes.
    crowded = run(load={"concurrency": 64.0, "kv_pool_bytes": 131072.0 * 576 * 8})
    assert crowded.effective_concurrency[0] == 8
    assert np.isnan(crowded.loaded_time_to_first_token_s[0])
    assert np.isfinite(crowded.time_to_first_token_s[0])


def test_prompts_of_others_add_their_work_and_not_their_launches() -> None:
    load = {"concurrency": 9.0, "interference": 1.0}

    def added(**coefficients: float) -> float:
        k = columns(LlmCoefficients, PLAIN | coefficients)
        mixed, apart = run(load=load, coefficients=k), run(load=load | {"interference": 0.0}, coefficients=k)
        return float((mixed.time_per_output_token_s - apart.time_per_output_token_s)[0])

    one_s = float(run(load=load).prefill_s[0])
    assert 0.0 < added() < 8 * one_s / 128
    assert added(prefill_layer=10.0) == pytest.approx(added(), rel=1e-9)
    assert added(prefill_linear=2 * PLAIN["prefill_linear"]) > added()


def test_tensor_ranks_beyond_the_heads_repeat_the_cache() -> None:
    pool = {"concurrency": 64.0, "kv_pool_bytes": 131072.0 * 576 * 32, "tensor": 8.0, "expert_shards": 8.0}
    latent = LLAMA_8B | {"kv_heads": 1.0}
    assert run(load=pool).effective_concurrency[0] == 32
    assert run(latent, load=pool).effective_concurrency[0] == 4


def test_a_pool_without_room_for_a_sequence_is_the_question_of_the_memory() -> None:
    load = {"concurrency": 16.0, "kv_pool_bytes": 131072.0 * 100}
    assert run(load=load).effective_concurrency[0] == 16
    assert np.isfinite(run(load=load).loaded_time_to_first_token_s[0])


def test_a_window_bounds_the_cache_that_is_read() -> None:
    windowed = LLAMA_8B | {
        "kv_bytes_per_token": 0.0,
        "windowed_kv_bytes_per_token": 131072.0,
        "attention_width": 0.0,
        "windowed_width": 32.0 * 4096,
        "window_tokens": 1024.0,
    }
    near = run(windowed, load={"context_tokens": 1024.0})
    far = run(windowed, load={"context_tokens": 65536.0})
    assert far.step_s[0] == near.step_s[0]


def test_an_indexer_reads_all_of_its_keys_and_the_cache_of_the_tokens_it_chooses() -> None:
    alone = {"attention": 0.0}
    coefficients = columns(LlmCoefficients, PLAIN | alone)
    near, far = (
        dict(run(GLM_5, load={"context_tokens": depth}, coefficients=coefficients).terms)["kv-cache"][0]
        for depth in (2048.0, 2 * 2048.0)
    )
    # Twice the indexer's 128 bytes a layer and token, and no more of the latent's 576.
    assert far / near == pytest.approx((2 * 128 + 576) / (128 + 576), rel=0.02)


def test_a_long_prompt_is_attended_to_by_chosen_tokens() -> None:
    def attention(prompt: float) -> float:
        parts = dict(run(GLM_5, load={"prompt_tokens": prompt, "microbatch_tokens": 1e6}).prefill_terms)
        return float(parts["attention-compute"][0])

    # Everything attends to everything at first: the square; then to 2,048 tokens, the indexer beside.
    assert attention(1024.0) / attention(512.0) == pytest.approx(4.0, rel=0.1)
    assert 2.0 < attention(65536.0) / attention(32768.0) < 3.5


def test_a_server_that_polls_every_few_steps_sends_its_first_token_later() -> None:
    load = {"concurrency": 8.0, "interference": 1.0}
    prompt, polling = run(load=load), run(load=load | {"held_steps": 15.0})
    late = polling.loaded_time_to_first_token_s - prompt.loaded_time_to_first_token_s
    np.testing.assert_allclose(late, 15.0 * prompt.step_s)
    assert polling.time_per_output_token_s == prompt.time_per_output_token_s


def test_one_token_of_a_moe_reads_its_own_experts() -> None:
    expert_s = dict(run(QWEN_30B_A3B).terms)["expert-weights"][0]
    share = expert_s / dict(run(QWEN_30B_A3B).terms)["dense-weights"][0]
    expected = QWEN_30B_A3B["expert_bytes"] * 8 / 128 * PLAIN["experts"] / QWEN_30B_A3B["dense_bytes"]
    assert share == pytest.approx(expected, rel=1e-12)


def test_speculation_pays_by_what_is_accepted() -> None:
    plain, drafted = run(), run(load={"draft_tokens": 4.0, "acceptance": 0.75})
    assert drafted.step_s[0] > plain.step_s[0]
    assert drafted.decode_tokens_per_s[0] == pytest.approx(4.0 / drafted.step_s[0])


def test_an_unknown_level_adds_nothing(calibration: dict[str, Any]) -> None:
    coefficients = shipped(calibration)
    for field in fields(LlmCoefficients):
        expected = np.exp(calibration["coefficients"][field.name])
        np.testing.assert_allclose(getattr(coefficients, field.name), expected)


def test_the_calibration_names_known_coefficients_and_levels(calibration: dict[str, Any]) -> None:
    names = {field.name for field in fields(LlmCoefficients)}
    assert set(calibration["coefficients"]) == names
    for key, offsets in calibration["levels"].items():
        name, axis = key.split(".")
        assert name in names
        assert set(offsets) <= set(AXES[axis])


def test_intervals_widen_with_distance(calibration: dict[str, Any]) -> None:
    tiers = ("near", "unseen-model", "unseen-device", "unseen-class")
    for phase in ("decode", "prefill", "tpot", "ttft"):
        rows = [calibration["intervals"][f"{phase}/{tier}"] for tier in tiers]
        assert all(row["low"] < 1.0 < row["high"] for row in rows)
        assert all(a["low"] >= b["low"] and a["high"] <= b["high"] for a, b in pairwise(rows))


def test_half_of_a_70b_in_dual_channel_memory_is_slow(calibration: dict[str, Any]) -> None:
    speed = run(
        LLAMA_70B, load={"host_dense_fraction": 0.5}, coefficients=shipped(calibration, **LLAMA_CPP_4090)
    )
    assert 1.0 <= speed.decode_tokens_per_s[0] <= 4.0


def test_small_models_pay_a_fixed_cost(calibration: dict[str, Any]) -> None:
    # A 1B model at Q4_K_M (0.76 GB read per token) would run at 1,320 tokens/s on nameplate bandwidth alone.
    small = LLAMA_8B | {
        "dense_bytes": 0.55e9,
        "lm_head_bytes": 0.21e9,
        "n_layers": 16.0,
        "n_launched": 16.0,
        "dense_params": 0.97e9,
        "lm_head_params": 0.263e9,
        "kv_bytes_per_token": 32768.0,
        "attention_width": 16.0 * 2048,
        "hidden_size": 2048.0,
    }
    speed = run(small, coefficients=shipped(calibration, **LLAMA_CPP_4090))
    assert speed.decode_tokens_per_s[0] < 0.65 * 1008e9 / 0.76e9


def test_hbm_does_not_reach_its_sheet_in_llama_cpp(calibration: dict[str, Any]) -> None:
    a100 = {
        "memory_bytes_per_s": 2039e9,
        "compute_flop_per_s": 624e12,
        "attention_flop_per_s": 312e12,
        "issue_per_s": 108 * 1.41e9,
        "compute_w": 400.0,
    }
    levels = LLAMA_CPP_4090 | {"memory_class": "hbm", "generation": "ampere"}
    speed = run(LLAMA_8B, a100, coefficients=shipped(calibration, **levels))
    efficiency = speed.decode_tokens_per_s[0] * 4.64e9 / 2039e9
    assert 0.2 < efficiency < 0.5


def test_of_one_chip_the_card_with_more_power_prefills_sooner(calibration: dict[str, Any]) -> None:
    coefficients = shipped(calibration, **LLAMA_CPP_4090)
    capped = run(rates={"compute_w": 70.0}, coefficients=coefficients)
    assert capped.prefill_s[0] > 1.05 * run(coefficients=coefficients).prefill_s[0]
    assert capped.step_s[0] == run(coefficients=coefficients).step_s[0]


def test_context_slows_by_the_cache_it_reads(calibration: dict[str, Any]) -> None:
    coefficients = shipped(calibration, **LLAMA_CPP_4090)
    near = run(load={"context_tokens": 0.0}, coefficients=coefficients)
    far = run(load={"context_tokens": 32768.0}, coefficients=coefficients)
    extra = far.step_s[0] - near.step_s[0]
    assert extra >= 0.5 * 32768 * 131072 / 1008e9


def test_the_peak_follows_runtime_and_format() -> None:
    def peak(
        runtime: str,
        format: str,
        backend: str = "cuda",
        generation: str = "ada",
        product: str | None = None,
        fp4: float = np.nan,
    ) -> float:
        return float(
            select_compute_peak(
                int8_ops_per_s=column(660.6e12),
                fp8_flop_per_s=column(330.3e12),
                fp4_flop_per_s=column(fp4),
                fp16_flop_per_s=column(165.2e12),
                fp16_accumulate_fp16_flop_per_s=column(330.3e12),
                fp32_flop_per_s=column(82.6e12),
                runtime=np.array([level_code("runtime", runtime)]),
                backend=np.array([level_code("backend", backend)]),
                format=np.array([level_code("format", format)]),
                generation=np.array([level_code("generation", generation)]),
                product=np.array([level_code("product", product)]),
            )[0]
        )

    assert peak("llama.cpp", "kquant") == 660.6e12
    assert peak("llama.cpp", "f16") == 330.3e12
    assert peak("llama.cpp", "kquant", "vulkan") == 330.3e12
    assert peak("llama.cpp", "bf16") == 165.2e12  # accumulates in FP32
    assert peak("llama.cpp", "bf16", "vulkan") == 165.2e12
    assert peak("llama.cpp", "bf16", "vulkan", "rdna-wmma") == 82.6e12
    assert peak("vllm", "f16") == peak("vllm", "int4") == 165.2e12
    assert peak("vllm", "fp8") == 330.3e12
    assert peak("vllm", "nvfp4") == 165.2e12  # no FP4 unit: weight-only
    assert peak("vllm", "nvfp4", generation="blackwell", fp4=1321e12) == 1321e12
    assert peak("tensorrt-llm", "nvfp4", generation="blackwell-rtx", fp4=1321e12) == 1321e12
    # vLLM expands narrow weights on GeForce Blackwell and GB10.
    assert peak("vllm", "nvfp4", generation="blackwell-rtx", fp4=1321e12) == 165.2e12
    assert peak("vllm", "fp8", generation="blackwell-rtx") == 165.2e12
    assert peak("llama.cpp", "kquant", product="library") == 330.3e12
    assert peak("openvino", "q8") == 165.2e12  # weights alone
    assert peak("vllm", "q8") == 660.6e12
    assert peak("pytorch", "f32") == 82.6e12


def test_products_of_floats_and_of_old_builds_are_the_librarys() -> None:
    def product(
        format: str, backend: str, generation: str, runtime: str = "llama.cpp", told: str | None = None
    ) -> int:
        named = {"format": format, "backend": backend, "generation": generation, "runtime": runtime}
        codes = {axis: np.array([level_code(axis, name)]) for axis, name in named.items()}
        return int(product_codes(codes | {"product": np.array([level_code("product", told)])})[0])

    library = level_code("product", "library")
    assert product("f16", "cuda", "pascal") == product("f16", "rocm", "rdna") == library
    assert product("kquant", "cuda", "ampere", told="library") == library
    for row in (
        ("f16", "vulkan", "ampere"),
        ("kquant", "cuda", "ampere"),
        ("f16", "cuda", "ampere", "vllm"),
    ):
        assert product(*row) == UNKNOWN
    # Without matrix units old builds multiplied integers themselves.
    assert product("kquant", "cuda", "pascal", told="library") == UNKNOWN


def test_classes_come_from_codes_not_names() -> None:
    assert classify_memory("GDDR6X") == "gddr"
    assert classify_memory("unknown") is None
    assert classify_generation("nvidia", "10.0") == "blackwell"
    assert classify_generation("nvidia", "12.0") == "blackwell-rtx"
    assert classify_generation("amd", "gfx942") == "cdna"
    assert classify_generation("acme", "1.0") is None
    assert classify_format("bf16") == "bf16"
    assert classify_format("fp16") == "f16"
    assert classify_format("q5_k_m") == "kquant"
    assert classify_format("q3_k_s") == classify_format("ud-q2_k_xl") == "kquant-low"
    assert classify_format("mlx-4bit") == "int4"
    assert classify_format("no-such-format") is None


def test_inputs_are_frozen() -> None:
    work = columns(LlmWork, LLAMA_8B)
    with pytest.raises(AttributeError):
        work.dense_bytes = column(0.0)
    assert replace(work, dense_bytes=column(0.0)).dense_bytes[0] == 0.0


def test_a_recurrent_state_is_updated_by_every_token_of_a_prompt() -> None:
    def seconds(tokens: float, state: float) -> float:
        load = {"prompt_tokens": tokens, "output_tokens": 1.0, "microbatch_tokens": 512.0}
        found = run(LLAMA_8B | {"state_bytes": state}, load=load)
        return float(np.ravel(dict(found.prefill_terms)["recurrent-scan"])[0])

    assert seconds(2048.0, 0.0) == 0.0
    assert seconds(4096.0, 1e6) == pytest.approx(2.0 * seconds(2048.0, 1e6), rel=0.01)
