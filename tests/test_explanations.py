"""An explanation shows the estimate's own terms: they sum, they cite, nothing is computed again."""

from __future__ import annotations

from typing import Any

import pytest

from willitrun import (
    Runtime,
    Verdict,
    Workload,
    assess,
    estimate_memory,
    estimate_speed,
    explain,
    load_catalog,
)
from willitrun.intervals import Interval
from willitrun.records.explanations import Explanation
from willitrun.records.results import SpeedEstimate

CASES: list[tuple[str, Any, Workload, str | None]] = [
    ("llama-3.1-8b", "rtx-4090", Workload(), "q4_k_m"),
    ("llama-3.3-70b", "rtx-4090", Workload(), "q4_k_m"),
    ("qwen3-30b-a3b", "rtx-3060-12gb", Workload(concurrency=4), "q4_k_m"),
    ("llama-3.3-70b", ["rtx-3090", "rtx-3090"], Workload(), "q4_k_m"),
    ("llama-3.1-8b", "m3-max-40gpu", Workload(), "q4_k_m"),
    ("resnet-50", "rtx-3060-12gb", Workload(batch_size=1), None),
    ("resnet-50", "rtx-3060-12gb", Workload(batch_size=256, dataset="imagenet-1k"), None),
]


def judged(case: tuple[str, Any, Workload, str | None]) -> Verdict:
    model, machine, load, quantization = case
    return assess(model, machine, load, quantization=quantization)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_steps_sum_to_the_totals(case: tuple[str, Any, Workload, str | None]) -> None:
    verdict = judged(case)
    assert verdict.memory is not None
    assert verdict.speed is not None
    steps = explain(verdict).steps
    memory = [step for step in steps if step.title.startswith("Memory: ")]
    assert [step.value for step in memory] == [term.value for term in verdict.memory.terms]
    assert sum(step.value or 0 for step in memory) == verdict.memory.total_bytes.best
    total = next(step for step in steps if step.title == "Memory in total")
    assert total.value == verdict.memory.total_bytes.best
    time = [step for step in steps if step.title.startswith("Time: ")]
    assert [step.value for step in time] == [term.value for term in verdict.speed.terms]
    assert all(step.unit == "s" for step in time)
    head = verdict.speed.headline()
    assert head is not None
    batch = verdict.inputs.workload.get("batch_size") or 1
    assert sum(step.value or 0 for step in time) == pytest.approx(batch / head[1].best, rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_citations_resolve(case: tuple[str, Any, Workload, str | None]) -> None:
    catalog = load_catalog()
    found = explain(judged(case))
    cited = {cite for step in found.steps for cite in step.cites}
    assert cited
    assert set(found.citations) == cited
    for name, text in found.citations.items():
        assert name in catalog.sources or name in catalog.calibrations, name
        assert text != name
    for step in found.steps:
        for ref in step.see:
            kind, _, name = ref.partition(":")
            assert name in catalog.table(kind)


def test_every_quantity_of_the_speed_is_a_step() -> None:
    verdict = judged(CASES[0])
    titles = [step.title for step in explain(verdict).steps]
    for name in SpeedEstimate.model_fields:
        assert (name in titles) == isinstance(getattr(verdict.speed, name), Interval)
    assert f"Tier {verdict.tier}" in titles
    assert [t for t in titles if t.startswith("Reason ")] == [f"Reason {r.code}" for r in verdict.reasons]
    assert titles[0] == "Question"
    assert titles[-1] == "Provenance"


def test_assumptions_are_said() -> None:
    question = explain(judged(CASES[0])).steps[0].text
    assert "Not asked for, so assumed: workload.context_tokens" in question
    assert "context_tokens = 8192" in question


def test_estimates_explain_themselves() -> None:
    memory = estimate_memory("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
    speed = estimate_speed("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
    assert explain(memory).steps[-1].value == memory.total_bytes.best
    assert any(step.title.startswith("Bound by") for step in explain(speed).steps)
    assert explain(memory).citations


def test_text_and_round_trip() -> None:
    found = explain(judged(CASES[0]))
    text = found.text()
    assert text.startswith(found.title)
    assert "Sources" in text
    for step in found.steps:
        assert step.title in text
    assert Explanation.model_validate_json(found.model_dump_json()) == found


def test_a_verdict_that_does_not_run_is_explained_too() -> None:
    verdict = assess("deepseek-v3", "h100-sxm", runtime="vllm")
    titles = [step.title for step in explain(verdict).steps]
    assert "Tier will-not-run" in titles
    assert not any(title.startswith("Time: ") for title in titles)


def effects(case: tuple[str, Any, Workload, str | None]) -> dict[str, Any]:
    return {effect.change: effect for effect in explain(judged(case)).sensitivities}


def test_sensitivities_are_the_engine_asked_again() -> None:
    found = effects(CASES[0])
    half = found["keys and values in q8_0"]
    again = assess(
        "llama-3.1-8b",
        "rtx-4090",
        Workload(),
        quantization="q4_k_m",
        runtime=Runtime(name="llama.cpp", kv_dtype_k="q8_0", kv_dtype_v="q8_0"),
    )
    assert again.speed is not None
    assert again.memory is not None
    assert half.after == pytest.approx(again.speed.decode_tokens_per_s.best)  # type: ignore[union-attr]
    assert half.total_bytes_after == again.memory.total_bytes.best
    doubled = found["twice the context"]
    assert doubled.total_bytes_after > doubled.total_bytes_before


@pytest.mark.parametrize("runtime", sorted(load_catalog().runtimes))
def test_only_changes_that_the_runtime_knows_are_tried(runtime: str) -> None:
    """A runtime without q8_0 in its cache (llamafile) made the explanation of its verdict fail."""
    verdict = assess("llama-3.2-1b", "rtx-4090", runtime=runtime)
    labels = [
        change for change in explain(verdict).text().splitlines() if "keys and values in q8_0" in change
    ]
    cache_formats = load_catalog().runtimes[runtime].kv_formats
    assert not labels or "q8_0" in cache_formats


def test_what_changes_an_answer_most_depends_on_its_bound() -> None:
    """More bandwidth helps decode on a card, not a launch-bound picture; main memory decides an offloaded model."""
    card, offloaded, picture = effects(CASES[0]), effects(CASES[1]), effects(CASES[5])
    bandwidth, host = "10 % more memory bandwidth", "10 % more bandwidth of main memory"
    assert card[bandwidth].ratio > 1.03
    assert card[host].ratio == pytest.approx(1.0, abs=1e-6)
    assert offloaded[host].ratio > 1.03
    assert picture[bandwidth].ratio < min(1.05, card[bandwidth].ratio - 0.02)
    assert picture["execution compile"].ratio > 1.5
    order = [abs(effect.ratio - 1) for effect in explain(judged(CASES[5])).sensitivities]
    assert order[0] == max(order)


def test_a_described_host_has_to_be_given() -> None:
    machine = {"accelerators": ["rtx-4090"], "host": {"ram": "128 GiB", "memory": "ddr5-8000-dual"}}
    verdict = assess("llama-3.3-70b", machine, quantization="q4_k_m")
    alone = explain(verdict)
    assert alone.sensitivities == ()
    assert any("give it to explain() as machine=" in step.text for step in alone.steps)
    assert explain(verdict, machine=machine).sensitivities


def test_the_interval_says_what_it_rests_on() -> None:
    step = next(s for s in explain(judged(CASES[0])).steps if s.title == "What the interval rests on")
    assert "configurations" in step.text
    assert "llm-speed" in step.cites
    titles = [s.title for s in explain(judged(CASES[5])).steps]
    assert "Nearest measurement" in titles


def test_equations_carry_their_numbers() -> None:
    for step in explain(judged(CASES[0])).steps:
        if step.title.startswith("Time: ") and step.value:
            assert step.equation, step.title
            assert "with " in step.equation, step.title


def test_it_shows_itself_in_a_notebook_and_as_text() -> None:
    found = explain(judged(CASES[0]))
    html = found._repr_html_()
    assert "what would change it" in html
    assert "<script" not in html
    assert "What would change it, most first" in found.text()
