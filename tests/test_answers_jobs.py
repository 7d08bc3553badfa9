"""Questions about jobs, rates, memory that stands apart from a name, and words: what people ask next."""

from __future__ import annotations

import pytest

from willitrun import Answer, Workload, ask, assess, estimate_memory, load_catalog, plan_batch
from willitrun.units import format_bytes


def accelerator(answer: Answer) -> str:
    assert answer.verdict is not None
    return answer.verdict.inputs.accelerators[0]


def available_gib(answer: Answer) -> float:
    assert answer.verdict is not None
    assert answer.verdict.memory is not None
    return (answer.verdict.memory.per_device[0].available_bytes or 0) / 2**30


@pytest.mark.parametrize(
    ("question", "model", "machine", "items"),
    [
        ("how long does it take to transcribe 1000 hours with whisper large v3 on a 4090?", "whisper-large-v3", "rtx-4090", 1000),
        ("how long to embed 10 million documents with bge-m3 on an L4?", "bge-m3", "l4", 1e7),
        ("how long do 1,000 sdxl images take on a 4090", "sdxl", "rtx-4090", 1000),
        ("how many hours to summarise 5k documents with llama 3.1 8b on a 4090?", "llama-3.1-8b", "rtx-4090", 5000),
        ("how long to classify 1 million images with resnet-50 on a 3060 12gb", "resnet-50", "rtx-3060-12gb", 1e6),
    ],
)  # fmt: skip
def test_a_job_takes_what_a_plan_says(question: str, model: str, machine: str, items: float) -> None:
    answer = ask(question)
    option = plan_batch(model, machine, items=items).options[0]
    assert option.hours is not None
    assert answer.value == pytest.approx(option.hours.best)
    assert f"{items:,.0f}" in answer.text
    assert f"{option.in_flight} at a time" in answer.text
    assert answer.verdict is not None
    load = answer.verdict.inputs.workload
    assert option.in_flight in (load.get("batch_size"), load.get("concurrency"))


def test_a_short_recording_is_as_long_as_it_is() -> None:
    answer = ask("how long does a 6 minute recording take with whisper large v3 on a 4090?")
    plan = plan_batch("whisper-large-v3", "rtx-4090", Workload(audio_s=360.0), items=0.1).options[0]
    assert plan.hours is not None
    assert answer.value == pytest.approx(plan.hours.best)
    assert "0.1 hours of audio" in answer.text


def test_hours_of_audio_are_no_pictures_and_rates_no_jobs() -> None:
    assert "batch-plan" not in ask("how long does 1 hour of resnet-50 take on a 4090").text
    assert "batch-plan" not in ask("how many images per second does resnet-50 do on a 3060").text
    assert ask("resnet50 batch 256 fp16 on rtx 3060 12gb images per second").workload["batch_size"] == 256


def test_a_rate_that_is_asked_for_is_compared_with_the_interval() -> None:
    near = ask("can jetson orin nano run yolov8n at 30 fps?")
    assert "the 30 per second that were asked for" in near.text
    assert "Even the low end reaches" in ask("will I get 5 tokens/s with qwen3 14b on a 4070").text
    assert "Even the high end stays below" in ask("will I get 500 tokens/s with qwen3 14b on a 4070").text
    slow = ask("is a 3060 12gb enough to transcribe at 200x real time with whisper large v3?")
    assert slow.text.startswith("It runs, but slowly")
    assert "the 200 times real time" in slow.text
    # A card's number is no rate.
    assert "asked for" not in ask("how many images per second does resnet-50 do on a 3060").text


@pytest.mark.parametrize(
    "said", ["an m4 pro with 24gb", "an m4 pro with 24 GB of unified memory", "a 24 gb m4 pro", "m4 pro 24gb"]
)
def test_memory_may_stand_apart_from_its_name(said: str) -> None:
    """Half the memory of the machine was assumed over what the question said."""
    answer = ask(f"how fast is gpt-oss 20b on {said}?")
    assert accelerator(answer) == "apple-m4-pro-16gpu"
    expected = assess("gpt-oss-20b", "apple-m4-pro-16gpu:24 GiB")
    assert answer.verdict is not None
    assert answer.verdict.memory == expected.memory


def test_memory_tells_the_variant_or_is_the_hosts() -> None:
    assert accelerator(ask("llama 3.1 8b on a 3060 with 8gb")) == "nvidia-geforce-rtx-3060-8gb"
    assert accelerator(ask("llama 3.1 8b on a 3060 with 12gb")) == "nvidia-geforce-rtx-3060-12gb"
    answer = ask("llama 3.1 70b q4_k_m on an rtx 4090 with 128gb")
    assert available_gib(answer) < 24
    assert any("host's RAM" in text for text in answer.assumptions)
    assert answer.verdict is not None
    assert answer.verdict.tier == "offload"


def test_a_mac_is_taken_for_a_chip_that_is_sold_with_its_memory() -> None:
    answer = ask("does qwen3-coder-480b run on a mac studio 512gb")
    record = load_catalog().accelerators[accelerator(answer)]
    assert record.vendor == "apple"
    assert 512 * 2**30 in record.unified_memory_options
    assert available_gib(answer) < 512
    assert "mac studio, 512 GB" in answer.text


