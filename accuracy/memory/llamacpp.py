"""KV cache, compute buffers and their sum against load logs of llama.cpp and its relatives."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from willitrun.kernels.compute_buffers import FORKED, BufferShape, GraphEra, device_buffer, graph_era
from willitrun.kernels.kv_cells import CellsPolicy, cell_counts, cells_cache, cells_policy
from willitrun.kernels.kv_layouts import KvLayout, recurrent_state

__all__ = [
    "Scored",
    "accelerator_buffers",
    "build_of",
    "ON",
    "contradicts_itself",
    "number",
    "of_projector",
    "program",
    "score",
]

MIB = 2**20
_PATTERNS = {"gemma3": 6, "gemma2": 2, "gpt-oss": 2, "cohere2": 4, "gemma3n": 5}
_KINDS = ("f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "f32")
ON = ("1", "1.0", "enabled", "auto", "on")
"""How logs say that flash attention is on."""


@dataclass(frozen=True)
class Scored:
    """One log: what was printed and what the kernels say [MiB]."""

    row: str
    engine: str
    architecture: str
    kv_printed: float
    kv_predicted: float
    compute_printed: float
    compute_predicted: float
    rest_printed: float
    flagged: bool
    devices: int
    whole: bool
    typed: bool
    """Whether the log names its cache types: without them its KV size is no test of a rule."""

    @property
    def kv_exact(self) -> bool:
        """Equal to print precision."""
        return abs(self.kv_printed - self.kv_predicted) < 0.0051

    @property
    def sum_ratio(self) -> float:
        """Predicted over printed sum of accelerator buffers (weights as printed)."""
        return (self.rest_printed + self.compute_predicted + self.kv_predicted) / (
            self.rest_printed + self.compute_printed + self.kv_printed
        )


def number(value: Any, default: float = math.nan) -> float:
    """A number of a row; the default where there is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return default
    return default if math.isnan(found) else found


def _mapping(value: Any) -> dict[str, float]:
    if not isinstance(value, str) or not value.startswith("{"):
        return {}
    loaded: dict[str, float] = json.loads(value)
    return loaded


def accelerator_buffers(buffers: dict[str, float]) -> dict[str, float]:
    return {
        name: size
        for name, size in buffers.items()
        if "host" not in name.lower() and not name.upper().startswith(("CPU", "BLAS"))
    }


def _on_host(buffers: dict[str, float]) -> bool:
    return any(size > 0 for name, size in buffers.items() if name not in accelerator_buffers(buffers))


FORK_BUILDS = 5000
"""ik_llama.cpp had not counted so many builds by 2026: rows of its issue archive with more quote the mainline."""


_WORDS = (("flash_attn", ("auto", "enabled", "disabled"), 6325), ("kv_unified", ("True", "False"), 5912))
"""Words that logs print since a build: three states of flash attention (pull request 15434), streams (14363)."""


def build_of(row: Any) -> int | None:
    """Build number of a log; of one that names none, the first that prints its words, and None where none tells."""
    named = re.match(r"\s*(\d+)", str(row.build))
    if named:
        return int(named.group(1))
    since = [build for column, words, build in _WORDS if str(row[column]) in words]
    if isinstance(row.swa_cells, str):
        since.append(5438)
    return max(since, default=None)


def of_projector(row: Any) -> bool:
    """Whether the last compute buffers printed are a vision tower's: only its loader (``clip.cpp``) counts nodes beside splits."""
    return "nodes" in str(row.graph_splits)


def program(row: Any) -> str:
    """Which program's rules the cache follows. The fork alone prints ``mla_attn``; its issues quote logs of the mainline as well.

    Their compute buffers stay in the fork's table: most of them keep experts on the host by hand (``-ot``), which rows don't say.
    """
    engine = str(row.engine).split(" ")[0]
    build = re.match(r"\s*(\d+)", str(row.build))
    quoted = build is not None and int(build.group(1)) >= FORK_BUILDS and math.isnan(number(row.mla_attn))
    return "llama.cpp" if engine.startswith("ik") and quoted else engine


def contradicts_itself(row: Any) -> bool:
    """Whether the caches of the devices don't sum to the total that the same log prints: it is of several loads."""
    parts, total = _mapping(row.kv_buffers_mib), number(row.kv_total_mib)
    return bool(parts) and total > 0 and abs(sum(parts.values()) / total - 1) > 0.01


