"""What a real llama.cpp allocated, as vectors: caches and states exactly, compute buffers as often as when written."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from accuracy.memory.llamacpp_probe import MIB
from accuracy.memory.truth import FIELDS, HELD_COMPUTE, ROUNDING, TOLERANCE, predict

from willitrun import Placement, Runtime, Workload, assess, estimate_memory

FILE = Path(__file__).parents[1] / "vectors" / "llamacpp_loads.csv"


def loads() -> dict[str, list[dict[str, str]]]:
    lines = [line for line in FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader(lines):
        found[row["model"]].append(row)
    return dict(found)


LOADS = loads()


def options(row: dict[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {name: int(row[name]) for name in FIELDS if row[name]}
    if row["devices"]:
        given["devices"] = row["devices"]
    return given


def test_the_vectors_cover_the_classes() -> None:
    assert len(LOADS) >= 35
    assert sum(map(len, LOADS.values())) >= 500


@pytest.mark.parametrize("model", sorted(LOADS))
def test_caches_and_states_are_exact(model: str) -> None:
    for row in LOADS[model]:
        devices = predict(model, options(row)).per_device
        cache = sum(device.kv_cache_bytes + device.state_bytes for device in devices)
        assert abs(cache - float(row["cache_mib"]) * MIB) <= 3 * ROUNDING, row


def test_compute_buffers_agree_as_often_as_they_did() -> None:
    within = []
    for model, rows in LOADS.items():
        for row in rows:
            predicted = sum(device.activation_bytes for device in predict(model, options(row)).per_device)
            within.append(abs(predicted / (float(row["compute_mib"]) * MIB) - 1) <= TOLERANCE)
    # The vectors keep every case with an option of its own, so they are harder than the whole.
    assert sum(within) / len(within) >= HELD_COMPUTE - 0.03


@pytest.mark.parametrize(
    ("model", "gpu_layers", "compute_mib", "tolerance"),
    [
        # llama.cpp 0c1e57098, Q8_0, 8,192 cells, flash attention, one null device: the output matrix (532.3 MiB) or
        # the largest expert tensor of a layer (476 MiB) is copied over where it lies on the host.
        ("llama-3.1-8b", 999, 258.5, 0.001),
        ("llama-3.1-8b", 10, 258.5, 0.001),
        ("llama-3.1-8b", 0, 790.81, 0.001),
        ("mixtral-8x7b", 999, 200.01, 0.001),
        ("mixtral-8x7b", 10, 629.0, 0.08),
        ("mixtral-8x7b", 0, 629.0, 0.08),
    ],
)
def test_weights_on_the_host_are_copied_to_the_card(
    model: str, gpu_layers: int, compute_mib: float, tolerance: float
) -> None:
    estimate = estimate_memory(
        model,
        "rtx-4090",
        Workload(context_tokens=8192, prompt_tokens=1, output_tokens=1),
        quantization="q8_0",
        runtime=Runtime(name="llama.cpp", n_ubatch=512, flash_attention=True),
        placement=Placement(gpu_layers=gpu_layers, cpu_moe_layers=0),
    )
    buffer = sum(device.activation_bytes for device in estimate.per_device)
    assert buffer / MIB == pytest.approx(compute_mib, rel=tolerance)


@pytest.mark.parametrize(
    ("version", "gpu_layers", "host_cells", "told"),
    [
        # Load logs of builds 8133 and 8179 leave 1 of 40 layers' cache on the host for 40/41 and 2 of 36 for 35/37.
        ("8133", 32, 1, 32),
        ("8179", 31, 2, 31),
        (None, 33, 0, 33),
        ("6000", 32, 0, 32),
        ("6000", 31, 1, 31),
    ],
)
def test_ngl_means_what_the_build_means(
    version: str | None, gpu_layers: int, host_cells: int, told: int
) -> None:
    verdict = assess(
        "llama-3.1-8b",
        "rtx-4090",
        Workload(context_tokens=8192, prompt_tokens=1, output_tokens=1),
        quantization="q8_0",
        runtime=Runtime(name="llama.cpp", version=version),
        placement=Placement(gpu_layers=gpu_layers),
    )
    layer = 8192 * 2 * 8 * 128 * 2
    kept = sum(device.kv_cache_bytes for device in verdict.memory.per_device)
    assert kept == (32 - host_cells) * layer
    assert verdict.placement.gpu_layers == told
