"""Energy per unit of work."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess, describe_machine, estimate_speed


def test_a_published_run_lies_inside() -> None:
    # ML.ENERGY leaderboard, Llama 3.1 8B in bf16 under vLLM on one H100, 128 sequences: 0.0951 J per token (accuracy/power.toml).
    load = Workload(concurrency=128, prompt_tokens=300, output_tokens=400)
    speed = estimate_speed("llama-3.1-8b", "h100-sxm5-80gb", load, quantization="bf16", runtime="vllm")
    assert speed.energy_j_per_unit is not None
    assert 0.0951 in speed.energy_j_per_unit


@pytest.mark.parametrize(
    ("model", "load"), [("llama-3.1-8b", Workload()), ("resnet-50", Workload(batch_size=64))]
)
def test_it_is_power_over_rate(model: str, load: Workload) -> None:
    quantization = "q4_k_m" if model.startswith("llama") else None
    verdict = assess(model, "rtx-4090", load, quantization=quantization)
    assert verdict.speed is not None
    energy, head = verdict.speed.energy_j_per_unit, verdict.speed.headline()
    assert energy is not None
    assert head is not None
    watts = energy.best * head[1].best
    assert 0.4 * 450 < watts < 450
    assert energy.low < energy.best < energy.high


def test_a_lower_limit_takes_less_at_the_same_rate() -> None:
    def at(limit: float | None) -> tuple[float, float]:
        card = {"id": "rtx-4090"} | ({} if limit is None else {"power_limit": f"{limit} W"})
        speed = estimate_speed(
            "llama-3.1-8b", describe_machine({"accelerators": [card]}), quantization="q4_k_m"
        )
        assert speed.energy_j_per_unit is not None
        assert speed.decode_tokens_per_s is not None
        return speed.energy_j_per_unit.best * speed.decode_tokens_per_s.best, speed.decode_tokens_per_s.best

    full, capped = at(None), at(300.0)
    assert capped[0] == pytest.approx(full[0] * 300 / 450)


@pytest.mark.parametrize(
    ("machine", "runtime"),
    [("m3-max-40gpu", "llama.cpp"), (["rtx-3090", "rtx-3090"], "llama.cpp"), ("rtx-4090", "llama.cpp:cpu")],
)
def test_it_is_unknown_without_a_limit_or_where_boards_wait(machine: object, runtime: str) -> None:
    speed = estimate_speed("llama-3.1-8b", machine, quantization="q4_k_m", runtime=runtime)
    assert speed.decode_tokens_per_s is not None
    assert speed.energy_j_per_unit is None


def test_a_tensor_parallel_group_draws_the_sum() -> None:
    load = Workload(concurrency=8)
    speed = estimate_speed("llama-3.3-70b", ["h100-sxm5-80gb"] * 4, load, quantization="bf16", runtime="vllm")
    assert speed.energy_j_per_unit is not None
    assert speed.throughput_tokens_per_s is not None
    assert speed.energy_j_per_unit.best * speed.throughput_tokens_per_s.best > 2 * 700
