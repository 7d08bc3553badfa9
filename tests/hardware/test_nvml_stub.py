"""The real ctypes path of nvidia-ml-py against a compiled stand-in for the driver library."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "stub_nvml" / "nvml_stub.c"
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
    return lambda readings, program=detect_program, **options: with_stub(readings, program, **options)


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


def test_a_short_patience_is_kept(with_stub: Any) -> None:
    program = (
        "from willitrun.hardware.detection import detect\n"
        "import time, os, sys; detect(probes=['ram']); began = time.monotonic()\n"
        "print(detect(timeout_s=0.7).model_dump_json()); assert time.monotonic() - began < 1.5\n"
        "sys.stdout.flush(); os._exit(0)\n"
    )
    machine = with_stub({**driver(card()), "slow": {"nvmlDeviceGetName": 30}}, program)
    assert machine["accelerators"] == []
    assert machine["host"]["ram_total_bytes"] > 0
    assert reports(machine)["nvidia"]["status"] == "timeout"


EXPORTED = re.compile(r"^(?:result|const char \*) ?(nvml\w+)\(|^FIELD\((nvml\w+),", re.MULTILINE)
FUNCTIONS = sorted(
    {first or second for first, second in EXPORTED.findall(SOURCE.read_text("utf-8"))}
    - {"nvmlErrorString", "nvmlDeviceGetAttributes_v2", "nvmlSystemGetProcessName"}
)
# Called for each MIG slice, process and NVLink only.
HANGS = (
    "import json, os, sys, time\n"
    "from willitrun.hardware import nvml\n"
    "nvml._PATIENCE_SECONDS = float(sys.argv[1])\n"
    "from willitrun.hardware.detection import detect\n"
    "detect(probes=['ram'])\n"
    "began = time.monotonic(); machine = detect(); first = time.monotonic() - began\n"
    # While the driver hangs, nobody waits for it a second time.
    "began = time.monotonic(); again = detect(); second = time.monotonic() - began\n"
    "assert [d.memory_total_bytes for d in again.accelerators] == [d.memory_total_bytes for d in machine.accelerators]\n"
    "print(json.dumps({'first': first, 'second': second, 'machine': machine.model_dump(mode='json')}))\n"
    "sys.stdout.flush(); os._exit(0)\n"
)


def test_the_stub_plays_every_function_that_is_called() -> None:
    assert len(FUNCTIONS) >= 30


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wherever_the_driver_hangs_the_rest_is_told_in_time(with_stub: Any, function: str) -> None:
    """What was read before is kept, and what hangs is reported. The patience is shortened for the sake of the clock."""
    parts = slice_("NVIDIA GeForce RTX 4090 MIG 1g.5gb", 4864, 14)
    cards = card(nvlinks=["switch", "00000000:02:00.0"]), card(mig=[1, 1], mig_most=1, slices=[parts])
    told = with_stub({**driver(*cards), "slow": {function: 60}}, HANGS, arguments=["0.3"])
    machine = told["machine"]
    assert told["first"] < 2.0
    assert told["second"] < 0.5
    assert machine["host"]["ram_total_bytes"] > 0
    late = [report for report in machine["probes"] if report["status"] == "timeout"]
    # Closing the library comes last: nothing is missing then.
    assert late or function == "nvmlShutdown"
    for device in machine["accelerators"]:
        assert device["memory_total_bytes"] in (None, 24564 * MIB, 4864 * MIB)
        assert device["accelerator"]["id"].startswith(("nvidia-geforce-rtx-4090", "derived-"))
    if function == "nvmlShutdown":
        assert len(machine["accelerators"]) == 2


def test_one_hung_call_does_not_cost_the_other_cards_in_five_seconds(with_stub: Any) -> None:
    """With the patience that users have: both cards are there, with their memory."""
    told = with_stub(
        {**driver(card(), card()), "slow": {"nvmlDeviceGetMemoryBusWidth": 60}}, HANGS, arguments=["3.5"]
    )
    assert 3.5 <= told["first"] < 5.0
    machine = told["machine"]
    assert [device["memory_total_bytes"] for device in machine["accelerators"]] == [24564 * MIB] * 2
    assert [device["memory_free_bytes"] for device in machine["accelerators"]] == [20 * GIB] * 2
    assert {device["accelerator"]["id"] for device in machine["accelerators"]} == {"nvidia-geforce-rtx-4090"}
    assert reports(machine)["nvml.device0.slow"]["status"] == "timeout"


def test_many_threads_share_one_reading(with_stub: Any) -> None:
    program = (
        "import json, threading\n"
        "from willitrun.hardware.detection import detect\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(len(detect().accelerators))) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; print(json.dumps(found))\n"
    )
    assert with_stub({**driver(card()), "slow": {"nvmlDeviceGetName": 1}}, program) == [1] * 8


def test_a_reading_can_be_repeated_after_a_fork(with_stub: Any) -> None:
    program = (
        "import json, os\n"
        "from willitrun.hardware.nvml import read_nvml\n"
        "read_nvml(); read, write = os.pipe(); child = os.fork()\n"
        "if child == 0:\n"
        "    os.write(write, json.dumps(read_nvml()).encode()); os._exit(0)\n"
        "os.waitpid(child, 0); print(os.read(read, 1 << 16).decode())\n"
    )
    read = with_stub(
        driver(card()),
        program.replace("import json", "import warnings; warnings.simplefilter('ignore'); import json"),
    )
    assert read["status"] == "ok"


@pytest.mark.parametrize("reading", ["memory_v2", "addressing_mode", "chip_to_chip", "virtualization"])
def test_a_driver_that_knows_other_versions_of_a_structure(detected: Any, reading: str) -> None:
    machine = detected(driver(card(**{reading: {"error": "ArgumentVersionMismatch"}})))
    [device] = machine["accelerators"]
    assert device["accelerator"]["id"] == "nvidia-geforce-rtx-4090"
    assert (device["memory_total_bytes"], device["memory_free_bytes"]) == (24564 * MIB, 20 * GIB)
    assert device["memory_reserved_bytes"] == (None if reading == "memory_v2" else 400 * MIB)


def test_memory_whose_parts_do_not_add_up_is_not_called_free(detected: Any) -> None:
    memory = {"total": 24564 * MIB, "free": 0, "used": GIB, "reserved": 2}
    [device] = detected(driver(card(memory_v2=memory)))["accelerators"]
    # The first version of the call counts as used what the driver reserves.
    assert (device["memory_free_bytes"], device["memory_reserved_bytes"]) == (20 * GIB, None)
    machine = detected(driver(card(memory_v2=memory, memory_v1={"total": 24564 * MIB, "free": 5, "used": 9})))
    [device] = machine["accelerators"]
    assert device["memory_total_bytes"] == 24564 * MIB
    assert device["memory_free_bytes"] is None
    assert device["memory_reserved_bytes"] is None
    assert "add up" in reports(machine)["nvml.device0.free"]["reason"]


def test_a_superchip_that_refuses_does_not_compute_out_of_the_hosts_memory(detected: Any) -> None:
    refused = {"error": "NotSupported"}
    superchip = card(
        name="NVIDIA GH200 480GB",
        compute_capability=[9, 0],
        addressing_mode=2,
        memory_v1=refused,
        memory_v2=refused,
    )
    [device] = detected(driver(superchip))["accelerators"]
    assert device["shares_host_memory"] is False
    assert device["memory_total_bytes"] is None


def test_a_virtual_gpu_is_known_by_its_name_as_well(detected: Any) -> None:
    grid = card(
        name="GRID T4-16Q",
        virtualization={"error": "NotSupported"},
        pci={"id": "10de:1eb8", "address": "00000000:01:00.0"},
    )
    [device] = detected(driver(grid))["accelerators"]
    assert device["virtual"] is True
    assert device["identity"] == "derived"
    # Its bus is that of the whole card: how much of it this share gets is not told.
    assert device["memory_bandwidth_bytes_per_s"] is None


def test_wsl_keeps_its_library_elsewhere(with_stub: Any, stub: Path) -> None:
    program = (
        "import json, sys\n"
        "from willitrun.hardware import nvml\n"
        "nvml._WSL_LIBRARY = sys.argv[1] + '/libnvidia-ml.so.1'\n"
        "print(json.dumps(nvml.read_nvml()))\n"
    )
    readings = driver(card())
    read = with_stub(readings, program, arguments=[str(stub)], on_path=False)
    assert read["status"] == "ok"
    assert read["devices"][0]["name"] == "NVIDIA GeForce RTX 4090"
    without = with_stub(readings, program, arguments=["/nowhere"], on_path=False)
    assert without["status"] in ("LibraryNotFound", "ok")


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


def test_a_reading_that_grows_while_it_is_copied_is_copied_again() -> None:
    from willitrun.hardware import nvml

    found: dict[str, Any] = {}

    class Slow:
        def __deepcopy__(self, memo: dict[int, Any]) -> str:
            found["driver"] = "570.86"
            return "ok"

    found |= {"status": Slow(), "devices": []}
    reading = nvml._Reading.__new__(nvml._Reading)
    reading._found = found
    assert reading._snapshot() == {"status": "ok", "devices": [], "driver": "570.86"}
