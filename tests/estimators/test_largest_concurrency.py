"""How many sequences keep their latencies: the question the other way round agrees with the estimate itself."""

from __future__ import annotations

import pytest

from willitrun import InvalidWorkloadError, Workload, ask, estimate_speed, largest_concurrency, plan_serving

LOAD = Workload(context_tokens=4096, prompt_tokens=1000, output_tokens=300)
SERVED = {"quantization": "fp8", "runtime": "vllm"}


@pytest.mark.parametrize(("model", "machine"), [("llama-3.1-8b", "l4"), ("llama-3.3-70b", "h100-sxm x4")])
@pytest.mark.parametrize(
    ("name", "limit"), [("time_per_output_token_s", 0.06), ("time_to_first_token_s", 0.4)]
)
def test_one_more_would_take_too_long(model: str, machine: str, name: str, limit: float) -> None:
    most = largest_concurrency(model, machine, LOAD, tier="tight", targets={name: limit}, **SERVED)
    assert most is not None
    for count, keeps in ((most, True), (most + 1, False)):
        speed = estimate_speed(model, machine, LOAD.model_copy(update={"concurrency": count}), **SERVED)
        found = getattr(speed, name)
        assert (found is not None and found.best <= limit) == keeps


def test_a_shorter_limit_never_holds_more() -> None:
    limits = (10.0, 0.1, 0.05, 0.02, 1e-6)
    found = [
        largest_concurrency("llama-3.1-8b", "l4", LOAD, targets={"time_per_output_token_s": limit}, **SERVED)
        or 0
        for limit in limits
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] == largest_concurrency("llama-3.1-8b", "l4", LOAD, **SERVED)
    assert found[-1] == 0


def test_prompts_of_others_count_where_the_estimate_is_of_writing_alone() -> None:
    options = {"quantization": "q4_k_m", "runtime": "llama.cpp"}
    limit = {"time_per_output_token_s": 0.05}
    few, many = (
        largest_concurrency(
            "llama-3.1-8b",
            "rtx-3090",
            LOAD.model_copy(update={"prompt_tokens": prompt}),
            targets=limit,
            **options,
        )
        for prompt in (3000, 10)
    )
    assert few is not None
    assert many is not None
    assert few < many
    # A plan's slots keep the same pace.
    plan = plan_serving(
        "llama-3.1-8b",
        "rtx-3090",
        requests_per_s=0.2,
        prompt_tokens=3000,
        output_tokens=300,
        targets=limit,
        tier="comfortable",
        **options,
    )
    assert plan.options[0].slots is not None
    assert plan.options[0].slots <= few


def test_a_target_is_a_latency_above_zero() -> None:
    for targets in ({"throughput_tokens_per_s": 5.0}, {"time_to_first_token_s": 0.0}):
        with pytest.raises(InvalidWorkloadError):
            largest_concurrency("llama-3.1-8b", "l4", LOAD, targets=targets, **SERVED)


def test_an_asked_latency_is_heard_and_said() -> None:
    question = "how many users can vllm serve with llama 3.1 8b fp8 on an l4 with ttft below 200 ms and 60 ms per token"
    answer = ask(question)
    assert answer.value == largest_concurrency(
        "llama-3.1-8b",
        "l4",
        targets={"time_to_first_token_s": 0.2, "time_per_output_token_s": 0.06},
        **SERVED,
    )
    assert "the first token within 200 ms and each token after the first within 60 ms" in answer.text
    assert (
        "Not even one keeps"
        in ask("how many users can vllm serve with llama 3.1 8b on an l4 with 1 ms per token").text
    )


def test_what_each_gets_is_its_share_of_what_all_get() -> None:
    speed = estimate_speed("llama-3.1-8b", "l4", LOAD.model_copy(update={"concurrency": 16}), **SERVED)
    assert speed.throughput_tokens_per_s is not None
    assert speed.time_per_output_token_s is not None
    assert speed.throughput_tokens_per_s.best * speed.time_per_output_token_s.best == pytest.approx(16.0)
