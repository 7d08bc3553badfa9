"""What keeps a model from running on a machine: policies held to the catalog."""

from __future__ import annotations

import pytest

from willitrun import assess, load_catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.inventory import parameters
from willitrun.estimators.obstacles import CONTRADICTION


def test_rules_of_architectures_miss_half_of_what_counts_as_a_contradiction() -> None:
    misses: dict[str, float] = {}
    for model in load_catalog().models.values():
        config, stated = model.transformer, model.parameters
        if config is None or stated is None or config.vision is not None or model.task.startswith("image"):
            continue
        try:
            declared = parameters(config)
        except WillItRunError:
            continue
        twice = declared + config.vocab_size * config.hidden_size
        misses[model.id] = max(1.0 - stated / declared, stated / twice - 1.0, 0.0)
    assert len(misses) > 400
    assert {name: miss for name, miss in misses.items() if miss > CONTRADICTION / 2} == {}
    others = [miss for name, miss in misses.items() if "gemma-3n" not in name]
    assert sum(miss > 0.03 for miss in others) == 0


@pytest.mark.parametrize(
    ("device", "quantization", "runs"),
    [
        ("tesla-p40", "fp8", False),
        ("tesla-v100-sxm2-16gb", "awq-int4", False),
        ("tesla-t4", "awq-int4", True),
        ("tesla-t4", "mxfp4", False),
        ("rtx-3090", "mxfp4", True),
        ("tesla-v100-sxm2-16gb", "gptq-int4", True),
    ],
)
def test_a_server_has_no_kernels_for_cards_older_than_a_format(
    device: str, quantization: str, runs: bool
) -> None:
    verdict = assess("llama-3.1-8b", device, quantization=quantization, runtime="vllm")
    assert verdict.feasible is runs
    if not runs:
        assert verdict.reasons[0].code == "format-not-supported-by-runtime"
        assert "compute capability" in verdict.reasons[0].message
        # Other runtimes have kernels of their own.
        assert assess("llama-3.1-8b", device, quantization="q4_k_m", runtime="llama.cpp").feasible
