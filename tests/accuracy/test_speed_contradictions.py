"""Rows of a source that contradict others of it are found in their columns, whatever is predicted."""

from __future__ import annotations

import pytest
from accuracy.speed import contradictions
from accuracy.speed.contradictions import contradicted

ROW = {
    "row_id": "", "source_id": "a", "source_repo_path": "repo:file.json#id=1", "device": "Card", "hardware_id": "card",
    "device_count": "1", "runtime": "llama.cpp", "backend": "cuda", "phase": "prefill", "model": "m", "model_norm": "m",
    "params_b": "8", "active_params_b": "", "quant": "Q4_K_M", "prompt_tokens": "512", "context_depth": "0",
    "batch_size_concurrency": "1", "metric_def": "pp", "value_tok_s": "4000", "cpu_offload_ngl": "all", "n_threads": "",
    "qc_flag": "", "notes": "",
}  # fmt: skip


def rows(*changes: dict[str, str]) -> list[dict[str, str]]:
    return [
        ROW | {"row_id": str(n), "source_repo_path": f"repo#id={n}"} | change
        for n, change in enumerate(changes)
    ]


def test_a_figure_that_stands_under_two_formats_is_that_of_the_row_with_a_command() -> None:
    found = rows(
        {"value_tok_s": "2080.83"},
        {"value_tok_s": "2080.83", "quant": "Q4_K_XL", "notes": "cmd=llama-bench -m m-Q4_K_XL.gguf"},
        {"value_tok_s": "2080.84"},
    )
    assert contradicted(found) == {"0": contradictions.COPY}
    # Three digits agree by chance.
    assert contradicted(rows({"value_tok_s": "208.0"}, {"value_tok_s": "208"})) == {}


def test_a_prompt_is_read_faster_than_an_answer_is_written() -> None:
    run = {"source_repo_path": "repo#id=7"}
    slow = rows({"value_tok_s": "1.0"} | run, {"value_tok_s": "252.6", "phase": "decode"} | run)
    assert contradicted(slow) == {"0": contradictions.SLOW_PROMPT}
    apart = rows({"value_tok_s": "1.0"}, {"value_tok_s": "252.6", "phase": "decode"})
    assert contradicted(apart) == {}


@pytest.mark.parametrize(("value", "found"), [("604", True), ("2100", False)])
def test_arithmetic_of_a_device_is_that_of_the_other_models(value: str, found: bool) -> None:
    others = [{"params_b": "70", "value_tok_s": "700", "prompt_tokens": n} for n in ("512", "1024", "4096")]
    told = contradicted(rows(*others, {"quant": "F16", "value_tok_s": value}))
    assert told == ({"3": contradictions.SLOW_ARITHMETIC} if found else {})


def test_one_of_many_runs_of_a_configuration_stands_alone() -> None:
    decode = {"phase": "decode", "prompt_tokens": ""}
    values = [
        decode | {"value_tok_s": value, "metric_def": value} for value in ("36.6", "48.4", "37.8", "4.3")
    ]
    assert contradicted(rows(*values)) == {"3": contradictions.ALONE}
    # A deep context is another load.
    deep = [*values[:3], values[3] | {"context_depth": "65536"}]
    assert contradicted(rows(*deep)) == {}


def test_flagged_rows_take_no_part() -> None:
    assert contradicted(rows({"value_tok_s": "2080.83"}, {"value_tok_s": "2080.83", "qc_flag": "x;"})) == {}
