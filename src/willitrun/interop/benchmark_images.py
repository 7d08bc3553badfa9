"""Output of timm's ``benchmark.py`` and of optimum-benchmark.

Formats: https://github.com/huggingface/pytorch-image-models/blob/main/benchmark.py and
https://github.com/huggingface/optimum-benchmark (``benchmark.json``: a config and a report).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from willitrun.interop.benchmark_rows import MOST_ROWS, Subject, fail, parse_json, record
from willitrun.records.measurements import Measurement

__all__ = ["read_optimum", "read_timm"]

_SPEED = "infer_samples_per_sec"
_MARK = "--result"
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def read_timm(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """Inference rows of timm's benchmark: its CSV, or the JSON after ``--result``.

    The output does not say precision, layout and execution (``--amp``, ``--channels-last``, ``--torchcompile``):
    what the caller passes stands for all rows. Rows of models that failed carry no speed and are left out.
    """
    found = []
    for place, row in _timm_rows(text):
        if row.get("error") or not row.get(_SPEED):
            continue
        found.append(
            record(
                place,
                subject,
                metric="images_per_s",
                value=_number(place, row, _SPEED),
                model=str(row.get("model") or ""),
                runtime="pytorch",
                batch_size=int(_number(place, row, "infer_batch_size")),
                image_size=int(_number(place, row, "infer_img_size")),
            )
        )
    return tuple(found)


def _timm_rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    body = text.rpartition(_MARK)[2].strip() if _MARK in text else text.strip()
    if body[:1] in ("[", "{"):
        parsed = parse_json(body, "the result")
        rows = parsed if isinstance(parsed, list) else [parsed]
        start = 1
    else:
        rows = list(csv.DictReader(io.StringIO(body)))
        start = 2
    if len(rows) > MOST_ROWS:
        raise fail("the text", f"has {len(rows):,} rows.", f"Pass at most {MOST_ROWS:,}.")
    for number, row in enumerate(rows, start):
        if not isinstance(row, dict):
            raise fail(f"row {number}", "is no result.", "Pass timm's output as it was written.")
        yield f"row {number}", row


def _number(place: str, row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row[name])
    except (KeyError, TypeError, ValueError):
        raise fail(place, f"{name} is {row.get(name)!r}.", "Pass timm's output as it was written.") from None


def read_optimum(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """``benchmark.json`` of optimum-benchmark, or a list of them: forward, prefill and decode throughput."""
    parsed = parse_json(text, "the result")
    found: list[Measurement] = []
    for number, entry in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
        if number > MOST_ROWS:
            raise fail("the text", "has too many results.", f"Pass at most {MOST_ROWS:,}.")
        config, report = _part(entry, "config"), _part(entry, "report")
        if not report:
            raise fail(
                f"result {number}", "has no report.", "Pass benchmark.json, which holds config and report."
            )
        found += _optimum_rows(f"result {number}", config, report, subject)
    return tuple(found)


def _part(entry: Any, name: str) -> Mapping[str, Any]:
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}


def _optimum_rows(
    place: str, config: Mapping[str, Any], report: Mapping[str, Any], subject: Subject
) -> list[Measurement]:
    backend, shapes = _part(config, "backend"), _part(_part(config, "scenario"), "input_shapes")
    generation = _part(_part(config, "scenario"), "generate_kwargs")
    common: dict[str, Any] = {
        "model": backend.get("model"),
        "runtime": "transformers" if backend.get("name") == "pytorch" else backend.get("name"),
        "accelerator": _gpu(_part(config, "environment")),
    }
    batch = shapes.get("batch_size") or 1
    found = []
    task = backend.get("task")
    for stage, metric in (
        ("forward", "images_per_s"),
        ("prefill", "prefill_tokens_per_s"),
        ("decode", "decode_tokens_per_s"),
    ):
        rate = _part(_part(report, stage), "throughput").get("value")
        if rate is None or (stage == "forward") != (task == "image-classification"):
            continue
        if stage == "forward":
            more: dict[str, Any] = {
                "runtime": "pytorch" if backend.get("name") == "pytorch" else backend.get("name"),
                "batch_size": batch,
                "image_size": shapes.get("height"),
                "precision": _DTYPES.get(str(backend.get("torch_dtype") or "float32")),
                "execution": "compile" if backend.get("torch_compile") else "eager",
            }
        else:
            more = {
                "concurrency": batch,
                "prompt_tokens": shapes.get("sequence_length"),
                "output_tokens": generation.get("max_new_tokens") if stage == "decode" else 1,
                "quantization": {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}.get(
                    str(backend.get("torch_dtype"))
                ),
            }
        found.append(record(f"{place}, {stage}", subject, metric=metric, value=rate, **common | more))
    return found


def _gpu(environment: Mapping[str, Any]) -> str | None:
    names = environment.get("gpu")
    return str(names[0]) if isinstance(names, list) and len(names) == 1 else None
