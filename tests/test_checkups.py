"""The doctor's findings on captured machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from willitrun import load_catalog
from willitrun.checkups import DoctorReport, Finding, doctor
from willitrun.hardware.captures import from_capture
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import SoftwareVersion

FOLDER = Path(__file__).parent / "captures"


def examined(name: str, *software: SoftwareVersion) -> DoctorReport:
    capture = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["capture"]
    machine = from_capture(capture)
    return doctor(machine.model_copy(update={"software": (*machine.software, *software)}))


def by_code(report: DoctorReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in report.findings}


@pytest.mark.parametrize(
    ("capture", "code", "severity", "words"),
    [
        ("rtx-4090-desktop", "device-found", "good", "24 GiB"),
        ("nothing-answers", "no-accelerator", "note", "processor"),
        ("cgroup-v1-docker", "no-accelerator", "note", "no NVIDIA driver library"),
        ("rtx-4090-desktop", "host-found", "good", "of RAM"),
        ("container-without-gpus", "probe-failed", "problem", "container"),
        ("driver-not-loaded", "probe-failed", "problem", "driver"),
        ("rx-7900-xtx-no-render-group", "probe-denied", "problem", "render"),
        ("two-arc-b580-and-igpu", "probe-denied", "problem", "render"),
        ("a100-mig-without-slice", "mig-without-slice", "problem", "no slice"),
        ("a100-mig-two-slices", "mig-several-slices", "note", "one of them"),
        ("x4-slot", "pcie-narrow", "problem", "x4 of x16"),
        ("power-capped-3090", "power-capped", "note", "250 W of 350 W"),
        ("lost-gpu", "probe-failed", "problem", "GpuIsLost"),
        ("wsl2-rtx-4090", "wsl-memory", "note", "Windows"),
        ("cgroup-v2-nested", "cgroup-limit", "note", "32 GiB"),
        ("unknown-geforce", "device-unknown", "note", "derived"),
        ("strix-halo-96gib-carved", "device-found", "good", "256 GB/s"),
    ],
)
def test_what_it_says(capture: str, code: str, severity: str, words: str) -> None:
    found = by_code(examined(capture))
    assert code in found, sorted(found)
    assert found[code].severity == severity
    assert words in found[code].message


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path: Path) -> None:
    catalog = load_catalog()
    report = examined(path.stem)
    for finding in report.findings:
        assert finding.message.endswith("."), finding
        for reference in finding.see:
            kind, _, identifier = reference.partition(":")
            assert kind == "troubleshooting"
            assert identifier in catalog.troubleshooting


def test_a_cpu_build_on_a_gpu_box() -> None:
    report = examined("rtx-4090-desktop", SoftwareVersion(name="torch", version="2.8.0+cpu", detail="cpu"))
    assert not report.healthy
    assert "build for the CPU" in by_code(report)["torch-cpu-only"].message


def test_onnxruntime_without_its_gpu_package() -> None:
    plain = SoftwareVersion(name="onnxruntime", version="1.20.0")
    assert by_code(examined("rtx-4090-desktop", plain))["onnxruntime-cpu-only"].severity == "note"
    both = (plain, SoftwareVersion(name="onnxruntime-gpu", version="1.20.0"))
    assert "onnxruntime-cpu-only" not in by_code(examined("rtx-4090-desktop", *both))
    assert "onnxruntime-cpu-only" not in by_code(examined("raspberry-pi-5", plain))


@pytest.mark.parametrize(
    ("capture", "build", "expected"),
    [
        ("old-driver-470", "cu128", True),
        ("rtx-4090-desktop", "cu128", False),
        ("rtx-4090-desktop", "cu130", True),
    ],
)
def test_a_driver_older_than_the_build(capture: str, build: str, expected: bool) -> None:
    report = examined(capture, SoftwareVersion(name="torch", version=f"2.9.0+{build}", detail=build))
    assert ("driver-too-old" in by_code(report)) is expected


@pytest.mark.parametrize(
    ("capture", "build", "code", "see"),
    [
        ("rtx-4090-desktop", "cpu", "torch-cpu-only", "torch-without-cuda"),
        ("rx-7900-xtx-no-render-group", "cu128", "torch-other-vendor", "torch-without-cuda"),
        ("rtx-4090-desktop", "rocm6.4", "torch-other-vendor", "torch-without-cuda"),
        ("rx-7900-xtx-no-render-group", "rocm6.4", None, None),
        ("gb10-dgx-spark", "cu126", "torch-without-device-code", "no-kernel-image"),
        ("gb10-dgx-spark", "cu130", None, None),
        # A processor with graphics inside is no GPU box.
        ("raspberry-pi-5", "cpu", None, None),
    ],
)
def test_the_build_of_torch_suits_the_device(
    capture: str, build: str, code: str | None, see: str | None
) -> None:
    torch = SoftwareVersion(name="torch", version=f"2.8.0+{build}", detail=build)
    found = by_code(examined(capture, torch))
    about = {name for name in found if name.startswith("torch-")}
    assert about == ({code} if code else set())
    if code:
        assert found[code].severity == "problem"
        assert found[code].see == (f"troubleshooting:{see}",)


def test_cuda_13_holds_nothing_for_pascal() -> None:
    machine = describe_machine("gtx-1080-ti")
    torch = SoftwareVersion(name="torch", version="2.9.1", detail="cu13")
    found = by_code(doctor(machine.model_copy(update={"software": (torch,)})))
    assert "compute capability 6.1" in found["torch-without-device-code"].message


@pytest.mark.parametrize(
    ("card", "driver", "severity"),
    [
        ("rtx-3090", "470.256.02", "problem"),
        ("rtx-3090", "535.183.01", "note"),
        ("rtx-3090", "550.54.14", None),
        ("gtx-1080-ti", "550.54.14", "note"),
        ("gtx-1080-ti", "570.86.10", None),
    ],
)
def test_the_driver_that_ollama_asks_for(card: str, driver: str, severity: str | None) -> None:
    software = (SoftwareVersion(name="ollama"), SoftwareVersion(name="nvidia-driver", version=driver))
    found = by_code(doctor(describe_machine(card).model_copy(update={"software": software})))
    assert (found["driver-too-old"].severity if "driver-too-old" in found else None) == severity


@pytest.mark.parametrize(
    ("capture", "code", "entry"),
    [
        ("container-without-gpus", "probe-failed", "container-without-gpu"),
        ("driver-not-loaded", "probe-failed", "gpu-not-detected"),
        ("lost-gpu", "probe-failed", "gpu-fell-off-the-bus"),
        ("a100-mig-without-slice", "mig-without-slice", "mig-slice-too-small"),
        ("rx-7900-xtx-no-render-group", "probe-denied", "rocm-not-detected"),
        ("x4-slot", "pcie-narrow", "pcie-width"),
        ("wsl2-rtx-4090", "wsl-memory", "wsl-memory-limit"),
        ("cgroup-v1-docker", "no-accelerator", "container-without-gpu"),
        ("nothing-answers", "no-accelerator", "gpu-not-detected"),
        ("unknown-apu", "unified-budget-small", "integrated-gpu-small-carve-out"),
    ],
)
def test_a_finding_leads_to_its_own_entry(capture: str, code: str, entry: str) -> None:
    assert f"troubleshooting:{entry}" in by_code(examined(capture))[code].see


def test_wsl_without_a_gpu_points_to_windows() -> None:
    capture = json.loads((FOLDER / "wsl2-rtx-4090.json").read_text("utf-8"))["capture"]
    del capture["readings"]["nvml"]
    found = by_code(doctor(from_capture(capture)))["no-accelerator"]
    assert "Windows" in found.message
    assert found.see[0] == "troubleshooting:wsl-cuda-not-found"


def test_a_half_finished_update_is_named() -> None:
    capture = json.loads((FOLDER / "driver-not-loaded.json").read_text("utf-8"))["capture"]
    capture["readings"]["nvml"][""]["status"] = "LibRmVersionMismatch"
    found = by_code(doctor(from_capture(capture)))["probe-failed"]
    assert "restart" in found.message
    assert "troubleshooting:nvml-version-mismatch" in found.see


def test_problems_come_first_and_the_report_is_plain() -> None:
    report = examined("x4-slot")
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["problem", "note", "good"].index)
    assert report.summary().endswith("1 thing needs attention.")
    assert DoctorReport.model_validate_json(report.model_dump_json()) == report
    assert "<table>" in report._repr_html_()


def test_a_described_machine_is_healthy() -> None:
    report: Any = doctor(describe_machine("rtx-4090"))
    assert report.healthy


def test_this_machine() -> None:
    assert doctor().findings
