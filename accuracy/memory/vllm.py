"""vLLM: activation peak, budget and KV tokens against start-up logs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.memory.configurations import config_of, models
from willitrun.estimators.inventory_cache import feed_forward_width, kv_layout
from willitrun.kernels.kv_pages import paged_bytes_per_token
from willitrun.kernels.overheads import vllm_activation_peak, vllm_kv_pool, vllm_kv_tokens
from willitrun.kernels.server_defaults import vllm_default_limits
from willitrun.records.models import TransformerConfig

__all__ = ["SAMPLER_CHANGED", "ServerStart", "score"]

GIB = 2**30
SAMPLER_CHANGED = (0, 12)
"""First version whose sampler needs about 14 instead of 38 bytes per logit."""


@dataclass(frozen=True)
class ServerStart:
    """One start-up log and its prediction; NaN where the log does not print a quantity."""

    row: str
    version: str
    model: str
    activation_printed: float
    activation_predicted: float
    pool_printed: float
    pool_predicted: float
    tokens_printed: float
    tokens_predicted: float
    bytes_per_token_exact: bool | None
    multimodal: bool
    """The profiling run also encoded images, which the text forms leave out."""


def _configs(path: Path) -> dict[str, TransformerConfig]:
    found = {}
    for row in models(path):
        try:
            config = config_of(row)
        except ValueError:
            continue
        if config is not None:
            found[re.sub(r"[^a-z0-9]+", "-", row["id"].rpartition("/")[2].lower())] = config
    found["llama-2-7b"] = found.get("llama-2-7b-hf", found["llama-2-13b-hf"])
    found["llama-2-13b"] = found["llama-2-13b-hf"]
    return found


def _find(name: str, configs: dict[str, TransformerConfig]) -> TransformerConfig | None:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).removeprefix("meta-")
    plain = re.sub(r"-(fp8-dynamic|fp8|awq|quantized-.*|gptq.*|hf)$", "", plain)
    for entry in (plain, f"{plain}-instruct", f"{plain}-it", f"meta-{plain}"):
        if entry in configs:
            return configs[entry]
    return None


def _number(value: Any) -> float:
    return float(pd.to_numeric(value, errors="coerce"))


def score(path: Path, facts: Path, coefficients: dict[str, float]) -> Iterator[ServerStart]:
    """Score the rows of ``mem_vllm.csv`` whose architecture is known."""
    configs = _configs(facts)
    for _, row in pd.read_csv(path).iterrows():
        config = _find(str(row.model_short), configs)
        if config is None or (_number(row.pp) > 1):
            continue
        yield _one(row, config, coefficients)


def _one(row: Any, config: TransformerConfig, coefficients: dict[str, float]) -> ServerStart:
    found = re.search(r"(\d+)\.(\d+)", str(row.vllm_version))
    version = (int(found.group(1)), int(found.group(2))) if found else (0, 10)
    total, tensor = _number(row.gpu_total_gib), int(_number(row.tp)) if _number(row.tp) > 0 else 1
    length = _number(row.max_model_len)
    card = str(row.gpu).lower()
    default_seqs, default_batched = vllm_default_limits(
        0 if math.isnan(total) else int(total * GIB),
        version=version,
        context_tokens=0 if math.isnan(length) else int(length),
        small_steps="a100" in card or "gb10" in card,
    )
    known = _number(row.max_num_seqs)
    seqs = int(known) if known > 0 else default_seqs.item()
    batched = _number(row.max_num_batched_tokens)
    if math.isnan(batched):
        batched = default_batched.item()
    new = version >= SAMPLER_CHANGED
    activation = vllm_activation_peak(
        config.vocab_size,
        config.hidden_size,
        feed_forward_width(config),
        max_num_seqs=seqs,
        max_num_batched_tokens=int(batched),
        tensor=tensor,
        sampler_bytes=coefficients["vllm.sampler_bytes" if new else "vllm.sampler_bytes_before_0.12"],
        forward_copies=coefficients["vllm.forward_copies"],
        base_bytes=coefficients["vllm.activation_base_bytes"],
    ).item()
    printed = _number(row.activation_peak_gib)
    weights = _number(row.weights_gib)
    utilization = _number(row.gpu_memory_utilization)
    non_torch = coefficients["vllm.non_torch_tp_bytes" if tensor > 1 else "vllm.non_torch_bytes"]
    pool = math.nan
    if not any(math.isnan(value) for value in (total, weights, utilization)):
        pool = vllm_kv_pool(
            int(total * GIB),
            utilization=utilization,
            weights_bytes=int(weights * GIB),
            activation_bytes=activation,
            non_torch_bytes=int(non_torch),
        ).item()
    element = 1 if str(row.kv_cache_dtype).startswith("fp8") or "fp8" in str(row.kv_cache_dtype) else 2
    per_token = paged_bytes_per_token(kv_layout(config), tensor=tensor, element_bytes=element).item()
    tokens = _number(row.kv_tokens)
    given = _number(row.kv_bytes_per_token_per_gpu)
    predicted = math.nan
    if not math.isnan(pool):
        predicted = vllm_kv_tokens(int(pool), per_token).item()
    return ServerStart(
        row.row_id,
        str(row.vllm_version),
        str(row.model_short),
        printed,
        activation / GIB,
        _number(row.avail_kv_gib),
        pool / GIB,
        tokens,
        predicted,
        None if math.isnan(given) else abs(per_token / given - 1) < 5e-3,
        config.vision is not None,
    )
