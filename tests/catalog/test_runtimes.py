"""Records of runtimes: every field was read somewhere, and what they list can be chosen."""

from __future__ import annotations

from typing import Any

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
from willitrun.kernels.server_defaults import sglang_static_share
from willitrun.records.recipes import RuntimeProfile

CATALOG = load_catalog()
SAID = {"install", "command", "versions", "flags"}


@pytest.mark.parametrize("profile", CATALOG.runtimes.values(), ids=lambda profile: profile.id)
def test_every_field_cites_the_place_it_was_read_at(profile: RuntimeProfile) -> None:
    fields = {*profile.facts(), *(name for name in SAID if getattr(profile, name))}
    bare = {name for name in fields if name not in profile.cite or not all(c.at for c in profile.cite[name])}
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
        ("sglang", "bf16", "nvfp4", 16, 9),
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


def _budget(machine: str, runtime: Runtime, quantization: str = "fp8", model: str = "llama-3.1-8b") -> str:
    load = Workload(context_tokens=8192, concurrency=4)
    return assess(model, machine, load, quantization=quantization, runtime=runtime).commands[0]


def test_the_share_on_the_command_line_is_the_servers_own() -> None:
    assert "--gpu-memory-utilization 0.92 " in _budget("rtx-4090", Runtime(name="vllm"))
    assert "--gpu-memory-utilization 0.9 " in _budget("rtx-4090", Runtime(name="vllm", version="0.20.1"))
    assert "--mem-fraction-static 0.704 " in _budget("rtx-4090", Runtime(name="sglang"))
    assert "--mem-fraction-static 0.5 " in _budget(
        "rtx-4090", Runtime(name="sglang", gpu_memory_utilization=0.5)
    )
    assert "memory_fraction 0.9 " in _budget("rtx-4090", Runtime(name="tensorrt-llm"))
    notes = " ".join(CATALOG.runtimes["sglang"].flags)
    for size in (24, 80):
        assert f"{100 * sglang_static_share(size * 2**30).item():.0f} % of" in notes


def test_a_share_of_free_memory_is_raised_where_its_own_would_not_do() -> None:
    """32B in 4 bits on 24 GiB: SGLang's own 0.70 would leave nothing for a cache, and 0.9 of the card never counted."""
    line = _budget("rtx-4090", Runtime(name="sglang"), "awq-int4", "qwen3-32b")
    share = float(line.split("--mem-fraction-static ")[1].split()[0])
    assert 0.85 < share < 0.95
    tight = Runtime(name="sglang", gpu_memory_utilization=0.7)
    load = Workload(context_tokens=8192, concurrency=4)
    assert not assess("qwen3-32b", "rtx-4090", load, quantization="awq-int4", runtime=tight).feasible


def test_tensorrt_llm_fills_what_weights_leave() -> None:
    """Its 0.9 is of the rest: 70B in FP8 runs on one H200 with less beside it than a tenth of the card."""
    for runtime, runs in (
        ("tensorrt-llm", True),
        (Runtime(name="tensorrt-llm", gpu_memory_utilization=0.5), False),
    ):
        verdict = assess(
            "llama-3.3-70b", "h100-sxm", Workload(context_tokens=8192), quantization="fp8", runtime=runtime
        )
        assert verdict.feasible is runs


@pytest.mark.parametrize(
    ("machine", "small"),
    [("a100-sxm4-80gb", True), ("a800-sxm4-80gb", False), ("h100-sxm", False), ("gb10", True)],
)
def test_vllm_keeps_small_steps_on_the_a100(machine: str, small: bool) -> None:
    """Its peak is a third: 256 sequences and 2,048 tokens where cards of 70 GiB have 1,024 and 8,192."""
    memory = assess("llama-3.1-8b", machine, quantization="bf16", runtime="vllm").memory
    assert memory is not None
    assert (memory.activation_bytes.best < 2**30) is small


def test_nothing_is_said_to_load_what_left_its_package() -> None:
    assert "vllm-bnb-plugin" in CATALOG.runtimes["vllm"].install
    sglang = assess("llama-3.1-8b", "h100-sxm", quantization="int4-torchao", runtime="sglang")
    assert sglang.reasons[0].code == "format-not-supported-by-runtime"


def _line(model: str, machine: str | dict[str, object], runtime: str | Runtime, **chosen: Any) -> str:
    return "\n".join(assess(model, machine, runtime=runtime, **chosen).commands)


def test_llama_server_is_told_of_one_cache_for_all_slots() -> None:
    """With a number of slots it divides the context among them, unless it's told otherwise."""
    four = Workload(context_tokens=8192, concurrency=4)
    assert " -kvu" in _line("llama-3.1-8b", "rtx-4090", "llama.cpp", quantization="q4_k_m", workload=four)
    assert " -kvu" not in _line("llama-3.1-8b", "rtx-4090", "llama.cpp", quantization="q4_k_m")
    apart = Runtime(name="llama.cpp", kv_unified=False)
    assert " -no-kvu" in _line("llama-3.1-8b", "rtx-4090", apart, quantization="q4_k_m", workload=four)


def test_llama_server_is_told_to_split_tensors() -> None:
    pair = {"name": "pair", "accelerators": [{"id": "rtx-4090", "count": 2}], "host": {"ram": "64 GiB"}}
    for strategy, said in (("tensor", True), ("layer", False)):
        chosen = _line(
            "llama-3.1-8b", pair, "llama.cpp", quantization="q4_k_m", placement=Placement(strategy=strategy)
        )
        assert ("-sm tensor" in chosen) is said


