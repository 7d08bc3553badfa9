"""The shipped catalogs: every record valid, every fact cited, the index fresh."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from willitrun import AmbiguousNameError, CatalogInvalidError, UnknownIdError, load_catalog
from willitrun.catalog import Catalog
from willitrun.catalog.checking import CatalogReport, check_catalog
from willitrun.catalog.indexing import build_index


@pytest.fixture(scope="module")
def report() -> CatalogReport:
    return check_catalog(load_catalog())


def test_nothing_is_wrong(report: CatalogReport) -> None:
    assert report.problems == []


def test_every_fact_is_cited_after_load(report: CatalogReport) -> None:
    assert report.facts > 5000
    assert report.cited_facts == report.facts


@pytest.mark.parametrize(
    ("kind", "least"),
    [("accelerator", 350), ("host", 50), ("model", 400), ("quantization", 30), ("runtime", 15), ("glossary", 25),
     ("troubleshooting", 12), ("source", 50)],
)  # fmt: skip
def test_counts(report: CatalogReport, kind: str, least: int) -> None:
    assert report.counts[kind] >= least


def test_second_sources_are_counted(report: CatalogReport) -> None:
    for fact in ("accelerator.memory_bandwidth", "accelerator.peaks"):
        print(fact, report.two_sources[fact], "of", report.stated[fact], "have a second source")
        assert report.stated[fact] > 0


@pytest.fixture
def copy(tmp_path: Path, repository: Path) -> Path:
    root = tmp_path / "catalogs"
    shutil.copytree(repository / "catalogs", root)
    return root


def test_a_typo_names_file_record_and_field(copy: Path) -> None:
    file = next((copy / "accelerators").glob("nvidia-geforce.toml"))
    text = file.read_text("utf-8").replace("memory_bus_width_bits", "memory_bus_widht_bits", 1)
    file.write_text(text, "utf-8")
    build_index(copy)
    problems = check_catalog(Catalog(copy)).problems
    assert any(
        "accelerators/nvidia-geforce.toml" in line and "memory_bus_widht_bits" in line for line in problems
    )
    assert any("memory_bus_width_bits" in line for line in problems), "the hint suggests the right field"


def test_a_lost_citation_is_found(copy: Path) -> None:
    file = copy / "quantizations.toml"
    before, cite, after = file.read_text("utf-8").partition("[quantization.cite]\n")
    assert cite
    lost, start, rest = after.partition("[[quantization]]\n")
    assert "source" in lost
    file.write_text(before + start + rest, "utf-8")
    build_index(copy)
    found = check_catalog(Catalog(copy))
    assert any("quantizations.toml" in line and "no citation covers" in line for line in found.problems)


def test_a_stale_index_is_found(copy: Path) -> None:
    index = copy / "_index" / "accelerator" / "names.json"
    content = json.loads(index.read_text("utf-8"))
    content["names"]["my-card"] = ["nvidia-geforce-rtx-4090"]
    index.write_text(json.dumps(content), "utf-8")
    assert any("stale" in line for line in check_catalog(Catalog(copy)).problems)


def test_lookups() -> None:
    catalog = load_catalog()
    expected = "nvidia-geforce-rtx-4090"
    for name in ("rtx-4090", "RTX 4090", "NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090"):
        assert catalog.resolve("accelerator", name).id == expected
    with pytest.raises(UnknownIdError) as unknown:
        catalog.resolve("accelerator", "rtx-4909")
    assert unknown.value.suggestions
    with pytest.raises(AmbiguousNameError) as ambiguous:
        catalog.resolve("accelerator", "rtx-3060")
    assert set(ambiguous.value.candidates) >= {"nvidia-geforce-rtx-3060-12gb", "nvidia-geforce-rtx-3060-8gb"}


def test_overlay_records_do_not_leak() -> None:
    catalog = load_catalog()
    raw = dict(catalog.accelerators.raw("nvidia-geforce-rtx-4090")) | {"id": "my-card", "name": "My Card", "aliases": [],
                                                                      "os_names": [], "pci_ids": []}  # fmt: skip
    mine = catalog.with_records({"accelerator": {"my-card": raw}})
    assert mine.resolve("accelerator", "My Card").id == "my-card"
    assert "my-card" not in catalog.accelerators
    assert mine.digest != catalog.digest
    bad = catalog.with_records({"accelerator": {"bad": {"id": "bad"}}})
    with pytest.raises(CatalogInvalidError, match="accelerators/records added in memory: bad"):
        bad.accelerators["bad"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[accelerator]]\nid = 'my-card'\n", "my-card"),
        ("[[accelerator]]\nname = 'My Card'\n", "record 1: has no id"),
        ("[[accelerator\n", "is not valid TOML"),
        ("accelerator = 3\n", "must be an array of tables"),
    ],
)
def test_a_malformed_overlay_is_told_by_folder_and_file(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file name may lie in several overlays: the message says which one to mend."""
    for name, content in (("first", ""), ("second", text)):
        (tmp_path / name / "accelerators").mkdir(parents=True)
        (tmp_path / name / "accelerators" / "mine.toml").write_text(content, "utf-8")
    monkeypatch.setenv("WILLITRUN_CATALOGS", os.pathsep.join(str(tmp_path / n) for n in ("first", "second")))
    with pytest.raises(CatalogInvalidError) as caught:
        load_catalog(overlays="user")
    assert caught.value.file == f"{tmp_path}/second/accelerators/mine.toml"
    assert told in str(caught.value)
