"""What must hold whatever the numbers are: one field changed, everything else alike."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun import InvalidWorkloadError, Workload, assess, estimate_memory, plan
from willitrun.kernels.placement import TIERS

MODELS = ["llama-3.1-8b", "llama-3.3-70b", "qwen3-30b-a3b", "gemma-3-27b"]
FORMATS = ["q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "q8_0"]
ORDER = {"will-not-run": 0, "offload": 1, "tight": 2, "comfortable": 3}

models = st.sampled_from(MODELS)
formats = st.sampled_from(FORMATS)
contexts = st.integers(min_value=1024, max_value=32768)
concurrencies = st.integers(min_value=1, max_value=32)


def card(**changes: object) -> dict[str, object]:
    """A made-up card, so that no measurement is near."""
    spec: dict[str, object] = {
        "name": "test card",
        "vendor": "nvidia",
        "memory": "24 GiB",
        "memory_type": "GDDR6X",
        "memory_bandwidth": "900 GB/s",
        "peaks": {"fp32": "40 TFLOP/s", "fp16_tensor": "80 TFLOP/s", "int8": "320 TOP/s"},
        "compute_capability": "8.9",
        "compute_units": 100,
        "boost_clock": "2.4 GHz",
        "tdp": "300 W",
    }
    spec |= changes
    return {"name": "test machine", "accelerators": [spec], "host": {"ram": "128 GiB"}}


@given(models, formats, contexts, concurrencies)
def test_longer_contexts_and_more_sequences_never_need_less(
    model: str, quant: str, context: int, many: int
) -> None:
    base = estimate_memory(
        model, card(), Workload(context_tokens=context, concurrency=many), quantization=quant
    )
    longer = estimate_memory(
        model, card(), Workload(context_tokens=2 * context, concurrency=many), quantization=quant
    )
    more = estimate_memory(
        model, card(), Workload(context_tokens=context, concurrency=many + 1), quantization=quant
    )
    for other in (longer, more):
        assert other.total_bytes.best + other.host_bytes.best >= base.total_bytes.best + base.host_bytes.best


@given(models, contexts, st.integers(min_value=0, max_value=len(FORMATS) - 2))
def test_more_bits_never_take_less(model: str, context: int, index: int) -> None:
    load = Workload(context_tokens=context)
    small, large = (estimate_memory(model, workload=load, quantization=q) for q in FORMATS[index : index + 2])
    assert large.weights_bytes.best >= small.weights_bytes.best


@given(
    models, formats, contexts, st.integers(min_value=4, max_value=96), st.integers(min_value=1, max_value=64)
)
def test_more_memory_is_never_worse(model: str, quant: str, context: int, gib: int, more: int) -> None:
    load = Workload(context_tokens=context)
    tight = assess(model, card(memory=f"{gib} GiB"), load, quantization=quant)
    roomy = assess(model, card(memory=f"{gib + more} GiB"), load, quantization=quant)
    assert ORDER[roomy.tier] >= ORDER[tight.tier]


@given(
    models,
    formats,
    st.floats(min_value=1.05, max_value=4.0),
    st.sampled_from(["memory_bandwidth", "peaks", "host"]),
)
def test_faster_parts_are_never_slower(model: str, quant: str, factor: float, part: str) -> None:
    slow = card()
    fast = card()
    if part == "memory_bandwidth":
        fast = card(memory_bandwidth=f"{900 * factor} GB/s")
    elif part == "peaks":
        fast = card(
            peaks={
                "fp32": f"{40 * factor} TFLOP/s",
                "fp16_tensor": f"{80 * factor} TFLOP/s",
                "int8": f"{320 * factor} TOP/s",
            }
        )
    else:
        slow = card() | {"host": {"ram": "128 GiB", "memory_bandwidth": "80 GB/s"}}
        fast = card() | {"host": {"ram": "128 GiB", "memory_bandwidth": f"{80 * factor} GB/s"}}
    a, b = assess(model, slow, quantization=quant).speed, assess(model, fast, quantization=quant).speed
    if a is None or b is None:
        assert a is None
        return
    for name in ("decode_tokens_per_s", "prefill_tokens_per_s"):
        assert getattr(b, name).best >= getattr(a, name).best * (1 - 1e-9)


@given(models, formats, st.integers(min_value=256, max_value=8192), st.integers(min_value=1, max_value=16))
def test_depth_and_company_never_speed_a_sequence_up(model: str, quant: str, prompt: int, many: int) -> None:
    def speed(tokens: int, concurrency: int) -> float:
        load = Workload(prompt_tokens=tokens, context_tokens=32768, concurrency=concurrency)
        found = assess(model, card(memory="640 GiB"), load, quantization=quant).speed
        assert found is not None
        assert found.decode_tokens_per_s is not None
        return found.decode_tokens_per_s.best

    base = speed(prompt, many)
    assert speed(2 * prompt, many) <= base * (1 + 1e-9)
    assert speed(prompt, many + 1) <= base * (1 + 1e-9)


@given(models, formats)
def test_tensor_parallelism_is_never_better_than_linear(model: str, quant: str) -> None:
    one = card(memory="640 GiB")
    four = one | {"accelerators": [one["accelerators"][0]] * 4}  # type: ignore[index]
    load = Workload(context_tokens=8192)
    alone = assess(model, one, load, quantization="bf16", runtime="vllm").speed
    together = assess(model, four, load, quantization="bf16", runtime="vllm").speed
    assert alone is not None
    assert together is not None
    assert together.decode_tokens_per_s is not None
    assert alone.decode_tokens_per_s is not None
    assert together.decode_tokens_per_s.best <= 4 * alone.decode_tokens_per_s.best * (1 + 1e-9)


@given(st.lists(st.tuples(models, formats, contexts, concurrencies), min_size=1, max_size=5))
def test_a_sweep_says_what_assess_says(cases: list[tuple[str, str, int, int]]) -> None:
    for model, quant, context, many in cases:
        load = Workload(context_tokens=context, concurrency=many)
        machines = ["rtx-4090", "rtx-3060-12gb", ["rtx-3090", "rtx-3090"], "m3-max-40gpu"]
        table = plan(models=[model], machines=machines, workloads=[load], quantizations=[quant])
        for row, machine in enumerate(machines):
            verdict = assess(model, machine, load, quantization=quant)
            found = table.row(row)
            assert found["tier"] == verdict.tier
            assert verdict.memory is not None
            for name in ("weights_bytes", "kv_cache_bytes", "total_bytes", "host_bytes", "overhead_bytes"):
                assert found[name] == getattr(verdict.memory, name).best
            assert found["total_bytes_high"] == verdict.memory.total_bytes.high
            codes = {reason.code for reason in verdict.reasons}
            assert found["fit_reason"] in codes or "memory-suffices" in codes
            assert found["dominance_reason"] in codes | {""}
            if verdict.speed is None:
                continue
            assert found["bound"] == (verdict.speed.bound if verdict.tier != "will-not-run" else "")
            assert found["evidence"] == verdict.speed.evidence
            for name in (
                "decode_tokens_per_s",
                "prefill_tokens_per_s",
                "time_to_first_token_s",
                "throughput_tokens_per_s",
            ):
                interval = getattr(verdict.speed, name)
                for suffix, bound in (("", "best"), ("_low", "low"), ("_high", "high")):
                    assert found[name + suffix] == pytest.approx(getattr(interval, bound), rel=1e-9)


@given(models, formats, contexts)
def test_terms_sum_exactly_and_intervals_enclose(model: str, quant: str, context: int) -> None:
    verdict = assess(model, "rtx-4090", Workload(context_tokens=context), quantization=quant)
    memory = verdict.memory
    assert memory is not None
    assert sum(term.value for term in memory.terms) == memory.total_bytes.best
    assert sum(device.total_bytes.best for device in memory.per_device) == memory.total_bytes.best
    assert memory.total_bytes.low <= memory.total_bytes.best <= memory.total_bytes.high
    if verdict.speed is not None:
        step = sum(term.value for term in verdict.speed.terms)
        assert verdict.speed.decode_tokens_per_s is not None
        assert step == pytest.approx(1 / verdict.speed.decode_tokens_per_s.best, rel=1e-9)


def test_bytes_never_wrap() -> None:
    load = Workload(context_tokens=2**40, prompt_tokens=1, output_tokens=1)
    found = estimate_memory("llama-3.1-8b", workload=load, quantization="q4_k_m")
    assert found.kv_cache_bytes.best == float(2**40 * 131072)
    with pytest.raises(InvalidWorkloadError, match="2\\^40"):
        Workload(context_tokens=2**40, concurrency=2)


def test_verdicts_travel_between_processes_and_threads() -> None:
    def run(index: int) -> str:
        return assess(MODELS[index % 4], "rtx-4090", quantization=FORMATS[index % 6]).model_dump_json()

    first = [run(i) for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(12))) == first
    verdict = assess("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
    back = pickle.loads(pickle.dumps(verdict))
    assert back == verdict
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict


def test_tiers_are_in_order() -> None:
    assert TIERS[:4] == ("will-not-run", "offload", "tight", "comfortable")
    assert np.all(np.diff([ORDER[tier] for tier in TIERS[:4]]) == 1)
