"""What the public API says of load logs of llama.cpp: weights, cache and buffers of the accelerators, and what the host holds.

A log names a file, its architecture and how it was loaded; `estimate_memory` is asked for the catalog's model of that
shape at that format, with the layers that the log says were offloaded. Files of publishers' own mixes are told apart by
the types that the log lists: their weights are not the library's to know from a name.

Run ``python -m accuracy.memory.loads --data ../shared/data``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from accuracy.memory.formats import ROOT, quantizations
from accuracy.memory.landed import card
from accuracy.memory.llamacpp import (
    ON,
    accelerator_buffers,
    build_of,
    contradicts_itself,
    experts_on_host,
    number,
    of_projector,
    program,
)
from willitrun import Placement, Runtime, Workload, estimate_memory
from willitrun.catalog import load_catalog
from willitrun.checkpoints.gguf_architectures import ARCHITECTURES
from willitrun.errors import WillItRunError
from willitrun.estimators.inventory_formats import weight_groups
from willitrun.intervals import Interval
from willitrun.records.models import Model
from willitrun.records.recipes import Quantization
from willitrun.records.results import MemoryEstimate

__all__ = ["Load", "loads", "table"]

MIB = 2**20
ROOM = 2**40
PRINTED = 2**20
"""A buffer is printed to hundredths, beside inputs of a few kilobytes that it is aligned with."""
ALL_EXPERTS = 0.05
"""A log whose cards hold this much more or less than all but the experts moved those of some layers only."""
UNDATED = 4000
"""Build that a log of which nothing tells the build is asked for: one of 2024."""


@dataclass(frozen=True)
class Load:
    """One log: what its accelerators hold, printed and predicted [bytes]."""

    row: str
    architecture: str
    where: str
    """``all layers on GPU``, ``partly on CPU``, or ``experts on CPU``."""
    standard: bool
    """Whether the types that the log lists are those of the mix that it names."""
    printed: dict[str, float]
    predicted: dict[str, float]
    buffers: Interval
    """The range of the compute buffers [bytes]."""

    def ratio(self, *parts: str) -> float:
        """Predicted over printed; NaN where nothing is printed."""
        printed = sum(self.printed[part] for part in parts)
        return sum(self.predicted[part] for part in parts) / printed if printed else math.nan


def _sum(text: Any, *, accelerators: bool = True) -> float:
    buffers: dict[str, float] = json.loads(text) if isinstance(text, str) else {}
    return MIB * sum((accelerator_buffers(buffers) if accelerators else buffers).values())


_ALIKE = {"mistral": "llama", "mixtral": "llama", "deepseek_v3": "deepseek_v2", "kimi_k2": "deepseek_v2"}
"""Model types that llama.cpp loads as another architecture."""


def _buffers(row: Any) -> dict[str, float]:
    return accelerator_buffers(json.loads(row.compute_buffers_mib))


def _models() -> dict[tuple[object, ...], Model]:
    """The catalog's models by architecture, layers, width, query and KV heads, experts or width of the block."""
    found: dict[tuple[object, ...], Model] = {}
    for model in load_catalog().models.values():
        config = model.transformer
        if config is not None:
            kind = _ALIKE.get(config.model_type, config.model_type)
            heads = (
                config.num_attention_heads or 0,
                config.num_key_value_heads or config.num_attention_heads or 0,
            )
            # Latent attention is one KV head to the program, or all of them.
            heads = (heads[0], 0) if config.kv_lora_rank else heads
            block = config.num_experts or config.intermediate_size or 0
            shape = (config.num_hidden_layers, config.hidden_size, *heads, block)
            found.setdefault((kind, *shape), model)
    return found


def _shape(row: Any) -> tuple[object, ...]:
    names = ("n_layer", "n_embd", "n_head", "n_head_kv", "n_expert", "n_ff")
    layers, width, heads, shared, experts, block = (int(number(row[name], 0)) for name in names)
    kind = ARCHITECTURES.get(str(row.arch), str(row.arch))
    return kind, layers, width, heads, 0 if number(row.kv_lora_rank, 0) else shared, experts or block


def _format(text: str, known: dict[str, Quantization]) -> Quantization | None:
    """The format of a header's type: ``IQ3_S mix - 3.66 bpw`` is IQ3_M."""
    name = re.sub(r" - [\d.]+ bpw.*|\(guessed\)", "", text).strip()
    name = {"IQ3_S mix": "IQ3_M", "MXFP4 MoE": "MXFP4"}.get(name, name)
    for word, letter in (("Medium", "M"), ("Small", "S"), ("Large", "L")):
        name = name.replace(f" - {word}", f"_{letter}")
    return known.get(name.lower()) or known.get(name.lower().removesuffix("_m"))


def _listed(row: Any) -> dict[str, int]:
    return (
        {name.lower(): count for name, count in json.loads(row.tensor_types).items()}
        if isinstance(row.tensor_types, str)
        else {}
    )


def _choose(model: Model, form: Quantization, row: Any) -> tuple[bool | None, bool]:
    """Whether an importance matrix was used, and whether the mix is the quantiser's, by the types that the log lists."""
    listed = _listed(row)
    assert model.transformer is not None
    for imatrix in (None, True, False):
        try:
            groups = weight_groups(model.transformer, form, container="gguf", imatrix=imatrix)
        except WillItRunError:
            return None, False
        quantized = {name: count for name, count in groups.formats.items() if name != "f32"}
        if quantized == {name: count for name, count in listed.items() if name != "f32"}:
            return imatrix, True
    return None, False