@pytest.mark.parametrize(
    ("model", "splits"),
    [("nemotron-nano-9b-v2", False), ("deepseek-v2-lite", False), ("olmo-3-7b", False), ("qwen3-8b", True)],
)
def test_llama_server_refuses_to_split_the_tensors_of_some(model: str, splits: bool) -> None:
    pair = {"name": "pair", "accelerators": [{"id": "rtx-4090", "count": 2}], "host": {"ram": "64 GiB"}}
    verdict = assess(
        model, pair, quantization="q4_k_m", runtime="llama.cpp", placement=Placement(strategy="tensor")
    )
    assert verdict.feasible is splits
    assert ("placement-not-supported-by-runtime" in {reason.code for reason in verdict.reasons}) is not splits
    assert assess(model, pair, quantization="q4_k_m", runtime="llama.cpp").feasible


def test_types_of_models_that_are_not_split_are_types_of_models() -> None:
    known = {model.transformer.model_type for model in CATALOG.models.values() if model.transformer}
    for profile in CATALOG.runtimes.values():
        assert set(profile.tensor_split_lacks) <= known
        assert "tensor" in profile.multi_gpu or not profile.tensor_split_lacks


def test_lm_studio_is_told_how_much_lies_on_the_card() -> None:
    assert "--gpu max" in _line("llama-3.1-8b", "rtx-4090", "lm-studio", quantization="q4_k_m")
    desk = {"name": "desk", "accelerators": ["rtx-3060-12gb"], "host": {"ram": "64 GiB"}}
    verdict = assess("qwen3-32b", desk, quantization="q4_k_m", runtime="lm-studio")
    assert verdict.tier == "offload"
    assert 0.1 < float(verdict.commands[0].split("--gpu ")[1].split()[0]) < 0.9


def test_mlx_takes_the_type_of_its_cache_and_no_size() -> None:
    plain = _line("llama-3.1-8b", "m3-max-40", "mlx", quantization="mlx-4bit")
    assert "mlx_lm.server" in plain
    assert "--max-kv-size" not in plain
    assert "--kv-bits" not in plain
    small = Runtime(name="mlx", kv_dtype_k="mlx-4bit")
    assert "--kv-bits 4" in _line("llama-3.1-8b", "m3-max-40", small, quantization="mlx-4bit")


def test_transformers_serves_before_it_chats() -> None:
    lines = _line("llama-3.1-8b", "rtx-4090", "transformers", quantization="bf16").splitlines()
    assert [line.split()[1] for line in lines] == ["serve", "chat"]
    whisper = _line("whisper-large-v3", "rtx-4090", "transformers", quantization="f16")
    assert "dtype='float16'" in whisper
    assert "torch_dtype" not in whisper


def test_tensorrt_takes_its_precision_from_the_file() -> None:
    """trtexec has no --fp16 since version 11: the file is cast before."""
    full = _line("resnet-50", "rtx-4090", "tensorrt", quantization="f32")
    half = _line("resnet-50", "rtx-4090", "tensorrt", quantization="f16")
    assert "autocast" not in full
    assert "modelopt.onnx.autocast" in half
    for line in (full, half):
        assert "--fp16" not in line
        assert "trtexec --onnx=" in line
    assert not _line("resnet-50", "rtx-4090", "tensorrt", quantization="int8")


@pytest.mark.parametrize(
    ("runtime", "machine", "model", "quantization", "feasible"),
    [
        ("comfyui", "rtx-4090", "flux.1-dev", "nf4", False),
        ("comfyui", "rtx-4090", "flux.1-dev", "fp8", True),
        ("llamafile", "arc-b580", "llama-3.1-8b", "q4_k_m", True),
        ("faster-whisper", "rx-7900-xtx", "whisper-large-v3", "f16", True),
        ("onnxruntime", "rx-7900-xtx", "resnet-50", "f16", True),
    ],
)
def test_what_makers_added_and_took_away(
    runtime: str, machine: str, model: str, quantization: str, feasible: bool
) -> None:
    assert assess(model, machine, quantization=quantization, runtime=runtime).feasible is feasible


def test_providers_of_onnx_runtime_go_by_their_names() -> None:
    assert "-e migraphx" in _line("resnet-50", "rx-7900-xtx", "onnxruntime", quantization="f16")
    assert "-e cuda" in _line("resnet-50", "rtx-4090", "onnxruntime", quantization="f16")


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [("ik_llama.cpp", "q6_0"), ("transformers", "fp8"), ("transformers", "int4"), ("lm-studio", "q5_1")],
)
def test_cache_types_that_were_refused(runtime: str, kind: str) -> None:
    quantization = "bf16" if runtime == "transformers" else "q4_k_m"
    memory = [
        assess("llama-3.1-8b", "rtx-4090", quantization=quantization, runtime=Runtime(name=runtime, kv_dtype_k=name, kv_dtype_v=name)).memory
        for name in (None, kind)
    ]  # fmt: skip
    assert memory[0] is not None
    assert memory[1] is not None
    assert memory[1].kv_cache_bytes.best < 0.6 * memory[0].kv_cache_bytes.best
