"""A compiled stand-in for NVML, and captures to play through it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent / "stub_nvml" / "nvml_stub.c"
# nvml.h: nvmlReturn_t
CODES = {
    "Uninitialized": 1,
    "InvalidArgument": 2,
    "NotSupported": 3,
    "NoPermission": 4,
    "NotFound": 6,
    "DriverNotLoaded": 9,
    "Timeout": 10,
    "FunctionNotFound": 13,
    "GpuIsLost": 15,
    "LibRmVersionMismatch": 18,
    "ArgumentVersionMismatch": 25,
    "Unknown": 999,
}


def flatten(readings: dict[str, Any]) -> str:
    """NVML readings of a capture as the stub's text file."""
    lines: list[str] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and set(value) == {"error"}:
            lines.append(f"{prefix} error:{CODES[value['error']]}")
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{prefix}.{key}" if prefix else key, part)
        elif isinstance(value, list):
            for index, part in enumerate(value):
                walk(f"{prefix}.{index}", part)
        elif value is not None:
            lines.append(f"{prefix} {value}")

    given = dict(readings)
    status = given.pop("status", "ok")
    if status != "ok":
        lines.append(f"init error:{CODES[status]}")
    given.setdefault("count", len(given.get("devices", [])))
    walk("", given)
    return "\n".join(lines) + "\n"


def compile_stub(folder: Path, *flags: str) -> Path:
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        reason = "no C compiler for the NVML stub" if compiler is None else "the NVML stub is built on Linux"
        if os.environ.get("WILLITRUN_REQUIRE_STUB") == "1":
            pytest.fail(f"{reason}, and WILLITRUN_REQUIRE_STUB=1 asks for it")
        pytest.skip(reason)
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [
            compiler,
            "-O1",
            "-Wall",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libnvidia-ml.so.1",
            *flags,
            "-o",
            str(target),
            str(SOURCE),
        ],
        check=True,
    )
    return folder


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the stub as a current driver would be."""
    return compile_stub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a stub that lacks the symbols old drivers lack."""
    return compile_stub(tmp_path_factory.mktemp("nvml-old"), "-DNVML_STUB_OLD")


RunWithStub = Callable[..., Any]


@pytest.fixture
def with_stub(stub: Path, tmp_path: Path) -> RunWithStub:
    """Run a program in a fresh interpreter whose NVML is the stub; it prints JSON, which is returned."""

    def run(
        readings: dict[str, Any] | bytes,
        program: str,
        folder: Path | None = None,
        arguments: Sequence[str] = (),
        on_path: bool = True,
    ) -> Any:
        script = tmp_path / "nvml.txt"
        script.write_bytes(readings if isinstance(readings, bytes) else flatten(readings).encode())
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(folder or stub) if on_path else "",
            "NVML_STUB": str(script),
            "PYTHONWARNINGS": "error",
        }
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


READ = "import json; from willitrun.hardware.nvml import read_nvml; print(json.dumps(read_nvml()))"
DETECT = (
    "from willitrun.hardware.detection import detect\n"
    "print(detect(probes=['nvidia', 'ram'], timeout_s={timeout}).model_dump_json())"
)


@pytest.fixture
def as_script() -> Callable[[dict[str, Any]], str]:
    return flatten


@pytest.fixture
def read_program() -> str:
    return READ


@pytest.fixture
def detect_program() -> str:
    return DETECT.format(timeout=20)
