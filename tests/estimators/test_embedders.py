"""Embedders and rerankers that were decoders: texts per second, and a cache as their runtimes keep one."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import (
    InvalidWorkloadError,
    SpeedEstimate,
    Verdict,
    Workload,
    assess,
    describe_model,
    load_catalog,
    plan,
)
from willitrun.estimators.workloads import ENCODER_TASKS

MIB = 2**20
CARD = "rtx-4090"


def _speed(verdict: Verdict) -> SpeedEstimate:
    assert verdict.speed is not None
    return verdict.speed


def test_every_embedder_of_the_catalog_reads_texts() -> None:
    named = [model for model in load_catalog().models.values() if model.task in ENCODER_TASKS]
    decoders = [model for model in named if model.transformer and not model.transformer.is_encoder_only]
    assert len(decoders) > 12
    for model in decoders:
        speed = _speed(assess(model, "b200"))
        assert speed.samples_per_s is not None, model.id
        assert speed.decode_tokens_per_s is None, model.id
        assert speed.throughput_tokens_per_s is None, model.id
        assert speed.time_to_first_token_s is None, model.id


@pytest.mark.parametrize("runtime", ["transformers", "vllm", "llama.cpp"])
def test_texts_are_prompts_that_are_read(runtime: str) -> None:
    speed = _speed(assess("qwen3-embedding-4b", CARD, Workload(prompt_tokens=256), runtime=runtime))
    assert speed.samples_per_s is not None
    assert speed.prefill_tokens_per_s is not None
    assert speed.samples_per_s.best == pytest.approx(speed.prefill_tokens_per_s.best / 256)


def test_keys_and_values_live_while_texts_are_read() -> None:
    # 36 layers x 8 heads x 128 x keys and values x 2 bytes a token: 144 KiB.
    one, many = (
        assess(
            "qwen3-embedding-4b", CARD, Workload(prompt_tokens=512, batch_size=size), runtime="transformers"
        )
        for size in (1, 8)
    )
    assert one.memory is not None
    assert many.memory is not None
    assert one.memory.kv_cache_bytes.best == 512 * 144 * 1024
    assert many.memory.kv_cache_bytes.best == 8 * one.memory.kv_cache_bytes.best


@pytest.mark.parametrize("runtime", ["transformers", "vllm", "llama.cpp"])
def test_what_looks_both_ways_keeps_nothing(runtime: str) -> None:
    verdict = assess("embeddinggemma-300m", CARD, Workload(batch_size=8), runtime=runtime)
    assert verdict.memory is not None
    assert verdict.memory.kv_cache_bytes.best == 0
    assert _speed(verdict).samples_per_s is not None


def test_a_config_that_looks_both_ways() -> None:
    config = {
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 24,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "use_bidirectional_attention": True,
    }
    found = describe_model(config)
    assert found.transformer is not None
    assert found.transformer.is_encoder_only
    assert found.task == "feature-extraction"


def test_pages_are_embedded_as_pictures() -> None:
    text = _speed(assess("colqwen2-v1.0", CARD, Workload(prompt_tokens=20)))
    page = _speed(assess("colqwen2-v1.0", CARD, Workload(prompt_tokens=20, images=1, image_size=448)))
    assert text.samples_per_s is not None
    assert page.samples_per_s is not None
    assert page.samples_per_s.best < text.samples_per_s.best


@pytest.mark.parametrize("load", [{"images": 1, "image_size": 448}, {"prompt_tokens": 65}])
def test_what_is_longer_than_its_context_is_refused(load: dict[str, Any]) -> None:
    with pytest.raises(InvalidWorkloadError, match="exceed the context of 64"):
        assess("colqwen2-v1.0", CARD, Workload(context_tokens=64, **load))
    room = assess("colqwen2-v1.0", CARD, Workload(context_tokens=512, **load)).inputs.workload
    assert room["prompt_tokens"] == load.get("prompt_tokens", 512 - 256)


def test_a_plan_has_the_same_texts_per_second_and_bound() -> None:
    loads = [Workload(prompt_tokens=128), Workload(prompt_tokens=2048)]
    table = plan(models=["qwen3-embedding-0.6b"], machines=[CARD], workloads=loads, runtimes=["vllm"])
    rates, bounds = table.columns["samples_per_s"].tolist(), []
    for planned, bound, load in zip(rates, table["bound"].tolist(), loads, strict=True):
        alone = _speed(assess("qwen3-embedding-0.6b", CARD, load, runtime="vllm"))
        assert alone.samples_per_s is not None
        assert planned == pytest.approx(alone.samples_per_s.best, rel=1e-9)
        assert bound == alone.bound
        bounds.append(alone.bound)
    assert bounds[-1] == "compute"
