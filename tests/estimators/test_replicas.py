"""Data-parallel replicas, and strategies asked for by name."""

from __future__ import annotations

import pytest

from willitrun import Placement, Verdict, Workload, assess, plan

CARDS = ["h100-sxm5-80gb", "h100-sxm5-80gb"]


def judged(
    placement: str | Placement | None, machine: object = CARDS, concurrency: int = 8, **options: str
) -> Verdict:
    asked = {"quantization": "bf16", "runtime": "vllm"} | options
    return assess("llama-3.1-8b", machine, Workload(concurrency=concurrency), placement=placement, **asked)


@pytest.mark.parametrize("runtime", ["vllm", "llama.cpp", "transformers"])
def test_replicas_hold_everything_and_share_the_sequences(runtime: str) -> None:
    one, two = judged(None, CARDS[0], 4, runtime=runtime), judged("data", runtime=runtime)
    assert one.memory is not None
    assert two.memory is not None
    assert one.speed is not None
    assert two.speed is not None
    assert two.tier == one.tier
    assert two.placement.dp == 2
    assert two.memory.weights_bytes.best == 2 * one.memory.weights_bytes.best
    assert (
        two.memory.total_bytes.best
        == 2 * one.memory.total_bytes.best
        == sum(t.value for t in two.memory.terms)
    )
    assert len(two.memory.per_device) == 2
    assert sum(device.total_bytes.best for device in two.memory.per_device) == two.memory.total_bytes.best
    assert two.speed.decode_tokens_per_s == one.speed.decode_tokens_per_s
    assert one.speed.throughput_tokens_per_s is not None
    assert two.speed.throughput_tokens_per_s == one.speed.throughput_tokens_per_s.scale(2)


def test_dp_counts_groups_of_tensor_ranks() -> None:
    four = judged(Placement(dp=2, tp=2), CARDS * 2)
    assert four.memory is not None
    assert (four.placement.dp, four.placement.tp) == (2, 2)
    assert len(four.memory.per_device) == 4
    whole = judged(None, CARDS[0]).memory
    assert whole is not None
    # Each of two ranks has the tables of rotary positions whole: two bytes of 131,072 positions by a head's 128.
    assert four.memory.weights_bytes.best == 2 * (whole.weights_bytes.best + 2 * 128 * 131072)
    assert "--data-parallel-size 2" in four.commands[0]


def test_groups_that_share_experts_hold_one_model() -> None:
    load, cards = Workload(concurrency=64), ["nvidia-b200-sxm-180gb"] * 8
    asked = {"quantization": "nvfp4", "runtime": "tensorrt-llm"}
    apart = assess("deepseek-ai/DeepSeek-R1", cards, load, placement=Placement(tp=1, dp=8), **asked)  # type: ignore[arg-type]
    shared = assess("deepseek-ai/DeepSeek-R1", cards, load, placement=Placement(tp=1, dp=8, ep=8), **asked)  # type: ignore[arg-type]
    assert apart.tier == "will-not-run"
    assert shared.tier == "comfortable"
    assert shared.speed is not None


def test_the_smallest_replica_decides() -> None:
    assert judged("data", ["h100-sxm5-80gb", "rtx-3060-12gb"]).tier == judged(None, "rtx-3060-12gb", 4).tier


@pytest.mark.parametrize("strategy", ["layer", "pipeline"])
def test_stages_by_name_divide_layers(strategy: str) -> None:
    verdict = judged(strategy)
    assert verdict.placement.pp == 2
    assert verdict.placement.tp is None
    assert verdict.memory == judged(Placement(pp=2)).memory
    assert "--pipeline-parallel-size 2" in verdict.commands[0]
    assert "parallel-size" not in judged(None, CARDS[0]).commands[0].replace("--tensor-parallel-size", "")


def test_sweeps_judge_replicas_alike() -> None:
    table = plan(
        models=["llama-3.1-8b"],
        machines=[CARDS, CARDS[0]],
        workloads=Workload.grid(concurrencies=[1, 8]),
        quantizations=["bf16"],
        runtimes=["vllm"],
        placements=["data", "pipeline"],
    )
    number = 0
    for machine in (CARDS, CARDS[0]):
        for placement in ("data", "pipeline"):
            for concurrency in (1, 8):
                verdict, row = judged(placement, machine, concurrency), table.row(number)
                assert verdict.memory is not None
                assert verdict.speed is not None
                assert verdict.speed.throughput_tokens_per_s is not None
                assert row["tier"] == verdict.tier
                assert row["total_bytes"] == verdict.memory.total_bytes.best
                assert row["throughput_tokens_per_s"] == pytest.approx(
                    verdict.speed.throughput_tokens_per_s.best
                )
                number += 1
