"""Records of runtimes: every field was read somewhere, and what they list can be chosen."""

from __future__ import annotations

import pytest

from willitrun import (
    InvalidWorkloadError,
    Placement,
    Runtime,
    Workload,
    assess,
    load_catalog,
    plan,
)
from willitrun.kernels.kv_layouts import KV_FORMATS
from willitrun.records.recipes import RuntimeProfile

CATALOG = load_catalog()
UNFINISHED = {
    "comfyui", "diffusers", "faster-whisper", "ik_llama.cpp", "llama.cpp", "llamafile", "lm-studio", "mlc-llm", "mlx", "ollama",
    "onnxruntime", "openvino", "pytorch", "sglang", "tensorrt", "tensorrt-llm", "transformers", "vllm", "whisper.cpp",
}  # fmt: skip
"""Records that cite pages as a whole for some of their fields."""
SAID = {"install", "command", "versions", "flags"}


@pytest.mark.parametrize("profile", CATALOG.runtimes.values(), ids=lambda profile: profile.id)
def test_every_field_cites_the_place_it_was_read_at(profile: RuntimeProfile) -> None:
    fields = {*profile.facts(), *(name for name in SAID if getattr(profile, name))}
    bare = {name for name in fields if name not in profile.cite or not all(c.at for c in profile.cite[name])}
    if profile.id in UNFINISHED:
        assert bare or "*" in profile.cite, "it is finished: take it off the list"
    else:
        assert not bare
        assert "*" not in profile.cite


@pytest.mark.parametrize(
    "profile",
    [one for one in CATALOG.runtimes.values() if "text-generation" in one.tasks],
    ids=lambda profile: profile.id,
)
def test_every_cache_type_of_a_record_is_known(profile: RuntimeProfile) -> None:
    """What `Runtime(kv_dtype_k=...)` is refused for names these as the alternatives."""
    assert set(profile.kv_formats) <= set(KV_FORMATS)
    if flags := profile.flags_of.get("kv_dtype_k"):
        assert set(flags) <= {"none", "bf16", "f16", *profile.kv_formats}


@pytest.mark.parametrize(
    ("runtime", "quantization", "kind", "elements", "size"),
    [
        ("exllamav3", "exl3-4.0", "q8_0", 32, 34),
        ("exllamav3", "exl3-4.0", "q4_0", 32, 18),
        ("exllamav2", "exl2-4.0", "q6_0", 32, 26),
        ("tensorrt-llm", "bf16", "nvfp4", 16, 9),
        ("tensorrt-llm", "bf16", "fp8", 1, 1),
        ("vllm", "bf16", "fp8", 1, 1),
    ],
)
def test_a_smaller_cache_type_makes_a_smaller_cache(
    runtime: str, quantization: str, kind: str, elements: int, size: int
) -> None:
    """Paged and growing caches were counted with 16 bits whatever blocks they were told to store."""
    load = Workload(context_tokens=32768)
    memory = [
        assess(
            "llama-3.1-8b", "h100-sxm", load, quantization=quantization, runtime=Runtime(name=runtime, kv_dtype_k=name)
        ).memory
        for name in (None, kind)
    ]  # fmt: skip
    assert memory[0] is not None
    assert memory[1] is not None
    assert memory[1].kv_cache_bytes.best * 2 * elements == memory[0].kv_cache_bytes.best * size


def test_the_cache_type_is_on_the_command_line() -> None:
    for runtime, quantization, kind, said in (
        ("exllamav3", "exl3-4.0", "q5_0", "-cq 5"),
        ("exllamav2", "exl2-4.0", "q8_0", "-cq8"),
    ):
        chosen = Runtime(name=runtime, kv_dtype_k=kind)
        assert (
            said in assess("llama-3.1-8b", "rtx-4090", quantization=quantization, runtime=chosen).commands[0]
        )
        assert (
            said
            not in assess("llama-3.1-8b", "rtx-4090", quantization=quantization, runtime=runtime).commands[0]
        )


DESK = {"name": "desk", "accelerators": ["rtx-4090"], "host": {"ram": "128 GiB"}}


def test_exllamav3_keeps_experts_and_nothing_else_in_host_memory() -> None:
    routed = assess("qwen3-235b-a22b", DESK, quantization="exl3-4.0", runtime="exllamav3")
    assert routed.tier == "offload"
    assert routed.placement.cpu_moe_layers
    assert f"-mcl {routed.placement.cpu_moe_layers}" in routed.commands[0]
    assert routed.reasons[0].code == "needs-offload"
    assert routed.reasons[0].numbers["host_layers"] == 0
    dense = assess("llama-3.3-70b", DESK, quantization="exl3-4.0", runtime="exllamav3")
    assert dense.tier == "will-not-run"
    assert dense.reasons[0].code == "no-cpu-offload-in-runtime"
    # More experts than the card and the host hold: layers cannot follow them.
    small = DESK | {"accelerators": ["rtx-3060-12gb"]}
    assert assess("deepseek-r1", small, quantization="exl3-4.0", runtime="exllamav3").tier == "will-not-run"
    told = assess(
        "qwen3-30b-a3b",
        DESK,
        quantization="exl3-4.0",
        runtime="exllamav3",
        placement=Placement(cpu_moe_layers=12),
    )
    assert "-mcl 12" in told.commands[0]
    refused = assess(
        "qwen3-30b-a3b",
        DESK,
        quantization="exl3-4.0",
        runtime="exllamav3",
        placement=Placement(gpu_layers=12),
    )
    assert refused.tier == "will-not-run"
    assert any(reason.code == "placement-not-supported-by-runtime" for reason in refused.reasons)


def test_a_sweep_judges_experts_alike() -> None:
    models = ("qwen3-235b-a22b", "llama-3.3-70b", "qwen3-30b-a3b")
    table = plan(
        models=models, machines=[DESK], workloads=[Workload(context_tokens=8192)], quantizations=["exl3-4.0"], runtimes=["exllamav3"]
    )  # fmt: skip
    for number, model in enumerate(models):
        row = table.row(number)
        verdict = assess(
            model, DESK, Workload(context_tokens=8192), quantization="exl3-4.0", runtime="exllamav3"
        )
        assert row["tier"] == verdict.tier
        assert row["fit_reason"] == verdict.reasons[0].code


def test_exllamav3_runs_on_cards_of_amd() -> None:
    assert assess("llama-3.1-8b", "rx-7900-xtx", quantization="exl3-4.0", runtime="exllamav3").feasible


def test_an_unknown_cache_type_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidWorkloadError, match="no KV cache of q4_1"):
        assess(
            "llama-3.1-8b",
            "rtx-4090",
            quantization="exl3-4.0",
            runtime=Runtime(name="exllamav3", kv_dtype_k="q4_1"),
        )
