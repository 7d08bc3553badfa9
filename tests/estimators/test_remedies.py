"""Remedies: what is proposed to whom, and that it helps as it says."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import Verdict, Workload, assess, describe_model, estimate_memory, load_catalog
from willitrun.estimators.inventory import tensor_inventory
from willitrun.estimators.remedy_machines import hardware_changes
from willitrun.estimators.requests import complete_request
from willitrun.records.results import Remedy

H100 = "nvidia-h100-sxm5-80gb"


def of_kind(verdict: Verdict, kind: str) -> Remedy:
    return next(remedy for remedy in verdict.remedies if remedy.kind == kind)


TRAINING = [
    (
        "rtx-3060-12gb",
        {"mode": "qlora", "context_tokens": 8192, "batch_size": 4},
        {"context_tokens", "batch_size"},
    ),
    (
        "rtx-4090",
        {"mode": "lora", "context_tokens": 2048, "batch_size": 8},
        {"gradient_checkpointing", "batch_size", "mode", "lora_rank"},
    ),
    (
        "rtx-4090",
        {"mode": "full-finetune", "context_tokens": 2048},
        {"gradient_checkpointing", "mode", "lora_rank"},
    ),
    (
        [H100] * 8,
        {"mode": "full-finetune", "context_tokens": 4096},
        {"gradient_checkpointing", "zero_stage"},
    ),
]


@pytest.mark.parametrize(("machine", "fields", "changed"), TRAINING)
def test_training_that_does_not_fit_is_told_what_would(
    machine: Any, fields: dict[str, Any], changed: set[str]
) -> None:
    verdict = assess("llama-3.1-8b", machine, Workload(**fields))
    assert verdict.tier == "will-not-run"
    remedy = of_kind(verdict, "training")
    assert set(remedy.arguments) == changed
    again = assess("llama-3.1-8b", machine, Workload(**fields | remedy.arguments))
    assert again.tier == remedy.tier in ("tight", "comfortable")
    assert again.memory is not None
    assert again.memory.total_bytes == remedy.total_bytes


def test_qlora_recomputes_activations_where_nobody_says() -> None:
    """As peft sets it up; an 8B model then trains on 24 GB, as many people do."""
    load = Workload(mode="qlora", context_tokens=2048)
    verdict = assess("llama-3.1-8b", "rtx-3090", load)
    assert verdict.tier == "comfortable"
    assert verdict.inputs.workload["gradient_checkpointing"] == "full"
    assert (
        assess("llama-3.1-8b", "rtx-3090", Workload(mode="lora")).inputs.workload["gradient_checkpointing"]
        == "none"
    )


def test_a_step_that_fits_is_told_nothing() -> None:
    load = Workload(mode="lora", context_tokens=512, batch_size=1, gradient_checkpointing="full")
    assert assess("llama-3.2-1b", "rtx-4090", load).remedies == ()


def test_full_fine_tuning_keeps_states_of_the_embedding_too() -> None:
    """Parameters and gradients in 16 bits, a master copy and two moments in 32: 16 bytes for every weight there is."""
    verdict = assess("llama-3.1-8b", "nvidia-b200-sxm-180gb", Workload(mode="full-finetune"))
    memory = verdict.memory
    assert memory is not None
    states = memory.weights_bytes.best + memory.gradient_bytes.best + memory.optimizer_bytes.best
    assert states == 16 * 8_030_261_248


def test_layers_that_predict_further_tokens_are_not_trained_on_text() -> None:
    load = Workload(mode="full-finetune", context_tokens=512)
    found = estimate_memory("mimo-7b-base", "h200-sxm-141gb", load, runtime="transformers")
    model = describe_model("mimo-7b-base").transformer
    assert model is not None
    groups = tensor_inventory(model)
    beside = sum(group.elements for group in groups if group.part == "prediction")
    assert beside > 0
    assert found.gradient_bytes.best == 2 * (sum(group.elements for group in groups) - beside)


def test_a_system_is_sold_with_more_memory() -> None:
    verdict = assess("gpt-oss-120b", "m4-max-40gpu:48 GiB")
    remedy = of_kind(verdict, "hardware")
    assert remedy.arguments == {"machine": "apple-m4-max-40gpu:128 GiB"}
    again = assess("gpt-oss-120b", remedy.arguments["machine"])
    assert again.tier == remedy.tier == "comfortable"
    assert again.memory is not None
    assert again.memory.total_bytes == remedy.total_bytes


@pytest.mark.parametrize(
    ("model", "machine", "quantization", "runtime", "cards"),
    [
        # Two of what is there, where one larger card is no better.
        ("llama-3.1-405b", "nvidia-b300-sxm-288gb", "q8_0", None, 2),
        ("deepseek-r1", [H100] * 8, "fp8", "vllm", 8),
    ],
)
def test_several_cards_are_proposed(
    model: str, machine: Any, quantization: str, runtime: str | None, cards: int
) -> None:
    verdict = assess(model, machine, quantization=quantization, runtime=runtime)
    assert verdict.tier in ("tight", "offload", "will-not-run")
    remedy = of_kind(verdict, "hardware")
    assert len(remedy.arguments["machine"]) == cards
    again = assess(model, remedy.arguments["machine"], quantization=quantization, runtime=runtime)
    assert again.tier == remedy.tier == "comfortable"


def test_cards_that_no_board_takes_are_not_doubled() -> None:
    verdict = assess("llama-3.3-70b", "nvidia-geforce-rtx-4090-laptop-gpu", quantization="q4_k_m")
    assert "4090" not in of_kind(verdict, "hardware").message
    for machine, several in (("nvidia-geforce-rtx-4090-laptop-gpu", False), ("rtx-4090", True)):
        request = complete_request("llama-3.3-70b", machine, quantization="q4_k_m")
        texts = [candidate.text for candidate in hardware_changes(request)]
        assert any(text.startswith("Use 2 x") for text in texts) is several


def test_an_encoder_is_told_more_than_to_buy_a_card() -> None:
    verdict = assess("bge-m3", "cpu")
    assert verdict.practical is False
    assert {remedy.kind for remedy in verdict.remedies} > {"hardware"}


def test_where_there_is_no_card_none_has_more_memory() -> None:
    assert "more memory" not in of_kind(assess("bge-m3", "cpu"), "hardware").change


def test_no_remedy_asks_for_what_the_catalog_lacks() -> None:
    catalog = load_catalog()
    remedy = of_kind(assess("llama-3.3-70b", "rtx-4090", quantization="q4_k_m"), "hardware")
    wanted = remedy.arguments["machine"]
    for name in [wanted] if isinstance(wanted, str) else wanted:
        assert name in catalog.accelerators


def test_a_trained_maximum_below_the_usual_question_shortens_that_too() -> None:
    asked: dict[str, Any] = {"quantization": "q8_0", "runtime": "llama.cpp"}
    verdict = assess("pythia-14m", "rtx-4090", Workload(context_tokens=65536), **asked)
    remedy = of_kind(verdict, "context")
    assert remedy.arguments["context_tokens"] == 512
    again = assess("pythia-14m", "rtx-4090", Workload(**remedy.arguments), **asked)
    assert again.tier == remedy.tier == "comfortable"
    assert again.memory is not None
    assert again.memory.total_bytes == remedy.total_bytes
    longer = Workload(context_tokens=65536, prompt_tokens=100, output_tokens=3000)
    remedy = of_kind(assess("pythia-14m", "rtx-4090", longer, **asked), "context")
    assert remedy.arguments == {"context_tokens": 512, "prompt_tokens": 1, "output_tokens": 511}


def test_adapters_over_four_bits_are_for_those_who_load_them() -> None:
    verdict = assess(
        "llama-3.1-8b", "m2-8gpu:16 GiB", Workload(mode="lora", context_tokens=8192), runtime="mlx"
    )
    assert all(remedy.arguments.get("mode") != "qlora" for remedy in verdict.remedies)


def test_a_large_model_is_offered_as_the_files_that_people_run() -> None:
    """DeepSeek R1 in four bits on a Mac Studio: its own format is FP8, and no runtime of that reads GGUF."""
    machine = "m3-ultra-80gpu:512 GiB"
    verdict = assess("deepseek-r1", machine)
    assert verdict.tier == "will-not-run"
    remedy = of_kind(verdict, "quantization")
    assert remedy.arguments == {"quantization": "q4_k_m", "runtime": "llama.cpp"}
    again = assess("deepseek-r1", machine, **remedy.arguments)
    assert again.tier == remedy.tier == "comfortable"
    assert again.memory is not None
    assert again.memory.total_bytes == remedy.total_bytes


@pytest.mark.parametrize(
    ("model", "machine", "runtime", "fields", "instead"),
    [
        ("resnet-50", "rx-7900-xtx", "tensorrt", {}, "pytorch"),
        ("resnet-50", "rtx-4090", "onnxruntime", {"mode": "full-finetune", "batch_size": 8}, "pytorch"),
        ("sdxl", "rtx-4090", "vllm", {}, "diffusers"),
        ("llama-3.1-8b", "rtx-4090", "diffusers", {}, "llama.cpp"),
    ],
)
def test_a_runtime_that_cannot_leads_to_one_that_can(
    model: str, machine: str, runtime: str, fields: dict[str, Any], instead: str
) -> None:
    load = Workload(**fields)
    verdict = assess(model, machine, load, runtime=runtime)
    assert verdict.tier == "will-not-run"
    remedy = of_kind(verdict, "runtime")
    assert remedy.arguments == {"runtime": instead}
    quantization = verdict.inputs.quantization
    again = assess(model, machine, load, quantization=quantization, runtime=instead)
    assert again.tier == remedy.tier
