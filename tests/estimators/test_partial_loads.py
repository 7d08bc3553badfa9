"""Loads that leave layers on the host, against what logs of llama.cpp print for the accelerator."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from willitrun import (
    Placement,
    Runtime,
    Workload,
    describe_machine,
    describe_model,
    estimate_memory,
    load_catalog,
)
from willitrun.records.results import MemoryEstimate

MIB = 2**20


@dataclass(frozen=True)
class Log:
    """A load log: what was loaded and how, and what the card holds of it [MiB]."""

    url: str
    model: str
    build: int
    gpu_layers: int
    context: int
    flash: bool
    weights: float
    cache: float
    buffers: float


LOGS = (
    Log("https://github.com/ggml-org/llama.cpp/issues/12213", "llama-3.1-8b", 4783, 10, 131072, True, 1263.13, 5120.0, 920.0),
    Log("https://github.com/ggml-org/llama.cpp/issues/8760", "llama-3.1-70b", 3488, 42, 8224, False, 20557.70, 1349.25, 1140.25),
    Log("https://github.com/Furi5/itext2kg ollama.log", "qwen2.5-32b", 4000, 43, 2048, False, 11971.92, 344.0, 916.08),
    Log("https://github.com/Jantoniio3/TFG ollama.log", "llama-3.1-70b", 4000, 64, 32768, False, 31090.75, 8192.0, 4400.0),
    Log("https://github.com/DzKriMo/Aigis llama-server.log", "qwen2.5-3b", 8179, 35, 2048, True, 1740.74, 68.0, 300.75),
)  # fmt: skip


def loaded(
    model: str, build: int | None, placement: Placement, context: int, *, flash: bool = True
) -> MemoryEstimate:
    machine = describe_machine({"accelerators": ["h200-sxm-141gb"], "host": {"ram": "512 GiB"}})
    return estimate_memory(
        model,
        machine,
        Workload(context_tokens=context, prompt_tokens=1, output_tokens=1),
        quantization="q4_k_m",
        runtime=Runtime(name="llama.cpp", version=f"b{build}" if build else None, flash_attention=flash),
        placement=placement,
    )


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log.model}-{log.gpu_layers}")
def test_layers_on_the_card(log: Log) -> None:
    found = loaded(log.model, log.build, Placement(gpu_layers=log.gpu_layers), log.context, flash=log.flash)
    assert found.weights_bytes.best / MIB == pytest.approx(log.weights, abs=0.02)
    assert found.kv_cache_bytes.best / MIB == pytest.approx(log.cache, abs=0.005)
    assert found.activation_bytes.best / MIB == pytest.approx(log.buffers, rel=0.012)


def test_the_cache_of_a_layer_on_the_host_is_copied() -> None:
    # 131,072 cells of 2,048 elements in two bytes: 512 MiB of cache a layer.
    whole = loaded("llama-3.1-8b", 4783, Placement(gpu_layers=33), 131072)
    partly = loaded("llama-3.1-8b", 4783, Placement(gpu_layers=31), 131072)
    assert partly.activation_bytes.best - whole.activation_bytes.best == pytest.approx(512 * MIB, rel=0.01)


def test_automatic_and_given_placement_agree() -> None:
    machine = describe_machine({"accelerators": ["rtx-3060-12gb"], "host": {"ram": "64 GiB"}})
    asked = {"quantization": "q4_k_m", "runtime": "llama.cpp"}
    load = Workload(context_tokens=32768)
    automatic = estimate_memory("qwen2.5-32b", machine, load, **asked)  # type: ignore[arg-type]
    away = next(term.inputs["host_layers"] for term in automatic.terms if term.name == "weights")
    assert isinstance(away, int)
    assert 0 < away < 64
    told = Placement(gpu_layers=65 - away)
    given = estimate_memory("qwen2.5-32b", machine, load, **asked, placement=told)  # type: ignore[arg-type]
    assert given.total_bytes.best == automatic.total_bytes.best
    assert given.host_bytes == automatic.host_bytes


def test_mlx_makes_logits_of_the_last_chunk() -> None:
    machine = describe_machine({"accelerators": ["apple-m3-max-40gpu"], "host": {"ram": "128 GiB"}})
    found = {
        prompt: estimate_memory(
            "qwen3-4b",
            machine,
            Workload(context_tokens=8192, prompt_tokens=prompt),
            quantization="mlx-4bit",
            runtime="mlx",
        ).activation_bytes.best
        for prompt in (1024, 2048, 4096)
    }
    logits = 151936 * 2
    # Half-precision ones, beside which the rest of a token is small.
    assert 1024 * logits <= found[2048] - found[1024] < 1.1 * 1024 * logits
    assert found[4096] == found[2048]


def _buffers(machine: str | list[str], runtime: Runtime, gpu_layers: int | None = None) -> list[int]:
    found = estimate_memory(
        "llama-3.1-8b",
        describe_machine(machine),
        quantization="q4_k_m",
        runtime=runtime,
        placement=Placement(gpu_layers=gpu_layers),
    )
    return [device.activation_bytes for device in found.per_device]


def test_small_batches_leave_what_is_on_the_host_there() -> None:
    few, many = Runtime(name="llama.cpp", n_ubatch=16), Runtime(name="llama.cpp", n_ubatch=32)
    assert _buffers("rtx-3090", few, 10) == _buffers("rtx-3090", few)
    assert _buffers("rtx-3090", many, 10) > _buffers("rtx-3090", many)


def test_copies_of_inputs_are_of_pipelines_over_cards() -> None:
    cards = ["intel-arc-a770-16gb"] * 2
    pipelined, plain = (Runtime(name="llama.cpp", backend=backend) for backend in ("vulkan", "sycl"))
    # Back ends without events keep none, and no model that lies partly on the host is worked on as a pipeline.
    assert all(
        more > less for more, less in zip(_buffers(cards, pipelined), _buffers(cards, plain), strict=True)
    )
    assert _buffers(cards, pipelined, 20) == _buffers(cards, plain, 20)
    fork = Runtime(name="ik_llama.cpp")
    assert _buffers(["rtx-3090"] * 2, fork)[-1] == _buffers("rtx-3090", fork)[0]


def _architectures() -> list[str]:
    """One model of the catalog for each architecture."""
    found: dict[str, str] = {}
    for model in load_catalog().models.values():
        if model.transformer is not None and model.task == "text-generation":
            found.setdefault(model.transformer.model_type, model.id)
    return sorted(found.values())


@pytest.mark.parametrize("model", _architectures())
def test_no_byte_is_lost_between_host_and_cards(model: str) -> None:
    machine = describe_machine({"accelerators": ["h200-sxm-141gb"] * 2, "host": {"ram": "8192 GiB"}})
    layers = describe_model(model).transformer.num_hidden_layers  # type: ignore[union-attr]
    sums = set()
    for told in (layers + 1, layers, layers // 2, 1, 0):
        found = estimate_memory(
            model,
            machine,
            Workload(context_tokens=2048),
            quantization="q4_k_m",
            runtime="llama.cpp",
            placement=Placement(gpu_layers=told),
        )
        parts = (found.weights_bytes, found.kv_cache_bytes, found.state_bytes, found.host_bytes)
        sums.add(round(sum(part.best for part in parts)))
        assert sum(device.total_bytes.best for device in found.per_device) == found.total_bytes.best
        assert all(device.weights_bytes >= 0 <= device.kv_cache_bytes for device in found.per_device)
    assert len(sums) == 1


@pytest.mark.parametrize("version", ["b4783", "4783", "4783 (a800ae46)"])
def test_builds_are_read_as_logs_print_them(version: str) -> None:
    found = estimate_memory(
        "deepseek-v2-lite",
        describe_machine({"accelerators": ["h200-sxm-141gb"]}),
        Workload(context_tokens=4096),
        quantization="q4_k_m",
        runtime=Runtime(name="llama.cpp", version=version),
    )
    # Before April 2025 every head's keys and values were cached: 16 heads of 192 and 128 in 27 layers.
    assert found.kv_cache_bytes.best == 4096 * 27 * 16 * (192 + 128) * 2
