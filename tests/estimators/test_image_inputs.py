"""Images of a prompt: tokens, the image encoder's memory, and what is assumed or not known."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, describe_model, estimate_memory, estimate_speed, plan
from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.image_inputs import image_input

TOKENS = [
    # model, side, tokens: each worked out by hand from the processor that the module names.
    ("qwen2.5-vl-7b", 1024, 37 * 37),
    ("qwen2.5-vl-7b", 8000, 16384),
    ("qwen2-vl-2b", 224, 8 * 8),
    ("qwen3-vl-8b", 1024, 32 * 32),
    ("qwen3-vl-8b", 64, 8 * 8),
    ("qwen3.5-9b", 1024, 32 * 32),
    ("glm-4.1v-9b-thinking", 1024, 37 * 37),
    ("gemma-3-12b", 2048, 256),
    ("gemma-4-26b-a4b", 2048, 256),
    ("llava-1.5-7b", 2048, 576),
    ("llava-v1.6-mistral-7b", 672, 576 + 48 * 49),
    ("internvl3-8b", 448, 256 + 2),
    ("internvl3-8b", 1024, 10 * 256 + 2),
    ("mistral-small-3.2-24b-2506", 1024, 37 * 38),
    ("paligemma2-3b-mix-448", 448, 1024),
]


@pytest.mark.parametrize(("model", "side", "tokens"), TOKENS)
def test_tokens_of_a_picture(model: str, side: int, tokens: int) -> None:
    found = image_input(describe_model(model), Workload(image_size=side))
    assert found is not None
    assert found.tokens == tokens


@pytest.mark.parametrize("runtime", ["llama.cpp", "vllm", "transformers"])
def test_images_take_cache_and_encoder_memory_and_prefill_time(runtime: str) -> None:
    def said(images: int) -> tuple[float, float, float]:
        load = Workload(images=images, image_size=1344, context_tokens=16384)
        asked = ("qwen2.5-vl-7b", "a100-sxm4-80gb", load)
        memory = estimate_memory(*asked, runtime=runtime, quantization=None)
        time = estimate_speed(*asked, runtime=runtime).time_to_first_token_s
        assert time is not None
        return memory.activation_bytes.best, memory.total_bytes.best, time.best

    none, four = said(0), said(4)
    # A paged server's own profile of the language model may be the larger of the two.
    if runtime != "vllm":
        assert four[0] > none[0]
        assert four[1] > none[1]
    assert four[0] >= none[0]
    assert four[2] > 3 * none[2]


def test_a_size_that_nobody_gives_is_assumed_and_stated() -> None:
    verdict = assess("qwen2.5-vl-7b", "rtx-4090", Workload(images=2))
    assert verdict.tier == "comfortable"
    assert "assumed-image-size" in {reason.code for reason in verdict.reasons}
    assert verdict.inputs.workload["image_size"] == 1024
    given = assess("qwen2.5-vl-7b", "rtx-4090", Workload(images=2, image_size=1024))
    assert "assumed-image-size" not in {reason.code for reason in given.reasons}
    assert given.memory == verdict.memory


def test_the_default_context_holds_the_images() -> None:
    verdict = assess("qwen2.5-vl-7b", "a100-sxm4-80gb", Workload(images=10))
    assert verdict.inputs.workload["context_tokens"] >= 10 * 1369 + 512 + 128
    with pytest.raises(InvalidWorkloadError, match=r"images 13690 .* exceed the context of 8192"):
        assess("qwen2.5-vl-7b", "a100-sxm4-80gb", Workload(images=10, context_tokens=8192))


def test_a_model_whose_tokens_no_source_states_is_unknown_with_a_way_out() -> None:
    verdict = assess("smolvlm2-2.2b", "rtx-4090", Workload(images=1))
    assert verdict.tier == "unknown"
    assert verdict.reasons[0].code == "memory-not-modelled"
    assert "prompt_tokens" in verdict.reasons[0].message


def test_sweeps_see_images_as_single_answers_do() -> None:
    loads = [Workload(images=count, image_size=1024) for count in (0, 1, 3)]
    models = ["qwen2.5-vl-7b", "gemma-3-12b"]
    table = plan(
        models=models,
        machines=["rtx-4090"],
        workloads=loads,
        quantizations=["q4_k_m"],
        runtimes=["llama.cpp"],
    )
    singles = [
        assess(model, "rtx-4090", load, quantization="q4_k_m", runtime="llama.cpp")
        for model in models
        for load in loads
    ]
    assert sorted(table["total_bytes"].tolist()) == sorted(
        single.memory.total_bytes.best for single in singles
    )
    # With images or without: llama.cpp encodes one at a time.
    assert len({single.memory.total_bytes.best for single in singles}) == 4