def _policy(row: Any, flash: bool) -> CellsPolicy:
    build = re.match(r"\s*(\d+)", str(row.build))
    number = int(build.group(1)) if build else None
    if program(row).startswith("ik"):
        # A fork with its own build numbers. Its MLA mode 1 without flash attention keeps a copy of the latent.
        copied = str(row.mla_attn) == "1.0" and not flash
        windowed = isinstance(row.swa_cells, str)
        return CellsPolicy(256 if windowed else 1, windowed=windowed, latent_values=copied)
    if number is None:
        return CellsPolicy(padding=1, windowed=isinstance(row.swa_cells, str), latent=False)
    era = cells_policy(number, flash_attention=flash)
    # Logs print n_ctx as it was padded, or the cells themselves: padding again must not change them.
    kept = era.padding if number >= 6900 or era.windowed else 1
    return CellsPolicy(kept, era.windowed, era.streams, era.latent, era.latent_values)


def _layout(row: Any, kind_v: str | None, policy: CellsPolicy) -> KvLayout | None:
    layers, key, value = (number(row[name]) for name in ("n_layer", "n_embd_k_gqa", "n_embd_v_gqa"))
    if row.arch == "mamba":
        conv = (number(row.ssm_d_conv) - 1) * number(row.ssm_d_inner)
        state = number(row.ssm_d_state) * number(row.ssm_d_inner)
        return KvLayout(0, 0, conv_state=int(layers * conv), recurrent_state=int(layers * state))
    if str(row.arch).startswith("rwkv"):
        width = number(row.n_embd)
        shifts, head = (2, 64) if row.arch == "rwkv6" else (1, 128)
        return KvLayout(
            0, 0, conv_state=int(layers * shifts * width), recurrent_state=int(layers * head * width)
        )
    if any(math.isnan(number) for number in (layers, key, value)):
        return None
    rank = number(row.kv_lora_rank)
    if row.arch == "deepseek2" and rank > 0 and (kind_v is None or key == rank + 64):
        row_width = int(layers * (rank + 64))
        return KvLayout(row_width, 0, kv_heads=1, latent=1, latent_v=int(layers * rank))
    if row.arch == "gemma3n":
        layers = 20.0  # the other 15 of 35 read the cache of layers 18 and 19
    window = number(row.n_swa, 0)
    pattern = _PATTERNS.get(str(row.arch), 0)
    if window and pattern and policy.windowed:
        full = int(layers) // pattern
        narrow = int(layers) - full
        return KvLayout(
            int(full * key), int(full * value), int(narrow * key), int(narrow * value), int(window)
        )
    return KvLayout(int(layers * key), int(layers * value))


def _swa_full(row: Any) -> bool:
    cells = _mapping(row.swa_cells)
    return bool(cells) and cells.get("SWA") == cells.get("non-SWA")


def _streamed(row: Any) -> int:
    """Bytes of the output matrix that builds before 8000 copy over when it lies in host memory."""
    if (build_of(row) or 0) >= 8000:
        return 0
    text = str(row.ftype)
    elements = int(number(row.n_vocab) * number(row.n_embd))
    if "Q8_0" in text:
        return elements * 34 // 32
    if text.startswith("F16"):
        return elements * 2
    # The quantiser gives the output matrix Q6_K, and Q5_K in its smallest mixes.
    small = text.startswith(("IQ1", "IQ2", "IQ3_XXS"))
    return elements // 256 * (176 if small else 210)


def experts_on_host(row: Any) -> bool:
    """Whether the host holds more weights than the embeddings: experts that ``-ot`` or ``--n-cpu-moe`` left there."""
    if not number(row.n_expert, 0):
        return False
    buffers = _mapping(row.model_buffers_mib)
    held = sum(buffers.values()) - sum(accelerator_buffers(buffers).values())
    return held * MIB > 4 * number(row.n_vocab, 0) * number(row.n_embd, 0)


def _era(row: Any) -> GraphEra:
    """The graphs of a log's build, or of those of 2024 where nothing dates it."""
    if program(row).startswith("ik"):
        return FORKED
    build = build_of(row)
    return graph_era(build or 4000)


