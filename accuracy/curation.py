"""Draft the language-model tables of ``catalogs/measurements`` from collected rows: few, complete, licensed, plausible.

Usage::

    python -m accuracy.curation --data ../shared/data

A row goes in when its study's licence allows it, its whole tuple is stated (model, weight format, device, runtime,
tokens, depth, sequences), its model and device have records, and the physics gate of the library passes it. Of a
study at most `MOST` rows of one device go in, spread over models and formats. Every row carries the command that
repeats it. What was refused, and why, goes to standard error.

The speed fit reads the collected rows, never these tables; scores hide them (`accuracy.measurements`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from willitrun import WillItRunError, load_catalog
from willitrun.estimators.calibration_rows import compare
from willitrun.records.measurements import Measurement

MOST = 24
TARGET = Path(__file__).resolve().parents[1] / "catalogs" / "measurements"
COLUMNS = ("id", "model", "accelerator", "accelerator_count", "task", "runtime", "runtime_version", "backend",
           "quantization", "concurrency", "prompt_tokens", "cached_tokens", "output_tokens", "metric", "value",
           "unit", "date", "source_url", "licence", "command", "notes")  # fmt: skip
Raw = dict[str, str]


@dataclass(frozen=True)
class Study:
    """One source: which collected rows of it are complete, and how they were measured."""

    name: str
    file: str
    licence: str
    runtime: str
    command: Callable[[Raw], str]
    keep: Callable[[Raw], bool] = lambda row: True
    source: str = ""
    formats: dict[str, str] = field(default_factory=dict)


def _whole(text: str) -> int:
    return int(float(text)) if text else 0


def _llama_bench(row: Raw) -> str:
    prompt = _whole(row["prompt_tokens"]) if row["phase"] == "prefill" else 0
    output = _whole(row["gen_tokens"]) if row["phase"] == "decode" else 0
    parts = [f"llama-bench -m {row['model'].partition(' |')[0]} -ngl 99 -p {prompt} -n {output}"]
    if depth := _whole(row["context_depth"]):
        parts.append(f"-d {depth}")
    if row["n_ubatch"]:
        parts.append(f"-ub {_whole(row['n_ubatch'])}")
    if row["flash_attn"]:
        parts.append(f"-fa {_whole(row['flash_attn'])}")
    return " ".join(parts)


def _mlx(row: Raw) -> str:
    return f"mlx_lm.benchmark --model {row['model']} --prompt-tokens 2048 --generation-tokens 128"


def _benchy(row: Raw) -> str:
    tokens = (
        f"--pp 0 --tg {_whole(row['gen_tokens'])}"
        if row["gen_tokens"]
        else f"--pp {_whole(row['prompt_tokens'])} --tg 0"
    )
    return (
        f"llama-benchy --model {row['model']} {tokens} --concurrency {_whole(row['batch_size_concurrency'])}"
    )


def _serve(row: Raw) -> str:
    tool = {
        "vllm": "vllm bench serve",
        "sglang": "python -m sglang.bench_serving",
        "trtllm": "trtllm-bench throughput",
    }[row["backend"]]
    return f"{tool} --model {row['model_path']} --random-input-len {_whole(row['isl'])} --random-output-len {_whole(row['osl'])} --max-concurrency {_whole(row['concurrency'])} (tp {_whole(row['tp_size'])})"


def _plain(row: Raw) -> bool:
    return row["cpu_offload_ngl"] in ("all", "99") and row["core_subset"] == "1" and not row["spec_decode"]


_GGUF = {"F16": "f16", "BF16": "bf16", "fp16": "f16"}
STUDIES = (
    Study("strix-halo-llama.cpp", "llm_speed.csv", "Apache-2.0", "llama.cpp", _llama_bench, source="lhl-strix-halo", formats=_GGUF,
          keep=lambda row: _plain(row) and "build comparison" not in row["notes"]),
    Study("rtx-4070-laptop-llama.cpp", "llm_speed.csv", "MIT", "llama.cpp", _llama_bench, source="ghost91-4070laptop", formats=_GGUF,
          keep=lambda row: _plain(row) and "bpw" not in row["quant"]),
    Study("dgx-spark-llama.cpp", "llm_speed.csv", "MIT", "llama.cpp", _llama_bench, source="llama.cpp-benches", formats=_GGUF,
          keep=lambda row: _plain(row) and row["metric_def"].startswith("llama-bench") and bool(row["quant"])),
    Study("dgx-spark-vllm", "llm_speed.csv", "CC-BY-4.0", "vllm", _benchy, source="djangodevreng-dgx-spark",
          formats={"BF16": "bf16", "fp8": "fp8", "nvfp4": "nvfp4", "mxfp4": "mxfp4"},
          keep=lambda row: _plain(row) and row["kv_cache_type"] == "auto" and row["phase"] == "decode"),
    Study("m4-max-mlx", "llm_speed.csv", "MIT", "mlx", _mlx, source="mlx-lm-benchmarks", keep=_plain,
          formats={"mlx-q4": "mlx-4bit", "mlx-q5": "mlx-5bit", "mlx-q6": "mlx-6bit", "mlx-q8": "mlx-8bit", "mlx-bf16": "bf16"}),
    Study("serving-silicon", "serving_speed.csv", "Apache-2.0", "", _serve, keep=lambda row: row["label_suspect"] == "0"
          and row["attention_dp_size"] in ("1.0", "") and float(row["tp_size"]) <= 8 and row["pp_size"] in ("1.0", "")),
)  # fmt: skip

_SYSTEMS = {
    "b200_sxm": "nvidia-b200-sxm-180gb",
    "h100_sxm": "nvidia-h100-sxm5-80gb",
    "h200_sxm": "nvidia-h200-sxm-141gb",
}
_SERVERS = {"vllm": "vllm", "sglang": "sglang", "trtllm": "tensorrt-llm"}
_SERVED = {"fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16"}


def _language(study: Study, row: Raw) -> dict[str, object] | str:
    quantization = study.formats.get(
        row["quant"], "" if study.formats is not _GGUF and study.formats else row["quant"].lower()
    )
    depth, decode = _whole(row["context_depth"]), row["phase"] == "decode"
    tokens = _whole(row["gen_tokens"] if decode else row["prompt_tokens"])
    if not quantization or not tokens:
        return "its weight format or its tokens are not stated"
    return {
        "model": row["model_norm"], "accelerator": row["hardware_id"], "accelerator_count": _whole(row["device_count"]) or 1,
        "runtime": study.runtime, "runtime_version": row["runtime_version"], "backend": row["backend"], "quantization": quantization,
        "concurrency": _whole(row["batch_size_concurrency"]) or 1,
        # A test that starts at a depth has that many tokens in the cache; its prompt is the token it starts from.
        "prompt_tokens": 1 if decode else tokens, "cached_tokens": max(depth - 1, 0) if decode else depth,
        "output_tokens": tokens if decode else 1, "metric": f"{row['phase']}_tokens_per_s", "value": row["value_tok_s"], "unit": "1/s",
        "date": row["date_or_version"], "source_url": row["source_url"], "notes": row["source_repo_path"],
    }  # fmt: skip


def _served(study: Study, row: Raw) -> dict[str, object] | str:
    accelerator, runtime = _SYSTEMS.get(row["system"]), _SERVERS.get(row["backend"])
    quantization = _SERVED.get(row["precision"])
    if accelerator is None or runtime is None or quantization is None:
        return "its system or precision has no record"
    return {
        "model": row["model_path"], "accelerator": accelerator, "accelerator_count": _whole(row["tp_size"]), "runtime": runtime,
        "runtime_version": row["backend_version"], "backend": "cuda", "quantization": quantization,
        "concurrency": _whole(row["concurrency"]), "prompt_tokens": _whole(row["isl"]), "cached_tokens": 0,
        "output_tokens": _whole(row["osl"]), "metric": "time_per_output_token_s", "value": f"{float(row['silicon_tpot_ms']) / 1e3:.6g}",
        "unit": "s", "date": row["measured"], "source_url": row["source_url"], "notes": row["id"],
    }  # fmt: skip


def _spread(rows: Iterable[dict[str, object]]) -> Iterator[dict[str, object]]:
    """At most `MOST` rows of a device, in turn from each model and format, so that none crowds out the others."""
    groups: defaultdict[object, defaultdict[object, list[dict[str, object]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        what = tuple(row[name] for name in COLUMNS[1:14] if name not in ("task", "runtime_version"))
        if what in seen:
            continue
        seen.add(what)
        subject = (row["model"], row["quantization"], row["metric"], row["backend"])
        groups[row["accelerator"], row["accelerator_count"]][subject].append(row)
    for subjects in groups.values():
        queues = [list(members) for members in subjects.values()]
        taken = 0
        while taken < MOST and any(queues):
            for queue in queues:
                if queue and taken < MOST:
                    # First, last, then what lies between: the ends of a range say most.
                    yield queue.pop(0 if len(queue) % 2 else -1)
                    taken += 1


def _name(study: Study, row: dict[str, object]) -> str:
    """An id that says what was measured, and stays when the table is drawn again."""
    phase = str(row["metric"]).partition("_tokens")[0].replace("time_per_output_token_s", "tpot")
    count = f"{row['accelerator_count']}x" if row["accelerator_count"] != 1 else ""
    parts = (study.name, row["model"], row["quantization"], count + str(row["accelerator"]).split("-")[1], row["backend"],
             row["runtime"] if not study.source else "", phase, f"p{row['prompt_tokens']}-n{row['output_tokens']}",
             f"d{row['cached_tokens']}", f"c{row['concurrency']}")  # fmt: skip
    return "-".join(str(part) for part in parts if part).lower()


def curate(study: Study, data: Path) -> tuple[list[dict[str, object]], Counter[str]]:
    """Rows of one study that go in, and why others do not."""
    catalog = load_catalog()
    refused: Counter[str] = Counter()
    drafts: list[dict[str, object]] = []
    with (data / study.file).open(encoding="utf-8") as handle:
        for raw in csv.DictReader(handle):
            if study.source and (raw["source_id"] != study.source or raw["qc_flag"]):
                continue
            if not study.keep(raw):
                refused["of another kind"] += 1
                continue
            draft = _language(study, raw) if study.source else _served(study, raw)
            if isinstance(draft, str):
                refused[draft] += 1
                continue
            try:
                draft["model"] = catalog.resolve("model", str(draft["model"])).id
                draft["quantization"] = catalog.resolve("quantization", str(draft["quantization"])).id
                catalog.resolve("accelerator", str(draft["accelerator"]))
            except WillItRunError as error:
                refused[str(error).partition(".")[0][:80]] += 1
                continue
            drafts.append(
                {"task": "text-generation", "licence": study.licence, "command": study.command(raw)} | draft
            )
    picked = [{"id": _name(study, row)} | row for row in _spread(drafts)]
    kept = []
    measurements = [Measurement.model_validate(row) for row in picked]
    for row, comparison in zip(picked, compare(measurements, catalog), strict=True):
        if comparison.refused:
            refused[comparison.refused[:100]] += 1
        else:
            kept.append(row)
    return kept, refused


def main() -> None:
    """Write one table per study and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    for study in STUDIES:
        kept, refused = curate(study, arguments.data)
        with (TARGET / f"{study.name}.csv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        print(f"{study.name}: {len(kept)} rows; left out: {dict(refused.most_common(8))}", file=sys.stderr)


if __name__ == "__main__":
    main()
