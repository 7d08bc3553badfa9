"""Services and jobs: queueing by hand, and what must never happen when replicas or requests are added."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import willitrun as w
from willitrun.cli.app import app
from willitrun.kernels.queueing import erlang_c, finished_per_s, in_flight, wait_mean_s, wait_quantile_s
from willitrun.records.serving import ServingPlan

RATE = st.floats(min_value=1e-3, max_value=1e3)
SLOTS = st.integers(min_value=1, max_value=300)


def test_one_slot_is_the_queue_of_the_textbook() -> None:
    # M/M/1 at half load: mean wait rho / (mu - lambda) = 1 s; M/D/1 waits half as long.
    assert float(wait_mean_s(0.5, 1.0, 1, 1.0)) == pytest.approx(1.0)
    assert float(wait_mean_s(0.5, 1.0, 1, 0.0)) == pytest.approx(0.5)
    # P(W > t) = rho exp(-(mu - lambda) t).
    t = float(wait_quantile_s(0.5, 1.0, 1, 1.0, 0.9))
    assert 0.5 * math.exp(-0.5 * t) == pytest.approx(0.1)


@given(st.floats(min_value=0.01, max_value=50), st.integers(1, 60))
def test_erlang_is_its_sum(load: float, slots: int) -> None:
    if load >= slots:
        assert float(erlang_c(load, slots)) == 1.0
        return
    terms = [1.0]
    for k in range(1, slots + 1):
        terms.append(terms[-1] * load / k)
    last = terms[-1] * slots / (slots - load)
    assert float(erlang_c(load, slots)) == pytest.approx(last / (sum(terms[:-1]) + last))


@given(RATE, RATE, SLOTS, st.integers(1, 50))
def test_more_replicas_never_wait_longer(rate: float, capacity: float, slots: int, more: int) -> None:
    few = float(wait_quantile_s(rate, capacity, slots, 1.0, 0.95))
    many = float(wait_quantile_s(rate / (1 + more), capacity, slots, 1.0, 0.95))
    assert many <= few * (1 + 1e-9)
    assert float(wait_mean_s(rate / (1 + more), capacity, slots, 1.0)) <= float(
        wait_mean_s(rate, capacity, slots, 1.0)
    ) * (1 + 1e-9)


@given(st.floats(0.01, 10.0), st.floats(0.01, 5.0), st.floats(0.0, 1.0))
def test_little_holds_at_the_fixed_point(rate: float, base: float, slope: float) -> None:
    counts = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    response = base * (1.0 + slope * (counts - 1.0))
    level = float(in_flight(rate, counts, response, 16.0))
    most = finished_per_s(counts, response)[-1]
    if rate >= most:
        assert math.isnan(level), "saturated is said so"
    else:
        nodes = np.concatenate(([0.0], counts))
        done = np.interp(level, nodes, np.concatenate(([0.0], finished_per_s(counts, response))))
        assert done == pytest.approx(rate, rel=1e-6)


def asked(**more: object) -> ServingPlan:
    options = {
        "requests_per_s": 5.0,
        "prompt_tokens": {500: 3, 4000: 1},
        "output_tokens": 200,
        "targets": {"time_to_first_token_s": 2.0},
        "quantization": "bf16",
        "runtime": "vllm",
    }
    return w.plan_serving("llama-3.1-8b", more.pop("machines", ["h100-sxm"]), **(options | more))  # type: ignore[arg-type]


@settings(max_examples=8, deadline=None)
@given(st.floats(0.1, 200), st.floats(0.1, 200))
def test_a_higher_rate_never_takes_fewer_replicas(a: float, b: float) -> None:
    low, high = sorted((a, b))
    few, many = (asked(requests_per_s=rate).options[0] for rate in (low, high))
    assert few.replicas <= many.replicas
    assert few.replicas_low <= few.replicas <= (few.replicas_high or math.inf)


def test_stricter_targets_and_longer_requests_never_take_fewer() -> None:
    loose = asked().options[0]
    strict = asked(targets={"time_to_first_token_s": 0.5, "time_per_output_token_s": 0.02}).options[0]
    longer = asked(output_tokens=400).options[0]
    assert loose.replicas <= strict.replicas
    assert loose.replicas <= longer.replicas
    assert strict.time_to_first_token_s <= 0.5
    assert strict.time_per_output_token_s <= 0.02


def test_what_cannot_be_met_says_why() -> None:
    slow = asked(machines=["l4"], targets={"time_per_output_token_s": 0.001}).options[0]
    assert slow.replicas is None
    assert "per output token" in slow.problem
    small = asked(machines=["rtx-3060-12gb"]).options[0]
    assert small.replicas is None
    assert small.problem


def test_the_spread_of_lengths_counts() -> None:
    even = asked(output_tokens=400, prompt_tokens=512).options[0]
    uneven = asked(output_tokens={100: 9, 3100: 1}, prompt_tokens=512).options[0]
    assert uneven.wait_mean_s is not None
    assert even.utilisation is not None
    assert uneven.replicas >= even.replicas


def test_users_are_a_rate() -> None:
    found = asked(requests_per_s=None, users=600, think_time_s=60.0)
    assert 600 / 120 < found.requests_per_s < 600 / 60
    assert "600 users" in found.notes[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_s": None},
        {"users": 5},
        {"requests_per_s": math.nan},
        {"targets": {"speed": 1.0}},
        {"prompt_tokens": []},
        {"output_tokens": {100: -1.0}},
        {"percentile": 1.0},
        {"utilisation": 1.0},
        {"tier": "offload"},
    ],
)
def test_wrong_questions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(w.InvalidWorkloadError):
        asked(**wrong)


def test_a_job_is_its_rate() -> None:
    load = w.Workload(batch_size=64)
    found = w.plan_batch(
        "resnet-50", "rtx-3060-12gb", load, items=1e6, power_w=150.0, electricity_usd_per_kwh=0.2
    )
    speed = w.estimate_speed("resnet-50", "rtx-3060-12gb", load).images_per_s
    (option,) = found.options
    assert option.hours.best == pytest.approx(1e6 / speed.best / 3600)
    assert option.hours.high == pytest.approx(1e6 / speed.low / 3600)
    assert option.energy_kwh.best == pytest.approx(option.hours.best * 0.15)
    assert option.electricity_usd.best == pytest.approx(option.energy_kwh.best * 0.2)
    two = w.plan_batch("resnet-50", "rtx-3060-12gb", load, items=1e6, replicas=2, power_w=150.0).options[0]
    assert two.hours.best == pytest.approx(option.hours.best / 2)
    assert two.energy_kwh.best == pytest.approx(option.energy_kwh.best)
    with pytest.raises(w.InvalidWorkloadError):
        w.plan_batch("resnet-50", "rtx-3060-12gb", load, items=0)


def test_reading_prompts_takes_its_share_of_a_server_that_writes() -> None:
    """llama.cpp's decode rate is that of writing alone: no server finishes more requests than it can read."""
    load = w.Workload(prompt_tokens=512, output_tokens=128, context_tokens=640)
    prefill = w.estimate_speed(
        "qwen3-32b", "h100-sxm", load, quantization="q4_k_m", runtime="llama.cpp"
    ).prefill_tokens_per_s
    found = w.plan_serving(
        "qwen3-32b", "h100-sxm", requests_per_s=50, quantization="q4_k_m", runtime="llama.cpp"
    )
    assert prefill is not None
    assert found.options[0].capacity_requests_per_s < prefill.best / 512


