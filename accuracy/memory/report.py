"""Score the memory kernels against published logs, files and tables.

Run ``python -m accuracy.memory.report --data ../shared/data [--out FILE]``; any folder with files of the same
columns will do. Prints a Markdown table and, with ``--out``, writes it.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from accuracy.memory import diffusion, finetuning, gguf, llamacpp, pytorch, vllm
from accuracy.memory.configurations import config_of, models
from accuracy.memory.fit import publisher_mixes, size_range, size_ranges, spread
from accuracy.memory.formats import ROOT
from willitrun.errors import WillItRunError
from willitrun.estimators.inventory import parameters

__all__ = ["main", "report"]

Row = tuple[str, int, str, str]


def _share(flags: Iterable[bool]) -> str:
    array = np.array(list(flags), dtype=bool)
    return f"{100 * array.mean():.1f} %" if len(array) else "n/a"


def _errors(ratios: Sequence[float]) -> str:
    if not ratios:
        return "n/a"
    errors = np.abs(np.asarray(ratios) - 1)
    return f"median {100 * np.median(errors):.2f} %, p90 {100 * np.quantile(errors, 0.9):.1f} %"


def _inside(ratios: Sequence[float], entry: dict[str, float]) -> str:
    return _share(entry["low"] <= ratio <= entry["high"] for ratio in ratios)


def _family(model: str) -> str:
    """What stands before the size in the name of a model: Qwen2.5 of Qwen/Qwen2.5-7B-Instruct."""
    return re.split(r"[-_ ]?\d+(?:\.\d+)?(?:x\d+)?[bm]\b", model.rpartition("/")[2].lower())[0]


def _left_out(values: Iterable[tuple[str, object, float]]) -> str:
    """The share inside the range that all other groups teach, from (group, configuration, measured over predicted)."""
    rows = list(values)
    inside = []
    groups = {group for group, _, _ in rows}
    for left in groups if len(groups) > 1 else ():
        learnt = spread((key, ratio) for group, key, ratio in rows if group != left)
        inside += [learnt["low"] <= ratio <= learnt["high"] for group, _, ratio in rows if group == left]
    return f"{_share(inside)} of {len(groups)} left out one by one"


def _calibration() -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    text = (ROOT / "catalogs" / "calibrations" / "memory.toml").read_text(encoding="utf-8")
    loaded = tomllib.loads(text)
    return loaded["coefficients"], loaded["intervals"]


def _parameters(data: Path) -> list[Row]:
    exact: list[bool] = []
    unknown: Counter[str] = Counter()
    for row in models(data / "models.jsonl"):
        if not row.get("params_from_config"):
            continue
        try:
            config = config_of(row)
            if config is None:
                continue
            whole = parameters(config)
        except (WillItRunError, ValueError):
            unknown[str((row.get("arch") or {}).get("model_type"))] += 1
            continue
        text_part = parameters(config.model_copy(update={"vision": None}))
        # Some counts in the sheet are of the text part alone.
        near = [abs(count / row["params_from_config"] - 1) < 1e-3 for count in (whole, text_part)]
        exact.append(any(near))
    text = f"{_share(exact)} within 0.1 %"
    names = ", ".join(sorted(unknown)) or "none"
    return [("parameters from config fields", len(exact), text, f"equal; refused: {names}")]


def _sizes(data: Path) -> list[Row]:
    scored = list(gguf.score(data / "mem_gguf_sizes.csv", data / "models.jsonl"))
    rows = []
    own = [sized for sized in scored if sized.variant]
    for kind in sorted({sized.kind for sized in scored}):
        some = [sized for sized in scored if sized.kind == kind and sized.standard and not sized.variant]
        agree = (
            f"{_share(sized.agrees for sized in some)} to print precision; {_errors([s.ratio for s in some])}"
        )
        rows.append((f"GGUF standard mixes, {kind}", len(some), agree, "exact"))
    agree = f"{_share(sized.agrees for sized in own)} to print precision; {_errors([s.ratio for s in own])}"
    rows.append(("GGUF standard names, types chosen by the publisher", len(own), agree, "reported"))
    mixes = publisher_mixes(data)
    centred, inside = [], []
    for family in {sized.family for sized in mixes}:
        # What a user of a family not seen in the fit gets.
        learnt = size_ranges(sized for sized in mixes if sized.family != family)
        for sized in mixes:
            if sized.family == family:
                found = size_range(sized.quantization, learnt)
                centred.append(sized.ratio / found["best"])
                inside.append(found["low"] <= sized.ratio <= found["high"])
    text = f"{_errors(centred)}; interval holds {_share(inside)} (leave one family out)"
    rows.append(("GGUF publisher mixes by name", len(mixes), text, "median <= 3 %, interval >= 90 %"))
    return rows


def _llamacpp(data: Path) -> list[Row]:
    logs = [log for log in llamacpp.score(data / "mem_llamacpp.csv") if not log.flagged]
    typed = [log.kv_exact for log in logs if log.typed]
    rows = [("KV cache and state, logs that name its types", len(typed), f"{_share(typed)} exact", ">= 99 %")]
    whole = [log for log in logs if log.devices and log.whole and not log.engine.startswith("ik")]
    partial = [log for log in logs if log.devices and not log.whole and not log.engine.startswith("ik")]
    fork = [log for log in logs if log.devices and log.engine.startswith("ik")]
    for name, some in (("all layers on GPU", whole), ("partly on CPU", partial), ("ik_llama.cpp", fork)):
        errors = np.array([abs(log.sum_ratio - 1) for log in some])
        text = (
            f"median {100 * np.median(errors):.3f} %, {_share(errors < 0.01)} within 1 %, "
            f"{_share(errors < 0.05)} within 5 %"
        )
        owed = "median <= 0.1 %, 95 % / 99 %" if some is whole else "reported"
        rows.append((f"llama.cpp sum of GPU buffers, {name}", len(some), text, owed))
        alone = [log.compute_predicted / log.compute_printed for log in some if log.compute_printed > 0]
        near = _share(abs(ratio - 1) < 0.05 for ratio in alone)
        rows.append(
            (f"compute buffers alone, {name}", len(alone), f"{_errors(alone)}, {near} within 5 %", "reported")
        )
    return rows


def _vllm(data: Path, coefficients: dict[str, float], ranges: dict[str, dict[str, float]]) -> list[Row]:
    logs = list(vllm.score(data / "mem_vllm.csv", data / "models.jsonl", coefficients))
    layout = [log.bytes_per_token_exact for log in logs if log.bytes_per_token_exact is not None]
    pools = [
        log.pool_printed / log.pool_predicted for log in logs if log.pool_printed > 0.5 < log.pool_predicted
    ]
    left = _left_out(
        (_family(log.model), (log.model, log.version), log.pool_printed / log.pool_predicted)
        for log in logs
        if log.pool_printed > 0.5 < log.pool_predicted
    )
    tokens = [log.tokens_printed / log.tokens_predicted for log in logs if log.tokens_predicted > 0]
    tokens = [ratio for ratio in tokens if ratio > 0]
    peaks = [log.activation_printed / log.activation_predicted for log in logs if log.activation_printed > 0]
    return [
        ("vLLM KV bytes per token", len(layout), f"{_share(layout)} within print", "exact"),
        (
            "vLLM KV pool given utilization",
            len(pools),
            f"{_errors(pools)}; interval holds {_inside(pools, ranges['kv-pool.vllm'])}; families: {left}",
            "median <= 1.5 %, 90 %",
        ),
        ("vLLM KV tokens", len(tokens), _errors(tokens), "median <= 1.5 %"),
        ("vLLM activation peak", len(peaks), _errors(peaks), "reported"),
    ]


def _pytorch(data: Path, ranges: dict[str, dict[str, float]]) -> list[Row]:
    peaks = [
        peak for peak in pytorch.score(data / "mem_other.csv", data / "models.jsonl") if peak.devices == 1
    ]
    runs = [peak for peak in peaks if "max_memory_allocated" in peak.metric]
    printed = [peak for peak in peaks if "speed benchmark" in peak.domain]
    allocated, tables = [peak.ratio for peak in runs], [peak.ratio for peak in printed]
    left, left_tables = (
        _left_out(
            (_family(peak.model), (peak.model, peak.sequences, peak.tokens), peak.ratio) for peak in some
        )
        for some in (runs, printed)
    )
    return [
        (
            "transformers peak allocated (optimum-benchmark)",
            len(allocated),
            f"{_errors(allocated)}; interval holds {_inside(allocated, ranges['peak.transformers'])}; families: {left}",
            "median <= 6 %, 90 %",
        ),
        (
            "transformers memory (Qwen tables)",
            len(tables),
            f"{_errors(tables)}; interval holds {_inside(tables, ranges['peak.transformers.tables'])}; families: {left_tables}",
            "median <= 6 %, 90 %",
        ),
    ]


def _rest(data: Path, coefficients: dict[str, float], ranges: dict[str, dict[str, float]]) -> list[Row]:
    stages = list(diffusion.score(data / "mem_diffusion.csv", coefficients))
    live = ranges["live.diffusion"]
    centred = [stage.measured_bytes / stage.predicted_bytes(live["best"]) for stage in stages]
    factors = [stage.live_ratio for stage in stages]
    left = _left_out((stage.name, stage.row, stage.live_ratio) for stage in stages)
    runs = [run.ratio for run in finetuning.score(data / "mem_other.csv")]
    return [
        (
            "diffusion peak (FLUX.1-dev)",
            len(stages),
            f"{_errors(centred)}; interval holds {_inside(factors, live)}; formats: {left}",
            "median <= 7 %, 90 %",
        ),
        ("fine-tuning peak", len(runs), _errors(runs), "median <= 10 %"),
    ]


def report(data: Path) -> str:
    """The whole table as Markdown."""
    coefficients, ranges = _calibration()
    rows = [
        *_parameters(data),
        *_sizes(data),
        *_llamacpp(data),
        *_vllm(data, coefficients, ranges),
        *_pytorch(data, ranges),
        *_rest(data, coefficients, ranges),
    ]
    lines = ["| quantity | n | measured | owed |", "|---|---:|---|---|"]
    lines += [f"| {name} | {count} | {text} | {owed} |" for name, count, text, owed in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = report(arguments.data)
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
