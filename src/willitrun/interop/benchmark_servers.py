"""Output of servers and their clients: Ollama's verbose lines, vLLM's serving benchmark.

Formats: https://github.com/ollama/ollama/issues/1806 and https://docs.vllm.ai/en/latest/cli/bench/serve.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from willitrun.errors import WillItRunError
from willitrun.interop.benchmark_rows import MOST_ROWS, Subject, fail, parse_json, record
from willitrun.records.measurements import Measurement

__all__ = ["read_ollama", "read_vllm"]

_LINE = re.compile(
    r"^\s*(?P<name>prompt eval count|prompt eval rate|eval count|eval rate):\s*(?P<value>\d+(?:\.\d+)?)"
)


def read_ollama(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """The lines of ``ollama run --verbose``; several answers in a row are several measurements.

    A prompt of fewer than 32 tokens says more about start-up than about prefill and is left out.
    """
    found: list[Measurement] = []
    seen: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.match(line[:200])
        if match is None:
            continue
        name, value = match["name"], float(match["value"])
        if name in seen and name == "prompt eval count":
            seen = {}
        seen[name] = value
        if name != "eval rate":
            continue
        place = f"line {number}"
        prompt = max(int(seen.get("prompt eval count", 1)), 1)
        output = max(int(seen.get("eval count", 128)), 1)
        common: dict[str, Any] = {"runtime": "ollama", "prompt_tokens": prompt, "concurrency": 1}
        if "prompt eval rate" in seen and prompt >= 32:
            found.append(
                record(
                    place,
                    subject,
                    metric="prefill_tokens_per_s",
                    value=seen["prompt eval rate"],
                    output_tokens=1,
                    **common,
                )
            )
        found.append(
            record(place, subject, metric="decode_tokens_per_s", value=value, output_tokens=output, **common)
        )
        seen = {}
        if len(found) > MOST_ROWS:
            raise fail(place, "is one too many.", f"Pass at most {MOST_ROWS:,} answers.")
    return tuple(found)


def read_vllm(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """Result files of ``vllm bench serve`` and ``benchmark_serving.py``: one JSON object, or one a line.

    Sequences in flight are ``max_concurrency``; without it a request rate decides, and only runs at an infinite
    rate have a known number: all prompts at once.
    """
    whole = text.strip()
    try:
        results = [("result", parse_json(whole, "result"))]
    except WillItRunError:
        lines = [line for line in whole.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        results = [
            (f"line {number}", parse_json(line, f"line {number}")) for number, line in enumerate(lines, 1)
        ]
    found: list[Measurement] = []
    for place, result in results[:MOST_ROWS]:
        found += _serving_result(result, place, subject)
    return tuple(found)


def _serving_result(result: Any, place: str, subject: Subject) -> list[Measurement]:
    needed = ("completed", "total_input_tokens", "total_output_tokens")
    if not isinstance(result, Mapping) or not all(isinstance(result.get(name), int) for name in needed):
        raise fail(
            place, f"is no serving result ({', '.join(needed)}).", "Run vllm bench serve with --save-result."
        )
    completed = result["completed"]
    if completed <= 0:
        raise fail(place, "no request completed.", "Leave failed runs out.")
    concurrency = result.get("max_concurrency")
    if concurrency is None and str(result.get("request_rate")) == "inf":
        concurrency = result.get("num_prompts") or completed
    if not isinstance(concurrency, int) or concurrency < 1:
        raise fail(place, "does not say how many requests were in flight.", "Run it with --max-concurrency.")
    common: dict[str, Any] = {
        "model": result.get("model_id"),
        "runtime": "vllm",
        "date": str(result.get("date") or "")[:8],
        "concurrency": min(concurrency, completed),
        "prompt_tokens": max(round(result["total_input_tokens"] / completed), 1),
        "output_tokens": max(round(result["total_output_tokens"] / completed), 1),
    }
    metrics = (
        ("time_per_output_token_s", "mean_tpot_ms", 1e-3),
        ("time_to_first_token_s", "mean_ttft_ms", 1e-3),
        ("throughput_tokens_per_s", "output_throughput", 1.0),
    )
    return [
        record(place, subject, metric=metric, value=scale * result[name], **common)
        for metric, name, scale in metrics
        if isinstance(result.get(name), int | float) and result[name] > 0
    ]