def test_runtime_and_format_are_chosen_where_nobody_names_them() -> None:
    asks = {"requests_per_s": 50.0, "targets": {"time_to_first_token_s": 1.0}}
    free = w.plan_serving("qwen3-32b", ["h100-sxm"], **asks).options[0]  # type: ignore[arg-type]
    bound = [
        w.plan_serving("qwen3-32b", ["h100-sxm"], quantization=one, runtime=style, **asks).options[0]  # type: ignore[arg-type]
        for one, style in ((None, "llama.cpp"), ("bf16", "vllm"), ("fp8", "vllm"))
    ]
    assert free.replicas == min(option.replicas for option in bound if option.replicas)
    assert free.runtime == "vllm"
    assert w.plan_serving("qwen3-32b", ["rtx-3090"], requests_per_s=1.0).options[0].quantization != "bf16"


def test_a_job_takes_as_many_at_a_time_as_pay() -> None:
    asked = {"items": 1e5, "quantization": "awq-int4", "runtime": "vllm"}
    load = {"prompt_tokens": 1000, "output_tokens": 100}
    best = w.plan_batch("llama-3.1-8b", "rtx-4090", w.Workload(**load), **asked).options[0]
    for count in (1, 4, 64):
        given = w.plan_batch(
            "llama-3.1-8b", "rtx-4090", w.Workload(**load, concurrency=count), **asked
        ).options[0]
        assert given.in_flight == count
        assert best.hours.best <= given.hours.best * (1 + 1e-9)
    assert best.in_flight > 1


