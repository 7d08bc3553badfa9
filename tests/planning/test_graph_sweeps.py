"""Sweeps of image models go through grids: every row says what `assess` says, and rates of rows are many."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from willitrun import PlanTable, Workload, assess, describe_machine, load_catalog, plan
from willitrun.estimators.workloads import GRAPH_TASKS
from willitrun.planning import graph_sweeps
from willitrun.records.models import VisionConfig

MACHINES: list[Any] = [
    "rtx-4090",
    "nvidia-a100-sxm4-80gb",
    "nvidia-geforce-gtx-1080-ti",
    "jetson-agx-xavier-32gb",
    "amd-radeon-rx-7800-xt",
    "rtx-3060-12gb",
    ["rtx-3090", "rtx-3090"],
    {"name": "processor", "host": {"ram": "64 GiB", "cpu": "Intel Core i9-10940X"}},
    {"name": "few cores", "accelerators": ["rtx-4090"], "host": {"ram": "64 GiB", "cores": 8}},
]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"precision": "amp-fp16"},
    {"precision": "fp16", "execution": "compile", "layout": "nhwc"},
    {"precision": "int8", "execution": "tensorrt"},
    {"precision": "fp16", "dataset": "imagenet-1k"},
    {"image_size": 320},
]
BATCHES = (None, 1, 32, 256, 5000)


def places() -> list[Any]:
    """The machines, and one whose disk is slow."""
    slow = describe_machine({"name": "slow disk", "accelerators": ["rtx-4090"], "host": {"cores": 96}})
    host = slow.host.model_copy(update={"disk_read_bytes_per_s": 50_000_000})
    return [*MACHINES, slow.model_copy(update={"host": host})]


def compare(table: PlanTable, row: int, model: Any, machine: Any, load: Workload, **options: Any) -> None:
    """One row of a sweep is the verdict of its tuple: bytes exactly, rates to 1e-9."""
    found, verdict = table.row(row), assess(model, machine, load, **options)
    assert found["tier"] == verdict.tier
    codes = {reason.code for reason in verdict.reasons}
    assert found["blocked_by"] in codes | {""}
    if verdict.memory is None:
        assert found["total_bytes"] == 0
    else:
        assert found["fit_reason"] in codes or "memory-suffices" in codes
        memory = verdict.memory
        for name in ("weights_bytes", "activation_bytes", "overhead_bytes", "total_bytes", "host_bytes"):
            assert found[name] == round(getattr(memory, name).best), name
        assert found["total_bytes_low"] == round(memory.total_bytes.low)
        assert found["total_bytes_high"] == round(memory.total_bytes.high)
        assert found["available_bytes"] == sum(device.available_bytes or 0 for device in memory.per_device)
    runs = verdict.tier not in ("will-not-run", "unknown")
    rate = verdict.speed.images_per_s if verdict.speed is not None and runs else None
    ends = (np.nan,) * 3 if rate is None else (rate.low, rate.best, rate.high)
    for name, end in zip(("images_per_s_low", "images_per_s", "images_per_s_high"), ends, strict=True):
        assert found[name] == pytest.approx(end, rel=1e-9, nan_ok=True), name
    if rate is not None:
        assert verdict.speed is not None
        assert (found["bound"], found["evidence"]) == (verdict.speed.bound, verdict.speed.evidence)
    else:
        assert found["bound"] == ""


@pytest.mark.parametrize("tile_rows", [graph_sweeps.TILE_ROWS, 7])
def test_rows_equal_verdicts(monkeypatch: pytest.MonkeyPatch, tile_rows: int) -> None:
    monkeypatch.setattr(graph_sweeps, "TILE_ROWS", tile_rows)
    chance = random.Random(tile_rows)
    catalog = load_catalog()
    graphs = [model.id for model in catalog.models.values() if model.task in GRAPH_TASKS]
    models: list[Any] = ["resnet-50", "yolov8s", "fasterrcnn_resnet50_fpn", "clip-vit-base-patch32"]
    untraced = VisionConfig(image_size=224)
    models.append(catalog.models["clip-vit-base-patch32"].model_copy(update={"vision": untraced}))
    models += chance.sample(graphs, 6)
    machines = places()
    loads = [Workload(**setting, batch_size=batch) for setting in SETTINGS for batch in BATCHES]
    chance.shuffle(loads)
    table = plan(models=models, machines=machines, workloads=loads)
    assert len(table) == len(models) * len(machines) * len(loads)
    assert {"comfortable", "will-not-run", "unknown"} <= set(table["tier"])
    assert {"measured-near", "calibrated"} <= set(table["evidence"])
    assert {"launch", "compute", "memory-bandwidth", "input", "disk"} <= set(table["bound"])
    for row in chance.sample(range(len(table)), 150):
        rest, load = divmod(row, len(loads))
        model, machine = divmod(rest, len(machines))
        compare(table, row, models[model], machines[machine], loads[load])


def test_measured_rows_are_measured() -> None:
    """A batch that was measured on the device is told from its neighbours."""
    rows = load_catalog().measurements.values()
    found = next(row for row in rows if row.metric == "images_per_s" and row.batch_size and row.execution)
    fields = {
        name: getattr(found, name)
        for name in ("execution", "precision", "layout", "image_size")
        if getattr(found, name)
    }
    loads = [
        Workload(batch_size=batch, **fields) for batch in (found.batch_size, found.batch_size + 1, 1, 48)
    ]
    table = plan(models=[found.model], machines=[found.accelerator], workloads=loads)
    for row, load in enumerate(loads):
        compare(table, row, found.model, found.accelerator, load)
    assert table["evidence"][0] in ("measured", "measured-near")


def test_what_cannot_run_is_told_by_machine() -> None:
    machines = ["rtx-4090", "amd-radeon-rx-7800-xt", MACHINES[7]]
    for runtime in ("tensorrt", "llama.cpp", "onnxruntime"):
        table = plan(models=["resnet-50"], machines=machines, runtimes=[runtime])
        for row, machine in enumerate(machines):
            compare(table, row, "resnet-50", machine, Workload(), runtime=runtime)
    mixed = plan(models=["resnet-50"], machines=machines, runtimes=["tensorrt"])
    assert mixed["blocked_by"].tolist() == ["", "runtime-not-on-vendor", "no-accelerator"]


def test_inference_and_training_beside_each_other() -> None:
    loads = [Workload(batch_size=8), Workload(batch_size=8, mode="full-finetune"), Workload(batch_size=9)]
    seen: list[int] = []
    table = plan(
        models=["resnet-50"], machines=["rtx-4090", "rtx-3060-12gb"], workloads=loads, progress=seen.append
    )
    assert sum(seen) == len(table) == 6
    for row, load in enumerate(loads):
        verdict = assess("resnet-50", "rtx-4090", load)
        assert verdict.memory is not None
        assert verdict.speed is not None
        assert table["total_bytes"][row] == round(verdict.memory.total_bytes.best)
        assert np.isnan(table["images_per_s"][row]) == (verdict.speed.images_per_s is None)


def test_a_chat_model_that_is_also_trained_is_not_judged_as_if_it_chatted() -> None:
    loads = [Workload(), Workload(mode="qlora")]
    table = plan(models=["llama-3.1-8b"], machines=["rtx-4090"], workloads=loads, quantizations=["q4_k_m"])
    verdict = assess("llama-3.1-8b", "rtx-4090", loads[1], quantization="q4_k_m")
    assert table["tier"].tolist()[1] == verdict.tier
    if verdict.memory is not None:
        assert table["total_bytes"][1] == round(verdict.memory.total_bytes.best)


def test_graphs_and_language_models_share_a_table() -> None:
    table = plan(
        models=["llama-3.1-8b", "resnet-50"], machines=["rtx-4090", "rtx-3060-12gb"], runtimes=["vllm"],
        quantizations=[None],
    )  # fmt: skip
    assert np.isnan(table["images_per_s"][:2]).all()
    assert np.isnan(table["decode_tokens_per_s"][2:]).all()
    compare(table, 2, "resnet-50", "rtx-4090", Workload(), runtime="vllm")
