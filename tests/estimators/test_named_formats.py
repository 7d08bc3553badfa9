"""A weight format that is named for a network, and a precision that is named for an encoder, are never ignored."""

from __future__ import annotations

import pytest

from willitrun import InvalidWorkloadError, Workload, assess, plan

CARD = "rtx-3060-12gb"
TEXTS = {"task": "feature-extraction", "prompt_tokens": 256, "batch_size": 8}


@pytest.mark.parametrize(
    ("quantization", "runtime"),
    [
        ("mlx-3bit", "transformers"),
        ("mlx-4bit", "vllm"),
        ("awq-int4", "transformers"),
        ("nf4", "transformers"),
        ("q4_k_m", "pytorch"),
    ],
)
def test_a_network_refuses_formats_that_it_cannot_be_computed_in(quantization: str, runtime: str) -> None:
    found = assess("resnet-50", CARD, quantization=quantization, runtime=runtime)
    assert found.tier == "will-not-run"
    assert "format-not-supported-by-runtime" in {reason.code for reason in found.reasons}
    table = plan(
        models=["resnet-50"],
        machines=[CARD],
        workloads=[Workload()],
        quantizations=[quantization],
        runtimes=[runtime],
    )
    assert table.row(0)["tier"] == "will-not-run"


def test_mlx_files_are_read_by_mlx_alone() -> None:
    for runtime in ("transformers", "vllm"):
        found = assess("llama-3.1-8b", CARD, quantization="mlx-4bit", runtime=runtime)
        assert "format-not-supported-by-runtime" in {reason.code for reason in found.reasons}
    assert assess("llama-3.1-8b", "apple-m4-max-40", quantization="mlx-4bit", runtime="mlx").feasible


@pytest.mark.parametrize(("quantization", "precision"), [("f16", "fp16"), ("bf16", "bf16"), ("f32", "fp32")])
def test_a_format_is_the_precision_of_a_network_that_names_none(quantization: str, precision: str) -> None:
    by_format = assess("resnet-50", CARD, Workload(batch_size=32), quantization=quantization)
    by_precision = assess("resnet-50", CARD, Workload(batch_size=32, precision=precision))  # type: ignore[arg-type]
    assert by_format.speed is not None
    assert by_precision.speed is not None
    assert by_format.speed.images_per_s == by_precision.speed.images_per_s
    assert by_format.memory == by_precision.memory
    table = plan(
        models=["resnet-50"],
        machines=[CARD],
        workloads=[Workload(batch_size=32)],
        quantizations=[quantization],
    )
    best = by_format.speed.images_per_s
    assert best is not None
    assert table.row(0)["images_per_s"] == pytest.approx(best.best, rel=1e-9)


@pytest.mark.parametrize(
    ("precision", "quantization"), [("fp16", "f16"), ("bf16", "bf16"), ("fp32", "f32"), ("amp-fp16", "f32")]
)
def test_a_precision_is_the_format_of_an_encoder_that_names_none(precision: str, quantization: str) -> None:
    by_precision = assess("bge-m3", CARD, Workload(precision=precision, **TEXTS))  # type: ignore[arg-type]
    by_format = assess("bge-m3", CARD, Workload(**TEXTS), quantization=quantization)  # type: ignore[arg-type]
    assert by_precision.inputs.quantization == quantization
    assert by_precision.memory == by_format.memory
    assert by_precision.speed == by_format.speed


def test_a_sweep_compares_formats_and_not_precisions() -> None:
    loads = [Workload(precision=name, **TEXTS) for name in ("fp16", "fp32")]  # type: ignore[arg-type]
    with pytest.raises(InvalidWorkloadError, match="several weight formats"):
        plan(models=["bge-m3"], machines=[CARD], workloads=loads)
    assert len(plan(models=["bge-m3"], machines=[CARD], workloads=loads, quantizations=["f16"]))
