"""Questions in plain words: what they are taken for, what is said to be assumed, and the number that answers them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from willitrun import (
    WillItRunError,
    Workload,
    ask,
    assess,
    describe_machine,
    estimate_memory,
    largest_context,
    load_catalog,
    smallest_machine,
)
from willitrun.planning.prices import quote_purchase
from willitrun.records.machines import Machine
from willitrun.units import format_bytes

R3060, R3090, R4090 = (f"nvidia-geforce-rtx-{name}" for name in ("3060-12gb", "3090", "4090"))

# Question, intent, model, machines, what it says of the workload and the recipe.
QUESTIONS: list[tuple[str, str, str, tuple[str, ...], dict[str, Any]]] = [
    ("can a 3060 12GB run llama 3.1 8b at 32k?", "fit", "llama-3.1-8b", (R3060,), {"context_tokens": 32768}),
    ("Can I run Llama 3.1 70B Q4_K_M on an RTX 4090?", "fit", "llama-3.1-70b", (R4090,), {"quantization": "q4_k_m"}),
    ("will mistral 7b fit on a gtx 1070", "fit", "mistral-7b", ("nvidia-geforce-gtx-1070",), {}),
    ("does qwen2.5-coder-32b run on an m2 ultra 192gb", "fit", "qwen2.5-coder-32b", ("apple-m2-ultra-60gpu",), {}),
    ("is a 4060 ti 16gb enough for gpt-oss-20b?", "fit", "gpt-oss-20b", ("nvidia-geforce-rtx-4060-ti-16gb",), {}),
    ("could an rtx 5090 handle qwen3 30b a3b with 32k context", "fit", "qwen3-30b-a3b", ("nvidia-geforce-rtx-5090",), {"context_tokens": 32768}),
    ("run deepseek-r1 on 8x h200", "fit", "deepseek-r1", ("nvidia-h200-sxm-141gb",), {}),
    ("can 2x 3090 run llama 3.3 70b q4_k_m at 16k context?", "fit", "llama-3.3-70b", (R3090,), {"context_tokens": 16384, "quantization": "q4_k_m"}),
    ("can two 3090s run llama 3.3 70b in 4-bit", "fit", "llama-3.3-70b", (R3090,), {"quantization": "q4_k_m"}),
    ("can a quad 3090 box run mixtral 8x22b", "fit", "mixtral-8x22b", (R3090,), {}),
    ("will llama 3.1 8b run in ollama on a 1660 super", "fit", "llama-3.1-8b", ("nvidia-geforce-gtx-1660-super",), {"runtime": "ollama"}),
    ("does phi-4 fit in 12gb vram", "fit", "phi-4", (), {}),
    ("is 24gb enough for qwen3 32b at q5_k_m with 16k context", "fit", "qwen3-32b", (), {"context_tokens": 16384, "quantization": "q5_k_m"}),
    ("can I run llama 8b with 8gb vram", "fit", "llama-3.1-8b", (), {}),
    ("can raspberry pi 5 run llama 3.2 1b", "fit", "llama-3.2-1b", ("raspberry-pi-5",), {}),
    ("can a jetson orin nano run qwen2.5 3b", "fit", "qwen2.5-3b", ("nvidia-jetson-orin-nano-8gb",), {}),
    ("will gemma 3 27b run on my mac m3 max 64gb", "fit", "gemma-3-27b", ("apple-m3-max-40gpu",), {}),
    ("gpt-oss 20b on 16gb mac mini m4", "fit", "gpt-oss-20b", ("apple-m4-10gpu",), {}),
    ("run qwen3 30b a3b on 7900 xtx", "fit", "qwen3-30b-a3b", ("amd-radeon-rx-7900-xtx",), {}),
    ("llama 3.1 8b on arc b580", "fit", "llama-3.1-8b", ("intel-arc-b580",), {}),
    ("glm-4.5-air on strix halo", "fit", "glm-4.5-air", ("amd-radeon-8060s",), {}),
    ("can a dgx spark run gpt-oss-120b", "fit", "gpt-oss-120b", ("nvidia-gb10-dgx-spark",), {}),
    ("llama-3.1-8b q8_0 rtx 3090 8192 context", "fit", "llama-3.1-8b", (R3090,), {"context_tokens": 8192, "quantization": "q8_0"}),
    ("meta-llama/Llama-3.1-8B-Instruct on an L40S with vllm", "fit", "llama-3.1-8b", ("nvidia-l40s",), {"runtime": "vllm"}),
    ("qwen2.5:7b on 3070 in ollama", "fit", "qwen2.5-7b", ("nvidia-geforce-rtx-3070",), {"runtime": "ollama"}),
    ("bge-m3 on a 3060", "fit", "bge-m3", (R3060,), {}),
    ("can a gtx 1080 ti run resnet-152 at batch 64", "fit", "resnet-152", ("nvidia-geforce-gtx-1080-ti",), {"batch_size": 64}),
    ("can a 4070 ti run flux dev", "fit", "flux.1-dev", ("nvidia-geforce-rtx-4070-ti",), {}),
    ("can I finetune llama 3.1 8b with qlora on a 4090", "fit", "llama-3.1-8b", (R4090,), {"mode": "qlora"}),
    ("lora llama 3.2 3b on a 3060 12gb batch 2", "fit", "llama-3.2-3b", (R3060,), {"mode": "lora", "batch_size": 2}),
    ("a 3090 and a 3060 12gb together for llama 3.3 70b q4_k_m?", "fit", "llama-3.3-70b", (R3090, R3060), {"quantization": "q4_k_m"}),
    ("largest context for qwen3 14b on 2x3090", "largest-context", "qwen3-14b", (R3090,), {}),
    ("run deepseek-r1 on 8xh200", "fit", "deepseek-r1", ("nvidia-h200-sxm-141gb",), {}),
    ("what context can gemma 3 27b do on a 24gb card", "largest-context", "gemma-3-27b", (), {}),
    ("best quantization of mistral small 24b for 16gb vram", "best-quantization", "mistral-small-24b-2501", (), {}),
    ("which runtime should I use for gemma 3 12b on m4 pro", "best-runtime", "gemma-3-12b", ("apple-m4-pro-16gpu",), {"runtime": "mlx"}),
    ("how long does imagenet validation take with resnet-50 on a 4090", "speed", "resnet-50", (R4090,), {"dataset": "imagenet-1k", "split": "validation"}),
    ("how fast is llama 3.1 8b on a 4090", "speed", "llama-3.1-8b", (R4090,), {}),
    ("how many tokens per second does mixtral 8x7b do on an m3 max 64gb", "speed", "mixtral-8x7b", ("apple-m3-max-40gpu",), {}),
    ("tokens/s of gemma 3 12b q4 on rtx 3080 10gb", "speed", "gemma-3-12b", ("nvidia-geforce-rtx-3080-10gb",), {"quantization": "q4_k_m"}),
    ("what speed do I get with qwen3 8b at 32k context on a 3090", "speed", "qwen3-8b", (R3090,), {"context_tokens": 32768}),
    ("time to first token for llama 3.1 8b with a 16k prompt on rtx 4090", "speed", "llama-3.1-8b", (R4090,), {"prompt_tokens": 16384}),
    ("how fast is prompt processing of llama 3.1 8b on rx 7900 xtx", "speed", "llama-3.1-8b", ("amd-radeon-rx-7900-xtx",), {}),
    ("how fast is llama 3.1 8b for 16 concurrent users on an a100 80gb with vllm", "speed", "llama-3.1-8b", ("nvidia-a100-sxm4-80gb",), {"concurrency": 16, "runtime": "vllm"}),
    ("will I get 30 tokens/s with qwen3 14b on a 4070", "speed", "qwen3-14b", ("nvidia-geforce-rtx-4070",), {}),
    ("how many images per second does resnet-50 do on a 3060", "speed", "resnet-50", (R3060,), {"batch_size": 1}),
    ("resnet50 batch 256 fp16 on rtx 3060 12gb images per second", "speed", "resnet-50", (R3060,), {"batch_size": 256, "precision": "fp16"}),
    ("how fast is vit-b-16 on a t4 with tensorrt fp16 batch 32", "speed", "vit-b-16", ("nvidia-tesla-t4",), {"batch_size": 32, "precision": "fp16", "runtime": "tensorrt"}),
    ("efficientnet-b0 throughput on v100 batch size of 128", "speed", "efficientnet-b0", ("nvidia-tesla-v100-sxm2-16gb",), {"batch_size": 128}),
    ("convnext tiny at 288x288 on rtx 4090 images/s", "speed", "convnext-t", (R4090,), {"image_size": 288}),
    ("how long does imagenet validation take with resnet-50 on a 3090 at batch 256", "speed", "resnet-50", (R3090,), {"batch_size": 256, "dataset": "imagenet-1k"}),
    ("how fast does whisper large v3 run on a 3060", "speed", "whisper-large-v3", (R3060,), {}),
    ("stable diffusion xl on a 3060 12gb how long per image", "speed", "sdxl", (R3060,), {}),
    ("how fast is flux.1-dev 1024x1024 20 steps on a 4090", "speed", "flux.1-dev", (R4090,), {"image_size": 1024, "steps": 20}),
    ("how long does wan 2.1 t2v 1.3b take for 49 frames and 30 steps on a 4090", "speed", "wan2.1-t2v-1.3b", (R4090,), {"frames": 49, "steps": 30}),
    ("how much vram does llama 3.1 70b need at q8", "memory", "llama-3.1-70b", (), {"quantization": "q8_0"}),
    ("how much memory does deepseek v3 need", "memory", "deepseek-v3", (), {}),
    ("vram needed for qwen3 32b q4_k_m at 32k context", "memory", "qwen3-32b", (), {"context_tokens": 32768, "quantization": "q4_k_m"}),
    ("how big is llama 3.3 70b q4_k_m", "memory", "llama-3.3-70b", (), {"quantization": "q4_k_m"}),
    ("memory requirement of resnet-50 at batch 64", "memory", "resnet-50", (), {"batch_size": 64}),
    ("what gpu do I need for llama 3.3 70b q4", "smallest-machine", "llama-3.3-70b", (), {"quantization": "q4_k_m"}),
    ("which gpu for qwen3 32b at q4_k_m with 32k context", "smallest-machine", "qwen3-32b", (), {"context_tokens": 32768, "quantization": "q4_k_m"}),
    ("smallest card that can run gemma 3 27b", "smallest-machine", "gemma-3-27b", (), {}),
    ("what hardware do I need to run deepseek r1 distill qwen 32b", "smallest-machine", "deepseek-r1-distill-qwen-32b", (), {}),
    ("largest context for qwen3 8b on a 12gb 3060", "largest-context", "qwen3-8b", (R3060,), {}),
    ("how much context can llama 3.1 8b q4_k_m have on a 4090", "largest-context", "llama-3.1-8b", (R4090,), {"quantization": "q4_k_m"}),
    ("max context of gemma 3 27b q4_k_m on a 3090", "largest-context", "gemma-3-27b", (R3090,), {"quantization": "q4_k_m"}),
    ("which quant of gemma 3 27b fits on a 4090", "best-quantization", "gemma-3-27b", (R4090,), {}),
    ("best quant for llama 3.1 70b on 2x 3090", "best-quantization", "llama-3.1-70b", (R3090,), {}),
    ("what quantization of qwen3 14b for 12gb rtx 3060", "best-quantization", "qwen3-14b", (R3060,), {}),
    ("largest batch for resnet-50 on a 3090", "largest-batch", "resnet-50", (R3090,), {}),
    ("largest batch size resnet-50 training on a 3090", "largest-batch", "resnet-50", (R3090,), {"mode": "full-finetune"}),
    ("how many users can vllm serve with llama 3.1 8b on an a100 80gb at 8k context", "largest-concurrency", "llama-3.1-8b", ("nvidia-a100-sxm4-80gb",), {"runtime": "vllm"}),
    ("how many concurrent requests of qwen3 8b fit on a 3090 at 8k context", "largest-concurrency", "qwen3-8b", (R3090,), {}),
    ("how many users can vllm serve with llama 3.1 8b fp8 on an l4 with the first token below 2 s", "largest-concurrency", "llama-3.1-8b", ("nvidia-l4",), {"runtime": "vllm"}),
    ("3090 or 4090 for qwen2.5 coder 32b q4_k_m?", "comparison", "qwen2.5-coder-32b", (R3090, R4090), {"quantization": "q4_k_m"}),
    ("rtx 4090 vs m3 max for llama 3.1 8b", "comparison", "llama-3.1-8b", (R4090, "apple-m3-max-40gpu"), {}),
    ("is a 3090 faster than a 4070 for llama 3.1 8b?", "comparison", "llama-3.1-8b", (R3090, "nvidia-geforce-rtx-4070"), {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def here() -> Machine:
    return describe_machine("rtx-4070")


def test_there_are_enough_questions() -> None:
    assert len({question for question, *_ in QUESTIONS}) >= 60


@pytest.mark.parametrize(
    ("question", "intent", "model", "machines", "said"), QUESTIONS, ids=lambda value: str(value)[:40]
)
def test_a_question_is_taken_for(
    question: str, intent: str, model: str, machines: tuple[str, ...], said: dict[str, Any], here: Machine
) -> None:
    answer = ask(question, machine=here)
    assert answer.intent == intent
    assert answer.model == model
    if machines:
        assert answer.machines == machines
    heard = {**answer.workload, "quantization": answer.quantization, "runtime": answer.runtime}
    assert {name: heard.get(name) for name in said} == said
    # What was said is not listed as assumed, what was not said is.
    assert answer.value is not None or "No " in answer.text or "unknown" in answer.text
    assert answer.text.count("{") == 0
    if answer.verdict is not None and "workload.context_tokens" in answer.verdict.inputs.defaulted:
        assert f"{answer.verdict.inputs.workload['context_tokens']:,} tokens of context" in " ".join(
            answer.assumptions
        )
    assert "Assumed" in answer.text or not answer.assumptions


def test_the_answer_is_the_engines() -> None:
    answer = ask("can a 3060 12GB run llama 3.1 8b q4_k_m at 32k?")
    verdict = assess("llama-3.1-8b", R3060, Workload(context_tokens=32768), quantization="q4_k_m")
    assert answer.verdict is not None
    assert answer.verdict.memory == verdict.memory
    assert answer.verdict.speed == verdict.speed
    assert answer.value == verdict.tier
    assert answer.links == verdict.links
    most = ask("largest context for qwen3 8b q4_k_m on a 3060 12gb").value
    assert most == largest_context("qwen3-8b", R3060, quantization="q4_k_m")
    need = ask("how much vram does llama 3.1 70b need at q8").value
    assert need == estimate_memory("llama-3.1-70b", None, quantization="q8_0").total_bytes.best


def test_the_number_of_cards_counts() -> None:
    one, two = (ask(f"can {count} run llama 3.3 70b q4_k_m").verdict for count in ("a 3090", "two 3090s"))
    assert one is not None
    assert two is not None
    assert len(two.inputs.accelerators) == 2 * len(one.inputs.accelerators)
    assert two.tier in ("comfortable", "tight")
    assert one.tier in ("offload", "will-not-run")


def test_memory_that_was_said_is_used(here: Machine) -> None:
    small, large = (ask(f"does llama 3.3 70b q4_k_m fit on an m3 max {size}gb").verdict for size in (36, 128))
    assert small is not None
    assert large is not None
    assert not small.feasible
    assert large.tier == "comfortable"
    host = ask("does llama 3.1 8b run on cpu with 16gb ram", machine=None).verdict
    assert host is not None
    assert host.inputs.accelerators == ()


def test_the_cheapest_is_about_money() -> None:
    answer = ask("cheapest card to run llama 3.1 8b at q4_k_m")
    assert "USD" in answer.text
    assert "days old" in answer.text
    today = date.today()
    usd = {
        name: quote.usd
        for name in load_catalog().accelerators
        if (quote := quote_purchase(name, load_catalog(), today=today))
    }
    assert isinstance(answer.value, str)
    cheaper = [name for name, price in usd.items() if price < usd[answer.value]]
    assert cheaper
    assert smallest_machine("llama-3.1-8b", cheaper, quantization="q4_k_m") is None


def test_a_count_may_be_written_together_with_its_card() -> None:
    glued, apart = (
        ask(f"can {spelled} run llama 3.3 70b q4_k_m").verdict for spelled in ("2x3090", "two 3090s")
    )
    assert glued == apart


def test_too_slow_is_no_plain_yes() -> None:
    answer = ask("does llama 3.3 70b run on a cpu with 64gb ram")
    assert answer.verdict is not None
    assert answer.verdict.feasible
    assert answer.verdict.practical is False
    assert answer.text.startswith("It runs, but slowly")
    assert "below the 7 tokens/s" in answer.text


def test_a_comparison_is_of_one_format() -> None:
    answer = ask("is an rtx 3090 faster than an m2 ultra for llama 3.3 70b")
    assert answer.verdict is not None
    form = answer.quantization
    assert f"weights in {str(form).upper()} on all of them" in answer.text
    told = {
        machine: assess("llama-3.3-70b", machine, quantization=form).speed
        for machine in (R3090, "m2-ultra-60gpu")
    }
    for speed in told.values():
        assert speed is not None
        assert speed.decode_tokens_per_s is not None
        assert f"{speed.decode_tokens_per_s.best:.3g} tokens/s" in answer.text


def test_a_pass_over_a_dataset_is_timed() -> None:
    answer = ask("how long does imagenet validation take with resnet-50 on a 4090 at batch 64")
    assert "50,000 images of ImageNet-1k validation take" in answer.text


def room_of(card: str) -> int:
    """What a described card leaves to a model [bytes]."""
    memory = estimate_memory("llama-3.1-8b", card, quantization="q4_k_m")
    assert memory.per_device[0].available_bytes is not None
    return memory.per_device[0].available_bytes


def test_an_amount_of_memory_has_a_best_format_and_a_longest_context() -> None:
    best = ask("best quantization of mistral small 24b for 16gb vram").value
    need = estimate_memory("mistral-small-24b-2501", None, quantization=str(best)).total_bytes
    assert need.high <= 16 * 2**30
    ladder = ask("best quantization of mistral small 24b for 24gb vram").value
    assert ladder != best
    most = ask("what context can gemma 3 27b do on a 24gb card").value
    assert isinstance(most, int)
    fits, above = (
        estimate_memory("gemma-3-27b", None, Workload(context_tokens=length), quantization="q4_k_m")
        for length in (most, most + 4096)
    )
    assert fits.total_bytes.high <= room_of("rtx-4090") * 0.95 < above.total_bytes.high
    assert "No context is comfortable" in ask("what context can llama 3.3 70b do on a 24gb card").text


def test_an_amount_of_memory_has_a_largest_batch_and_most_sequences() -> None:
    users = ask("how many users can llama 3.1 8b serve on a 24 GB card?").value
    batch = ask("what batch fits resnet-50 in 8 GB?").value
    assert isinstance(users, int)
    assert isinstance(batch, int)
    for model, quantization, card, loads in (
        ("llama-3.1-8b", "q4_k_m", "rtx-4090", [Workload(concurrency=count) for count in (users, users + 1)]),
        ("resnet-50", None, "rtx-3070", [Workload(batch_size=count) for count in (batch, batch + 1)]),
    ):
        fits, above = (
            estimate_memory(model, None, load, quantization=quantization).total_bytes.high for load in loads
        )
        assert fits <= room_of(card) * 0.95 < above
    assert "Not even one" in ask("how many users can llama 3.3 70b serve on a 24gb card").text


def test_an_amount_of_memory_tells_no_runtime() -> None:
    answer = ask("which runtime for llama 3.1 8b on 24 GB?")
    assert answer.value is None
    assert "depends on the card" in answer.text


def test_a_pipeline_in_little_memory_is_moved_in_parts() -> None:
    answer = ask("can i run stable diffusion xl on 6gb")
    assert answer.value == "offload"
    assert "With model offload" in answer.text


def test_what_a_term_means_is_the_glossarys(here: Machine) -> None:
    answer = ask("what is kv cache?", machine=here)
    assert answer.intent == "term"
    assert load_catalog().glossary["kv-cache"].definition in answer.text


def test_money_points_to_what_counts_it() -> None:
    assert "willitrun cost llama-3.3-70b" in ask("how much does it cost to run llama 3.3 70b on an h100").text


def test_ambiguity_is_said() -> None:
    answer = ask("can a 3060 run llama 8b")
    assert answer.ambiguous
    assert {choice.said for choice in answer.choices} == {"llama 8b", "3060"}
    assert "llama-3-8b" in next(choice.others for choice in answer.choices if choice.said == "llama 8b")
    assert "was taken for" in answer.text
    assert not ask("can a 3060 12gb run llama 3.1 8b").ambiguous


def test_the_machine_at_hand_is_said_to_be_assumed(here: Machine) -> None:
    answer = ask("how fast is llama 3.1 8b", machine=here)
    assert answer.verdict is not None
    assert answer.verdict.inputs.machine == here.name
    detected = ask("can I run llama 3.2 1b")
    assert any(text.startswith("this machine") for text in detected.assumptions)


@pytest.mark.parametrize(
    "question",
    ["tell me a joke", "can it run doom on a 3060", "is this a good gpu", "can a 3060 run it at 32k?", "42"],
)
def test_what_names_no_model_is_unclear(question: str, here: Machine) -> None:
    answer = ask(question, machine=here)
    assert not answer
    assert answer.verdict is None
    assert "No model was found" in answer.text


@pytest.mark.parametrize("question", ["", "   ", "x" * 501])
def test_no_question_is_an_error(question: str) -> None:
    with pytest.raises(WillItRunError):
        ask(question)


def test_what_can_i_run_is_a_scan(here: Machine) -> None:
    answer = ask("what can I run on a 3060 12gb?", machine=here)
    assert answer.intent == "models"
    assert answer.machines == (R3060,)
    assert answer.value is not None
    assert str(answer.value) in answer.text


def test_answers_are_deterministic_and_travel() -> None:
    first, second = (ask("which quant of gemma 3 27b fits on a 4090") for _ in range(2))
    assert first == second
    assert type(first).model_validate_json(first.model_dump_json()) == first
    assert "\n" not in repr(first)


def test_every_model_is_found_by_its_own_id() -> None:
    """A name that people copy from the catalog must not be taken for another."""
    from willitrun.answers.naming import find_model

    catalog = load_catalog()
    names = [name for name in catalog.models if not any(char in name for char in " /")][::7]
    wrong = [
        (name, found)
        for name in names
        if (found := find_model(f"can a 4090 run {name} fast", catalog)[0]) != name
    ]
    assert len(wrong) <= len(names) // 100, wrong


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-32b", "gemma-3-27b-it", "llama-3.3-70b"])
def test_an_amount_of_memory_is_judged_as_a_card_of_that_size(model: str) -> None:
    """What the driver keeps is taken off, as it is of a card that was named."""
    for quantization in ("q4_k_m", "q5_k_m", "q8_0"):
        answer = ask(f"does {model} {quantization} fit in 24 GB?")
        tier = assess(model, "rtx-4090", quantization=quantization).tier
        # No card was named, so none that could share its work with a host.
        assert answer.value == ("will-not-run" if tier == "offload" else tier)
        assert f"the {format_bytes(room_of('rtx-4090'))} that a driver leaves of 24 GiB" in answer.text