def loads(path: Path) -> Iterator[Load]:
    """Every complete log of the mainline and Ollama whose model the catalog knows."""
    known, shapes = quantizations(), _models()
    for _, row in pd.read_csv(path, low_memory=False).iterrows():
        build = build_of(row) or UNDATED
        if program(row).startswith("ik") or contradicts_itself(row) or of_projector(row):
            continue
        model = shapes.get(_shape(row))
        form = _format(str(row.ftype), known)
        compute = _sum(row.compute_buffers_mib)
        if model is None or form is None or not compute or math.isnan(number(row.n_ctx)):
            continue
        vocabulary = int(number(row.n_vocab, 0)) or model.transformer.vocab_size
        config = model.transformer.model_copy(update={"vocab_size": vocabulary})
        imatrix, standard = _choose(model.model_copy(update={"transformer": config}), form, row)
        moved = experts_on_host(row)
        estimate = _ask(row, model.model_copy(update={"transformer": config}), form, imatrix, build, moved)
        if estimate is None:
            continue
        held = _sum(row.model_buffers_mib)
        if moved and abs(estimate.weights_bytes.best / max(held, 1) - 1) > ALL_EXPERTS:
            continue  # the experts of some layers only, which rows do not say
        whole = number(row.layers_offloaded) >= number(row.layers_total_offloadable)
        if whole and not moved and len(_buffers(row)) > 1 and not number(row.pipeline_parallel, 0):
            continue  # built without copies between cards (GGML_CUDA_NO_PEER_COPY), or a backend without events
        whole = whole and _sum(row.kv_buffers_mib) == _sum(row.kv_buffers_mib, accelerators=False)
        yield Load(
            row.row_id,
            str(row.arch),
            "experts on CPU" if moved else "all layers on GPU" if whole else "partly on CPU",
            standard,
            {
                "weights": _sum(row.model_buffers_mib),
                "cache": _sum(row.kv_buffers_mib),
                "buffers": compute,
            },
            {
                "weights": estimate.weights_bytes.best,
                "cache": estimate.kv_cache_bytes.best + estimate.state_bytes.best,
                "buffers": estimate.activation_bytes.best,
            },
            estimate.activation_bytes,
        )


def _ask(
    row: Any, model: Model, form: Quantization, imatrix: bool | None, build: int, moved: bool
) -> MemoryEstimate | None:
    devices = len(_buffers(row))
    slots = int(number(row.n_seq_max, 1))
    flash = str(row.flash_attn) in ON
    kinds = [kind if isinstance(kind, str) else None for kind in (row.cache_type_k, row.cache_type_v)]
    offloaded = number(row.layers_offloaded)
    try:
        return estimate_memory(
            model,
            card(ROOM, count=devices),
            Workload(
                context_tokens=int(number(row.n_ctx)) // slots,
                prompt_tokens=1,
                output_tokens=1,
                concurrency=slots,
            ),
            quantization=form.id,
            runtime=Runtime(
                name="llama.cpp",
                version=f"b{build}",
                flash_attention=flash,
                n_ubatch=int(number(row.n_ubatch, 512)),
                n_seq_max=slots,
                kv_unified=str(row.kv_unified) not in ("False", "false", "0", "0.0"),
                kv_dtype_k=kinds[0],
                kv_dtype_v=kinds[1] or kinds[0],
                imatrix=imatrix,
            ),
            placement=Placement(
                gpu_layers=None if math.isnan(offloaded) else int(offloaded),
                cpu_moe_layers=int(row.n_layer) if moved else None,
            ),
        )
    except WillItRunError:
        return None


def _line(name: str, ratios: Sequence[float]) -> str:
    errors = np.abs(np.array([ratio for ratio in ratios if not math.isnan(ratio)]) - 1)
    if not len(errors):
        return f"| {name} | 0 | | | |\n"
    return (
        f"| {name} | {len(errors)} | {100 * np.median(errors):.3f} % | {100 * np.mean(errors < 0.01):.1f} % "
        f"| {100 * np.mean(errors < 0.05):.1f} % |\n"
    )


def table(data: Path) -> str:
    """Markdown: errors of weights, cache, buffers and their sum, of whole loads and of loads partly on the host."""
    groups: dict[str, list[Load]] = defaultdict(list)
    for load in loads(data / "mem_llamacpp.csv"):
        groups[load.where].append(load)
    text = "| llama.cpp load logs, through the public API | n | median | within 1 % | within 5 % |\n|---|---:|---:|---:|---:|\n"
    for name, some in sorted(groups.items()):
        mixes = [load for load in some if load.standard]
        text += _line(f"{name}, weights of standard mixes", [load.ratio("weights") for load in mixes])
        text += _line(f"{name}, cache and state", [load.ratio("cache") for load in some])
        text += _line(f"{name}, compute buffers", [load.ratio("buffers") for load in some])
        inside = [
            load.buffers.low <= load.printed["buffers"] + PRINTED
            and load.printed["buffers"] - PRINTED <= load.buffers.high
            for load in some
        ]
        text += f"| {name}, compute buffers in their range | {len(inside)} | {100 * np.mean(inside):.1f} % | | |\n"
        text += _line(
            f"{name}, sum of standard mixes", [load.ratio("weights", "cache", "buffers") for load in mixes]
        )
    return text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    print(table(parser.parse_args().data), end="")


if __name__ == "__main__":
    main()
