"""Placements as told: parts of devices, and what a machine or a runtime does not have."""

from __future__ import annotations

import numpy as np
import pytest

from willitrun import InvalidWorkloadError, MemoryEstimate, Placement, Workload, assess, plan
from willitrun.kernels.splits import capacity_of

TWO = ["rtx-3090", "rtx-3090"]


def held(
    split: tuple[float, ...] | None, model: str = "llama-3.1-8b", machine: list[str] = TWO
) -> MemoryEstimate:
    verdict = assess(model, machine, quantization="q4_k_m", placement=Placement(split=split))
    assert verdict.memory is not None
    return verdict.memory


def test_parts_decide_which_layers_lie_where() -> None:
    equal, uneven = held((1, 1)), held((1, 3))
    assert equal == held(None)
    low, high = (device.kv_cache_bytes for device in uneven.per_device)
    # llama.cpp counts the output matrix as a 33rd layer: a quarter of 33 reaches into the ninth.
    assert 9 * high == 23 * low
    assert uneven.weights_bytes == equal.weights_bytes
    assert [device.kv_cache_bytes for device in held((0, 1)).per_device] == [0, low + high]
    assert held((1,)).per_device[1].kv_cache_bytes == 0  # devices that are not named get nothing


def test_the_device_that_is_full_first_decides() -> None:
    assert capacity_of(np.array([[24, 24]]), (0.0, 2.0)).tolist() == [24]
    even = assess("qwen3-32b", TWO, quantization="q8_0", placement=Placement(split=(1, 1)))
    lopsided = assess("qwen3-32b", TWO, quantization="q8_0", placement=Placement(split=(1, 9)))
    assert even.tier == "comfortable"
    assert lopsided.tier == "offload"
    assert lopsided.memory is not None
    for device in lopsided.memory.per_device:
        assert device.available_bytes is not None
        assert device.total_bytes.best <= device.available_bytes
    assert "--tensor-split 1,9" in lopsided.commands[0]


def test_sweeps_divide_alike() -> None:
    parts = [Placement(split=(1, 3)), None, Placement(split=(3, 1))]
    table = plan(
        models=["llama-3.1-8b", "qwen3-32b"],
        machines=[TWO, ["rtx-3090", "rtx-3060-12gb"], "rtx-4090"],
        workloads=Workload.grid(contexts=[4096, 65536]),
        quantizations=["q8_0"],
        placements=parts,
    )
    number = 0
    for model in ("llama-3.1-8b", "qwen3-32b"):
        for machine in (TWO, ["rtx-3090", "rtx-3060-12gb"], "rtx-4090"):
            for placement in parts:
                for context in (4096, 65536):
                    verdict = assess(
                        model,
                        machine,
                        Workload(context_tokens=context),
                        quantization="q8_0",
                        placement=placement,
                    )
                    row = table.row(number)
                    number += 1
                    assert row["tier"] == verdict.tier
                    assert verdict.memory is not None
                    assert row["total_bytes"] == verdict.memory.total_bytes.best


@pytest.mark.parametrize(
    ("machine", "runtime", "placement", "code"),
    [
        ("rtx-3090", "vllm", Placement(tp=2), "more-ranks-than-devices"),
        (TWO, "vllm", Placement(tp=2, pp=2), "more-ranks-than-devices"),
        (TWO, "vllm", Placement(dp=3), "more-ranks-than-devices"),
        (TWO, "llama.cpp", Placement(split=(1, 1, 1)), "more-ranks-than-devices"),
        (TWO, "ollama", Placement(tp=2), "placement-not-supported-by-runtime"),
        (TWO, "ollama", "tensor", "placement-not-supported-by-runtime"),
        (TWO, "llama.cpp", "expert", "placement-not-supported-by-runtime"),
        (["rtx-3090"] * 3, "vllm", Placement(tp=3), "tensor-parallel-does-not-divide"),
    ],
)
def test_what_is_not_there_is_a_verdict_with_a_reason(
    machine: str | list[str], runtime: str, placement: str | Placement, code: str
) -> None:
    quantization = "awq-int4" if runtime == "vllm" else "q4_k_m"
    verdict = assess("llama-3.1-8b", machine, quantization=quantization, runtime=runtime, placement=placement)
    assert verdict.tier == "will-not-run"
    assert code in {reason.code for reason in verdict.reasons}
    row = plan(
        models=["llama-3.1-8b"],
        machines=[machine],
        quantizations=[quantization],
        runtimes=[runtime],
        placements=[placement],
    ).row(0)
    assert (row["tier"], row["blocked_by"]) == ("will-not-run", code)


def test_parts_are_not_negative() -> None:
    with pytest.raises(InvalidWorkloadError, match="greater than or equal to 0"):
        Placement(split=(-1.0, 2.0))