def test_an_archive_is_transcribed_in_batches() -> None:
    """The recording that is assumed where nobody says its length has a window for each place of a batch."""
    best = w.plan_batch("whisper-large-v3", "rtx-4090", items=1000).options[0]
    assert best.in_flight > 1
    alone = w.plan_batch("whisper-large-v3", "rtx-4090", w.Workload(batch_size=1), items=1000).options[0]
    assert best.hours.best < alone.hours.best / 4
    load = w.Workload(batch_size=best.in_flight)
    rate = w.estimate_speed("whisper-large-v3", "rtx-4090", load).real_time_factor
    assert best.hours.best == pytest.approx(1000 / rate.best)
    # A recording whose length is said is not stretched.
    short = w.plan_batch("whisper-large-v3", "rtx-4090", w.Workload(audio_s=30.0), items=1000).options[0]
    assert short.hours.best == pytest.approx(alone.hours.best)


@settings(max_examples=10, deadline=None)
@given(st.floats(1.0, 500.0))
def test_a_deadline_says_how_many_machines(hours: float) -> None:
    found = w.plan_batch("bge-m3", ["l4", "h100-sxm"], items=1e8, deadline_hours=hours, quantization="f16")
    for option in found.options:
        assert option.hours.best <= hours
        assert option.replicas_low <= option.replicas <= option.replicas_high
        alone = w.plan_batch("bge-m3", option.machine, items=1e8, quantization="f16").options[0].hours.best
        assert option.replicas == math.ceil(alone / hours)
    with pytest.raises(w.InvalidWorkloadError):
        w.plan_batch("bge-m3", "l4", items=10, deadline_hours=1.0, replicas=2)


def test_on_the_command_line_and_in_a_notebook() -> None:
    run = CliRunner().invoke(
        app, ["serve-plan", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "5", "--prompt", "500=3", "--prompt", "4000=1",
              "--output", "200", "-t", "time_to_first_token_s=2", "-q", "bf16", "-r", "vllm", "--json"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["options"][0]["replicas"] == asked().options[0].replicas
    assert "replicas" in asked()._repr_html_()
    job = CliRunner().invoke(
        app, ["batch-plan", "resnet-50", "--on", "rtx-3060-12gb", "--items", "1000", "--batch", "8"]
    )
    assert job.exit_code == 0, job.output


def test_a_model_that_writes_no_tokens_is_no_service() -> None:
    with pytest.raises(w.InvalidWorkloadError, match="write tokens"):
        w.plan_serving("resnet-50", "l4", requests_per_s=5)
