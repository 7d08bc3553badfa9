"""A verdict is never comfortable where memory is short, whatever the architecture, runtime and task."""

from __future__ import annotations

from typing import Any

import pytest

from strategies import machine_with
from willitrun import Runtime, Workload, assess, describe_machine, estimate_memory

_CHAT = Workload(context_tokens=8192)
_SERVING = Workload(context_tokens=4096, concurrency=8)
_LORA = Workload(mode="lora", context_tokens=1024, batch_size=2)

CASES: list[tuple[str, str | None, str | None, Workload]] = [
    # Dense, grouped and multi-head attention, tied and untied.
    *[
        (model, quantization, "llama.cpp", _CHAT)
        for model in ("llama-3.1-8b", "mistral-7b-v0.1", "qwen2.5-7b", "qwen3-4b", "mistral-7b-v0.3", "phi-4")
        for quantization in ("q4_k_m", "q8_0")
    ],
    # Sliding window, mixture of experts, latent attention, hybrid and state-space models.
    *[
        (model, "q4_k_m", "llama.cpp", _SERVING)
        for model in ("gemma-3-12b", "gemma-2-9b", "gpt-oss-20b", "qwen3-30b-a3b", "deepseek-v2-lite", "falcon-h1-7b")
    ],
    *[(model, "iq4_xs", "ollama", _CHAT) for model in ("llama-3.2-3b", "gemma-3-4b", "mixtral-8x7b", "olmo-3-7b")],
    ("llama-3.1-8b", "ud-q4_k_xl", "llama.cpp", _CHAT),
    ("qwen3-8b", "q4_k_l", "llama.cpp", _CHAT),
    *[(model, "bf16", "vllm", _SERVING) for model in ("llama-3.1-8b", "qwen2.5-14b", "gemma-3-4b", "qwen3-30b-a3b")],
    *[(model, "awq-int4", "vllm", _CHAT) for model in ("llama-3.1-8b", "qwen2.5-32b")],
    ("llama-3.1-8b", "fp8", "sglang", _SERVING),
    ("llama-3.1-8b", "fp8", "tensorrt-llm", _SERVING),
    ("llama-3.1-8b", "exl2-4.0", "exllamav2", _CHAT),
    ("qwen3-8b", "bf16", "transformers", _CHAT),
    ("llama-3.1-8b", "nf4", "transformers", _CHAT),
    # Embeddings, speech, pictures, pipelines.
    ("bge-m3", None, None, Workload(batch_size=32, prompt_tokens=512)),
    ("whisper-large-v3", None, None, Workload(audio_s=60.0)),
    ("resnet-50", None, None, Workload(batch_size=128)),
    ("resnet-50", None, None, Workload(batch_size=512, precision="amp-fp16")),
    ("vit-base-patch16-224", None, None, Workload(batch_size=256)),
    ("stable-diffusion-xl", None, None, Workload(image_size=1024)),
    ("flux.1-dev", None, None, Workload(image_size=1024)),
    # Training.
    ("llama-3.1-8b", None, None, _LORA),
    ("llama-3.1-8b", None, None, _LORA.model_copy(update={"mode": "qlora"})),
    ("qwen3-0.6b", None, None, _LORA.model_copy(update={"mode": "full-finetune"})),
    ("resnet-50", None, None, Workload(mode="full-finetune", batch_size=64)),
]  # fmt: skip
SHORT = (0.80, 0.90, 0.95, 0.98, 0.995, 1.0, 1.02)
"""Share of the best estimate that is free: below what it needs, exactly that, and a hair more."""


def test_there_are_at_least_300_constructed_cases() -> None:
    assert len(CASES) * len(SHORT) >= 300


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}-{case[3].mode}")
def test_never_comfortable_where_memory_is_short(case: tuple[str, str | None, str | None, Workload]) -> None:
    model, quantization, runtime, workload = case
    asked: dict[str, Any] = {"quantization": quantization, "runtime": runtime}
    roomy = estimate_memory(model, machine_with(640 * 2**30, ram="2 TiB"), workload, **asked)
    # Servers choose their limits by the size of the card, so the need is asked for on one that is about right.
    size = int(1.5 * roomy.total_bytes.high)
    roomy = estimate_memory(model, machine_with(size, ram="2 TiB"), workload, **asked)
    need = roomy.total_bytes.best
    for share in SHORT:
        verdict = assess(model, machine_with(int(need * share), ram="2 TiB"), workload, **asked)
        assert verdict.tier in ("tight", "offload", "will-not-run"), (share, verdict.tier, need)
    # And the other way round: with half as much again on top of its high end it does run.
    plenty = int(1.6 * roomy.total_bytes.high) + 2**30
    assert assess(model, machine_with(plenty, ram="2 TiB"), workload, **asked).feasible


def test_a_recorded_out_of_memory_is_not_comfortable() -> None:
    """Qwen-7B in bf16 on an A100 80 GB, 1,024 generated tokens: batches of 64 and 100 ran out of memory, 32 took
    48.7 GB (https://github.com/QwenLM/Qwen, KV cache quantization)."""
    card = describe_machine("a100-sxm4-80gb")
    for version in ("4.31", None):
        for batch in (64, 100):
            verdict = assess(
                "Qwen/Qwen-7B-Chat",
                card,
                Workload(context_tokens=1536, prompt_tokens=512, output_tokens=1024, concurrency=batch),
                quantization="bf16",
                runtime=Runtime(name="transformers", version=version),
            )
            assert verdict.tier != "comfortable", (version, batch)
