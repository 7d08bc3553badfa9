"""The tool that drafts a record from a specification sheet."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from willitrun.records.accelerators import Accelerator

SHEET = """\
Name: NVIDIA GeForce RTX 4090
GPU Name: AD102
Architecture: Ada Lovelace
Launch Date: 2022-10-12
Bus Interface: PCIe 4.0 x16
Boost Clock: 2520 MHz
Memory Clock: 1313 MHz, 21 Gbps effective
Memory Size\t24 GB
Memory Type\tGDDR6X
Memory Bus\t384 bit
Bandwidth   1.01 TB/s
SM Count: 128
RT Cores: 128
L2 Cache: 72 MB
FP32 (float): 82.58 TFLOPS
TDP: 450 W
CUDA: 8.9
"""


def _draft(tmp_path: Path, sheet: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "sheet.txt"
    file.write_text(sheet, "utf-8")
    options = ["--vendor", "nvidia", "--form", "desktop", "--source", "some-sheet", "--at", "page 3"]
    command = [sys.executable, "-m", "willitrun", "catalog", "new", "accelerator", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_a_draft_is_a_valid_record(tmp_path: Path) -> None:
    done = _draft(tmp_path, SHEET)
    record = Accelerator.model_validate(tomllib.loads(done.stdout)["accelerator"][0])
    assert record.id == "nvidia-geforce-rtx-4090"
    assert record.memory_marketed == 24 * 2**30
    assert record.memory_bandwidth == pytest.approx(1008e9)
    assert record.citations("memory_bandwidth")[0].basis == "derived"
    assert (record.compute_units, record.compute_capability, record.tdp) == (128, "8.9", 450)
    assert (record.pcie_generation, record.pcie_lanes) == (4, 16)
    assert record.peaks.fp32 == pytest.approx(82.58e12)
    assert record.citations("tdp")[0].at == "page 3"
    assert done.stderr.splitlines() == ["not read: RT Cores: 128"]


def test_a_contradiction_is_reported_and_not_resolved(tmp_path: Path) -> None:
    done = _draft(tmp_path, SHEET.replace("1.01 TB/s", "864 GB/s"))
    assert "contradiction: bandwidth: stated 864.0 GB/s, bus x data rate 1008.0 GB/s" in done.stderr
    record = Accelerator.model_validate(tomllib.loads(done.stdout)["accelerator"][0])
    assert record.memory_bandwidth == pytest.approx(864e9)
