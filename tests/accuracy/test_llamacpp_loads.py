"""What a real llama.cpp allocated, as vectors: caches and states exactly, compute buffers as often as when written."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from accuracy.memory.llamacpp_probe import MIB
from accuracy.memory.truth import FIELDS, HELD_COMPUTE, ROUNDING, TOLERANCE, predict

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
