"""import-linter guards the floors, and it does catch a wrong import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

FAULTS = {
    "a floor that imports a higher one": (
        "kernels/smoothing.py",
        "from willitrun.records.results import Reason",
    ),
    "records that reach into the estimators": ("records/results.py", "import willitrun.estimators.memory"),
    "estimators that import the verdict": ("estimators/memory.py", "import willitrun.verdicts"),
    "siblings on one floor": ("hardware/disk.py", "import willitrun.checkpoints.gguf"),
    "kernels with pydantic": ("kernels/smoothing.py", "import pydantic"),
    "an optional package below interop": ("planning/tables.py", "import pandas"),
    "a probe outside hardware": ("estimators/memory.py", "import psutil"),
    "something that imports the command line": ("interop/tracing.py", "import willitrun.cli.app"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
    )


@pytest.fixture(scope="module")
def copy(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its contracts, elsewhere."""
    folder = tmp_path_factory.mktemp("layers")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(repository / "src" / "willitrun", folder / "src" / "willitrun", ignore=ignore)
    shutil.copy(repository / ".importlinter", folder)
    return folder


def test_the_package_keeps_its_floors(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_planted_import_is_caught(copy: Path, fault: str) -> None:
    name, line = FAULTS[fault]
    path = copy / "src" / "willitrun" / name
    before = path.read_text("utf-8")
    try:
        path.write_text(f"{before}\n{line}\n", "utf-8")
        done = lint(copy)
    finally:
        path.write_text(before, "utf-8")
    assert done.returncode != 0, done.stdout
    assert "1 broken" in done.stdout or "2 broken" in done.stdout


def test_a_new_module_needs_a_floor(copy: Path) -> None:
    path = copy / "src" / "willitrun" / "helpers.py"
    try:
        path.write_text('"""Nowhere."""\n', "utf-8")
        done = lint(copy)
    finally:
        path.unlink()
    assert done.returncode != 0, done.stdout
