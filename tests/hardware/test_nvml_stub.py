"""The real ctypes path of nvidia-ml-py against a compiled stand-in for the driver library."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

GIB = 1 << 30
MIB = 1 << 20


def card(**changes: Any) -> dict[str, Any]:
    total = 24564 * MIB
    readings: dict[str, Any] = {
        "name": "NVIDIA GeForce RTX 4090",
        "memory_v2": {
            "total": total,
            "free": 20 * GIB,
            "used": total - 20 * GIB - 400 * MIB,
            "reserved": 400 * MIB,
        },
        "memory_v1": {"total": total, "free": 20 * GIB, "used": total - 20 * GIB},
        "pci": {"id": "10de:2684", "address": "00000000:01:00.0"},
        "bus_width_bits": 384,
        "memory_clock_mhz": 10501,
        "sm_clock_mhz": 3105,
        "compute_capability": [8, 9],
        "cores": 16384,
        "pcie_generation_max": 4,
        "pcie_lanes_max": 16,
        "pcie_generation_now": 1,
        "pcie_lanes_now": 16,
        "power_limit_mw": 450000,
        "power_default_mw": 450000,
        "virtualization": 0,
        "display_active": 1,
        "addressing_mode": 0,
        "mig": {"error": "NotSupported"},
    }
    return {**readings, **changes}


def driver(*devices: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"driver": "580.95.05", "cuda": 13000, "devices": list(devices), **changes}


@pytest.fixture
def detected(with_stub: Any, detect_program: str) -> Any:
    return lambda readings, **options: with_stub(readings, detect_program, **options)


def reports(machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {report["probe"]: report for report in machine["probes"]}


def test_a_card_is_read_through_ctypes(detected: Any) -> None:
    machine = detected(
        driver(card(processes=[{"pid": 4242, "used": 3 * GIB, "name": "/home/someone/bin/python a.py"}]))
    )
    [device] = machine["accelerators"]
    assert device["reported_name"] == "NVIDIA GeForce RTX 4090"
    assert device["memory_total_bytes"] == 24564 * MIB
    assert device["memory_free_bytes"] == 20 * GIB
    assert device["memory_reserved_bytes"] == 400 * MIB
    assert device["memory_bandwidth_bytes_per_s"] == pytest.approx(1008.096e9)
    assert device["compute_capability"] == "8.9"
    assert device["compute_units"] == 128
    assert device["pci_id"] == "10de:2684"
    # The link idles at generation 1; what it can do is generation 4.
    assert (device["pcie_generation"], device["pcie_lanes"]) == (4, 16)
    assert device["power_limit_w"] == 450.0
    assert device["virtual"] is False
    assert device["processes"] == [{"name": "python", "pid": 4242, "used_bytes": 3 * GIB}]
    versions = {entry["name"]: entry["version"] for entry in machine["software"]}
    assert versions == {"nvidia-driver": "580.95.05", "cuda-driver": "13.0"}


def test_readings_survive_the_round_trip(with_stub: Any, read_program: str) -> None:
    given = driver(card(), card(name="Tesla T4"))
    read = with_stub(given, read_program)
    assert read["status"] == "ok"
    for ours, theirs in zip(read["devices"], given["devices"], strict=True):
        for key, value in theirs.items():
            expected = {"id": "10de:2684", "address": "0000:01:00.0"} if key == "pci" else value
            assert ours[key] == expected, key


def test_an_old_driver_lacks_symbols(detected: Any, old_stub: Path) -> None:
    machine = detected(driver(card()), folder=old_stub)
    [device] = machine["accelerators"]
    assert device["memory_total_bytes"] == 24564 * MIB
    assert device["memory_free_bytes"] == 20 * GIB
    # Version 1 counts the reserved memory as used: unknown is None, never 0.
    assert device["memory_reserved_bytes"] is None
    assert device["compute_units"] is None
    assert device["mig_enabled"] is None
    assert device["memory_bandwidth_bytes_per_s"] == pytest.approx(1008.096e9)


def test_missing_symbols_raise_function_not_found(with_stub: Any, read_program: str, old_stub: Path) -> None:
    read = with_stub(driver(card()), read_program, folder=old_stub)
    assert read["devices"][0]["memory_v2"] == {"error": "FunctionNotFound"}
    assert read["devices"][0]["cores"] == {"error": "FunctionNotFound"}


def test_unified_memory_takes_the_hosts(detected: Any) -> None:
    refused = {"error": "NotSupported"}
    spark = card(
        name="NVIDIA GB10",
        memory_v1=refused,
        memory_v2=refused,
        bus_width_bits=refused,
        memory_clock_mhz=refused,
        compute_capability=[12, 1],
        addressing_mode=2,
        pci={"id": "10de:2e12", "address": "0000000f:01:00.0"},
    )
    machine = detected(driver(spark))
    [device] = machine["accelerators"]
    assert device["shares_host_memory"] is True
    assert device["memory_total_bytes"] == machine["host"]["ram_total_bytes"]
    assert device["memory_free_bytes"] == machine["host"]["ram_available_bytes"]


def test_a_refusing_discrete_card_is_not_unified(detected: Any) -> None:
    refused = {"error": "NotSupported"}
    machine = detected(driver(card(memory_v1=refused, memory_v2=refused, addressing_mode=1)))
    [device] = machine["accelerators"]
    assert device["shares_host_memory"] is False
    assert device["memory_total_bytes"] is None
    assert reports(machine)["nvml.device0.memory"]["status"] == "failed"


def slice_(name: str, mib: int, units: int) -> dict[str, Any]:
    size = mib * MIB
    memory = {"total": size, "free": size - 12 * MIB, "used": 12 * MIB}
    return {"name": name, "memory_v2": {**memory, "reserved": 0}, "memory_v1": memory, "sm_count": units}


def test_mig_slices_are_devices_of_their_own(detected: Any) -> None:
    total = 40960 * MIB
    parent = card(
        name="NVIDIA A100-SXM4-40GB",
        compute_capability=[8, 0],
        cores=6912,
        bus_width_bits=5120,
        memory_clock_mhz=1215,
        mig=[1, 1],
        mig_most=7,
        memory_v2={"total": total, "free": 20 * GIB, "used": 20 * GIB - 600 * MIB, "reserved": 600 * MIB},
        slices=[
            slice_("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19968, 42),
            slice_("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864, 14),
        ],
    )
    machine = detected(driver(parent))
    first, second = machine["accelerators"]
    assert (first["mig_profile"], second["mig_profile"]) == ("3g.20gb", "1g.5gb")
    assert first["memory_total_bytes"] == 19968 * MIB
    assert second["compute_units"] == 14
    assert first["mig_parent"] == "NVIDIA A100-SXM4-40GB"
    assert "one of them" in reports(machine)["nvml.device0.mig"]["reason"]


def test_mig_without_a_slice_shows_no_device(detected: Any) -> None:
    machine = detected(driver(card(mig=[1, 1], mig_most=7)))
    assert machine["accelerators"] == []
    assert "no slice is visible" in reports(machine)["nvml.device0.mig"]["reason"]


def test_a_lost_device_does_not_cost_the_others(detected: Any) -> None:
    machine = detected(driver({"handle": {"error": "GpuIsLost"}}, card()))
    [device] = machine["accelerators"]
    assert device["reported_name"] == "NVIDIA GeForce RTX 4090"
    assert "GpuIsLost" in reports(machine)["nvml.device0"]["reason"]


def test_a_device_that_goes_away_while_it_is_read_is_lost(detected: Any) -> None:
    gone = {"error": "GpuIsLost"}
    machine = detected(driver(card(memory_v1=gone, memory_v2=gone, bus_width_bits=gone), card()))
    assert len(machine["accelerators"]) == 1
    report = reports(machine)["nvml.device0"]
    assert report["status"] == "failed"
    assert report["see"][0] == "troubleshooting:gpu-fell-off-the-bus"


JUNK = ({"error": "NotSupported"}, {"error": "FunctionNotFound"}, {"error": "Unknown"}, {"error": "Timeout"},
        0, 1, 2**31, 4294967295, None)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_a_driver_that_answers_anything_never_invents_a_number(detected: Any, seed: int) -> None:
    """Through the real ctypes path: every number is the true one, unknown, or of another device that is so named."""
    dice = random.Random(seed)
    spoilt = {key: dice.choice(JUNK) if dice.random() < 0.4 else value for key, value in card().items()}
    for memory in ("memory_v1", "memory_v2"):
        if isinstance(spoilt[memory], int):
            spoilt[memory] = {"total": spoilt[memory], "free": 2**50, "used": 0, "reserved": 2**40}
    for key in ("name", "pci", "compute_capability"):
        if not isinstance(spoilt[key], type(card()[key])):
            spoilt[key] = {"error": "NotSupported"}
    machine = detected(driver({key: value for key, value in spoilt.items() if value is not None}))
    for device in machine["accelerators"]:
        assert device["memory_total_bytes"] in (None, 24564 * MIB)
        assert device["memory_free_bytes"] in (None, 20 * GIB)
        assert device["memory_bus_width_bits"] in (None, 384)
        assert device["compute_units"] in (None, 128)
        assert device["compute_capability"] in (None, "8.9")
        assert device["pcie_lanes"] in (None, 1, 16)
        bandwidth = device["memory_bandwidth_bytes_per_s"]
        assert bandwidth is None or bandwidth == pytest.approx(1008.096e9)
        known = device["accelerator"]["id"]
        assert known == "nvidia-geforce-rtx-4090" or known.startswith("derived-")


def test_garbage_becomes_none(detected: Any) -> None:
    garbage = card(
        memory_v2={"total": 2**63, "free": 5, "used": 0, "reserved": 0},
        memory_v1={"total": 0, "free": 0, "used": 0},
        bus_width_bits=4294967295,
        memory_clock_mhz=0,
        cores=7,
        compute_capability=[0, 77],
        pcie_lanes_now=255,
        power_limit_mw=0,
        virtualization=77,
        display_active=9,
    )
    machine = detected(driver(garbage))
    [device] = machine["accelerators"]
    for field in (
        "memory_total_bytes",
        "memory_free_bytes",
        "memory_bandwidth_bytes_per_s",
        "memory_bus_width_bits",
        "compute_units",
        "compute_capability",
        "pcie_lanes",
        "power_limit_w",
        "virtual",
        "display_active",
    ):
        assert device[field] is None, field


def test_a_name_that_is_no_text(with_stub: Any, detect_program: str) -> None:
    script = b"count 1\ndevices.0.name \xff\xfe\x80\ndevices.0.memory_v1.total 8589934592\n"
    script += b"devices.0.memory_v1.free 8589934592\ndevices.0.memory_v1.used 0\n"
    [device] = with_stub(script, detect_program)["accelerators"]
    assert device["reported_name"] is None
    assert device["memory_total_bytes"] == 8 * GIB
    assert device["identity"] == "derived"


@pytest.mark.parametrize("status", ["DriverNotLoaded", "LibRmVersionMismatch", "Unknown", "NoPermission"])
def test_a_driver_that_does_not_start(detected: Any, status: str) -> None:
    machine = detected({"status": status})
    assert machine["accelerators"] == []
    assert status in reports(machine)["nvml"]["reason"]


def test_a_driver_without_devices(detected: Any) -> None:
    machine = detected(driver())
    assert machine["accelerators"] == []
    assert reports(machine)["nvml"]["status"] == "absent"


def test_a_hung_call_is_reported_in_time(with_stub: Any) -> None:
    program = (
        "from willitrun.hardware.detection import detect\n"
        "print(detect(timeout_s=0.7).model_dump_json())\n"
        # The second call must not hang beside the first.
        "import time, os, sys; began = time.monotonic(); again = detect(timeout_s=3.0)\n"
        "assert time.monotonic() - began < 1.5, time.monotonic() - began\n"
        "assert any(r.probe == 'nvml' and r.status == 'timeout' for r in again.probes), again.probes\n"
        "sys.stdout.flush(); os._exit(0)\n"
    )
    began = time.monotonic()
    machine = with_stub({**driver(card()), "slow": {"nvmlDeviceGetName": 30}}, program)
    assert time.monotonic() - began < 15
    assert machine["accelerators"] == []
    assert machine["host"]["ram_total_bytes"] > 0
    assert reports(machine)["nvidia"]["status"] == "timeout"


def test_a_slow_driver_gives_what_it_has_time_for(detected: Any) -> None:
    """Each clock takes two seconds: the cards are reported with their memory, the rest is left and said so."""
    began = time.monotonic()
    machine = detected({**driver(card(), card()), "slow": {"nvmlDeviceGetMaxClockInfo": 2}})
    assert time.monotonic() - began < 12
    assert [device["memory_total_bytes"] for device in machine["accelerators"]] == [24564 * MIB] * 2
    assert machine["accelerators"][1]["memory_clock_hz"] is None
    assert machine["accelerators"][1]["accelerator"]["id"] == "nvidia-geforce-rtx-4090"
    assert reports(machine)["nvml.device1.slow"]["status"] == "timeout"


def test_two_cards_joined_by_nvlink(detected: Any) -> None:
    first = card(pci={"id": "10de:2204", "address": "00000000:01:00.0"}, nvlinks=["00000000:02:00.0"] * 4)
    second = card(pci={"id": "10de:2204", "address": "00000000:02:00.0"}, nvlinks=["00000000:01:00.0"] * 4)
    machine = detected(driver(first, second))
    assert len(machine["accelerators"]) == 2
