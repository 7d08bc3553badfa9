"""Every capture gives the machine that is written beside it; broken ones never raise and never invent a number."""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from willitrun import load_catalog
from willitrun.errors import WillItRunError
from willitrun.hardware.assembly import assemble
from willitrun.hardware.captures import FORMAT, anonymous_readings, from_capture, record_capture, to_capture
from willitrun.hardware.derivation import is_derived
from willitrun.hardware.disk import probe_disk
from willitrun.hardware.probes import run_probes, standard_probes
from willitrun.hardware.surroundings import RecordedSurroundings
from willitrun.records.machines import InstalledAccelerator, Machine

FOLDER = Path(__file__).parent.parent / "captures"
CAPTURES = sorted(FOLDER.glob("*.json"))


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    document = json.loads(path.read_text("utf-8"))
    return document["capture"], document["expected"]


def shown(device: InstalledAccelerator, field: str) -> Any:
    record = device.accelerator
    special = {
        "id": record.id,
        "id_prefix": record.id,
        "record_bandwidth": record.memory_bandwidth,
        "fp16_tensor": record.peaks.fp16_tensor,
    }
    value = special[field] if field in special else getattr(device, field)
    return list(value) if isinstance(value, tuple) else value


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and found is not None:
        return math.isclose(found, expected, rel_tol=1e-9)
    return bool(found == expected)


def check(machine: Machine, expected: dict[str, Any]) -> None:
    assert len(machine.accelerators) == len(expected["accelerators"]), machine
    for device, fields in zip(machine.accelerators, expected["accelerators"], strict=True):
        for field, value in fields.items():
            found = shown(device, field)
            if field == "id_prefix":
                assert str(found).startswith(value)
            else:
                assert same(found, value), (field, found, value, machine.probes)
    for field, value in expected.get("host", {}).items():
        found = getattr(machine.host, field)
        assert same(list(found) if isinstance(found, tuple) else found, value), (field, found, value)
    statuses = {report.probe: report.status for report in machine.probes}
    for probe, status in expected.get("reports", {}).items():
        assert statuses.get(probe) == status, (probe, statuses)
    if "links" in expected:
        assert [link.model_dump(mode="json") for link in machine.links] == expected["links"]
    versions = {entry.name: entry.version for entry in machine.software}
    for name, version in expected.get("software", {}).items():
        assert versions[name] == version


def test_there_are_captures() -> None:
    assert len(CAPTURES) >= 30


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_the_expected_machine(path: Path) -> None:
    capture, expected = load(path)
    check(from_capture(capture), expected)


@pytest.mark.parametrize(
    "path", [path for path in CAPTURES if "memory_v1" in path.read_text("utf-8")], ids=lambda p: p.stem
)
def test_the_same_through_ctypes(path: Path, with_stub: Any, read_program: str) -> None:
    """What the stub driver plays is read back through nvidia-ml-py, and gives the same machine."""
    capture, expected = load(path)
    given = capture["readings"]["nvml"][""]
    read = with_stub(given, read_program)
    replayed = copy.deepcopy(capture)
    replayed["readings"]["nvml"][""] = read
    check(from_capture(replayed), expected)


def on_linux(path: Path) -> bool:
    system = load(path)[0]["readings"].get("system", {}).get("", {})
    return bool(system.get("system") == "linux")


