"""What people stumble over at first: names, words and parts that do not fit, each with a way on."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import (
    InvalidWorkloadError,
    Placement,
    Runtime,
    UnknownIdError,
    Workload,
    assess,
    describe_machine,
    describe_model,
    load_catalog,
)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("h100 mig 1g.10gb", "share of its card"),
        ("a100-sxm4-80gb:mig-3g.40gb", "share of its card"),
        ("A40-24Q", "share of its card"),
        ("GRID T4-8Q", "share of its card"),
        ("mac mini m4 16gb", "'apple-m4-10gpu:16 GiB'"),
        ("3090,3060", "are a list"),
        ("steam deck", "'memory_bandwidth'"),
    ],
)
def test_a_machine_that_is_no_name_has_a_way_to_be_said(name: str, way: str) -> None:
    with pytest.raises(UnknownIdError) as caught:
        describe_machine(name)
    assert way in caught.value.hint


def test_the_ways_that_are_told_work() -> None:
    part = {"name": "H100 1g.10gb", "vendor": "nvidia", "memory": "9.75 GiB", "memory_bandwidth": "400 GB/s"}
    machine = {"accelerators": [{**part, "peaks": {"fp16_tensor": "120 TFLOP/s"}}]}
    assert assess("llama-3.1-8b", machine, quantization="q4_k_m").feasible
    assert describe_machine("apple-m4-10gpu:16 GiB").host.ram_total_bytes == 16 * 2**30


def test_models_and_runtimes_without_a_near_name_say_where_to_look() -> None:
    with pytest.raises(UnknownIdError, match=r"config\.json"):
        describe_model("someuser/my-own-network-xyz")
    with pytest.raises(UnknownIdError, match=r"Known: .*llama\.cpp.*vllm"):
        assess("llama-3.1-8b", "rtx-4090", runtime="tgi")


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: Placement(strategy="fsdp"), "zero_stage=3"),  # type: ignore[arg-type]
        (lambda: Placement(strategy="tp"), "'tensor'"),  # type: ignore[arg-type]
        (lambda: Placement(strategy="tensr"), "'tensor'"),  # type: ignore[arg-type]
        (lambda: Workload(mode="train"), "'full-finetune'"),  # type: ignore[arg-type]
        (lambda: Workload(context_tokens="32k"), "32768"),  # type: ignore[arg-type]
        (lambda: Runtime(name="llama.cpp", backend="vulcan"), "'vulkan'"),  # type: ignore[arg-type]
    ],
)
def test_words_of_others_are_translated(make: Any, hint: str) -> None:
    with pytest.raises(InvalidWorkloadError) as caught:
        make()
    assert hint in caught.value.hint


def test_sharded_states_are_asked_as_the_hint_says() -> None:
    load = Workload(mode="full-finetune", zero_stage=3, context_tokens=2048, gradient_checkpointing="full")
    assert assess("llama-3.1-8b", ["nvidia-a100-sxm4-80gb"] * 8, load).feasible


def test_a_part_that_is_too_large_for_one_card_is_told_by_card() -> None:
    """33.5 GiB "do not fit" in 33.8: the halves are equal and the cards are not."""
    verdict = assess("qwen3-14b", ["rtx-3090", "rtx-3060-12gb"], runtime="vllm")
    assert verdict.tier == "will-not-run"
    assert "RTX 3060 12GB has" in verdict.reasons[0].message
    alike = assess("qwen3-32b", ["rtx-3090", "rtx-3090"], runtime="vllm")
    assert "are available" in alike.reasons[0].message


def test_what_buffers_take_is_not_blamed_on_the_weights() -> None:
    """0 bytes of weights "dominated" 4,657 TiB."""
    codes = {
        reason.code for reason in assess("llama-3.1-8b", "rtx-4090", Workload(context_tokens=10**12)).reasons
    }
    assert "does-not-fit" in codes
    assert "weights-dominate" not in codes
    plain = assess("llama-3.3-70b", "rtx-4090", quantization="q8_0")
    assert "weights-dominate" in {reason.code for reason in plain.reasons}


def test_no_reason_is_told_twice() -> None:
    """Both ways of offloading lacked the same memory of the host, and said so one after the other."""
    reasons = assess("flux.1-dev", "rtx-4090").reasons
    told = [(reason.code, reason.message) for reason in reasons]
    assert "out-of-host-memory" in {reason.code for reason in reasons}
    assert len(told) == len(set(told))


def test_a_board_is_told_of_no_graphics_card() -> None:
    board = assess("qwen3-4b", "raspberry-pi-5")
    assert board.practical is False
    assert not any("graphics card" in remedy.message for remedy in board.remedies)
    desktop = assess("qwen3-14b", {"host": {"memory": "ddr5-5600-dual", "ram": "32 GiB"}})
    assert any("graphics card" in remedy.message for remedy in desktop.remedies)


def test_a_conversion_to_gguf_is_run_from_gguf() -> None:
    catalog = load_catalog()
    for name in (
        "unsloth/DeepSeek-R1-GGUF",
        "unsloth/gpt-oss-20b-GGUF",
        "bartowski/Qwen2.5-32B-Instruct-GGUF",
    ):
        verdict = assess(name, "m3-ultra-80gpu:512 GiB")
        assert verdict.inputs.runtime["name"] == "llama.cpp"
        assert "gguf" in catalog.quantizations[str(verdict.inputs.quantization)].container


@pytest.mark.parametrize(
    ("name", "model"),
    [("ViT-L/16", "vit-l-16"), ("vit-b/16", "vit-b-16"), ("vit-b/32", "vit-b-32"), ("vit-h/14", "vit-h-14"), ("microsoft/resnet-50", "resnet-50")],
)  # fmt: skip
def test_a_slash_is_a_publisher_or_part_of_a_name(name: str, model: str) -> None:
    """The number behind the slash of ViT-B/16 was a name of it, and with any publisher's."""
    assert describe_model(name).id == model
    with pytest.raises(UnknownIdError):
        describe_model("someone/16")
