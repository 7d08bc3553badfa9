"""Which runtime suits: like is compared with like, and the reasons are those of the verdicts."""

from __future__ import annotations

import pytest

from willitrun import assess, best_runtime, load_catalog


@pytest.mark.parametrize(
    ("model", "machine"),
    [("llama-3.1-8b", "rtx-4090"), ("llama-3.3-70b", "m3-max-40gpu:64 GiB"), ("resnet-50", "rtx-3060-12gb")],
)
def test_candidates_agree_with_assess(model: str, machine: str) -> None:
    found = best_runtime(model, machine)
    assert found.candidates[0].runtime == found.runtime
    for candidate in found.candidates:
        verdict = assess(model, machine, quantization=candidate.quantization, runtime=candidate.runtime)
        assert candidate.tier == verdict.tier
        if verdict.feasible and verdict.speed is not None and candidate.rate is not None:
            assert candidate.rate == verdict.speed.headline()[1].best  # type: ignore[index]


def test_all_runtimes_of_the_task_are_asked() -> None:
    catalog = load_catalog()
    names = {profile.id for profile in catalog.runtimes.values() if "text-generation" in profile.tasks}
    found = best_runtime("llama-3.1-8b", "rtx-4090")
    assert {candidate.runtime for candidate in found.candidates} == names
    assert found.width == "16-bit"
    assert {c.quantization for c in found.candidates if c.tier == "comfortable"} <= {"bf16", "f16"}


def test_what_does_not_fit_in_16_bits_is_compared_at_fewer() -> None:
    assert best_runtime("llama-3.3-70b", "m3-max-40gpu:64 GiB").width == "4-bit"


def test_a_format_can_be_asked_for() -> None:
    found = best_runtime("llama-3.1-8b", "rtx-3060-12gb", quantization="awq-int4")
    assert {candidate.quantization for candidate in found.candidates} == {"awq-int4"}
    assert found.runtime != "llama.cpp"


def test_nothing_suits() -> None:
    found = best_runtime("llama-3.1-405b", "rtx-3060-12gb")
    assert found.runtime is None
    assert found.why
    assert all(candidate.tier == "will-not-run" for candidate in found.candidates)


def test_a_runtime_that_some_term_knows_is_calibrated() -> None:
    """llama.cpp's layers cost what the average costs: no offset of its own for them, and yet most rows are its."""
    found = best_runtime("llama-3.1-8b", "m3-max-40gpu:64 GiB", quantization="q4_k_m")
    calibrated = {candidate.runtime: candidate.calibrated for candidate in found.candidates}
    assert calibrated["llama.cpp"]
    assert not calibrated["pytorch"]
