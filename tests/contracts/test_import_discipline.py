"""Importing costs nothing, and prints nothing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "pydantic", "psutil", "pynvml", "rich", "typer", "platformdirs")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_import_loads_nothing_third_party() -> None:
    done = run(f"import sys, willitrun; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_dir_does_not_load_either() -> None:
    done = run(
        f"import sys, willitrun; dir(willitrun); print(any(name in sys.modules for name in {HEAVY!r}))"
    )
    assert done.stdout.strip() == "False"


def test_errors_and_intervals_need_no_pydantic() -> None:
    done = run("import sys; from willitrun import Interval, UnitError; print('pydantic' in sys.modules)")
    assert done.stdout.strip() == "False"