@pytest.mark.parametrize("path", [path for path in CAPTURES if on_linux(path)], ids=lambda path: path.stem)
def test_a_tree_of_files_says_the_same(path: Path, tmp_path: Path) -> None:
    """The sysfs and procfs part of a capture, written out as files and links and read through a root."""
    capture, _ = load(path)
    texts = capture["readings"].get("text", {})
    targets = capture["readings"].get("target", {})
    for link, target in sorted(targets.items()):
        (tmp_path / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        place = tmp_path / link.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(tmp_path / target.lstrip("/"))
    for name, text in texts.items():
        file = tmp_path / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    recorded = RecordedSurroundings({"text": texts, "target": targets, "system": {"": {"system": "linux"}}})
    machines = []
    for probes in (standard_probes(root=tmp_path), standard_probes(surroundings=recorded)):
        chosen = [probe for probe in probes if probe.name in ("amd", "intel", "cpu", "ram")]
        machines.append(assemble(run_probes(chosen, 10.0), source="capture", catalog=load_catalog()))
    live, replayed = machines
    assert live.host == replayed.host
    assert live.accelerators == replayed.accelerators


def test_a_machine_goes_through_a_capture_and_back() -> None:
    capture, _ = load(FOLDER / "rtx-4090-desktop.json")
    machine = from_capture(capture)
    data = json.loads(json.dumps(to_capture(machine)))
    again = from_capture(data)
    [device] = again.accelerators
    assert device.accelerator == machine.accelerators[0].accelerator
    assert again.host == machine.host
    assert [process.name for process in device.processes] == ["a process"]


def test_this_machine_can_be_recorded_and_replayed() -> None:
    from willitrun.hardware.detection import detect

    capture = record_capture()
    text = json.dumps(capture)
    replayed = from_capture(json.loads(text))
    detected = detect()
    assert replayed.host.ram_total_bytes == detected.host.ram_total_bytes
    assert replayed.host.cores == detected.host.cores
    assert replayed.host.instruction_sets == detected.host.instruction_sets
    assert len(replayed.accelerators) == len(detected.accelerators)


def test_readings_are_made_anonymous() -> None:
    asked: dict[str, dict[str, Any]] = {
        "text": {
            "/proc/version": "Linux version 6.1 (jane@build-host) (gcc 13)",
            "/proc/cpuinfo": "processor : 0\nSerial : 10000000abcdef\nModel : Pi",
            "/proc/self/cgroup": "0::/user.slice/user-1001.slice/docker-0123456789abcdef0123.scope",
            "/sys/fs/cgroup/user.slice/user-1001.slice/memory.max": "max",
        },
        "nvml": {"": {"devices": [{"processes": [{"pid": 77, "name": "secret-project", "used": 5}]}]}},
        "command": {
            "ioreg -rc AGXAccelerator -d 1": 'IOPlatformSerialNumber = "C02"\n "gpu-core-count" = 40'
        },
    }
    text = json.dumps(anonymous_readings(asked))
    for secret in ("jane", "build-host", "abcdef", "1001", "secret-project", "C02"):
        assert secret not in text, secret
    assert "gpu-core-count" in text
    assert '"used": 5' in text


def test_a_capture_names_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "someone" / "models"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
    text = json.dumps(record_capture())
    assert "someone" not in text
    assert "8932f937" not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"


@pytest.mark.parametrize(
    "data",
    [{}, {"format": "other"}, {"format": FORMAT}, {"format": FORMAT, "readings": []}, {"format": FORMAT, "x": 1},
     {"format": FORMAT, "machine": {"name": 5}}, {"format": FORMAT, "readings": {"text": "no"}}],
)  # fmt: skip
def test_what_is_no_capture_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(WillItRunError) as caught:
        from_capture(data)
    assert caught.value.code == "invalid-capture"


JUNK: tuple[Any, ...] = (
    None, -1, 0, 2**63, 2**64 - 1, 1.5, "", "nonsense", "\udcff", [], {}, [[]], True,
    {"error": "NotSupported"}, {"error": "FunctionNotFound"}, {"error": 5}, float("nan"), "0x7ffffffffffff000",
)  # fmt: skip


def spoil(value: Any, dice: random.Random, rate: float) -> Any:
    if dice.random() < rate:
        return dice.choice(JUNK)
    if isinstance(value, dict):
        return {k: spoil(v, dice, rate) for k, v in value.items() if dice.random() > rate}
    if isinstance(value, list):
        return [spoil(part, dice, rate) for part in value]
    if isinstance(value, str) and dice.random() < rate:
        return value[: dice.randrange(len(value) + 1)]
    return value


def plausible(device: InstalledAccelerator) -> None:
    record = device.accelerator
    total, free = device.memory_total_bytes, device.memory_free_bytes
    assert total is None or 2**26 <= total < 2**50
    assert free is None or total is None or 0 <= free <= total
    for value, low, high in (
        (device.memory_bandwidth_bytes_per_s, 1e9, 2e13),
        (device.compute_units, 1, 2048),
        (device.pcie_lanes, 1, 32),
        (device.pcie_generation, 1, 7),
        (device.power_limit_w, 1, 10_000),
    ):
        assert value is None or low <= value <= high
    bandwidth = device.memory_bandwidth_bytes_per_s
    if bandwidth is not None and record.memory_bandwidth is not None and not is_derived(record):
        assert abs(bandwidth / record.memory_bandwidth - 1) <= 0.15


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_spoilt_captures_never_raise_and_never_lie(path: Path, seed: int) -> None:
    capture, _ = load(path)
    dice = random.Random(f"{path.stem}-{seed}")
    for rate in (0.02, 0.1, 0.3):
        readings = {kind: spoil(answers, dice, rate) for kind, answers in capture["readings"].items()}
        readings = {kind: part for kind, part in readings.items() if isinstance(part, dict)}
        machine = from_capture({"format": FORMAT, "readings": readings})
        for device in machine.accelerators:
            plausible(device)
        # A crash inside a probe would be reported as such and hide in a green test.
        for report in machine.probes:
            assert "Error:" not in report.reason or report.probe.startswith("nvml"), report


DRIVER_JUNK: tuple[Any, ...] = (
    *({"error": name} for name in ("NotSupported", "FunctionNotFound", "Unknown", "NoPermission", "Timeout",
                                   "ArgumentVersionMismatch", "GpuIsLost")),
    0, 2**31, 2**32 - 1, 2**63, 2**64 - 1, -1, "", "x" * 200, "\x01\x02",
)  # fmt: skip
READ_ALL = (
    "import json, os, sys; from pathlib import Path; from willitrun.hardware.nvml import read_nvml\n"
    "def read(path):\n"
    "    os.environ['NVML_STUB'] = str(path); return read_nvml()\n"
    "print(json.dumps([read(path) for path in sorted(Path(sys.argv[1]).iterdir())]))\n"
)


def test_no_answer_of_a_driver_makes_a_number_up(with_stub: Any, as_script: Any, tmp_path: Path) -> None:
    """Hundreds of spoilt drivers through ctypes: a field is the true one or unknown, a device itself or derived."""
    scripts, cases = tmp_path / "drivers", []
    scripts.mkdir()
    for path in CAPTURES:
        capture, _ = load(path)
        given = capture["readings"].get("nvml", {}).get("", {})
        true = from_capture(capture)
        for seed in range(20 if given.get("status") == "ok" else 0):
            dice = random.Random(f"{path.stem}-{seed}")
            spoilt = copy.deepcopy(given)
            spoilt["devices"] = [_spoil_device(device, dice) for device in given["devices"]]
            (scripts / f"{len(cases):05}.txt").write_text(as_script(spoilt), "utf-8")
            cases.append((capture, true))
    assert len(cases) > 300
    for (case, true), answers in zip(cases, with_stub({}, READ_ALL, arguments=[str(scripts)]), strict=True):
        replayed = copy.deepcopy(case)
        replayed["readings"]["nvml"][""] = answers
        machine = from_capture(replayed)
        if any(device.virtual for device in true.accelerators) and not _still_virtual(answers):
            continue
        assert not [report for report in machine.probes if report.probe == "nvidia"]
        if len(machine.accelerators) != len(true.accelerators):
            # A device that is lost, or whose MIG mode or slices are, is missing or whole.
            assert any(report.status in ("failed", "timeout", "absent") for report in machine.probes)
            continue
        for found, was in zip(machine.accelerators, true.accelerators, strict=True):
            assert found.accelerator.id == was.accelerator.id or is_derived(found.accelerator)
            for field in TELLING:
                value = getattr(found, field)
                # Without its address the bridges above a card are not seen; what NVML says of the link remains.
                blind = field.startswith("pcie_") and found.pci_id != was.pci_id
                assert blind or value in (None, getattr(was, field)), (
                    field,
                    value,
                    getattr(was, field),
                    answers,
                )


def _still_virtual(answers: dict[str, Any]) -> bool:
    """Whether anything still says that this is a share of a card; a T4-16Q has the PCI id and the memory of a T4."""
    device = answers["devices"][0]
    return device.get("virtualization") == 2 or "-16Q" in str(device.get("name"))


TELLING = (
    "memory_total_bytes", "memory_free_bytes", "memory_reserved_bytes", "memory_bus_width_bits", "memory_clock_hz",
    "pcie_generation", "pcie_lanes", "power_limit_w", "mig_profile",
)  # fmt: skip


def _spoil_device(device: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """A device some of whose readings are errors or no number that hardware has; each list and group as a whole or in part."""
    spoilt = {}
    for key, value in device.items():
        if dice.random() < 0.25:
            spoilt[key] = dice.choice(DRIVER_JUNK)
        elif isinstance(value, dict) and "error" not in value and dice.random() < 0.25:
            part = dice.choice(sorted(value))
            spoilt[key] = {**value, part: dice.choice(DRIVER_JUNK)}
        else:
            spoilt[key] = value
    return spoilt


def read(document: dict[str, Any], *, without: tuple[str, ...]) -> Machine:
    """The machine of a capture of which one reading was lost: refused by NVML, or a file that is not there."""
    capture = copy.deepcopy(document)
    *folders, last = without
    place = capture["readings"]
    for folder in folders:
        place = place[int(folder) if folder.isdigit() else folder]
    if folders[0] == "nvml":
        place[last] = {"error": "NotSupported"}
    else:
        del place[last]
    return from_capture(capture)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_lost_reading_never_makes_another_card(path: Path) -> None:
    """Whatever single reading NVML refuses, a field keeps its value, is unknown, or a report says what is wrong."""
    capture, _ = load(path)
    whole = from_capture(capture)
    for index, device in enumerate(capture["readings"].get("nvml", {}).get("", {}).get("devices", ())):
        for reading in device:
            machine = read(capture, without=("nvml", "", "devices", str(index), reading))
            if len(machine.accelerators) != len(whole.accelerators):
                # Without its MIG mode a card is whole; without its slices or its handle it is gone, and said so.
                assert reading in ("mig", "slices", "handle"), reading
                continue
            for found, true in zip(machine.accelerators, whole.accelerators, strict=True):
                assert found.accelerator.id == true.accelerator.id or is_derived(found.accelerator)
                for field in (
                    "memory_total_bytes",
                    "memory_bandwidth_bytes_per_s",
                    "compute_units",
                    "compute_capability",
                    "pcie_lanes",
                    "power_limit_w",
                ):
                    value, before = getattr(found, field), getattr(true, field)
                    assert value is None or value == before, (reading, field, value, before)


@pytest.mark.parametrize(
    ("capture", "lost", "total"),
    [
        # Without its revision no record describes it; a 4 GB card in a large host is still no APU.
        ("rx-570-4gb-in-128gb", "/sys/class/drm/card0/device/revision", 4 << 30),
        ("unknown-apu", "/sys/class/drm/card0/device/mem_info_gtt_total", 512 << 20),
    ],
)
def test_a_card_whose_kind_is_open_is_counted_with_its_own_memory(
    capture: str, lost: str, total: int
) -> None:
    machine = read(load(FOLDER / f"{capture}.json")[0], without=("text", lost))
    [device] = machine.accelerators
    assert device.memory_total_bytes == total
    assert not device.shares_host_memory
    said = {report.probe.rpartition(".")[2]: report.status for report in machine.probes}
    assert "not-supported" in (said.get("kind"), said.get("gtt"))


def test_what_a_group_has_used_is_not_taken_for_nothing() -> None:
    capture, _ = load(FOLDER / "cgroup-v1-docker.json")
    machine = read(capture, without=("text", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))
    assert any(report.probe == "cgroup.used" for report in machine.probes)


def test_models_of_a_service_lie_where_the_service_keeps_them() -> None:
    service = "/usr/share/ollama/.ollama/models"
    recorded = {
        "names": {service: []},
        "environment": {"XDG_CACHE_HOME": "/big/cache"},
        "disk": {service: 7 << 30, "/big/cache/huggingface/hub": 9 << 30},
    }
    found = probe_disk(RecordedSurroundings(recorded))
    assert found.host["disk_free_bytes"] == 9 << 30
    assert [report.reason for report in found.reports if report.probe == "disk.ollama"] == ["7 GiB free"]
