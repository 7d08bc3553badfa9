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

__all__ = ["PRINTED_HEAD", "read_ollama", "read_vllm"]

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


# What the clients of vLLM and SGLang print, and what vLLM's saves the same as.
_PRINTED = {
    "successful requests": "completed",
    "total input tokens": "total_input_tokens",
    "total generated tokens": "total_output_tokens",
    "output token throughput (tok/s)": "output_throughput",
    "mean ttft (ms)": "mean_ttft_ms",
    "mean tpot (ms)": "mean_tpot_ms",
    "maximum request concurrency": "max_concurrency",
    "max request concurrency": "max_concurrency",
    "traffic request rate": "request_rate",
    "backend": "backend",
}
_PRINTED_LINE = re.compile(r"^[\s#|]*(?P<name>[A-Za-z][\w ()/.-]{2,50}):\s+(?P<value>\S+)")
PRINTED_HEAD = "Serving Benchmark Result"
"""What stands above the table that both clients print."""


def read_printed(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """The table that ``vllm bench serve`` and SGLang's ``bench_serving`` print; several in a row are several runs."""
    found: list[Measurement] = []
    run: dict[str, Any] = {}
    number = 0

    def close() -> None:
        if "completed" in run:
            found.extend(_serving_result(dict(run), f"the table above line {number + 1}", subject))

    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = _PRINTED_LINE.match(line[:200])
        name = _PRINTED.get(match["name"].lower()) if match is not None else None
        if match is None or name is None:
            if set(line.strip(" #")) == {"="} and "completed" in run:
                close()
                run = {}
            continue
        # "None" in vLLM, "not set" in SGLang.
        run[name] = None if match["value"] in ("None", "not") else _printed_value(match["value"])
        if len(found) > MOST_ROWS:
            raise fail(f"line {number + 1}", "is one too many.", f"Pass at most {MOST_ROWS:,} runs.")
    close()
    return tuple(found)


def _printed_value(text: str) -> int | float | str:
    plain = text.replace(",", "")
    if plain.isascii() and plain.isdigit():
        return int(plain[:18])
    return float(plain) if re.fullmatch(r"\d{1,15}\.\d{1,15}", plain) else plain


def read_vllm(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """Result files of ``vllm bench serve`` and ``benchmark_serving.py``: one JSON object, or one a line; or what it prints.

    Sequences in flight are ``max_concurrency``; without it a request rate decides, and only runs at an infinite
    rate have a known number: all prompts at once.
    """
    whole = text.strip()
    if PRINTED_HEAD in whole:
        return read_printed(whole, subject)
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
        "runtime": "sglang" if str(result.get("backend")).startswith("sglang") else "vllm",
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
