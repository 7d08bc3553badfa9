"""Output of llama.cpp: llama-bench in its four readable formats, and the timing lines of its programs.

Formats: https://github.com/ggml-org/llama.cpp/blob/master/tools/llama-bench/README.md
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from willitrun.interop.benchmark_rows import MOST_ROWS, Subject, fail, parse_json, record
from willitrun.records.measurements import Measurement

__all__ = ["read_bench_json", "read_bench_table", "read_timings"]

#: File types of GGUF as llama.cpp names them -> quantization id.
_TYPE = re.compile(
    r"\b(?:(?P<iq>IQ\d_[A-Z]+)|(?P<k>Q\d_K)(?:\s*-\s*(?P<size>Small|Medium|Large))?|(?P<legacy>Q\d_\d)|(?P<float>BF16|F16|F32)|(?P<fp4>MXFP4))\b"
)
_TEST = re.compile(r"^(?P<kind>pp|tg)\s*(?P<tokens>\d{1,9})(?:\s*@\s*d\s*(?P<depth>\d{1,9}))?$")
_RATE = re.compile(r"^(?P<mean>\d+(?:\.\d+)?)(?:\s*(?:±|\+/-|\+-)\s*\d+(?:\.\d+)?)?$")
_BACKENDS = {
    "cuda": "cuda",
    "rocm": "rocm",
    "hip": "rocm",
    "vulkan": "vulkan",
    "metal": "metal",
    "mtl": "metal",
    "sycl": "sycl",
    "cpu": "cpu",
}
_TIMING = re.compile(
    r"(?P<kind>prompt eval|eval) time\s*=\s*(?P<ms>\d+(?:\.\d+)?) ms\s*/\s*(?P<tokens>\d{1,9}) (?:tokens|runs)\b"
)


def quantization_of(model_type: str) -> str | None:
    """The quantization id in a model description of llama.cpp, None if there is none.

    >>> quantization_of("qwen2 7B Q4_K - Medium"), quantization_of("llama 7B mostly Q4_0"), quantization_of("gemma 2B")
    ('q4_k_m', 'q4_0', None)
    """
    found = _TYPE.search(model_type)
    if found is None:
        return None
    text = found["iq"] or found["k"] or found["legacy"] or found["float"] or found["fp4"]
    size = {"Small": "_s", "Medium": "_m", "Large": "_l", None: ""}[found["size"]]
    return text.lower() + size


def _file_quantization(name: str) -> str | None:
    """The format in a file's name, which says more than the type: ``...-Q4_K_M.gguf``."""
    found = re.search(
        r"(?:^|[-_.])(IQ\d_[A-Z]+|Q\d_K_[SML]|Q\d_K|Q\d_\d|BF16|F16|F32|MXFP4)(?:[-_.]|$)", name.upper()
    )
    return found[1].lower() if found else None


def _backend(text: str) -> str | None:
    for part in re.split(r"[,\s]+", text.lower()):
        if part in _BACKENDS and part != "cpu":
            return _BACKENDS[part]
    return "cpu" if "cpu" in text.lower() else None


def _number(row: Mapping[str, Any], name: str, place: str, *, default: float | None = None) -> float:
    value = row.get(name, default)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise fail(place, f"{name} is {value!r}.", "Pass rows as llama-bench wrote them.") from None


def _bench_row(row: Mapping[str, Any], place: str, subject: Subject) -> Measurement | None:
    """One result; None for a combined test, whose figure is neither decode nor prefill speed."""
    if not isinstance(row, Mapping) or not {"n_prompt", "n_gen", "avg_ts"} <= set(row):
        raise fail(
            place,
            "is no result of llama-bench (n_prompt, n_gen, avg_ts).",
            "Run llama-bench -o json, jsonl, csv or md.",
        )
    prompt, output = (int(_number(row, name, place)) for name in ("n_prompt", "n_gen"))
    depth = int(_number(row, "n_depth", place, default=0.0))
    if prompt and output:
        return None
    _refuse_offload(
        int(_number(row, "n_gpu_layers", place, default=-1)),
        int(_number(row, "n_cpu_moe", place, default=0)),
        place,
    )
    filename = str(row.get("model_filename") or "")
    return record(
        place,
        subject,
        accelerator=str(row.get("gpu_info") or "").split(",")[0].strip(),
        runtime="llama.cpp",
        runtime_version=f"b{row['build_number']}" if row.get("build_number") else "",
        backend=_backend(str(row.get("backends") or row.get("backend") or "")) or "",
        quantization=_file_quantization(filename.replace("\\", "/").rpartition("/")[2])
        or quantization_of(str(row.get("model_type") or "")),
        date=str(row.get("test_time") or "")[:10],
        value=_number(row, "avg_ts", place),
        **_test("tg" if output else "pp", output or prompt, depth),
    )


def _refuse_offload(layers: int, experts: int, place: str) -> None:
    # -1 means all; no model has as many layers as 99.
    if experts > 0 or 0 <= layers < 99:
        raise fail(
            place,
            f"part of the model may lie in host memory (ngl {layers}, n_cpu_moe {experts}).",
            "Run it with -ngl 99: how fast a part-offloaded model runs depends on the host, which no row names.",
        )


