"""What a real NVIDIA driver says, held against the catalog. Runs where there is one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from willitrun.hardware.captures import from_capture, record_capture
from willitrun.hardware.detection import detect
from willitrun.hardware.nvml import read_nvml

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def readings() -> dict[str, Any]:
    found = read_nvml()
    if found["status"] != "ok" or not found["devices"]:
        pytest.skip(f"no NVIDIA driver with a device here ({found['status']})")
    return found


def test_every_device_is_detected_and_known(readings: dict[str, Any]) -> None:
    machine = detect()
    cards = [device for device in machine.accelerators if device.accelerator.vendor == "nvidia"]
    assert cards
    for device in cards:
        assert device.identity != "derived", machine.probes
        total, free = device.memory_total_bytes, device.memory_free_bytes
        assert total is not None
        assert free is not None
        assert 0 < free <= total
        if device.mig_parent is None and device.memory_bandwidth_bytes_per_s is not None:
            stated = device.accelerator.memory_bandwidth
            assert stated is None or abs(device.memory_bandwidth_bytes_per_s / stated - 1) < 0.15


def test_readings_hold_no_identifiers(readings: dict[str, Any]) -> None:
    text = json.dumps(readings).lower()
    assert "uuid" not in text
    assert "serial" not in text


def test_a_recorded_machine_replays_to_the_same_devices(readings: dict[str, Any]) -> None:
    replayed = from_capture(record_capture())
    live = detect()
    assert [d.accelerator.id for d in replayed.accelerators] == [d.accelerator.id for d in live.accelerators]
    assert [d.memory_total_bytes for d in replayed.accelerators] == [
        d.memory_total_bytes for d in live.accelerators
    ]
