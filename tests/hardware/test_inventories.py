"""Inventories: captures, descriptions and build strings; and what `willitrun fleet` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from willitrun import WillItRunError, Workload, assess, describe_machine
from willitrun.hardware.inventories import read_inventory

LINES = """# laptops
{"name": "anna", "accelerators": ["rtx-4090"], "host": {"ram": "64 GiB"}}

name=ben&gpu=rtx-3060-12gb&ram=16 GiB
{"name": "ben", "accelerators": ["gtx-1080-ti"]}
{"name": "emil", "accelerators": [], "host": {"ram": "8 GiB", "memory": "ddr5-5600-dual"}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.jsonl"
    path.write_text(LINES, encoding="utf-8")
    return path


def test_lines_and_folders(file: Path, tmp_path: Path) -> None:
    machines = read_inventory(file)
    assert [machine.name for machine in machines] == ["anna", "ben", "ben #2", "emil"]
    assert machines[1].accelerators[0].accelerator.id == "nvidia-geforce-rtx-3060-12gb"
    folder = tmp_path / "captures"
    folder.mkdir()
    for name, spec in (("one", "rtx-3090"), ("two", "m3-max-40gpu:64 GiB")):
        (folder / f"{name}.json").write_text(
            json.dumps(describe_machine(spec).to_capture()), encoding="utf-8"
        )
    again = read_inventory(folder)
    assert [machine.name for machine in again] == ["one", "two"]
    assert again[0].accelerators == describe_machine("rtx-3090").accelerators


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": 1}', "bad:1"),
        ("# none", "no machine"),
        ('{"name": "x"}\n{"accelerators": ["rtx-4091"]}', "bad:2"),
        ("{", "bad:1"),
        ("[" * 100_000, "bad:1"),
        ('{"name":' + "[" * 100_000, "bad:1"),
        ('{"format": "willitrun-capture-9"}', "bad:1"),
        ("nonsense", "bad:1"),
    ],
)
def test_what_is_wrong_says_where(text: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WillItRunError, match=where) as caught:
        read_inventory(path)
    assert caught.value.code == "invalid-inventory"
    with pytest.raises(WillItRunError, match="cannot be read"):
        read_inventory(tmp_path / "absent")


def test_the_fleet_command_says_what_assess_says(file: Path) -> None:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from willitrun.cli.app import app

    run = CliRunner().invoke(app, ["fleet", str(file), "-m", "llama-3.1-8b", "-m", "qwen3-32b", "--json"])
    assert run.exit_code == 0, run.output
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["machine"] for row in rows] == ["anna", "anna", "ben", "ben #2"]
    machines = {machine.name: machine for machine in read_inventory(file)}
    for row in rows:
        verdict = assess(
            row["model"], machines[row["machine"]], Workload(context_tokens=row["context_tokens"]),
            quantization=row["quantization"],
        )  # fmt: skip
        assert verdict.tier == row["tier"] == "comfortable"
        assert verdict.speed is not None
        assert verdict.speed.decode_tokens_per_s is not None
        assert row["decode_tokens_per_s"] == pytest.approx(verdict.speed.decode_tokens_per_s.best, rel=1e-9)
        assert row["decode_tokens_per_s"] >= 7.0
    text = CliRunner().invoke(app, ["fleet", str(file), "-m", "llama-3.1-8b"])
    assert "3 of 4 hosts" in text.output
    assert "fast enough on: emil" in text.output
    page = file.parent / "fleet.html"
    CliRunner().invoke(app, ["fleet", str(file), "-m", "llama-3.1-8b", "--most", "1", "--html", str(page)])
    shown = page.read_text(encoding="utf-8")
    assert "3 of 4 hosts" in shown
    assert "fast enough on: emil" in shown
    assert shown.count("<td>ben #2</td>") == 1  # a page shows every row, a terminal the first few
    none = CliRunner().invoke(app, ["fleet", str(file), "-m", "llama-3.3-70b", "--speed", "50"])
    assert none.exit_code == 1
    wrong = CliRunner().invoke(app, ["fleet", str(file), "-m", "llama-3.1-8b", "--tier", "splendid"])
    assert wrong.exit_code == 2