def _test(kind: str, tokens: int, depth: int) -> dict[str, Any]:
    """The workload of a test, as `Workload` names it: generation starts at a depth, without a prompt of its own."""
    metric = "decode_tokens_per_s" if kind == "tg" else "prefill_tokens_per_s"
    prompt, output = (1, tokens) if kind == "tg" else (tokens, 1)
    # The workload needs a prompt of one token, which is the first that is generated from.
    cached = max(depth - 1, 0) if kind == "tg" else depth
    return {
        "metric": metric,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "cached_tokens": cached,
        "concurrency": 1,
    }


def read_bench_json(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """``llama-bench -o json`` and ``-o jsonl``."""
    rows: list[tuple[str, Any]]
    if text.lstrip().startswith("["):
        found = parse_json(text, "llama-bench JSON")
        rows = [(f"result {number}", row) for number, row in enumerate(found, 1)]
    else:
        rows = [
            (f"line {number}", parse_json(line, f"line {number}"))
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    if len(rows) > MOST_ROWS:
        raise fail("llama-bench", f"has {len(rows):,} results.", f"Pass at most {MOST_ROWS:,}.")
    return tuple(m for place, row in rows if (m := _bench_row(row, place, subject)) is not None)


def read_bench_csv(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """``llama-bench -o csv``."""
    reader = csv.DictReader(io.StringIO(text.strip()))
    found = []
    for number, row in enumerate(reader, 2):
        if number > MOST_ROWS:
            raise fail(f"line {number}", "is one too many.", f"Pass at most {MOST_ROWS:,} rows.")
        measurement = _bench_row(row, f"line {number}", subject)
        if measurement is not None:
            found.append(measurement)
    return tuple(found)


def read_bench_table(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """The table that llama-bench prints, alone or among other lines."""
    header: list[str] | None = None
    found = []
    device = _device_line(text)
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "|" not in line or set(line) <= set("|-: \t"):
            continue
        if "t/s" in cells and "test" in cells:
            header = cells
            continue
        if header is None:
            continue
        place = f"line {number}"
        if len(cells) != len(header):
            raise fail(
                place,
                f"has {len(cells)} cells where the header has {len(header)}.",
                "Copy whole lines of the table.",
            )
        row = dict(zip(header, cells, strict=True))
        rate, test = _RATE.match(row["t/s"]), _TEST.match(row["test"])
        if row["test"].startswith("pp") and "+tg" in row["test"].replace(" ", ""):
            continue
        if rate is None or test is None:
            raise fail(
                place,
                f"test {row['test']!r} at {row['t/s']!r} cannot be read.",
                "Expected e.g. | tg128 | 98.31 ± 0.42 |.",
            )
        _refuse_offload(_layers(row.get("ngl", ""), place), _layers(row.get("n_cpu_moe", "0"), place), place)
        found.append(
            record(
                place,
                subject,
                accelerator=device,
                runtime="llama.cpp",
                backend=_backend(row.get("backend", "")) or "",
                quantization=quantization_of(row.get("model", "")),
                value=float(rate["mean"]),
                **_test(test["kind"], int(test["tokens"]), int(test["depth"] or 0)),
            )
        )
        if len(found) > MOST_ROWS:
            raise fail(place, "is one too many.", f"Pass at most {MOST_ROWS:,} rows.")
    return tuple(found)


def _layers(text: str, place: str) -> int:
    if not text:
        return -1
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise fail(place, f"{text!r} is no number of layers.", "Copy whole lines of the table.")
    return int(text)


def _device_line(text: str) -> str:
    """The first device of ``ggml_cuda_init``'s list: ``Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9``."""
    found = re.search(r"^\s*Device 0: ([^,\n]{1,80}),", text, re.MULTILINE)
    return found[1].strip() if found else ""


def read_timings(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """Timing lines of ``llama_print_timings``, ``llama_perf_context_print`` and of the server.

    A line of 0 ms or of a single token says nothing and is left out.
    """
    found = []
    prompt = 1
    for number, line in enumerate(text.splitlines(), 1):
        timing = _TIMING.search(line[:500])
        if timing is None:
            continue
        tokens, seconds = int(timing["tokens"]), float(timing["ms"]) / 1000.0
        if timing["kind"] == "prompt eval":
            prompt = max(tokens, 1)
        if seconds <= 0.0 or tokens < 2:
            continue
        decode = timing["kind"] == "eval"
        found.append(
            record(
                f"line {number}",
                subject,
                runtime="llama.cpp",
                metric="decode_tokens_per_s" if decode else "prefill_tokens_per_s",
                value=tokens / seconds,
                prompt_tokens=prompt,
                output_tokens=tokens if decode else 1,
                concurrency=1,
            )
        )
        if len(found) > MOST_ROWS:
            raise fail(f"line {number}", "is one too many.", f"Pass at most {MOST_ROWS:,} timings.")
    return tuple(found)
