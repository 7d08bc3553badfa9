"""Sweeps in blocks: the rows of `plan`, and reductions that equal those of the whole table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from willitrun import InvalidWorkloadError, PlanTable, Workload, plan
from willitrun.planning.fleets import count_scenarios, plan_blocks
from willitrun.planning.reductions import (
    best_by,
    count_by,
    counted,
    filtered,
    pareto,
    reduce_together,
    smallest_machine,
    top,
)
from willitrun.planning.tables import concatenate

MODELS = ["llama-3.1-8b", "qwen3-30b-a3b", "llama-3.3-70b", "gemma-3-12b", "deepseek-v3", "falcon-mamba-7b"]
MACHINES: list[Any] = [
    "rtx-4090", "rtx-3060-12gb", ["rtx-3090", "rtx-3090"], "rx-7900-xtx", "m3-max-40gpu:64 GiB", "ddr5-5600-dual",
    {"name": "box-1", "accelerators": ["rtx-4090", "rtx-3060-12gb"], "host": {"ram": "128 GiB", "os": "windows"}},
    {"name": "box-2", "accelerators": ["h100-sxm"] * 8, "host": {"ram": "1 TiB"}},
]  # fmt: skip
LOADS = Workload.grid(contexts=[4096, 131072], concurrencies=[1, 8])
KEYS = ("model", "quantization", "runtime", "machine", "context_tokens", "concurrency")


def sorted_rows(table: PlanTable) -> PlanTable:
    columns = [table[name] for name in KEYS]
    return table.take(np.lexsort([np.asarray(column).astype(str) for column in columns]))


def same(one: PlanTable, other: PlanTable) -> None:
    assert len(one) == len(other)
    assert set(one) == set(other)
    a, b = sorted_rows(one), sorted_rows(other)
    for name in a:
        if a.columns[name].dtype.kind == "f":
            np.testing.assert_allclose(a[name], b[name], rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize(
    ("quantizations", "runtimes"),
    [
        (["q4_k_m", "q8_0"], None),
        (["awq-int4", "bf16"], ["vllm"]),
        (["q4_k_m"], ["llama.cpp", "ollama:vulkan"]),
    ],
)
def test_the_rows_are_those_of_plan(quantizations: list[str], runtimes: list[str] | None) -> None:
    axes: dict[str, Any] = {
        "models": MODELS,
        "machines": MACHINES,
        "workloads": LOADS,
        "quantizations": quantizations,
        "runtimes": runtimes,
    }
    same(concatenate(list(plan_blocks(**axes))), plan(**axes))


def test_other_tasks_are_planned_alike() -> None:
    axes: dict[str, Any] = {
        "models": ["resnet-50", "vit-b-16"],
        "machines": ["rtx-4090", "rtx-3060-12gb"],
        "workloads": Workload.grid(batches=[1, 64]),
    }
    same(concatenate(list(plan_blocks(**axes))), plan(**axes))


@pytest.fixture(scope="module")
def blocks() -> list[PlanTable]:
    return list(
        plan_blocks(models=MODELS, machines=MACHINES, workloads=LOADS, quantizations=["q4_k_m", "q8_0"])
    )


def test_labels_are_shared(blocks: list[PlanTable]) -> None:
    for name in ("model", "machine", "quantization", "runtime"):
        assert len({block.categories[name] for block in blocks}) == 1


def test_progress_counts_every_row(blocks: list[PlanTable]) -> None:
    seen: list[int] = []
    for _ in plan_blocks(
        models=MODELS[:2], machines=MACHINES, workloads=LOADS, quantizations=["q4_k_m"], progress=seen.append
    ):
        pass
    assert sum(seen) == count_scenarios(MODELS[:2], MACHINES, LOADS, ["q4_k_m"], None) == 64


def test_reductions_equal_those_of_the_whole(blocks: list[PlanTable]) -> None:
    whole = concatenate(blocks)
    fits = concatenate(list(filtered(blocks, tier="comfortable")))
    assert len(fits) == len(whole.filter(tier="comfortable"))
    best = best_by(filtered(blocks, lambda t: t.at_least("tight")), ["machine"], "decode_tokens_per_s")
    same(best, whole.filter(whole.at_least("tight")).best_by(["machine"], "decode_tokens_per_s"))
    counts = count_by(blocks, ["machine", "tier"])
    expected = whole.count_by("machine", "tier")
    pairs = {(a, b): c for a, b, c in zip(counts["machine"], counts["tier"], counts["count"], strict=True)}
    assert pairs == {
        (a, b): c for a, b, c in zip(expected["machine"], expected["tier"], expected["count"], strict=True)
    }
    assert sum(pairs.values()) == len(whole)
    first = top(blocks, 5, "decode_tokens_per_s")["decode_tokens_per_s"]
    np.testing.assert_array_equal(first, whole.sort_by("decode_tokens_per_s")["decode_tokens_per_s"][:5])
    small = smallest_machine(blocks)
    reached = whole.filter(whole.at_least("comfortable"))
    for i in range(len(small)):
        row = small.row(i)
        assert row["available_bytes"] == reached.filter(model=row["model"])["available_bytes"].min()
    front = pareto(filtered(blocks, model="llama-3.1-8b"), total_bytes="min", decode_tokens_per_s="max")
    want = whole.filter(model="llama-3.1-8b").pareto(total_bytes="min", decode_tokens_per_s="max")
    points = set(zip(front["total_bytes"].tolist(), front["decode_tokens_per_s"].tolist(), strict=True))
    assert points == set(zip(want["total_bytes"].tolist(), want["decode_tokens_per_s"].tolist(), strict=True))


def test_reducing_often_changes_nothing(blocks: list[PlanTable], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = best_by(blocks, ["model", "machine"], "decode_tokens_per_s")
    monkeypatch.setattr("willitrun.planning.reductions.PENDING_ROWS", 3)
    same(best_by(blocks, ["model", "machine"], "decode_tokens_per_s"), whole)


def test_several_reductions_in_one_pass(blocks: list[PlanTable]) -> None:
    found = reduce_together(
        iter(blocks),
        best=lambda t: t.filter(tier="comfortable").best_by(["machine"], "decode_tokens_per_s"),
        counts=lambda t: counted(t, ["tier"]),
        nothing=lambda t: t.filter(tier="splendid") if "tier" in t.categories else t,
    )
    assert set(found) == {"best", "counts"}
    same(found["best"], best_by(filtered(blocks, tier="comfortable"), ["machine"], "decode_tokens_per_s"))
    assert found["counts"]["count"].sum() == sum(map(len, blocks))


def test_small_tiles_change_nothing(blocks: list[PlanTable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("willitrun.planning.fleets.TILE_ROWS", 5)
    monkeypatch.setattr("willitrun.planning.fleets.TILE_MACHINES", 2)
    small = plan_blocks(models=MODELS, machines=MACHINES, workloads=LOADS, quantizations=["q4_k_m", "q8_0"])
    same(concatenate(list(small)), concatenate(blocks))


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InvalidWorkloadError, match="quantizations="):
        list(plan_blocks(models=["llama-3.1-8b"], machines=["rtx-4090"]))
    with pytest.raises(InvalidWorkloadError, match="no row"):
        best_by([], ["machine"], "total_bytes")
    with pytest.raises(InvalidWorkloadError, match="'min' or 'max'"):
        plan(models=["llama-3.1-8b"], machines=["rtx-4090"], quantizations=["q4_k_m"]).pareto(
            total_bytes="up"
        )


# What a table can do


@pytest.fixture(scope="module")
def table() -> PlanTable:
    return plan(models=MODELS[:3], machines=MACHINES[:4], workloads=LOADS, quantizations=["q4_k_m"])


def test_units(table: PlanTable) -> None:
    assert table.units["total_bytes_low"] == "B"
    assert table.units["decode_tokens_per_s_high"] == "tokens/s"
    assert table.units["context_tokens"] == "tokens"
    assert "tier" not in table.units


def test_rank(table: PlanTable) -> None:
    ranks = table.rank("decode_tokens_per_s")
    assert sorted(ranks.tolist()) == list(range(1, len(table) + 1))
    speeds = table["decode_tokens_per_s"]
    assert speeds[np.argmin(ranks)] == np.nanmax(speeds)
    if np.isnan(speeds).any():
        assert ranks[np.isnan(speeds)].min() > ranks[~np.isnan(speeds)].max()


def test_smallest_machine(table: PlanTable) -> None:
    small = table.smallest_machine()
    assert len(set(small["model"])) == len(small)
    assert small.filter(model="llama-3.1-8b")["machine"][0] == "NVIDIA GeForce RTX 3060 12GB"


def test_single_precision() -> None:
    axes: dict[str, Any] = {"models": MODELS[:2], "machines": MACHINES[:3], "quantizations": ["q4_k_m"]}
    full, half = plan(**axes), plan(**axes, precision="float32")
    assert half.nbytes < full.nbytes
    for name in full:
        if full.columns[name].dtype == np.float64:
            assert half.columns[name].dtype == np.float32
            np.testing.assert_allclose(half[name], full[name], rtol=1e-5)
        else:
            np.testing.assert_array_equal(half[name], full[name])
