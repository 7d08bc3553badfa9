"""Time of a fine-tuning step of a language model."""

from __future__ import annotations

import pytest

from willitrun import Interval, SpeedEstimate, Workload, assess, estimate_speed, explain

MISTRAL = "mistralai/Mistral-7B-v0.1"


def step(machine: object, model: str = MISTRAL, **load: object) -> SpeedEstimate:
    asked = {"mode": "lora", "context_tokens": 4096, "batch_size": 4, "gradient_checkpointing": "full"} | load
    return estimate_speed(model, machine, Workload(**asked))  # type: ignore[arg-type]


# fms-acceleration, scripts/benchmarks/refs (accuracy/training_speed.toml): tokens/s of one device.
@pytest.mark.parametrize(
    ("machine", "mode", "batch", "tokens_per_s"),
    [
        ("nvidia-a100-sxm4-80gb", "full-finetune", 4, 2775.2),
        ("nvidia-a100-sxm4-80gb", "lora", 4, 3597.6),
        ("nvidia-a100-sxm4-80gb", "qlora", 8, 3514.4),
        ("nvidia-l40", "lora", 4, 2724.3),
        ("nvidia-l40", "qlora", 4, 2517.0),
    ],
)
def test_published_runs_lie_inside(machine: str, mode: str, batch: int, tokens_per_s: float) -> None:
    speed = step(machine, mode=mode, batch_size=batch)
    assert speed.training_step_s is not None
    assert 4096 * batch / tokens_per_s in speed.training_step_s


def test_terms_sum_to_the_step() -> None:
    speed = step("rtx-4090", mode="qlora", batch_size=1)
    assert speed.training_step_s is not None
    assert speed.samples_per_s is not None
    assert sum(term.value for term in speed.terms) == pytest.approx(speed.training_step_s.best, rel=1e-12)
    assert speed.samples_per_s.best == pytest.approx(1 / speed.training_step_s.best)
    assert speed.bound == "compute"


def best(speed: SpeedEstimate) -> float:
    assert speed.training_step_s is not None
    return speed.training_step_s.best


def test_what_costs_more() -> None:
    lora = best(step("nvidia-a100-sxm4-80gb"))
    assert best(step("nvidia-a100-sxm4-80gb", mode="full-finetune")) > lora
    assert best(step("nvidia-a100-sxm4-80gb", mode="qlora")) > lora
    assert best(step("nvidia-a100-sxm4-80gb", gradient_checkpointing="none")) < lora
    assert best(step("nvidia-a100-sxm4-80gb", batch_size=8)) > 1.9 * lora
    assert best(step("nvidia-a100-sxm4-80gb", context_tokens=8192)) > 2 * lora
    assert (
        best(step("nvidia-a100-sxm4-80gb", model="qwen3-30b-a3b")) < lora
    )  # three billion of thirty are active


def test_selective_checkpointing_computes_attention_again_and_drops_its_statistics() -> None:
    """Flash attention keeps 4 bytes per head and token, and no scores: 32 layers of 32 heads of 4 x 4,096 tokens."""
    found = {
        mode: assess(
            MISTRAL,
            "nvidia-a100-sxm4-80gb",
            Workload(mode="lora", context_tokens=4096, batch_size=4, gradient_checkpointing=mode),  # type: ignore[arg-type]
        )
        for mode in ("none", "selective", "full")
    }
    kept = {mode: v.memory.activation_bytes.best for mode, v in found.items() if v.memory is not None}
    assert kept["none"] - kept["selective"] == 4 * 32 * 32 * 4 * 4096
    attention, matrices = (
        {
            mode: next(term.value for term in step(
                "nvidia-a100-sxm4-80gb", gradient_checkpointing=mode).terms if term.name == name)
            for mode in found
        }
        for name in ("attention", "matrices")
    )  # fmt: skip
    assert attention["selective"] == attention["full"] == pytest.approx(attention["none"] * 4 / 3)
    assert matrices["selective"] == matrices["none"] < matrices["full"]


def test_gradients_cross_the_slower_link_longer() -> None:
    def over(machine: list[str]) -> dict[str, float]:
        speed = step(machine, model="llama-3.2-1b", mode="full-finetune", context_tokens=128, batch_size=1)
        return {term.name: term.value for term in speed.terms}

    assert over(["rtx-4090"])["gradient exchange"] == 0
    slow, fast = over(["rtx-4090", "rtx-4090"]), over(["h100-sxm5-80gb", "h100-sxm5-80gb"])
    assert slow["gradient exchange"] > fast["gradient exchange"] >= 0


def test_unknown_without_a_tensor_peak_or_on_a_processor() -> None:
    for machine in ("m3-max-40gpu", {"host": {"cpu": "AMD Ryzen 9 7950X", "ram": "64 GiB"}}):
        speed = step(machine, mode="qlora", batch_size=1)
        assert speed.training_step_s is None
        assert speed.notes[0].code == "speed-not-modelled"


def test_a_verdict_tells_and_explains_it() -> None:
    load = Workload(mode="qlora", context_tokens=2048, batch_size=1, gradient_checkpointing="full")
    verdict = assess("llama-3.1-8b", "rtx-4090", load)
    assert verdict.speed is not None
    assert isinstance(verdict.speed.training_step_s, Interval)
    assert "compute-bound" in {reason.code for reason in verdict.reasons}
    assert "weight traffic" in explain(verdict).text()
