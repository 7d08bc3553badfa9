"""What the public API says of published runs: error of the total, and the two ways a verdict can be wrong.

A run that was measured is asked twice through `assess`: on a card with a little less than it took, where the
verdict must not be ``comfortable``; and on the card that it ran on, where it must not be ``will-not-run``.

Run ``python -m accuracy.memory.landed --data ../shared/data``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from accuracy.memory.formats import ROOT
from willitrun import Placement, Runtime, Workload, assess, describe_machine, describe_model
from willitrun.catalog import load_catalog
from willitrun.errors import WillItRunError
from willitrun.records.machines import Machine

__all__ = ["Asked", "Run", "ask", "card", "collect", "table"]

MB, GB, MIB, GIB = 10**6, 10**9, 2**20, 2**30
LESS = 0.99
"""A card this much of what a run took is one on which it cannot have run."""


A100, H100 = "a100-sxm4-80gb", "h100-sxm5-80gb"


@dataclass(frozen=True)
class Run:
    """One published run as a fit tuple, and what it took [bytes]."""

    row: str
    group: str
    architecture: str
    model: Any
    workload: Workload
    quantization: str | None
    runtime: Runtime
    measured_bytes: float
    what: str
    """``total`` (as a driver shows it), ``allocated`` or ``reserved`` (as PyTorch counts), or ``ran``."""
    devices: int = 1
    device_bytes: float = math.nan
    """Memory of the card that it ran on, where stated."""
    placement: Placement = field(default_factory=Placement)
    device: str = A100
    """Card that stands for the one that it ran on, whatever its memory."""


@dataclass(frozen=True)
class Asked:
    """What the library said of a run."""

    run: Run
    predicted_bytes: float
    low_bytes: float
    high_bytes: float
    tier_below: str
    tier_where_it_ran: str
    pool_tokens: float = math.nan

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.run.measured_bytes / self.predicted_bytes

    @property
    def inside(self) -> bool:
        """Whether the interval holds the measurement."""
        return self.low_bytes <= self.run.measured_bytes <= self.high_bytes


def card(
    available_bytes: float, *, count: int = 1, total_bytes: float | None = None, device: str = A100
) -> Machine:
    """A machine whose cards have so much free: a plain data-center card on a roomy host."""
    machine = describe_machine({"accelerators": [device] * count, "host": {"ram": "512 GiB", "os": "linux"}})
    free = int(available_bytes)
    cards = tuple(
        device.model_copy(
            update={"memory_free_bytes": free, "memory_total_bytes": int(total_bytes or available_bytes)}
        )
        for device in machine.accelerators
    )
    return machine.model_copy(update={"accelerators": cards})


def ask(run: Run) -> Asked | None:
    """Both questions to the library; None where it does not know the model or the combination."""

    def verdict(machine: Machine) -> Any:
        return assess(
            run.model,
            machine,
            run.workload,
            quantization=run.quantization,
            runtime=run.runtime,
            placement=run.placement,
        )

    room = run.device_bytes if run.device_bytes > 0 else 1.05 * run.measured_bytes / run.devices
    try:
        ran = verdict(card(room, count=run.devices, device=run.device))
        if ran.memory is None:
            return None
        below = verdict(card(LESS * run.measured_bytes / run.devices, count=run.devices, device=run.device))
    except WillItRunError:
        return None
    estimate = ran.memory
    parts = estimate.weights_bytes.best + estimate.kv_cache_bytes.best + estimate.state_bytes.best
    parts += estimate.activation_bytes.best + estimate.gradient_bytes.best + estimate.optimizer_bytes.best
    whole = estimate.total_bytes
    best = parts if run.what == "allocated" else whole.best
    if run.what == "reserved":
        best -= load_catalog().calibrations["memory"].intervals["context.pytorch.linux"]["best"]
    shift = best - whole.best
    pool = next(
        (note.numbers["kv_pool_tokens"] for note in estimate.notes if note.code == "kv-pool"), math.nan
    )
    return Asked(run, best, whole.low + shift, whole.high + shift, below.tier, ran.tier, float(pool))


def _number(value: Any) -> float:
    return float(pd.to_numeric(value, errors="coerce"))


def _llm(name: str) -> Any:
    try:
        return describe_model(name)
    except WillItRunError:
        return None


_FORMATS = {"awq": "awq-int4", "gptq": "gptq-int4", "gptq-int4": "gptq-int4", "gptq-int8": "gptq-int8"}
_FORMATS |= {"awq-int4": "awq-int4", "bf16": "bf16", "none": "f16", "bnb": "nf4-single", "fp8": "fp8"}
_BASES = {
    "llama-7b": "llama-2-7b",
    "llama-13b": "llama-2-13b",
    "mistral-7b-v0.1": "mistralai/Mistral-7B-v0.1",
    "vicuna-7b-v1.5": "llama-2-7b",
}


_COUNTED = {
    "generate.max_memory_used(MB)": "total",
    "generate.max_memory_reserved(MB)": "reserved",
    "generate.max_memory_allocated(MB)": "allocated",
}


def _optimum(table: pd.DataFrame) -> Iterator[Run]:
    """Runs of optimum-benchmark by what was counted.

    PyTorch counts every byte that it allocates and reserves; ``used`` was asked of the driver every so often. Where the
    card was full for a moment (an allocator that grows to its edge gives back and goes on) the driver was asked too
    late: those rows say less than PyTorch held at its peak, and are no peak.
    """
    table = table[table.domain.str.contains("optimum")]
    same = ["source_url", "model", "config", "gpu"]
    held = table[table.metric == "generate.max_memory_reserved(MB)"].groupby(same).value.max()
    for _, row in table.iterrows():
        fields = json.loads(row.config)
        scheme = fields.get("backend.quantization_scheme", "none").lower()
        # Before version 4.45 `forward` made logits of every position; `generate` is the run people make.
        if row.metric not in _COUNTED:
            continue
        if row.metric == "generate.max_memory_used(MB)":
            reserved = held.get(tuple(row[name] for name in same), math.inf)
            if not row.value >= reserved:
                continue
        if scheme not in _FORMATS or str(row.gpu).count("NVIDIA") != 1:
            continue
        name = str(row.model).lower().rpartition("/")[2].removesuffix("-hf")
        name = re.sub(r"-(gptq|awq.*)$|^test-", "", name)
        model = _llm(_BASES.get(name, name))
        if model is None or model.transformer is None:
            continue
        prompt = int(fields.get("benchmark.input_shapes.sequence_length", "256"))
        new = int(fields.get("benchmark.new_tokens", "0") or 0)
        yield Run(
            row.row_id,
            f"transformers, optimum-benchmark ({row.metric.split('(')[0].split('_')[-1]})",
            model.transformer.model_type,
            model,
            Workload(
                context_tokens=prompt + new,
                prompt_tokens=prompt,
                output_tokens=max(new, 1),
                concurrency=int(fields.get("benchmark.input_shapes.batch_size", "1")),
            ),
            _FORMATS[scheme],
            Runtime(name="transformers", version="4.34"),
            float(row.value) * MB,
            _COUNTED[row.metric],
            1,
            80 * GIB,
        )


def _qwen(table: pd.DataFrame) -> Iterator[Run]:
    for _, row in table[table.domain.str.contains("speed benchmark")].iterrows():
        fields = json.loads(row.config)
        scheme = str(fields.get("Quantization", "")).lower()
        length = fields.get("Input Length") or fields.get("Input length")
        model = _llm(f"Qwen/{fields.get('Model', row.model)}")
        if scheme not in _FORMATS or length is None or model is None or model.transformer is None:
            continue
        prompt = int(length)
        yield Run(
            row.row_id,
            "transformers, Qwen tables",
            model.transformer.model_type,
            model,
            Workload(context_tokens=prompt + 2048, prompt_tokens=prompt, output_tokens=2048),
            _FORMATS[scheme],
            # The tables of 2024-06 were made before transformers kept logits of the last position only.
            Runtime(name="transformers", version="4.40" if "Qwen2 " in row.domain else "4.46"),
            float(row.value) * (GIB if row.unit == "GB" else MIB),
            "allocated",
            int(fields.get("GPU Num", "1")),
            80 * GIB,
        )


def _room_of(name: str) -> float:
    """Memory that a card of the catalog shows."""
    return float(describe_machine(name).accelerators[0].memory_total_bytes or math.nan)


def _finetuning(table: pd.DataFrame) -> Iterator[Run]:
    for _, row in table[table.domain == "llm/litgpt"].iterrows():
        fields = json.loads(row.config)
        config = str(fields.get("Config", ""))
        mode = config.rpartition("/")[2].removesuffix(".yaml")
        # litgpt quantizes a model that it has loaded in bf16: the peak of its QLoRA is that of loading.
        if mode != "lora" or row.metric != "Peak memory" or "1x" not in str(fields.get("Machine")):
            continue
        model = _llm(str(fields["Model"]))
        if model is None or model.transformer is None:
            continue
        yield Run(
            row.row_id,
            f"fine-tuning, litgpt {mode}",
            model.transformer.model_type,
            model,
            # The recipes adapt at rank 32; one device alone does no checkpointing.
            Workload(
                mode=mode,
                context_tokens=int(fields["Max seq length"]),
                batch_size=int(fields["Micro batch size"]),
                gradient_checkpointing="none",
                lora_rank=32,
            ),
            None,
            Runtime(name="transformers"),
            float(row.value) * GB,
            "allocated",
            1,
            _room_of(str(fields["Machine"]).removeprefix("1x")),
        )


def _vllm(path: Path) -> Iterator[tuple[Run, float, bool]]:
    """Starts of vLLM, the KV tokens that they printed, and whether they came up: less than nothing left for a cache is an end."""
    for _, row in pd.read_csv(path).iterrows():
        total, weights, share = (
            _number(row[name]) for name in ("gpu_total_gib", "weights_gib", "gpu_memory_utilization")
        )
        model = _llm(str(row.model)) or _llm(str(row.model_short))
        length = _number(row.max_model_len)
        if (
            model is None
            or model.transformer is None
            or not total > 0
            or not length > 0
            or _number(row.pp) > 1
        ):
            continue
        tensor = int(_number(row.tp)) if _number(row.tp) > 0 else 1
        seqs, batched = _number(row.max_num_seqs), _number(row.max_num_batched_tokens)
        scheme = str(row.quantization).lower()
        if scheme not in ("nan", "none", "fp8") or str(row.model).endswith(".gguf"):
            continue
        fp8 = "fp8" in str(row.kv_cache_dtype)
        yield (
            Run(
                row.row_id,
                "vLLM",
                model.transformer.model_type,
                model,
                Workload(context_tokens=int(length), prompt_tokens=1, output_tokens=1),
                "fp8" if scheme == "fp8" or "fp8" in str(row.model).lower() else None,
                Runtime(
                    name="vllm",
                    version=str(row.vllm_version).lstrip("v"),
                    gpu_memory_utilization=share if 0 < share <= 1 else None,
                    max_num_seqs=int(seqs) if seqs > 0 else None,
                    max_num_batched_tokens=int(batched) if batched > 0 else None,
                    enforce_eager=bool(row.enforce_eager) if isinstance(row.enforce_eager, bool) else None,
                    kv_dtype_k="fp8" if fp8 else None,
                    kv_dtype_v="fp8" if fp8 else None,
                ),
                weights * GIB * tensor,
                "ran",
                tensor,
                total * GIB,
                Placement(tp=tensor if tensor > 1 else None),
                # vLLM takes smaller steps on an A100 than on other cards of its memory.
                A100 if "a100" in str(row.gpu).lower() else H100,
            ),
            _number(row.kv_tokens),
            not _number(row.avail_kv_gib) < 0,
        )


def collect(data: Path) -> tuple[list[Asked], list[tuple[Asked, float]], list[Asked]]:
    """Every run that the public API knows, vLLM starts with the tokens that they printed, and starts that failed."""
    table = pd.read_csv(data / "mem_other.csv", low_memory=False)
    table = table[table.evidence == "measured"]
    runs = [*_optimum(table), *_qwen(table), *_finetuning(table)]
    asked = [found for run in runs if (found := ask(run)) is not None]
    starts = [(ask(run), tokens, came_up) for run, tokens, came_up in _vllm(data / "mem_vllm.csv")]
    servers = [(found, tokens) for found, tokens, came_up in starts if found is not None and came_up]
    return asked, servers, [found for found, _, came_up in starts if found is not None and not came_up]


def error_cells(name: str, some: Sequence[Asked]) -> str:
    """Name, count, median and p90 error and coverage of totals, as the first cells of a row."""
    errors = np.abs([entry.ratio - 1 for entry in some])
    return (
        f"| {name} | {len(some)} | {100 * np.median(errors):.1f} % | {100 * np.quantile(errors, 0.9):.1f} % "
        f"| {100 * np.mean([entry.inside for entry in some]):.0f} % |"
    )


def table(data: Path) -> str:
    """Markdown: error and coverage of the total by kind of run and architecture, wrong verdicts, KV tokens."""
    asked, servers, failed = collect(data)
    groups: dict[str, list[Asked]] = defaultdict(list)
    for entry in asked:
        groups[entry.run.group].append(entry)
        groups[f"{entry.run.group}, {entry.run.architecture}"].append(entry)
    lines = [
        "| runs, through the public API | n | median error | p90 | inside 90 % interval | false comfortable | false will-not-run |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, some in sorted(groups.items()):
        comfortable = sum(entry.tier_below == "comfortable" for entry in some)
        refused = sum(entry.tier_where_it_ran == "will-not-run" for entry in some)
        lines.append(f"{error_cells(name, some)} {comfortable} | {refused} |")
    refused = sum(entry.tier_where_it_ran == "will-not-run" for entry, _ in servers)
    pairs = [entry.pool_tokens / tokens for entry, tokens in servers if tokens > 0 and entry.pool_tokens > 0]
    off = np.abs(np.array(pairs) - 1)
    lines.append(
        f"| vLLM: KV tokens | {len(pairs)} | {100 * np.median(off):.1f} % | {100 * np.quantile(off, 0.9):.1f} % | | | |"
    )
    lines.append(f"| vLLM: starts that ran | {len(servers)} | | | | | {refused} |")
    fits = sum(entry.tier_where_it_ran != "will-not-run" for entry in failed)
    lines.append(f"| vLLM: starts that found no room for a cache | {len(failed)} | | | | {fits} | |")
    total = [*asked, *(entry for entry, _ in servers)]
    refused = sum(entry.tier_where_it_ran == "will-not-run" for entry in total)
    lines.append(
        f"| all | {len(total)} | | | | {sum(entry.tier_below == 'comfortable' for entry in asked)} "
        f"| {refused} ({100 * refused / max(len(total), 1):.1f} %) |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    print(table(parser.parse_args().data), end="")


if __name__ == "__main__":
    main()
