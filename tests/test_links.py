"""Links of verdicts: every one resolves to an entry with a text, chosen for this very verdict."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from willitrun import UnknownIdError, Verdict, Workload, assess, describe_machine, load_catalog
from willitrun.expressions import render_entry

CATALOG = load_catalog()
LANGUAGE = {
    "text-generation",
    "image-text-to-text",
    "text-to-speech",
    "feature-extraction",
    "text-ranking",
    "fill-mask",
}
MACHINES: list[Any] = [
    "rtx-3060-12gb", "rtx-4090", "h100-sxm5-80gb", "rx-7900-xtx", "arc-b580", "m3-max-40gpu", ["rtx-3090", "rtx-3090"], "ddr5-5600-dual",
]  # fmt: skip
CASES: list[tuple[str, Workload, str | None, str | None]] = [
    ("llama-3.1-8b", Workload(), "q4_k_m", None),
    ("llama-3.1-8b", Workload(context_tokens=131072), "q8_0", None),
    ("llama-3.1-8b", Workload(concurrency=32), "bf16", "vllm"),
    ("llama-3.3-70b", Workload(), "q4_k_m", None),
    ("deepseek-v3", Workload(), None, "vllm"),
    ("qwen3-30b-a3b", Workload(context_tokens=32768), "q4_k_m", "ollama"),
    ("resnet-50", Workload(batch_size=1), None, None),
    ("resnet-50", Workload(batch_size=256, dataset="imagenet-1k", split="validation"), None, None),
    ("vit-b-16", Workload(batch_size=256, precision="amp-fp16"), None, None),
    ("resnet-50", Workload(batch_size=64, mode="full-finetune"), None, None),
    ("sdxl", Workload(image_size=1024, steps=30), None, None),
    ("flux.1-dev", Workload(), None, None),
    ("whisper-large-v3", Workload(), None, None),
    ("bge-m3", Workload(batch_size=32, prompt_tokens=512), None, None),
    ("llama-3.1-8b", Workload(mode="qlora", context_tokens=2048), None, None),
    ("yolo11n", Workload(), None, None),
    ("fasterrcnn-resnet50-fpn", Workload(dataset="coco"), None, None),
    ("clip-vit-base-patch32", Workload(batch_size=64), None, None),
    ("wan2.1-t2v-1.3b", Workload(frames=49), None, None),
    ("ltx-2", Workload(), None, None),
    ("whisper-large-v3", Workload(concurrency=8), None, "faster-whisper"),
    ("flux.1-dev", Workload(image_size=1024), None, "comfyui"),
    ("qwen2.5-vl-7b", Workload(images=1), None, "vllm"),
    ("efficientnet-b0", Workload(batch_size=64, precision="fp16", execution="tensorrt"), None, None),
]
# Terms that say nothing to someone who classifies or detects in pictures.
LANGUAGE_TERMS = {
    f"glossary:{name}"
    for name in (
        "kv-cache", "kv-cache-quantization", "context-length", "paged-attention", "prefix-caching", "rope", "yarn", "gguf",
        "grouped-query-attention", "parallel-slots", "chunked-prefill", "gpu-layers", "prefill", "decode", "token",
        "time-to-first-token", "speculative-decoding", "expert-routing",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return [
        assess(model, machine, load, quantization=quantization, runtime=runtime)
        for (model, load, quantization, runtime), machine in product(CASES, MACHINES)
    ]


def test_every_reason_and_every_reference_resolves(verdicts: list[Verdict]) -> None:
    known = {row.code for row in CATALOG.reasons.values()}
    assert len(verdicts) > 100
    for verdict in verdicts:
        for reason in verdict.reasons:
            assert reason.code in known, (verdict.sentence(), reason.code)
            for ref in reason.see:
                assert CATALOG.entry(ref).name
        for link in verdict.links:
            assert CATALOG.entry(link.ref).name == link.title
            assert link.page == f"catalog/{link.ref.replace(':', '/')}.html"
            assert link.why
        assert verdict.links, verdict.sentence()


def test_the_same_text_is_offline(verdicts: list[Verdict]) -> None:
    for ref in sorted({link.ref for verdict in verdicts for link in verdict.links}):
        text = render_entry(ref, CATALOG)
        assert "{{" not in text, ref
        assert "Source: " in text, ref
        assert len(text) > 200, ref


def test_no_picture_or_sound_is_sent_to_a_fix_for_language_models(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        task = CATALOG.models[verdict.inputs.model].task
        for link in verdict.links:
            entry = CATALOG.entry(link.ref)
            tasks = set(getattr(entry, "tasks", ()))
            assert not tasks or task in tasks, (verdict.sentence(), link.ref)
            if task not in LANGUAGE:
                assert not (tasks and tasks <= LANGUAGE), (verdict.sentence(), link.ref)
                assert link.ref not in ("glossary:kv-cache", "glossary:context-length", "glossary:gguf"), (
                    verdict.sentence()
                )
            if task.startswith(("image-", "object-", "zero-shot-image")) and task not in LANGUAGE:
                assert link.ref not in LANGUAGE_TERMS, (verdict.sentence(), link.ref)


def test_the_cases_reach_every_kind_of_verdict(verdicts: list[Verdict]) -> None:
    """A link test proves nothing about a tier or a bound that none of its cases has."""
    assert {verdict.tier for verdict in verdicts} == {
        "comfortable", "tight", "offload", "will-not-run", "unknown",
    }  # fmt: skip
    bounds = {verdict.speed.bound for verdict in verdicts if verdict.speed}
    assert bounds >= {"memory-bandwidth", "compute", "launch", "host-memory", "input"}
    assert len({CATALOG.models[verdict.inputs.model].task for verdict in verdicts}) >= 8


def test_no_fix_is_for_another_vendor_or_runtime(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        vendors = {CATALOG.accelerators[name].vendor for name in verdict.inputs.accelerators}
        for link in verdict.links:
            entry = CATALOG.entry(link.ref)
            if link.ref.startswith("troubleshooting:"):
                assert not (entry.vendors and vendors) or vendors & set(entry.vendors), (
                    verdict.sentence(),
                    link.ref,
                )
                runtime = verdict.inputs.runtime["name"]
                assert not entry.runtimes or runtime in entry.runtimes, (verdict.sentence(), link.ref)


def test_links_differ_when_the_constraint_differs() -> None:
    def first(*arguments: Any, **options: Any) -> tuple[str, ...]:
        return tuple(link.ref for link in assess(*arguments, **options).links)

    bounds = {
        "launch": first("resnet-50", "rtx-4090", Workload(batch_size=1)),
        "compute": first("vit-b-16", "rtx-3060-12gb", Workload(batch_size=256)),
        "memory": first("llama-3.1-8b", "rtx-4090", quantization="q4_k_m"),
        "does not fit": first("deepseek-v3", "rtx-4090", runtime="vllm"),
        "offload": first("llama-3.3-70b", "rtx-4090", quantization="q4_k_m"),
        "long": first(
            "llama-3.1-8b", "rtx-3060-12gb", Workload(context_tokens=131072), quantization="q4_k_m"
        ),
    }
    assert len({frozenset(refs) for refs in bounds.values()}) == len(bounds)
    apple = first("llama-3.3-70b", "m3-max-40gpu", quantization="q8_0")
    nvidia = first("llama-3.3-70b", "rtx-4090", quantization="q8_0")
    assert set(apple) != set(nvidia)


@pytest.mark.parametrize("ref", ["", "glossary:", "kv-cache", "glossary:no-such-term", "nothing:kv-cache"])
def test_a_reference_that_leads_nowhere_is_an_error(ref: str) -> None:
    with pytest.raises(UnknownIdError):
        CATALOG.entry(ref)


def test_a_picture_verdict_keeps_batch_size_and_throughput_beside_what_binds() -> None:
    verdict = assess("resnet-50", "rtx-3060-12gb", Workload(batch_size=256, dataset="imagenet-1k"))
    refs = {link.ref for link in verdict.links}
    assert {
        "glossary:imagenet",
        "glossary:batch-size",
        "glossary:throughput",
        "glossary:images-per-second",
    } <= refs
    assert {"glossary:memory-bandwidth", "troubleshooting:data-loader-starved"} <= refs


@pytest.mark.parametrize("ram", ["8 GB", "64 GB"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_processor_gets_no_advice_on_cards(
    case: tuple[str, Workload, str | None, str | None], ram: str
) -> None:
    model, load, quantization, runtime = case
    machine = describe_machine({"host": {"memory": "ddr5-5600-dual", "ram": ram}})
    verdict = assess(model, machine, load, quantization=quantization, runtime=runtime)
    for link in verdict.links:
        kind, _, name = link.ref.partition(":")
        assert CATALOG.table(kind).resolve(name).computes_on != "accelerator", link.ref


def test_who_computes_decides_which_row_of_a_reason_counts() -> None:
    bare = describe_machine({"host": {"memory": "ddr5-5600-dual", "ram": "16 GB"}})
    refs = {
        name: {
            link.ref for link in assess("llama-3.3-70b", machine, quantization="bf16", runtime=runtime).links
        }
        for name, machine, runtime in (
            ("processor", bare, "llama.cpp"),
            ("card", describe_machine("rtx-4090"), "vllm"),
        )
    }
    assert "troubleshooting:host-out-of-memory" in refs["processor"]
    assert "glossary:vram" in refs["card"]
    assert not {"glossary:vram", "troubleshooting:cuda-out-of-memory"} & refs["processor"]
    assert "troubleshooting:host-out-of-memory" not in refs["card"]
