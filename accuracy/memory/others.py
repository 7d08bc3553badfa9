"""What the public API says of runtimes with few published figures: ExLlama, AutoAWQ, MLX, Jetson boards, Whisper, Ollama's split.

Sources state little beside a model, a format and a figure, so what a figure counts is the reading named in each group:
tables of single programs, most without the version. Run ``python -m accuracy.memory.others --data ../shared/data``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from accuracy.memory.formats import ROOT
from accuracy.memory.landed import Asked, Run, ask, card, error_cells
from willitrun import Runtime, Workload, assess, describe_model
from willitrun.catalog import load_catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.llm_models import model_row
from willitrun.records.models import Model

__all__ = ["Split", "runs", "splits", "table"]

MB, GB, MIB, GIB = 10**6, 10**9, 2**20, 2**30
_UNITS = {"MB": MB, "GB": GB, "MiB": MIB, "GiB": GIB}
_BINARY = {"llm/exllama": MIB, "edge/jetson": MIB, "asr/whisper implementations": MIB}
"""Programs whose "MB" are 2**20 bytes: ExLlama divides PyTorch's counter by 1024**2, tegrastats and NVML count so."""
_MODELS = {
    "Vicuna 7B": "llama-2-7b",
    "Mistral 7B": "mistral-7b-v0.1",
    "Llama 2 13B": "llama-2-13b",
    "MPT 7B": "mpt-7b",
    "DeepSeek 33B": "deepseek-coder-33b",
    "DeepSeek Coder 33B": "deepseek-coder-33b",
    "Llama 7B": "llama-7b",
    "Llama 13B": "llama-13b",
    "Koala 13B": "llama-13b",
    "Llama 33B": "llama-30b",
    "WizardLM 33B": "llama-30b",
    "Llama 65B": "llama-65b",
    "OpenLlama 3B": "open-llama-3b",
    "Llama-2 70B": "llama-2-70b",
    "TheBloke/Llama-2-7b-Chat-GGUF": "llama-2-7b",
    "TheBloke/Llama-2-13B-chat-GGUF": "llama-2-13b",
    "TheBloke/LLaMA-30b-GGUF": "llama-30b",
    "TheBloke/Llama-2-70B-chat-GGUF": "llama-2-70b",
}


def _described(name: str) -> Model | None:
    try:
        return describe_model(_MODELS.get(name, name))
    except WillItRunError:
        return None


def _run(row: Any, group: str, name: str, **how: Any) -> Run | None:
    model = _described(name)
    if model is None:
        return None
    kind = model.transformer.model_type if model.transformer else model.family
    return Run(
        row.row_id,
        group,
        kind,
        model,
        how["workload"],
        how["quantization"],
        how["runtime"],
        float(row.value) * (_BINARY.get(row.domain, MB) if row.unit == "MB" else _UNITS[row.unit]),
        how.get("what", "total"),
    )


def _exllama(row: Any, fields: dict[str, str]) -> Run | None:
    # Groups of 32 are another layout than the one of 128 that the format's record describes.
    if "32" in (fields.get("grpsz"), fields.get("groupsize")):
        return None
    length = int(re.sub(r"\D", "", fields["Seq. len."].split("t")[0]))
    return _run(
        row,
        "ExLlama, GPTQ of 4 bits, VRAM",
        f"{fields['Model']} {fields['Size']}",
        workload=Workload(context_tokens=length, prompt_tokens=length - 1, output_tokens=1),
        quantization="gptq-int4",
        runtime=Runtime(name="exllamav2"),
        what="allocated",
    )


def _awq(row: Any, fields: dict[str, str]) -> Run | None:
    # The second table counts what the card shows of it, at twice the figures of the first.
    if row.metric != "Memory (VRAM)":
        return None
    prefill, decode = int(fields["Prefill Length"]), int(fields["Decode Length"])
    return _run(
        row,
        "AutoAWQ, AWQ of 4 bits, allocated",
        f"{fields['Model Name']} {fields['Size']}",
        workload=Workload(
            context_tokens=prefill + decode,
            prompt_tokens=prefill,
            output_tokens=decode,
            concurrency=int(fields["Batch Size"]),
        ),
        quantization="awq-int4",
        runtime=Runtime(name="transformers"),
        what="allocated",
    )


def _mlx(row: Any, fields: dict[str, str]) -> Run | None:
    found = re.fullmatch(r"q(\d)|bf16", fields.get("Precision", ""))
    if found is None or "g32" in fields["Precision"]:
        return None
    name = re.sub(r"-(\d+bit.*|bf16)$", "", fields["Repo"].partition("/")[2])
    return _run(
        row,
        "MLX, peak",
        f"Qwen/{name}",
        workload=Workload(context_tokens=2048, prompt_tokens=2048 - 128, output_tokens=128),
        quantization=f"mlx-{found[1]}bit" if found[1] else "bf16",
        runtime=Runtime(name="mlx"),
        what="allocated",
    )


def _jetson(row: Any, fields: dict[str, str]) -> Run | None:
    found = re.search(r"\.(q\d\w+)\.gguf", fields.get("Quantization", "").lower())
    if found is None:
        return None
    return _run(
        row,
        "Jetson AGX Orin, llama.cpp, process",
        fields["Model"],
        workload=Workload(context_tokens=2048, prompt_tokens=512, output_tokens=128),
        quantization=found[1],
        runtime=Runtime(name="llama.cpp", version="b2000", flash_attention=False),
    )


