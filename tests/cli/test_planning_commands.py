"""The planning commands: text, JSON that meets the schema, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from typer.testing import CliRunner, Result

from willitrun.cli.app import app
from willitrun.records.builds import EffectiveMemory
from willitrun.records.costs import Cost
from willitrun.records.rankings import Chips, Comparison, RuntimeChoice, Scan, ScoreCard
from willitrun.records.recommendations import Recommendation
from willitrun.records.serving import BatchPlan, ServingPlan

CASES: list[tuple[list[str], type[Any], str]] = [
    (["scan", "--on", "rtx-3060-12gb", "-n", "5"], Scan, "models run comfortable"),
    (["chips", "--on", "rtx-3060-12gb"], Chips, "14B chat"),
    (["score", "llama-3.1-8b", "--on", "rtx-4090", "-q", "q4_k_m"], ScoreCard, "of 100"),
    (["best-runtime", "llama-3.1-8b", "--on", "rtx-3060-12gb", "-q", "q4_k_m"], RuntimeChoice, "llama.cpp"),
    (["compare", "rtx-4090", "rtx-3090,rtx-3090", "-m", "llama-3.3-70b", "-q", "q4_k_m"], Comparison, "2 x NVIDIA GeForce RTX 3090 wins 1 of 1"),
    (["recommend", "qwen3-32b", "-t", "decode_tokens_per_s=20", "-q", "q4_k_m", "--among", "rtx-4090", "--among", "rtx-3060-12gb", "--owned", "rtx-3060-12gb", "--price", "rtx-4090=1400"], Recommendation, "1,400 USD"),
    (["serve-plan", "llama-3.1-8b", "--on", "l4", "--rate", "1"], ServingPlan, "replicas"),
    (["batch-plan", "resnet-50", "--on", "rtx-4090", "--items", "1000"], BatchPlan, "1,000 images"),
    (["build", "--on", "rtx-4090"], EffectiveMemory, "effective"),
    (["cost", "llama-3.1-8b", "--on", "rtx-4090", "-q", "awq-int4", "--concurrency", "16", "--tokens", "0.05,0.08"], Cost, "break-even against api"),
]  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(("arguments", "record", "expected"), CASES, ids=[case[0][0] for case in CASES])
def test_a_page(arguments: list[str], record: type[Any], expected: str, tmp_path: Path) -> None:
    from html.parser import HTMLParser

    page = tmp_path / "page.html"
    done = run(*arguments, "--html", str(page))
    text = page.read_text(encoding="utf-8")
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            opened.append(tag)

    Tags().feed(text)
    assert opened.count("table") >= 1
    assert "tr" in opened
    assert "script" not in opened
    first = done.output.split("\n")[0][:30]
    assert first.split(" ")[0].strip() in text
    wrong = run(*arguments, "--html", str(tmp_path / "no" / "page.html"))
    assert wrong.exit_code == 2


@pytest.mark.parametrize(("arguments", "record", "expected"), CASES, ids=[case[0][0] for case in CASES])
def test_text_and_json(arguments: list[str], record: type[Any], expected: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert expected in re.sub(r"\s+", " ", done.stdout)
    assert done.stderr == ""
    as_json = run(*arguments, "--json")
    assert as_json.exit_code == 0, as_json.output
    value = json.loads(as_json.stdout)
    jsonschema.Draft202012Validator(record.model_json_schema(mode="serialization")).validate(value)
    assert record.model_validate(value).model_dump(mode="json") == value


def test_a_prior_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prior.json"
    file.write_text(json.dumps({"llama-3.2-1b": 1.0}), "utf-8")
    done = run("scan", "--on", "rtx-3060-12gb", "--prior", str(file), "--json")
    assert json.loads(done.stdout)["ranked"][0]["model"] == "llama-3.2-1b"
    file.write_text("[1]", "utf-8")
    assert run("scan", "--on", "rtx-3060-12gb", "--prior", str(file)).exit_code == 2


def test_exit_codes() -> None:
    assert run("best-runtime", "llama-3.1-405b", "--on", "rtx-3060-12gb").exit_code == 1
    wrong = run("compare", "rtx-4090", "-m", "llama-3.1-8b")
    assert wrong.exit_code == 2
    assert "two contenders" in wrong.stderr
    assert run("scan", "--on", "no-such-card").exit_code == 2
    assert run("recommend", "llama-3.1-405b", "--among", "rtx-3060-12gb", "-q", "bf16").exit_code == 1
    assert run("recommend", "llama-3.1-8b", "-t", "fast").exit_code == 2
    assert run("cost", "llama-3.1-8b", "--on", "rtx-4090", "--tokens", "1").exit_code == 2
