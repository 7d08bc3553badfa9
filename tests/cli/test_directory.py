"""Cards, drafts, differences and the upkeep report on the command line."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from typer.testing import CliRunner, Result

from willitrun.catalog import load_catalog, open_catalog
from willitrun.catalog.indexing import build_index
from willitrun.cli.app import app
from willitrun.records.models import Model

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def older(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogs with one device slower, one device missing and one renamed source."""
    root = tmp_path_factory.mktemp("older") / "catalogs"
    shutil.copytree(repository / "catalogs", root)
    file = root / "accelerators" / "nvidia-geforce.toml"
    text = file.read_text("utf-8")
    head, _, rest = text.partition('id = "nvidia-geforce-rtx-4090"\n')
    old = 'memory_bandwidth = { value = 1008, unit = "GB/s" }'
    assert old in rest
    file.write_text(
        head + 'id = "nvidia-geforce-rtx-4090"\n' + rest.replace(old, 'memory_bandwidth = { value = 504, unit = "GB/s" }', 1),
        "utf-8",
    )  # fmt: skip
    other = root / "accelerators" / "other.toml"
    parts = other.read_text("utf-8").split("[[accelerator]]")
    other.write_text(
        "[[accelerator]]".join(part for part in parts if 'id = "google-tpu-v2"' not in part), "utf-8"
    )
    build_index(root)
    return root


def test_a_card_shows_facts_sources_names_and_verdicts() -> None:
    done = run("card", "rtx-3060-12gb", "--workload", "chat-7b", "--json")
    assert done.exit_code == 0, done.output
    card = json.loads(done.stdout)
    facts = {fact["field"]: fact for fact in card["facts"]}
    assert facts["memory_bandwidth"]["text"] == "360 GB/s"
    assert all(fact["sources"] for fact in card["facts"])
    assert "NVIDIA GeForce RTX 3060" in card["names"]
    assert card["confused_with"] == ["nvidia-geforce-rtx-3060-8gb"]
    assert [(chip["workload"], chip["answer"]) for chip in card["chips"]] == [("chat-7b", "yes")]
    assert card["chips"][0]["rate"] > 7


def test_a_card_reads_well_and_refuses_unknown_names() -> None:
    text = run("card", "rtx-4090", "--bare").stdout
    assert text.startswith("NVIDIA GeForce RTX 4090")
    assert "Goes by" in text
    assert "Runs" not in text
    done = run("card", "rtx-4091")
    assert done.exit_code == 2
    assert "rtx-4090" in done.stderr


def test_a_config_becomes_a_draft(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG), "utf-8")
    done = run(
        "catalog", "new", "model", str(file), "--repository", "me/My-8B-Instruct", "--source", "my-config"
    )
    assert done.exit_code == 0, done.output
    record = Model.model_validate(tomllib.loads(done.stdout)["model"][0])
    assert (record.id, record.parameters) == ("my-8b", 8_030_261_248)
    assert record.citations("parameters")[0].source == "my-config"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [("[]", 2, "no mapping"), ("{", 2, "no config.json"), ('{"model_type": "martian"}', 1, "martian")],
)
def test_a_bad_config_is_one_clear_line(tmp_path: Path, text: str, code: int, said: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, "utf-8")
    done = run("catalog", "new", "model", str(file), "--repository", "me/x", "--source", "s")
    assert done.exit_code == code
    assert said in done.stderr
    assert done.stdout == ""


def test_differences_name_record_and_field(older: Path) -> None:
    found = open_catalog(older).diff(load_catalog())
    told = {(change.what, change.id): change for change in found.changes}
    assert ("added", "google-tpu-v2") in told
    (field,) = told["changed", "nvidia-geforce-rtx-4090"].fields
    assert (field.field, field.old["value"], field.new["value"]) == ("memory_bandwidth", 504, 1008)
    assert len(found.changes) == 2
    assert not open_catalog(older).diff(load_catalog(), kinds=("model",)).changes
    done = run("catalog", "diff", str(older))
    assert done.exit_code == 1
    assert "memory_bandwidth: 504 GB/s -> 1008 GB/s" in done.stdout
    assert run("catalog", "diff", str(older), "--kind", "martian").exit_code == 2
    assert run("catalog", "diff", str(older.parent)).exit_code == 1  # a checkout is as good as its catalogs
    assert run("catalog", "diff", str(older / "models")).exit_code == 2


def test_changes_reach_the_verdicts(older: Path) -> None:
    done = run("changes", str(older), "current", "--json")
    assert done.exit_code == 0, done.output
    digest = json.loads(done.stdout)
    moved = [
        verdict
        for verdict in digest["verdicts"]
        if verdict["machine"] in ("rtx-4090", "nvidia-geforce-rtx-4090")
    ]
    assert any(verdict["workload"] == "chat-7b" for verdict in moved)
    assert all("4090" in verdict["machine"] for verdict in digest["verdicts"])
    text = run("changes", str(older), "--no-verdicts").stdout
    assert "Hardware: 2" in text


def test_the_report_counts_what_rests_on_one_source() -> None:
    done = run("catalog", "report", "--json")
    report = json.loads(done.stdout)
    key = "accelerator.memory_bandwidth"
    assert 0 < report["single_source"][key] < report["facts"][key]
    assert report["doubts"]
    assert not any(source["stale"] for source in report["sources"])
    old = json.loads(run("catalog", "report", "--stale-days", "-1", "--json").stdout)
    assert all(source["stale"] for source in old["sources"])


def test_sources_say_what_rests_on_them() -> None:
    done = run("catalog", "sources", "cpufp")
    assert done.exit_code == 0
    assert "host:broadcom-bcm2712" in done.stdout
    assert run("catalog", "sources", "no-such-source").exit_code == 2
