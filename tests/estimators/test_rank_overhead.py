"""What vLLM's libraries hold on each device where ranks reduce over several of them."""

from __future__ import annotations

import pytest

from willitrun import Workload, assess
from willitrun.catalog.catalogs import load_catalog
from willitrun.records.recipes import Runtime

GIB = 2**30


def overhead(card: str, version: str | None = None, runtime: str = "vllm") -> float:
    """Overhead of two cards under tensor parallelism [bytes]."""
    verdict = assess(
        "llama-3.3-70b",
        {"accelerators": [card, card], "host": {"ram": "128 GiB"}},
        Workload(context_tokens=4096),
        quantization="awq",
        runtime=Runtime(name=runtime, version=version),
    )
    assert verdict.memory is not None
    assert verdict.placement.tp == 2
    return sum(term.value for term in verdict.memory.terms if term.name == "runtime overhead")


def difference() -> float:
    """What two devices hold more where they reduce over symmetric memory [bytes]."""
    intervals = load_catalog().calibrations["memory"].intervals
    names = ("non-torch.vllm.parallel.symmetric", "non-torch.vllm.parallel")
    more, less = (intervals[name]["best"] for name in names)
    return 2 * (more - less)


@pytest.mark.parametrize("card", ["h100-sxm5-80gb", "nvidia-h200"])
def test_buffers_of_symmetric_memory_are_those_of_servers_since_hopper(card: str) -> None:
    assert overhead(card) - overhead("rtx-3090") == pytest.approx(difference(), abs=4)
    assert overhead(card) - overhead("rtx-5090") == pytest.approx(difference(), abs=4)


def test_buffers_of_symmetric_memory_came_with_a_version_of_vllm_only() -> None:
    assert overhead("h100-sxm5-80gb", "0.8.5") == overhead("rtx-3090", "0.8.5")
    # SGLang has versions of its own, and stands on vLLM's newest figures.
    assert overhead("h100-sxm5-80gb", "0.5.0", "sglang") == overhead("h100-sxm5-80gb", None, "sglang")


@pytest.mark.parametrize("held_gib", [0.20, 0.25])
def test_logs_of_consumer_cards_that_were_not_fitted_lie_inside(held_gib: float) -> None:
    """24 GB cards, vLLM 0.8: pull 14447; two RTX 4090, 0.7: issue 13061 of vllm-project/vllm."""
    found = load_catalog().calibrations["memory"].intervals["non-torch.vllm.parallel"]
    assert found["low"] <= held_gib * GIB <= found["high"]


def test_a_70b_in_awq_is_not_refused_on_two_24_gb_cards() -> None:
    machine = {"accelerators": ["rtx-3090", "rtx-3090"], "host": {"ram": "128 GiB"}}
    verdict = assess(
        "llama-3.3-70b",
        machine,
        Workload(context_tokens=4096),
        quantization="awq",
        runtime=Runtime(name="vllm"),
    )
    assert verdict.tier == "tight"
