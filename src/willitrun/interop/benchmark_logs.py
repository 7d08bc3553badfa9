"""Output of benchmark tools as measurements, ready for `willitrun.calibrate`.

>>> text = '''
... prompt eval count:    512 token(s)
... prompt eval rate:     4000.00 tokens/s
... eval count:           120 token(s)
... eval rate:            95.50 tokens/s
... '''
>>> rows = read_benchmarks(text, model="llama-3.1-8b", accelerator="rtx-4090", quantization="q4_k_m")
>>> [(row.metric, row.value) for row in rows]
[('prefill_tokens_per_s', 4000.0), ('decode_tokens_per_s', 95.5)]
"""

from __future__ import annotations

import csv
import io
import re

from willitrun.interop.benchmark_images import read_optimum, read_timm
from willitrun.interop.benchmark_llama import read_bench_csv, read_bench_json, read_bench_table, read_timings
from willitrun.interop.benchmark_rows import MOST_CHARACTERS, MOST_ROWS, Subject, fail, record
from willitrun.interop.benchmark_servers import PRINTED_HEAD, read_ollama, read_vllm
from willitrun.records.measurements import Measurement

__all__ = ["FORMATS", "read_benchmarks"]

#: Names that ``format`` takes.
FORMATS = ("llama-bench", "llama.cpp", "ollama", "vllm", "timm", "optimum-benchmark", "table")

_COUNTS = ("accelerator_count", "image_size", "batch_size", "concurrency", "prompt_tokens", "cached_tokens",
           "output_tokens", "context_tokens")  # fmt: skip

_TABLE = re.compile(r"^\s*\|.*\|\s*test\s*\|\s*t/s\s*\|", re.MULTILINE)


def read_benchmarks(
    text: str,
    *,
    format: str | None = None,
    model: str | None = None,
    accelerator: str | None = None,
    accelerator_count: int | None = None,
    quantization: str | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    execution: str | None = None,
    layout: str | None = None,
    source_url: str | None = None,
) -> tuple[Measurement, ...]:
    """Read what a benchmark tool wrote.

    Parameters
    ----------
    text
        Output of ``llama-bench`` (markdown, JSON, JSONL or CSV), timing lines of llama.cpp's programs and server, the
        lines of ``ollama run --verbose``, a result of ``vllm bench serve`` (JSON, or the table that it and SGLang's ``bench_serving`` print), timm's ``benchmark.py`` (CSV or JSON),
        ``benchmark.json`` of optimum-benchmark, or CSV with the fields of `Measurement`
        as its header.
    format
        One of `FORMATS`; None looks at the text.
    model, accelerator, accelerator_count, quantization, runtime, precision, execution, layout, source_url
        What the output does not say, or says otherwise than the catalog: llama-bench names a model by its
        architecture, Ollama names neither model nor device. They win over the output.

    Returns
    -------
    tuple of Measurement
        In the order of the text. Combined tests (``pp512+tg128``) are left out: their figure is neither speed.

    Raises
    ------
    WillItRunError
        A line cannot be read, lacks a subject that was not passed, or ran with part of the model in host memory;
        the message names the line and the remedy.
    """
    if len(text) > MOST_CHARACTERS:
        raise fail("the text", f"has {len(text):,} characters.", f"Pass at most {MOST_CHARACTERS:,}.")
    subject = Subject(
        model, accelerator, accelerator_count, quantization, runtime, source_url, precision, execution, layout
    )
    kind = format or _format_of(text)
    if kind == "llama-bench":
        head = text.lstrip()[:1]
        if head in ("[", "{"):
            found = read_bench_json(text, subject)
        elif "n_prompt" in text.lstrip().partition("\n")[0]:
            found = read_bench_csv(text, subject)
        else:
            found = read_bench_table(text, subject)
    elif kind == "llama.cpp":
        found = read_timings(text, subject)
    elif kind == "ollama":
        found = read_ollama(text, subject)
    elif kind == "vllm":
        found = read_vllm(text, subject)
    elif kind == "timm":
        found = read_timm(text, subject)
    elif kind == "optimum-benchmark":
        found = read_optimum(text, subject)
    elif kind == "table":
        found = read_table(text, subject)
    else:
        raise fail("format", f"{kind!r} is none.", f"One of {', '.join(FORMATS)}.")
    if not found:
        raise fail(
            "the text", f"holds no measurement that {kind} would print.", "Pass the tool's whole output."
        )
    return found


def _format_of(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    if "infer_samples_per_sec" in text:
        return "timm"
    if text.lstrip()[:1] in ("[", "{") and '"report"' in text and '"throughput"' in text:
        return "optimum-benchmark"
    if text.lstrip()[:1] in ("[", "{"):
        return "llama-bench" if '"n_prompt"' in text else "vllm"
    if "n_prompt" in first or _TABLE.search(text):
        return "llama-bench"
    if PRINTED_HEAD in text:
        return "vllm"
    if "eval time" in text:
        return "llama.cpp"
    if "eval rate:" in text:
        return "ollama"
    if "," in first and "metric" in first:
        return "table"
    raise fail(
        "the text", "is output of no tool that is known.", f"Pass the format, one of {', '.join(FORMATS)}."
    )


def read_table(text: str, subject: Subject) -> tuple[Measurement, ...]:
    """CSV whose header names fields of `Measurement`; ``metric`` and ``value`` are needed in every row."""
    reader = csv.DictReader(io.StringIO(text.strip()))
    unknown = set(reader.fieldnames or ()) - set(Measurement.model_fields)
    if unknown:
        raise fail(
            "line 1",
            f"{sorted(map(str, unknown))[0]!r} is no field.",
            f"Fields: {', '.join(Measurement.model_fields)}.",
        )
    found = []
    for number, row in enumerate(reader, 2):
        place = f"line {number}"
        if number > MOST_ROWS:
            raise fail(place, "is one too many.", f"Pass at most {MOST_ROWS:,} rows.")
        if None in row or None in row.values():
            raise fail(place, "has another number of cells than the header.", "Quote cells that hold commas.")
        fields: dict[str, object] = dict(row)
        for name in ("value", *_COUNTS):
            cell = (row.get(name) or "").strip()
            if not cell:
                fields.pop(name, None)
                continue
            try:
                fields[name] = float(cell) if name == "value" else int(cell)
            except ValueError:
                raise fail(place, f"{name} is {cell!r}.", "Write a plain number.") from None
        if not fields.get("metric"):
            raise fail(place, "has no metric.", "Write e.g. decode_tokens_per_s.")
        found.append(record(place, subject, **fields))
    return tuple(found)
