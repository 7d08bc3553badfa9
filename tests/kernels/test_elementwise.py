"""Numbers and columns go through the same formulas: what one row comes to must not depend on which of them it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from willitrun import Placement, Workload
from willitrun.estimators.llm_evaluation import evaluate_llm, run_alone, run_block
from willitrun.estimators.llm_lowering import prepare
from willitrun.estimators.requests import complete_request
from willitrun.kernels import elementwise
from willitrun.kernels.columns import at, devices_at

NUMBERS = (-2.5, -1.5, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 1e9 + 0.5)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("first", [*NUMBERS, np.nan, np.inf])
@pytest.mark.parametrize("second", [0.0, 1.5, np.nan, -np.inf])
def test_extremes_of_numbers_are_those_of_numpy(name: str, first: float, second: float) -> None:
    mine: Callable[[object, object], object] = getattr(elementwise, name)
    expected = getattr(np, name)(first, second)
    np.testing.assert_equal(float(mine(np.float64(first), np.float64(second))), float(expected))  # type: ignore[arg-type]
    np.testing.assert_equal(mine(np.array([first]), second), np.array([expected]))


@pytest.mark.parametrize(
    ("name", "numpys"), [("floored", np.floor), ("ceiled", np.ceil), ("rounded", np.rint)]
)
def test_whole_numbers_are_those_of_numpy(name: str, numpys: Callable[[object], object]) -> None:
    mine = getattr(elementwise, name)
    column = mine(np.array(NUMBERS))
    assert column.tolist() == [int(mine(np.float64(number))) for number in NUMBERS]
    assert column.tolist() == [int(numpys(number)) for number in NUMBERS]  # type: ignore[call-overload]
    assert mine(np.float64(1.5)).dtype == column.dtype == np.int64


REQUESTS = [
    ("llama-3.1-8b", "rtx-4090", "q4_k_m", "llama.cpp", None),
    ("llama-3.3-70b", "rtx-4090", "q4_k_m", "llama.cpp", None),
    ("qwen3-30b-a3b", "rtx-3060-12gb", "q4_k_m", "llama.cpp", None),
    ("qwen3-30b-a3b", "rtx-3060-12gb", "q8_0", "llama.cpp", Placement(cpu_moe_layers=20)),
    ("deepseek-v3", "mi300x", "q8_0", "llama.cpp", Placement(gpu_layers=0)),
    ("gemma-3-27b", "apple-m3-max-40", "q8_0", "llama.cpp", None),
    ("gpt-oss-20b", "rtx-5090", "mxfp4", "vllm", None),
    ("llama-3.1-8b", "a100-sxm4-80gb", "bf16", "vllm", None),
    ("mistral-7b", "rtx-3060-12gb", "bf16", "transformers", None),
    ("bge-m3", "rtx-4090", "bf16", "transformers", None),
    ("llama-3.1-8b", "rtx-4090", "q4_k_m", "llama.cpp", Placement(strategy="cpu")),
]


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda asked: "-".join(map(str, asked[:4])))
def test_a_row_alone_is_a_row_of_a_block(asked: tuple[str, str, str, str, Placement | None]) -> None:
    model, machine, quantization, runtime, placement = asked
    rng = random.Random(7)
    for _ in range(5):
        load = (
            Workload(batch_size=rng.choice([1, 8]))
            if model == "bge-m3"
            else Workload(context_tokens=rng.choice([2048, 5000, 32768]), concurrency=rng.choice([1, 3, 64]))
        )
        request = complete_request(
            model, machine, load, quantization=quantization, runtime=runtime, placement=placement
        )
        row = prepare(request)
        alone, block = run_alone(row), run_block([row])
        assert type(alone.kv_cache) is np.int64
        for field in fields(block.layout):
            ours, theirs = getattr(alone.layout, field.name), getattr(block.layout, field.name)
            told = devices_at(theirs, 0) if theirs.ndim == 2 else [at(theirs, 0).item()]
            assert [float(ours)] == told, field.name
        for field in fields(block.speed):
            ours, theirs = getattr(alone.speed, field.name), getattr(block.speed, field.name)
            if not callable(theirs):
                np.testing.assert_array_equal(float(ours), float(at(theirs, 0)), err_msg=field.name)
        for (name, ours), (_, theirs) in zip(alone.speed.terms, block.speed.terms, strict=True):
            assert float(ours) == float(at(theirs, 0)), name
        assert (int(alone.fit), int(alone.dominance)) == (int(block.fit[0]), int(block.dominance[0]))


def test_quotients_of_columns_are_those_of_integers() -> None:
    rng = random.Random(3)
    numerators, denominators = [], []
    for bits in range(1, 53):
        for _ in range(200):
            denominator = rng.randint(1, 2 ** rng.randint(1, 40))
            # Whole multiples and their neighbours, where a rounded quotient would give itself away.
            near = rng.randint(0, 2**bits) // denominator * denominator + rng.choice((-1, 0, 1))
            numerators.append(min(max(near, 0), 2**53 - 1))
            denominators.append(denominator)
    down = elementwise.divided(np.array(numerators), np.array(denominators))
    up = elementwise.divided(np.array(numerators), np.array(denominators), up=True)
    assert down.tolist() == [n // d for n, d in zip(numerators, denominators, strict=True)]
    assert up.tolist() == [-(-n // d) for n, d in zip(numerators, denominators, strict=True)]
    beyond = np.array([2**62 + 1, 2**53 + 1])
    assert elementwise.divided(beyond, np.array([2, 1])).tolist() == [2**61, 2**53 + 1]


def test_several_devices_stay_columns() -> None:
    request = complete_request("llama-3.1-8b", ["rtx-3090", "rtx-3090"], quantization="q4_k_m")
    found = evaluate_llm([request])[0]
    estimate = found.memory_estimate()
    assert estimate is not None
    assert len(estimate.per_device) == 2