def test_least_memory_asks_for_an_amount() -> None:
    answer = ask("minimum ram for gpt-oss-120b")
    assert answer.intent == "memory"
    assert answer.value == pytest.approx(63e9, rel=0.1)


def test_money_and_energy_are_of_what_was_judged() -> None:
    answer = ask("how much does it cost to run llama 3.1 70b q4_k_m on an h100 sxm")
    assert "willitrun cost llama-3.1-70b --on nvidia-h100-sxm5-80gb -q q4_k_m`" in answer.text
    drawn = ask("how much power does a 5090 use running gemma 3 27b?")
    assert drawn.verdict is not None
    assert drawn.verdict.speed is not None
    energy = drawn.verdict.speed.energy_j_per_unit
    assert energy is not None
    assert f"{energy.best:.3g} J" in drawn.text
    assert "each output token" in drawn.text
    assert "not known" in ask("how much power does llama 3.1 8b take on a raspberry pi 5").text


@pytest.mark.parametrize(
    ("question", "entries"),
    [
        ("what's the difference between q4_k_m and iq4_xs?", ("k-quants", "i-quants")),
        ("What is the difference between prefill and decode", ("prefill", "decode")),
        ("how does awq differ from gptq?", ("awq", "gptq")),
        ("how is vllm different from llama.cpp", ("vllm", "llama-cpp")),
        ("what is the difference between q4_k_m and q6_k", ("k-quants",)),
        ("how do I fix torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", ("troubleshooting:cuda-out-of-memory",)),
    ],
)  # fmt: skip
def test_words_are_explained(question: str, entries: tuple[str, ...]) -> None:
    answer = ask(question)
    assert answer.intent == "term"
    assert all(f"`willitrun glossary {entry}`" in answer.text for entry in entries)


def test_what_is_not_understood_says_where_to_go() -> None:
    answer = ask("why is the sky blue?", machine="rtx-4090")
    assert not answer
    assert "willitrun diagnose" in answer.text


def test_models_and_runtimes_are_set_against_each_other() -> None:
    """The second model, or runtime, was not read, and the answer was about the first alone."""
    models = ask("qwen 3 8b vs llama 3.1 8b on a 4060 8gb")
    assert models.intent == "comparison"
    assert "Qwen3 8B" in models.text
    assert "Llama 3.1 8B Instruct" in models.text
    assert "on all of them" in models.text
    assert "is faster on NVIDIA GeForce RTX 4060" in models.text
    runtimes = ask("is vllm faster than ollama for llama 3.1 8b on a 4090?")
    assert "vLLM" in runtimes.text
    assert "Ollama" in runtimes.text
    rates = [
        assess("llama-3.1-8b", "rtx-4090", quantization="bf16", runtime=name).speed.decode_tokens_per_s.best  # type: ignore[union-attr]
        for name in ("vllm", "ollama")
    ]
    assert runtimes.text.startswith("Ollama is faster" if rates[1] > rates[0] else "vLLM is faster")
    # One model, and words that only look like a contest.
    assert ask("will llama 3.1 8b run or not on a 4090").intent == "fit"


def test_the_quicker_of_two_videos_takes_less_time() -> None:
    """The longer time was called faster."""
    answer = ask("3090 or 4090 for wan2.1-t2v-1.3b")
    assert answer.text.startswith("NVIDIA GeForce RTX 4090 is faster")


def test_a_slash_within_a_name_is_no_publisher() -> None:
    """ViT-L/16 was ViT-B/16, after the number that stands behind the slash of both."""
    answer = ask("batch 32 vit-l/16 fp16 on an a100 80gb throughput")
    assert answer.model == "vit-l-16"
    assert answer.workload["batch_size"] == 32
    assert ask("vit-b/16 on a 4090").model == "vit-b-16"


def test_what_no_record_goes_by_is_said() -> None:
    answer = ask("phi 3.5 mini on iphone 15", machine=None)
    assert "“iphone 15” names no machine that is known" in answer.text
    assert "names no machine" not in ask("llama 3.1 8b on an rtx 4090").text
    assert "names no machine" not in ask("llama 3.1 8b on a 24gb card").text


def test_most_users_and_a_card_for_a_model_are_searches() -> None:
    most = ask("max concurrent users for qwen2.5 7b awq on a 4090 with 4k context")
    assert most.intent == "largest-concurrency"
    assert ask("gpu for whisper large v3").intent == "smallest-machine"
    assert ask("best gpu to run phi 4").intent == "smallest-machine"


def test_memory_of_training_says_what_it_is_of() -> None:
    """Activations of 8,192 tokens, all kept, were most of 52 GiB "to fine-tune a 3B", and nothing said so."""
    answer = ask("how much vram to lora finetune llama 3.2 3b")
    load = Workload(mode="lora", gradient_checkpointing="full")
    again = estimate_memory("llama-3.2-3b", None, load).total_bytes.best
    assert f"it is {format_bytes(again)}" in answer.text
    assert {"sequences of 8,192 tokens", "batch 1", "activations are kept for the backward pass"} <= set(
        answer.assumptions
    )
    # QLoRA recomputes by itself, and pictures have no such switch.
    assert "computed again" not in ask("how much vram for qlora of llama 3.2 3b").text
    assert "computed again" not in ask("how much vram to train resnet-50").text
