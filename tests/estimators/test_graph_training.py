"""Fine-tuning of image models."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import Workload, assess


def tune(model: str = "resnet50", machine: str = "rtx-3090", **fields: Any) -> Any:
    return assess(model, machine, Workload(mode="full-finetune", **fields))


def test_states_are_counted_by_dtype_and_optimizer() -> None:
    parameters = 25_557_032
    memory = tune(batch_size=8).memory
    assert memory.gradient_bytes.best == 4 * parameters
    assert memory.optimizer_bytes.best == 8 * parameters
    assert tune(batch_size=8, optimizer="sgd").memory.optimizer_bytes.best == 0


def test_terms_sum_to_total_and_to_the_step() -> None:
    verdict = tune(batch_size=64, precision="amp-fp16")
    assert sum(term.value for term in verdict.memory.terms) == verdict.memory.total_bytes.best
    step = verdict.speed.training_step_s.best
    assert sum(term.value for term in verdict.speed.terms) == pytest.approx(step)
    assert verdict.speed.samples_per_s.best == pytest.approx(64 / step)


def test_activations_grow_with_batch_and_shrink_under_autocast() -> None:
    small, large = tune(batch_size=16).memory, tune(batch_size=32).memory
    assert large.activation_bytes.best == pytest.approx(2 * small.activation_bytes.best)
    half = tune(batch_size=32, precision="amp-fp16").memory
    assert half.activation_bytes.best < large.activation_bytes.best


@pytest.mark.parametrize(("model", "fits"), [("vit_base_patch16_224", 192), ("resnet101", 256)])
def test_a_batch_that_trained_on_24_gib_is_inside_the_interval(model: str, fits: int) -> None:
    """https://github.com/huggingface/pytorch-image-models/tree/main/results: training on an RTX 3090 under autocast."""
    memory = tune(model, batch_size=fits, precision="amp-fp16", optimizer="sgd").memory
    assert memory.total_bytes.low < 24 * 2**30


def test_training_speed_lies_near_the_published_rate() -> None:
    """ResNet-50 trains at 826 images/s on an RTX 3090 (timm, channels first, autocast)."""
    near = tune(batch_size=128, precision="amp-fp16", optimizer="sgd").speed.samples_per_s
    assert near.low <= 826.06 <= near.high


def test_a_dataset_gives_the_time_of_an_epoch() -> None:
    verdict = tune(batch_size=64, precision="amp-fp16", dataset="imagenet-1k", split="train")
    found = next(reason for reason in verdict.reasons if reason.code == "dataset-pass")
    assert found.numbers["images"] == 1_281_167


def test_adapters_of_image_models_are_not_modelled() -> None:
    assert assess("resnet50", "rtx-3090", Workload(mode="lora")).tier == "unknown"


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_checkpointing_of_image_models_is_not_modelled_and_says_so(mode: str) -> None:
    verdict = tune(batch_size=8, gradient_checkpointing=mode)
    assert verdict.tier == "unknown"
    assert verdict.reasons[0].code == "memory-not-modelled"
    assert f"{mode} gradient checkpointing" in verdict.reasons[0].message
    assert tune(batch_size=8, gradient_checkpointing="none").feasible