def _shape(row: Any, policy: CellsPolicy) -> BufferShape | None:
    vocabulary, hidden = number(row.n_vocab), number(row.n_embd)
    if math.isnan(vocabulary) or math.isnan(hidden):
        return None
    heads = number(row.n_head, 0)
    head = number(row.n_embd_head_k, hidden / heads if heads else 0)
    experts, used = number(row.n_expert, 0), number(row.n_expert_used, 0)
    # Logs give the dense width only; a mixture's own block is narrower than its logits anyway.
    width = 0 if experts and used else number(row.n_ff, 0)
    key_value = number(row.n_embd_k_gqa, 0) + number(row.n_embd_v_gqa, 0)
    windowed = number(row.n_swa, 0) > 0 and str(row.arch) in _PATTERNS
    return BufferShape(
        int(vocabulary),
        int(hidden),
        int(heads),
        int(heads * head),
        int(width),
        key_value=int(key_value),
        attention_hidden=1 if str(row.arch).startswith("gemma") else 2,
        windowed=int(windowed and policy.windowed),
    )


def score(path: Path) -> Iterator[Scored]:
    """Score every complete row of ``mem_llamacpp.csv``."""
    table = pd.read_csv(path, low_memory=False)
    for _, row in table.iterrows():
        found = _score_row(row)
        if found is not None:
            yield found


def _score_row(row: Any) -> Scored | None:
    context = number(row.n_ctx)
    if math.isnan(context):
        return None
    flash = str(row.flash_attn) in ON
    policy = _policy(row, flash)
    typed = isinstance(row.cache_type_k, str)
    given_v = row.cache_type_v if isinstance(row.cache_type_v, str) else None
    layout = _layout(row, given_v, policy)
    shape = _shape(row, policy)
    if layout is None or shape is None:
        return None
    batch = int(number(row.n_ubatch, 512))
    slots = int(number(row.n_seq_max, 1))
    unified = str(row.kv_unified) not in ("False", "false", "0", "0.0")
    how: dict[str, Any] = {
        "sequences": slots if policy.windowed else 1,
        "unified": True if slots == 1 else unified,
        "n_ubatch": batch,
        "swa_full": _swa_full(row),
        "policy": policy,
    }
    printed = number(row.kv_total_mib)

    def cache(kind_k: str, kind_v: str) -> int:
        return int(cells_cache(layout, int(context), **how, kind_k=kind_k, kind_v=kind_v))

    if typed:
        kv = cache(row.cache_type_k, given_v or row.cache_type_k)
    else:
        # The type is an input that the log leaves out: its size tells it, which makes this log no test of the cache.
        kv = min((cache(kind, kind) for kind in _KINDS), key=lambda size: abs(size / MIB - printed))
    states = 1 if row.arch == "mamba" or str(row.arch).startswith("rwkv") else slots
    kv += recurrent_state(layout, sequences=states).item()
    compute = {} if of_projector(row) else accelerator_buffers(_mapping(row.compute_buffers_mib))
    devices = len(compute)
    cells = int(context) if unified or slots == 1 else int(context) // slots
    _, narrow, _ = cell_counts(int(context), layout.window_tokens, **how)
    offloaded, of = number(row.layers_offloaded), number(row.layers_total_offloadable)
    spills = offloaded < of or _on_host(_mapping(row.kv_buffers_mib))
    streamed = _streamed(row) if spills else 0
    copied = int(kv // number(row.n_layer, 1)) if _on_host(_mapping(row.kv_buffers_mib)) else 0
    # The fork says that it works as a pipeline where it keeps one copy of its inputs, and has experts on the host.
    pipeline = bool(number(row.pipeline_parallel, 0)) and not program(row).startswith("ik")
    predicted = [
        device_buffer(
            shape,
            cells,
            window_cells=narrow,
            n_ubatch=batch,
            flash_attention=flash,
            holds_output=index == devices - 1,
            pipeline=pipeline,
            streamed_bytes=streamed if index == devices - 1 else 0,
            copied_cache_bytes=copied if index == 0 else 0,
            era=_era(row),
        ).item()
        for index in range(devices)
    ]
    weights = sum(accelerator_buffers(_mapping(row.model_buffers_mib)).values())
    on_device = sum(accelerator_buffers(_mapping(row.kv_buffers_mib)).values())
    # A log of several loads may count the layers of another one: caches on the host say that layers are, too.
    whole = offloaded == of and not _on_host(_mapping(row.kv_buffers_mib)) and not experts_on_host(row)
    return Scored(
        row.row_id,
        str(row.engine).split(" ")[0],
        str(row.arch),
        printed,
        kv / MIB,
        sum(compute.values()),
        sum(predicted) / MIB,
        weights + (on_device - printed if on_device else 0.0),
        (isinstance(row.qa_flag, str) and "mismatch" in row.qa_flag) or contradicts_itself(row),
        devices,
        whole,
        typed,
    )