_WHISPER = {"openai/whisper": "pytorch", "whisper.cpp": "whisper.cpp", "faster-whisper": "faster-whisper"}
_WHISPER |= {"transformers": "transformers"}


def _whisper(row: Any, fields: dict[str, str]) -> Run | None:
    name = fields["Implementation"].split(" ")[0]
    if row.metric != "VRAM Usage" or name not in _WHISPER:
        return None
    batch = re.search(r"batch_size=(\d+)", fields["Implementation"])
    return _run(
        row,
        "Whisper large-v2, card",
        "whisper-large-v2",
        workload=Workload(concurrency=int(batch[1]) if batch else 1),
        quantization={"fp16": "f16"}.get(fields["Precision"], fields["Precision"]),
        runtime=Runtime(name=_WHISPER[name]),
    )


_READERS = {
    "asr/whisper implementations": _whisper,
    "llm/exllama": _exllama,
    "llm/AutoAWQ": _awq,
    "llm/mlx-lm": _mlx,
    "edge/jetson": _jetson,
}


def runs(path: Path) -> Iterator[Run]:
    """Every figure that can be read as a run of the public API."""
    rows = pd.read_csv(path, low_memory=False)
    for _, row in rows[(rows.evidence == "measured") & rows.domain.isin(list(_READERS))].iterrows():
        if row.unit in _UNITS and (found := _READERS[row.domain](row, json.loads(row.config))) is not None:
            yield found


@dataclass(frozen=True)
class Split:
    """Layers that Ollama put on its cards, and that the library would."""

    model: str
    layers: int
    ollama: int
    predicted: int


_OLLAMA = {
    "DeepSeek R1 Distill Qwen 32B": "qwen2.5-32b",
    "Meta Llama 3.1 70B Instruct": "llama-3.1-70b",
    "Llama 3.1 70B Instruct 2024 12": "llama-3.1-70b",
    "Meta Llama 3.1 8B Instruct": "llama-3.1-8b",
    "Qwen2.5 7B Instruct": "qwen2.5-7b",
    "QwQ 32B": "qwq-32b",
}


def _bytes(text: str) -> float:
    value, unit = text.split()
    return float(value) * _UNITS[unit]


_MIXES = (
    "q8_0",
    "q6_k",
    "q5_k_m",
    "q5_k_s",
    "q4_k_m",
    "q4_k_s",
    "q4_0",
    "q3_k_l",
    "q3_k_m",
    "q3_k_s",
    "q2_k",
)


def _format(model: Model, printed: float) -> str | None:
    """The standard mix whose layers are as large as printed, to 1.5 %; None where none is."""
    catalog = load_catalog()
    sizes = {
        name: model_row(model, catalog.quantizations[name], "gguf", catalog).repeating for name in _MIXES
    }
    nearest = min(sizes, key=lambda name: abs(sizes[name] - printed))
    return nearest if abs(sizes[nearest] / printed - 1) < 0.015 else None


def splits(path: Path) -> Iterator[Split]:
    """Loads that Ollama split by itself: the context is what its cache holds at two bytes an element."""
    for _, row in pd.read_csv(path).iterrows():
        name = _OLLAMA.get(str(row.model))
        if name is None or row.library != "cuda" or row.layers_requested != -1 or not row.layers_model > 0:
            continue
        model = describe_model(name)
        config = model.transformer
        assert config is not None
        head = config.head_dim or config.hidden_size // (config.num_attention_heads or 1)
        each = 4 * config.num_hidden_layers * (config.num_key_value_heads or 1) * head
        form = _format(model, _bytes(row.weights_repeating))
        if form is None:
            continue
        free = [_bytes(part) for part in re.findall(r"[\d.]+ GiB", row.memory_available)]
        verdict = assess(
            model,
            card(min(free), count=len(free)),
            Workload(context_tokens=round(_bytes(row.kv) / each), prompt_tokens=1, output_tokens=1),
            quantization=form,
            runtime=Runtime(name="ollama", flash_attention=False),
        )
        placed = verdict.placement.gpu_layers if verdict.placement else 0
        yield Split(name, int(row.layers_model), int(row.layers_offload), int(placed or 0))


def table(data: Path) -> str:
    """Markdown: errors and coverage by group, and how far Ollama's splits are met."""
    groups: dict[str, list[Asked]] = defaultdict(list)
    for run in runs(data / "mem_other.csv"):
        if (found := ask(run)) is not None:
            groups[run.group].append(found)
    lines = [
        "| figures of other runtimes | n | median error | p90 | inside 90 % interval |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [error_cells(name, some) for name, some in sorted(groups.items())]
    found_splits = list(splits(data / "mem_ollama.csv"))
    off = np.array([abs(split.predicted - split.ollama) for split in found_splits])
    part = np.array([abs(s.predicted - s.ollama) for s in found_splits if s.ollama < s.layers])
    lines.append(
        f"| Ollama, layers on cards | {len(off)} | exact in {100 * np.mean(off == 0):.0f} % "
        f"| within 2 layers in {100 * np.mean(off <= 2):.0f} % | of {len(part)} split ones {np.median(part):.0f} off (median) |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    print(table(parser.parse_args().data), end="")


if __name__ == "__main__":
    main()
