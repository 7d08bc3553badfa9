"""The measurement tables: complete tuples, licences, commands, and the physics gate; the ladder of evidence."""

from __future__ import annotations

from collections import Counter

import pytest

from willitrun import Workload, estimate_speed, load_catalog
from willitrun.estimators.calibration_rows import compare
from willitrun.estimators.evidence import nearest_measurement
from willitrun.records.measurements import Measurement

LICENCES = {"MIT", "Apache-2.0", "CC-BY-4.0", "BSD-3-Clause"}
LANGUAGE = ("decode_tokens_per_s", "prefill_tokens_per_s", "time_per_output_token_s")


@pytest.fixture(scope="module")
def rows() -> list[Measurement]:
    return list(load_catalog().measurements.values())


def test_language_rows_are_complete(rows: list[Measurement]) -> None:
    found = [row for row in rows if row.metric in LANGUAGE]
    assert len(found) >= 200
    assert len({row.source_url for row in found}) >= 6
    catalog = load_catalog()
    for row in found:
        assert row.model in catalog.models, row.id
        assert row.accelerator in catalog.accelerators, row.id
        assert row.quantization in catalog.quantizations, row.id
        assert row.runtime in catalog.runtimes, row.id
        assert None not in (row.prompt_tokens, row.output_tokens, row.cached_tokens, row.concurrency), row.id
        assert row.licence in LICENCES, row.id
        assert row.command, row.id
        assert row.date or row.runtime_version, row.id


def test_every_row_passes_the_physics_gate(rows: list[Measurement]) -> None:
    language = [row for row in rows if row.metric in LANGUAGE]
    refused = {
        found.measurement.id: found.refused for found in compare(language, load_catalog()) if found.refused
    }
    assert not refused


def test_no_study_crowds_out_the_others(rows: list[Measurement]) -> None:
    counts = Counter(
        (row.source_url.partition("/blob/")[0], row.accelerator, row.accelerator_count)
        for row in rows
        if row.metric in LANGUAGE
    )
    assert max(counts.values()) <= 72


def test_the_ladder_of_evidence() -> None:
    catalog = load_catalog()
    row = next(
        found for found in catalog.measurements.values()
        if found.runtime == "llama.cpp" and found.metric == "decode_tokens_per_s" and found.accelerator == "nvidia-gb10-dgx-spark"
    )  # fmt: skip

    def level(**changes: object) -> str:
        wanted = {"model": row.model, "accelerator": row.accelerator, "metric": row.metric, "runtime": row.runtime,
                  "quantization": row.quantization, "concurrency": 1} | changes  # fmt: skip
        return nearest_measurement(catalog, **wanted).level  # type: ignore[arg-type]

    assert level() == "exact"
    assert level(quantization="q3_k_m") == "device-and-model"
    family = catalog.models[row.model].family
    measured = {
        found.model for found in catalog.measurements.values() if found.accelerator == row.accelerator
    }
    sibling = next(
        name
        for name in catalog.models
        if catalog.models.raw(name).get("family") == family and name not in measured
    )
    assert level(model=sibling) == "model-family"
    assert level(accelerator="nvidia-geforce-rtx-3060-12gb") == "none"


def test_a_verdict_near_a_measurement_cites_it() -> None:
    row = next(
        found
        for found in load_catalog().measurements.values()
        if found.id.startswith("rtx-4070-laptop-llama.cpp")
    )
    speed = estimate_speed(
        row.model,
        row.accelerator,
        Workload(prompt_tokens=1, output_tokens=128),
        quantization=row.quantization,
        runtime="llama.cpp",
    )
    assert speed.evidence in ("measured", "measured-near")
    assert any(row.source_url in term.cites for term in speed.terms)
