"""The flow end to end: tiers, reasons, remedies, links, commands, and what a verdict can be turned into."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import TIER_ORDER, apply_remedy, card_spec, machine_with, recompute
from willitrun import (
    Placement,
    Runtime,
    Verdict,
    Workload,
    assess,
    describe_machine,
    estimate_memory,
    explain,
    load_catalog,
    plan,
    plan_rows,
)
from willitrun.estimators.remedies import _KINDS
from willitrun.kernels.reason_codes import DOMINANCE_REASONS, FIT_REASONS
from willitrun.links import _BOUND_CODES

GIB = 2**30
VISION_CATEGORIES = {"computer-vision"}
# Terms that say nothing to someone who chats.
PICTURE_TERMS = {
    "images-per-second", "imagenet", "imagenet-21k", "ilsvrc", "validation-set", "data-loader", "jpeg-decoding",
    "top-1-accuracy", "coco", "channels-last", "mean-average-precision",
}  # fmt: skip
# Terms that say nothing to someone who classifies pictures.
LANGUAGE_CATEGORIES = {"attention", "serving"}
LANGUAGE_TERMS = {
    "kv-cache", "kv-cache-quantization", "context-length", "rope", "yarn", "token", "gguf", "gpu-layers", "k-quants",
}  # fmt: skip
# For everybody, although the category is about serving.
SHARED_SERVING = {"practical-floor", "latency", "load-time"}


@cache
def judged(model: str, machine: Any, quantization: str | None = None, **fields: Any) -> Verdict:
    return assess(
        model,
        list(machine) if isinstance(machine, tuple) else machine,
        Workload(**fields),
        quantization=quantization,
    )


@cache
def tiers_seen() -> tuple[Verdict, ...]:
    """One verdict of every tier and of every kind of machine."""
    return (
        judged("llama-3.1-8b", "rtx-4090", "q4_k_m"),
        judged("llama-3.1-8b", "rtx-3060-12gb", "q4_k_m", context_tokens=131072),
        judged("llama-3.3-70b", "rtx-4090", "q4_k_m"),
        judged("llama-3.3-70b", ("rtx-3090", "rtx-3090"), "q4_k_m"),
        judged("llama-3.1-8b", "rtx-4090", "q4_k_m", context_tokens=200_000),
        judged("qwen3-30b-a3b", "rtx-3060-12gb", "q4_k_m"),
        judged("gpt-oss-120b", "nvidia-h100-sxm5-80gb"),
        judged("deepseek-v3", "nvidia-h100-sxm5-80gb"),
        judged("llama-3.1-8b", "m3-max-40gpu", "q4_k_m"),
        judged("llama-3.1-8b", "rx-7900-xtx", "q4_k_m"),
        judged("llama-3.1-8b", "ddr5-5600-dual", "q4_k_m"),
        judged("resnet-50", "rtx-3060-12gb", batch_size=1),
        judged("resnet-50", "rtx-3060-12gb", batch_size=4096),
        judged("resnet-50", "rtx-3060-12gb", batch_size=64, dataset="imagenet-1k"),
    )


# Tiers


def boundary(model: str, quantization: str, **fields: Any) -> tuple[float, float]:
    found = assess(model, machine_with(600 * GIB), Workload(**fields), quantization=quantization).memory
    assert found is not None
    return found.total_bytes.best, found.total_bytes.high


@pytest.mark.parametrize(
    ("model", "quant"), [("llama-3.1-8b", "q4_k_m"), ("llama-3.2-1b", "q8_0"), ("llama-3.3-70b", "q4_k_m")]
)
def test_tiers_at_their_edges(model: str, quant: str) -> None:
    best, high = boundary(model, quant)
    margin = 256 * 2**20
    roomy = max(int(high / 0.95) + 2, int(high) + margin + 1)

    def tier(available: int) -> str:
        return assess(model, machine_with(available), quantization=quant).tier

    assert tier(roomy) == "comfortable"
    assert tier(int(high)) == "tight"
    assert tier(int(best)) == "tight"
    assert tier(int(best) - 1) != "tight"
    assert tier(int(best) - 1) != "comfortable"


CONSTRUCTED = [
    (model, quant, context, many, count)
    for model in ("llama-3.1-8b", "llama-3.3-70b", "qwen3-30b-a3b", "gemma-3-27b")
    for quant in ("q4_k_m", "q8_0")
    for context in (2048, 8192, 32768, 65536)
    for many in (1, 4)
    for count in (1, 2)
]  # fmt: skip


def test_what_cannot_fit_is_never_comfortable() -> None:
    """More than a hundred cases with less memory than weights and cache alone take."""
    assert len(CONSTRUCTED) > 100
    for model, quant, context, many, count in CONSTRUCTED:
        load = Workload(context_tokens=context, concurrency=many)
        needed = estimate_memory(model, workload=load, quantization=quant)
        bare = needed.weights_bytes.best + needed.kv_cache_bytes.best
        verdict = assess(model, machine_with(int(bare / count) - 1, count=count), load, quantization=quant)
        assert verdict.tier not in ("comfortable", "tight"), (model, quant, context, many, count)
        if verdict.tier == "offload":
            assert verdict.memory is not None
            assert verdict.memory.host_bytes.best > 0


@given(st.integers(min_value=1, max_value=64), st.integers(min_value=1, max_value=400))
def test_a_comfortable_verdict_leaves_its_margin(gib: int, batch: int) -> None:
    verdict = assess("resnet-50", machine_with(gib * GIB), Workload(batch_size=batch))
    assert verdict.memory is not None
    high = verdict.memory.total_bytes.high
    margin = max(gib * GIB // 20, 256 * 2**20)
    assert (verdict.tier == "comfortable") == (high <= gib * GIB - margin)


def test_the_kinds_of_memory_are_in_order() -> None:
    machine = describe_machine("rtx-4090")
    card = machine.accelerators[0].model_copy(update={"memory_free_bytes": 9 * GIB})
    busy = machine.model_copy(update={"accelerators": (card,)})
    room = []
    for kind in ("free", "idle", "nameplate"):
        verdict = assess("llama-3.1-8b", busy, quantization="q4_k_m", memory=kind)
        assert verdict.inputs.memory == kind
        assert verdict.memory is not None
        room.append(verdict.memory.per_device[0].available_bytes or 0)
    assert room[0] == 9 * GIB
    assert room[0] < room[1] <= room[2]


# Known figures


def test_what_the_cache_of_an_8b_costs_at_131072_tokens() -> None:
    runtime = Runtime(name="llama.cpp", kv_dtype_k="f16", kv_dtype_v="f16")
    verdict = assess(
        "llama-3.1-8b", "rtx-4090", Workload(context_tokens=131072), quantization="q4_k_m", runtime=runtime
    )
    assert verdict.memory is not None
    assert verdict.memory.kv_cache_bytes.best == 16 * GIB
    reason = next(r for r in verdict.reasons if r.code == "kv-cache-dominates")
    assert "16 GiB" in reason.message
    assert "20.58 GiB" in reason.message
    assert float(reason.numbers["weights_and_kv_cache_bytes"]) / GIB == pytest.approx(20.58, abs=0.005)


@pytest.mark.parametrize(("model", "mib"), [("llama-3.1-8b", 128), ("llama-3.3-70b", 320)])
def test_cache_per_thousand_tokens(model: str, mib: int) -> None:
    found = [
        estimate_memory(
            model, workload=Workload(context_tokens=tokens), quantization="q4_k_m"
        ).kv_cache_bytes.best
        for tokens in (1024, 2048)
    ]
    assert found == [mib * 2**20, 2 * mib * 2**20]


@pytest.mark.parametrize("card", ["rtx-4090", "rtx-3090", "rx-7900-xtx"])
def test_a_70b_on_24_gib_is_never_comfortable(card: str) -> None:
    verdict = judged("llama-3.3-70b", card, "q4_k_m")
    assert verdict.tier in ("offload", "will-not-run")
    if card != "rx-7900-xtx":
        assert verdict.remedies


def test_a_small_picture_model_is_bound_by_launch() -> None:
    verdict = judged("resnet-50", "rtx-3060-12gb", batch_size=1)
    assert verdict.tier == "comfortable"
    assert verdict.speed is not None
    assert verdict.speed.bound == "launch"
    assert verdict.speed.images_per_s is not None
    assert verdict.speed.images_per_s.level == 0.9
    assert "launch-bound" in {reason.code for reason in verdict.reasons}


# Machines of every kind


def test_deepseek_needs_a_server() -> None:
    one = judged("deepseek-v3", "nvidia-h100-sxm5-80gb")
    assert one.tier == "will-not-run"
    assert not one
    eight = assess("deepseek-v3", ["nvidia-h200-sxm-141gb"] * 8, runtime="vllm")
    assert eight.feasible
    assert eight.placement is not None
    assert eight.placement.tp == 8
    assert eight.memory is not None
    assert len(eight.memory.per_device) == 8


def test_gpt_oss_fits_one_large_card() -> None:
    verdict = judged("gpt-oss-120b", "nvidia-h100-sxm5-80gb")
    assert verdict.feasible
    assert verdict.inputs.quantization == "mxfp4"


def test_no_gpu_is_a_machine_too() -> None:
    verdict = judged("llama-3.1-8b", "ddr5-5600-dual", "q4_k_m")
    assert verdict.feasible
    assert verdict.placement is not None
    assert verdict.placement.strategy == "cpu"
    assert verdict.placement.gpu_layers == 0


def test_apple_has_a_budget() -> None:
    verdict = judged("llama-3.1-8b", "m3-max-40gpu", "q4_k_m")
    codes = {reason.code for reason in verdict.reasons}
    assert "unified-memory-budget" in codes
    assert verdict.inputs.runtime["backend"] == "metal"
    # Nothing is offloaded where there is one memory.
    assert judged("llama-3.3-70b", "m3-max-40gpu", "q8_0").tier != "offload"


def test_amd_runs_on_rocm() -> None:
    assert judged("llama-3.1-8b", "rx-7900-xtx", "q4_k_m").inputs.runtime["backend"] == "rocm"
    assert assess("llama-3.1-8b", "mi300x", runtime="vllm").feasible
    assert assess("llama-3.1-8b", "mi300x", runtime="tensorrt-llm").tier == "will-not-run"


def test_tensor_parallelism_divides_the_memory() -> None:
    cards = ["nvidia-h100-sxm5-80gb"] * 4
    verdict = assess("llama-3.3-70b", cards, runtime="vllm", placement=Placement(tp=4))
    assert verdict.memory is not None
    parts = [device.weights_bytes for device in verdict.memory.per_device]
    assert max(parts) - min(parts) <= 4
    assert "--tensor-parallel-size 4" in verdict.commands[0]
    odd = assess("llama-3.3-70b", cards[:3], runtime="vllm", placement=Placement(tp=3))
    assert odd.tier == "will-not-run"
    assert odd.reasons[0].code == "tensor-parallel-does-not-divide"


# Reasons


def emitted_codes() -> set[str]:
    """Codes of every `Reason(...)` and finding in the source, with those that are looked up in tables."""
    found = {*FIT_REASONS, *DOMINANCE_REASONS, *_BOUND_CODES.values()} - {""}
    for path in (Path(__file__).parent.parent / "src" / "willitrun").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name == "model_construct" and isinstance(node.func, ast.Attribute):
                name = getattr(node.func.value, "id", "")
            if name == "Reason":
                values = [word.value for word in node.keywords if word.arg == "code"]
            elif name == "not_modelled":
                values = node.args[1:2]
            else:
                continue
            found |= {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    return found


def test_every_code_in_the_source_is_explained() -> None:
    catalog = load_catalog()
    codes = emitted_codes()
    assert len(codes) > 30
    rows = {row.code: row for row in catalog.reasons.values() if not row.tasks or row.id == ""}
    assert sorted(codes - set(rows)) == []
    for code in sorted(codes):
        row = rows[code]
        known = [name for name in row.glossary if name in catalog.glossary]
        known += [name for name in row.troubleshooting if name in catalog.troubleshooting]
        assert known, code


@pytest.mark.parametrize("task", ["text-generation", "feature-extraction", "image-classification"])
def test_reasons_that_need_no_picture_and_no_chat_are_for_everybody(task: str) -> None:
    """A context too long is a question to encoders too, and tensor parallelism divides their heads."""
    catalog = load_catalog()
    of_language = {"context-above-trained-maximum", "tensor-parallel-does-not-divide"}
    for row in catalog.reasons.values():
        if row.code in of_language:
            assert (task in row.tasks) == (task != "image-classification"), row.code


@pytest.mark.parametrize("machine", ["rtx-3060-12gb", "cpu"])
def test_an_encoder_is_bound_by_its_pass_over_the_texts(machine: str) -> None:
    """It was said to wait for kernels to start: that is what a decode step would wait for, and it has none."""
    load = Workload(batch_size=32)
    speed = assess("bge-m3", machine, load).speed
    assert speed is not None
    assert speed.bound == "compute"
    assert max(speed.terms, key=lambda term: term.value).name == "linear-compute"
    table = plan_rows([{"model": "bge-m3", "machine": machine, "batch_size": 32}])
    assert table.row(0)["bound"] == "compute"


def test_an_encoder_is_told_of_its_trained_maximum() -> None:
    verdict = assess("bge-m3", "rtx-4090", Workload(context_tokens=131072))
    assert verdict.reasons[0].code == "context-above-trained-maximum"
    assert verdict.reasons[0].see


def test_reasons_are_coded_and_carry_their_numbers() -> None:
    for verdict in tiers_seen():
        assert verdict.reasons
        for reason in verdict.reasons:
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", reason.code)
            assert reason.message.endswith(".")
            assert reason.see, reason.code
        codes = [reason.code for reason in verdict.reasons]
        assert len(codes) == len(set(codes)), codes


def test_every_reference_resolves() -> None:
    catalog = load_catalog()
    for verdict in tiers_seen():
        refs = [ref for reason in verdict.reasons for ref in reason.see] + [
            link.ref for link in verdict.links
        ]
        for ref in refs:
            kind, _, name = ref.partition(":")
            assert name in catalog.table(kind), ref


# Remedies


REMEDY_CASES: list[tuple[str, Any, dict[str, Any], str, str]] = [
    ("llama-3.3-70b", "rtx-4090", {}, "q4_k_m", "llama.cpp"),
    ("llama-3.3-70b", "rtx-3090", {}, "q8_0", "llama.cpp"),
    ("llama-3.1-8b", "rtx-3060-12gb", {"context_tokens": 131072}, "q4_k_m", "llama.cpp"),
    ("llama-3.1-8b", "rtx-4090", {"context_tokens": 200_000}, "q4_k_m", "llama.cpp"),
    ("llama-3.1-8b", "rtx-3060-12gb", {"context_tokens": 8192, "concurrency": 16}, "q4_k_m", "llama.cpp"),
    ("llama-3.1-8b", "rtx-4090", {}, "q4_k_m", "vllm"),
    ("llama-3.3-70b", "nvidia-h100-sxm5-80gb", {}, "bf16", "vllm"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "machine", "fields", "quant", "runtime"), REMEDY_CASES)
def test_remedies_do_what_they_say(
    model: str, machine: Any, fields: dict[str, Any], quant: str, runtime: str
) -> None:
    load = Workload(**fields)
    verdict = assess(model, machine, load, quantization=quant, runtime=runtime)
    assert verdict.remedies
    places = [_KINDS.index(remedy.kind) for remedy in verdict.remedies]
    assert places == sorted(places), "cheapest first"
    for remedy in verdict.remedies:
        place, changed, other, engine = apply_remedy(remedy.arguments, machine, load, quant, runtime)
        again = assess(model, place, changed, quantization=other, runtime=engine)
        assert again.tier == remedy.tier, remedy.message
        better = TIER_ORDER[again.tier] > TIER_ORDER[verdict.tier]
        if remedy.total_bytes is not None:
            assert again.memory is not None
            assert again.memory.total_bytes == remedy.total_bytes, remedy.message
        assert again.speed is not None
        head = again.speed.headline()
        assert head is not None
        assert remedy.headline == head[0]
        assert remedy.speed is not None
        for bound in ("low", "best", "high"):
            # Evaluated with others in one array: rates agree to rounding.
            assert getattr(remedy.speed, bound) == pytest.approx(getattr(head[1], bound), rel=1e-9)
        if not better:
            assert verdict.speed is not None
            before = verdict.speed.headline()
            assert before is not None
            assert head[1].best > before[1].best, remedy.message


def test_smaller_batches_are_a_remedy_for_pictures() -> None:
    verdict = judged("resnet-50", "rtx-3060-12gb", batch_size=4096)
    assert verdict.tier == "will-not-run"
    batch = next(remedy for remedy in verdict.remedies if remedy.kind == "batch")
    again = assess("resnet-50", "rtx-3060-12gb", Workload(**batch.arguments))
    assert again.tier == batch.tier == "comfortable"


def test_a_full_card_leads_to_a_runtime_that_offloads() -> None:
    machine = {"accelerators": ["rtx-4090"], "host": {"ram": "128 GiB"}}
    verdict = assess("gpt-oss-120b", machine, runtime="vllm")
    assert verdict.tier == "will-not-run"
    assert verdict.remedies[0].arguments == {"runtime": "llama.cpp"}
    assert assess("gpt-oss-120b", machine, runtime="llama.cpp").tier == verdict.remedies[0].tier == "offload"


def test_a_comfortable_verdict_needs_no_remedy() -> None:
    verdict = judged("llama-3.1-8b", "rtx-4090", "q4_k_m")
    assert verdict.tier == "comfortable"
    assert verdict.remedies == ()


# Links


def terms_of(verdict: Verdict) -> set[str]:
    refs = {link.ref for link in verdict.links} | {ref for reason in verdict.reasons for ref in reason.see}
    return {ref.removeprefix("glossary:") for ref in refs if ref.startswith("glossary:")}


def test_links_suit_the_task() -> None:
    catalog = load_catalog()
    for verdict in tiers_seen():
        names = terms_of(verdict)
        categories = {name: catalog.glossary[name].category for name in names}
        if verdict.inputs.workload["task"] == "image-classification":
            foreign = {name for name in names if categories[name] in LANGUAGE_CATEGORIES} - SHARED_SERVING
            assert not foreign | (names & LANGUAGE_TERMS), verdict.sentence()
        else:
            foreign = {name for name in names if categories[name] in VISION_CATEGORIES}
            assert not foreign | (names & PICTURE_TERMS), verdict.sentence()
        for ref in (link.ref for link in verdict.links):
            if ref.startswith("troubleshooting:"):
                entry = catalog.troubleshooting[ref.removeprefix("troubleshooting:")]
                assert not entry.tasks or verdict.inputs.workload["task"] in entry.tasks, ref
                assert not entry.runtimes or verdict.inputs.runtime["name"] in entry.runtimes, ref


def test_picture_models_link_to_imagenet() -> None:
    for fields in ({"batch_size": 1}, {"batch_size": 4096}, {"batch_size": 64, "dataset": "imagenet-1k"}):
        verdict = judged("resnet-50", "rtx-3060-12gb", None, **fields)
        assert "glossary:imagenet" in {link.ref for link in verdict.links}
    assert "imagenet" not in terms_of(judged("llama-3.1-8b", "rtx-4090", "q4_k_m"))


def test_links_follow_the_binding_constraint() -> None:
    def refs(verdict: Verdict) -> set[str]:
        return {link.ref for link in verdict.links}

    cache_bound = refs(judged("llama-3.1-8b", "rtx-3060-12gb", "q4_k_m", context_tokens=131072))
    weight_bound = refs(judged("llama-3.3-70b", "rtx-4090", "q4_k_m"))
    comfortable = refs(judged("llama-3.1-8b", "rtx-4090", "q4_k_m"))
    launch = refs(judged("resnet-50", "rtx-3060-12gb", batch_size=1))
    assert "glossary:kv-cache" in cache_bound - weight_bound
    assert "glossary:quantization" in weight_bound - cache_bound
    assert "glossary:memory-bandwidth" in comfortable
    assert "glossary:launch-bound" in launch
    assert len({frozenset(s) for s in (cache_bound, weight_bound, comfortable, launch)}) == 4
    # What binds is explained first in its reason, whatever the task adds.
    binding = judged("resnet-50", "rtx-3060-12gb", batch_size=1)
    see = next(reason.see for reason in binding.reasons if reason.code == "launch-bound")
    assert see.index("glossary:launch-bound") < see.index("glossary:torch-compile")


def test_links_heed_the_vendor() -> None:
    full = Workload(context_tokens=32768, concurrency=64)
    for machine, foreign in (("rx-7900-xtx", "cuda-out-of-memory"), ("rtx-4090", "rocm-out-of-memory")):
        verdict = assess("llama-3.1-8b", machine, full, quantization="q4_k_m")
        assert f"troubleshooting:{foreign}" not in {ref for reason in verdict.reasons for ref in reason.see}


# Commands


def runtime_cases() -> list[tuple[str, str, str, str | None]]:
    """One feasible case per runtime that has a command line."""
    return [
        ("llama.cpp", "llama-3.1-8b", "rtx-4090", "q4_k_m"),
        ("ollama", "llama-3.1-8b", "rtx-4090", "q4_k_m"),
        ("lm-studio", "llama-3.1-8b", "rtx-4090", "q4_k_m"),
        ("vllm", "llama-3.1-8b", "nvidia-h100-sxm5-80gb", "bf16"),
        ("sglang", "llama-3.1-8b", "nvidia-h100-sxm5-80gb", "bf16"),
        ("tensorrt-llm", "llama-3.1-8b", "nvidia-h100-sxm5-80gb", "bf16"),
        ("transformers", "llama-3.1-8b", "nvidia-h100-sxm5-80gb", "bf16"),
        ("exllamav2", "llama-3.1-8b", "rtx-4090", "exl2-4.0"),
        ("mlx", "llama-3.1-8b", "m3-max-40gpu", "mlx-4bit"),
        ("pytorch", "resnet-50", "rtx-4090", None),
        ("onnxruntime", "resnet-50", "rtx-4090", None),
        ("tensorrt", "resnet-50", "rtx-4090", None),
    ]


@pytest.mark.parametrize(("runtime", "model", "machine", "quant"), runtime_cases())
def test_commands_are_filled_in(runtime: str, model: str, machine: str, quant: str | None) -> None:
    verdict = assess(model, machine, quantization=quant, runtime=runtime)
    assert verdict.feasible, verdict.reasons
    assert verdict.commands
    for command in verdict.commands:
        assert not re.search(r"\{[a-z_]*\}", command), command
        assert "None" not in command
        assert "  " not in command


@pytest.mark.parametrize("runtime", ["vllm", "sglang", "tensorrt-llm"])
def test_serving_engines_are_told_the_length_of_one_sequence(runtime: str) -> None:
    load = Workload(context_tokens=4096, concurrency=8)
    (command,) = assess(
        "llama-3.1-8b", "nvidia-h100-sxm5-80gb", load, quantization="bf16", runtime=runtime
    ).commands
    assert "4096" in command.split()
    assert "32768" not in command


def test_llama_cpp_is_told_the_length_of_all_sequences() -> None:
    load = Workload(context_tokens=4096, concurrency=8)
    (command,) = assess("llama-3.1-8b", "nvidia-h100-sxm5-80gb", load, quantization="q4_k_m").commands
    assert "-c 32768" in command
    assert "-np 8" in command


def test_picture_commands_say_what_was_asked() -> None:
    def command(**fields: Any) -> tuple[str, ...]:
        return assess("resnet-50", "rtx-4090", Workload(**fields)).commands

    (plain,) = command(batch_size=8)
    assert "-b 8" in plain
    assert "--precision float32" in plain
    assert "--amp" not in plain
    (other,) = command(batch_size=8, precision="amp-fp16", execution="compile", layout="nhwc")
    assert {"amp", "--torchcompile", "--channels-last"} <= set(other.split())
    assert "--img-size 224" in other
    # No switch of the benchmark does this, so no line claims to.
    assert command(batch_size=8, precision="int8") == ()


def test_what_does_not_run_has_no_command() -> None:
    for verdict in tiers_seen():
        assert bool(verdict.commands) <= verdict.feasible


# Inputs, provenance, round trips


# A host without accelerators (10) is described by its memory, which the inputs only name.
@pytest.mark.parametrize("index", [index for index in range(14) if index != 10])
def test_inputs_lead_to_the_same_verdict(index: int) -> None:
    verdict = tiers_seen()[index]
    again = recompute(verdict)
    assert again.tier == verdict.tier
    assert again.memory == verdict.memory
    assert again.speed == verdict.speed
    assert again.placement == verdict.placement
    assert again.inputs.model_copy(update={"defaulted": verdict.inputs.defaulted}) == verdict.inputs


@pytest.mark.parametrize(
    ("machine", "runtime"),
    [("rtx-5080", "llama.cpp"), (["rtx-3090"] * 2, "llama.cpp"), ("nvidia-h100-sxm5-80gb", "vllm")],
)
def test_a_format_of_both_worlds_runs_where_the_machine_suits(machine: Any, runtime: str) -> None:
    verdict = assess("gpt-oss-20b", machine)
    assert verdict.inputs.quantization == "mxfp4"
    assert verdict.inputs.runtime["name"] == runtime
    assert verdict.feasible


def test_defaults_are_listed() -> None:
    chat = judged("llama-3.1-8b", "rtx-4090")
    assert {
        "workload.context_tokens",
        "workload.prompt_tokens",
        "workload.output_tokens",
        "quantization",
        "runtime",
    } <= set(chat.inputs.defaulted)
    codes = {reason.code for reason in chat.reasons}
    assert {"assumed-host", "assumed-runtime", "assumed-quantization"} <= codes
    asked = assess(
        "llama-3.1-8b",
        "rtx-4090",
        Workload(context_tokens=4096, prompt_tokens=512, output_tokens=128),
        quantization="q4_k_m",
        runtime="llama.cpp",
    )
    assert asked.inputs.defaulted == ()
    assert "assumed-runtime" not in {reason.code for reason in asked.reasons}
    assert chat.inputs.workload["context_tokens"] == 8192
    assert chat.inputs.workload["prompt_tokens"] == 512
    assert chat.inputs.workload["output_tokens"] == 128


def test_the_chosen_format_is_the_best_that_is_comfortable() -> None:
    chosen = judged("llama-3.1-8b", "rtx-3060-12gb")
    assert chosen.tier == "comfortable"
    from willitrun.estimators.defaults import GGUF_LADDER

    for better in GGUF_LADDER[: GGUF_LADDER.index(str(chosen.inputs.quantization))]:
        assert judged("llama-3.1-8b", "rtx-3060-12gb", better).tier != "comfortable"


def test_provenance() -> None:
    catalog = load_catalog()
    for verdict in tiers_seen():
        assert verdict.provenance.package_version
        assert verdict.provenance.catalog_version == catalog.version
        assert verdict.provenance.catalog_digest == catalog.digest
        if verdict.tier != "unknown":
            assert set(verdict.provenance.methods) <= set(catalog.calibrations)
            assert verdict.provenance.methods


def test_json_round_trips_and_meets_its_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    schema = Verdict.model_json_schema(mode="serialization")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for verdict in tiers_seen():
        text = verdict.model_dump_json()
        validator.validate(json.loads(text))
        assert Verdict.model_validate_json(text) == verdict


def test_html_escapes_hostile_names() -> None:
    hostile = "<script>alert(1)</script>\"'&"
    machine = {
        "name": hostile,
        "accelerators": [card_spec("24 GiB", name=hostile)],
        "host": {"ram": "64 GiB"},
    }
    verdict = assess("llama-3.1-8b", machine, quantization="q4_k_m")
    for shown in (verdict._repr_html_(), verdict.memory._repr_html_() if verdict.memory else ""):
        assert "<script" not in shown
    assert "&lt;script&gt;" in verdict._repr_html_()
    assert "\n" not in repr(verdict)


def test_practical_is_a_claim_of_its_own() -> None:
    slow = judged("llama-3.3-70b", "rtx-4090", "q4_k_m")
    assert slow.feasible
    assert slow.practical is False
    assert "below-practical-floor" in {reason.code for reason in slow.reasons}
    agent = assess(
        "llama-3.3-70b", ["rtx-3090", "rtx-3090"], Workload(use="coding-agent"), quantization="q4_k_m"
    )
    assert agent.feasible
    assert agent.practical is False
    assert judged("llama-3.1-8b", "rtx-4090", "q4_k_m").practical is True


def test_a_dataset_without_counts_adds_no_pass() -> None:
    verdict = assess("resnet-50", "rtx-3060-12gb", Workload(dataset="imagenette"))
    assert verdict.feasible
    assert "dataset-pass" not in {reason.code for reason in verdict.reasons}


@pytest.mark.parametrize("execution", ["compile", "tensorrt", "onnxruntime", "openvino", "coreml"])
@pytest.mark.parametrize("machine", ["ddr5-5600-dual", "rtx-4090"])
def test_ways_of_execution_that_nobody_measured_have_no_speed(machine: str, execution: str) -> None:
    load = Workload(execution=execution, batch_size=8)
    verdict = assess("resnet-50", machine, load)
    assert verdict.feasible
    assert verdict.memory is not None
    assert verdict.speed is not None
    codes = {reason.code for reason in verdict.reasons}
    measured = verdict.speed.images_per_s is not None
    assert ("speed-not-modelled" in codes) != measured
    assert (verdict.practical is None) != measured
    row = plan(models=["resnet-50"], machines=[machine], workloads=[load]).row(0)
    assert row["tier"] == verdict.tier
    assert (row["images_per_s"] == row["images_per_s"]) == measured
    assert explain(verdict).text()


@pytest.mark.parametrize("model", sorted(load_catalog().models)[::97])
def test_any_model_gets_a_verdict(model: str) -> None:
    for machine in ("rtx-3060-12gb", "m3-max-40gpu", "ddr5-5600-dual"):
        verdict = assess(model, machine)
        assert verdict.tier in ("comfortable", "tight", "offload", "will-not-run", "unknown")
        assert verdict.reasons
        assert all(reason.see for reason in verdict.reasons)
        assert explain(verdict).steps
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
        if verdict.memory is not None:
            assert sum(term.value for term in verdict.memory.terms) == verdict.memory.total_bytes.best


@pytest.mark.parametrize(
    "placement",
    [
        Placement(split=(1.0, 2.0)),
        Placement(tp=2),
        Placement(tp=3),
        Placement(pp=2),
        Placement(dp=2),
        Placement(gpu_layers=5),
        Placement(gpu_layers=10**6),
        Placement(cpu_moe_layers=4),
        "cpu",
        "layer",
        "tensor",
        "expert",
    ],
    ids=str,
)
def test_placements_are_judged_and_travel(placement: Placement | str) -> None:
    for model, runtime in (("llama-3.1-8b", "llama.cpp"), ("qwen3-30b-a3b", "vllm"), ("bge-m3", "vllm")):
        verdict = assess(model, ["rtx-3090"] * 3, runtime=runtime, placement=placement)
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
        assert all(reason.see for reason in verdict.reasons)
        assert verdict.memory is not None
        assert sum(term.value for term in verdict.memory.terms) == verdict.memory.total_bytes.best


@pytest.mark.parametrize("runtime", ["llama.cpp", "vllm", "transformers"])
def test_a_prompt_with_an_image_is_judged_alone(runtime: str) -> None:
    with_image = assess("qwen2.5-vl-7b", "rtx-4090", Workload(images=1), runtime=runtime).memory
    without = assess("qwen2.5-vl-7b", "rtx-4090", Workload(), runtime=runtime).memory
    assert with_image is not None
    assert without is not None
    held, plain = with_image.activation_bytes.best, without.activation_bytes.best
    assert held > plain if runtime == "llama.cpp" else held >= plain


def test_a_sentence_says_what_is_too_slow() -> None:
    verdict = assess(
        "llama-3.3-70b", {"host": {"ram": "128 GiB"}}, quantization="q4_k_m", runtime="llama.cpp"
    )
    assert verdict.feasible
    assert verdict.practical is False
    assert verdict.sentence().endswith("below what is practical.")
    fast = assess("llama-3.2-1b", "rtx-4090", quantization="q4_k_m", runtime="llama.cpp")
    assert "practical" not in fast.sentence()


@pytest.mark.parametrize(
    ("model", "machine", "load", "runtime"),
    [
        ("llama-3.1-8b", "rtx-3060-12gb", {"mode": "full-finetune"}, None),
        ("llama-3.1-8b", "rtx-4090", {"mode": "lora"}, "vllm"),
        ("resnet-50", "rtx-4090", {"mode": "full-finetune", "batch_size": 100_000, "dataset": "imagenet-1k"}, None),
        ("resnet-50", "rtx-4090", {"batch_size": 200_000, "dataset": "imagenet-1k"}, None),
        ("whisper-large-v3", "rtx-4090", {"batch_size": 4000}, None),
        ("sdxl", "rtx-4090", {"batch_size": 5000}, None),
        ("llama-3.3-70b", "rtx-3060-12gb", {}, "vllm"),
    ],
)  # fmt: skip
def test_what_does_not_run_has_no_speed_and_no_bound(
    model: str, machine: str, load: dict[str, Any], runtime: str | None
) -> None:
    verdict = assess(model, machine, Workload(**load), runtime=runtime)
    assert (verdict.tier, verdict.speed) == ("will-not-run", None)
    about_speed = {"dataset-pass", "speed-not-modelled", "work-scaled"}
    assert not [r.code for r in verdict.reasons if r.code.endswith("-bound") or r.code in about_speed]
