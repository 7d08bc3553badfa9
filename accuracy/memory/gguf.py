"""GGUF sizes: exact files and tensor sums, printed tables, and what publishers' own mixes add."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.memory.configurations import config_of, models
from accuracy.memory.formats import quantizations
from willitrun.errors import WillItRunError
from willitrun.estimators.inventory import parameters
from willitrun.estimators.inventory_formats import WeightGroups, weight_groups
from willitrun.records.models import TransformerConfig
from willitrun.records.recipes import Quantization

__all__ = ["Sized", "score"]

_UNITS = {"GiB": 2**30, "MiB": 2**20, "GB": 10**9, "MB": 10**6}
METADATA_BYTES = 16 * 2**20
"""A GGUF holds its vocabulary beside the tensors: up to this much."""


@dataclass(frozen=True)
class Sized:
    """One file: its size as given, with the rounding of print, and the size by rule."""

    row: str
    kind: str
    model: str
    matched: str
    quantization: str
    family: str
    given_bytes: float
    rounding_bytes: float
    predicted_bytes: int
    standard: bool
    file: bool

    @property
    def ratio(self) -> float:
        """Given over predicted."""
        return self.given_bytes / self.predicted_bytes

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted_bytes / self.given_bytes - 1

    @property
    def agrees(self) -> bool:
        """Equal to the precision of print; a file may add its metadata, a loader its rope factors."""
        extra = METADATA_BYTES if self.file else 1024
        low, high = self.given_bytes - self.rounding_bytes - extra, self.given_bytes + self.rounding_bytes
        return low <= self.predicted_bytes <= high


@dataclass(frozen=True)
class _Candidate:
    name: str
    config: TransformerConfig
    count: int

    @property
    def short(self) -> str:
        """Name without its publisher."""
        return self.name.partition("/")[2]


def _candidates(path: Path) -> list[_Candidate]:
    found = []
    for row in models(path):
        try:
            config = config_of(row)
            if config is None:
                continue
            count = parameters(config)
        except (WillItRunError, ValueError):
            continue
        published = row.get("params_from_config") or row.get("params_total")
        # A fact sheet that disagrees with itself (untied, vision, ...) is no basis for judging sizes.
        if published and abs(count / published - 1) < 1e-3:
            found.append(_Candidate(row["id"], config, count))
    return found


def _given(row: Any) -> tuple[float, float]:
    if not math.isnan(row.size_bytes):
        return float(row.size_bytes), 0.0
    text = str(row.size_text)
    unit = _UNITS.get(str(row.size_unit), 0)
    decimals = len(text.partition(".")[2]) if "." in text else 0
    return float(text) * unit, 0.5 * 10**-decimals * unit


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().removesuffix(".gguf")).strip("-")


def _groups(config: TransformerConfig, quantization: Quantization, row: Any) -> list[WeightGroups]:
    """Sizes without and with an importance matrix: few files say whether one was used."""
    words = f"{row.model} {row.filename} {row.note}".lower()
    known = any(mark in words for mark in (".i1-", "bartowski", "unsloth", "imat"))
    return [
        weight_groups(config, quantization, container="gguf", imatrix=imatrix)
        for imatrix in ((True,) if known else (False, True))
    ]


def _quantization(name: str, known: dict[str, Quantization]) -> Quantization | None:
    text = str(name).strip().lower().replace("-", "_").replace("ud_", "ud-").replace(" ", "_")
    text = re.sub(r"_+", "_", text)
    for spelt, meant in (("_medium", "_m"), ("_small", "_s"), ("_large", "_l"), ("mxfp4_moe", "mxfp4_moe")):
        text = text.replace(spelt, meant)
    return known.get(text)


def _match(row: Any, given: float, quantization: Quantization, pool: list[_Candidate]) -> _Candidate | None:
    """The architecture of a row, by its name and printed parameters; None when unsure."""
    text = f"-{_plain(str(row.model))}-{_plain(str(row.filename))}-"
    count = pd.to_numeric(row.params, errors="coerce")
    if not math.isnan(count) and count > 1e6:
        label = str(row.model).lower().replace(" ", "")
        pool = [entry for entry in pool if abs(entry.count / count - 1) < 7e-4]
        pool = [entry for entry in pool if _label(entry) in label or _plain(entry.short) in text]
        exact = [entry for entry in pool if entry.count == count]
        if not exact and len({entry.count for entry in pool}) > 1:
            return None  # print precision does not tell these models apart
        pool = exact or pool
    else:
        pool = [entry for entry in pool if f"-{_plain(entry.short)}-" in text]
    for entry in sorted(pool, key=lambda entry: -len(entry.short)):
        rough = (quantization.nominal_bits or 5.0) / 8 * entry.count
        if 0.5 < given / rough < 2.2:
            return entry
    return None


def _label(entry: _Candidate) -> str:
    return {"qwen3_moe": "qwen3moe", "gemma3_text": "gemma3", "gpt_oss": "gpt-oss"}.get(
        entry.config.model_type, entry.config.model_type
    )


def score(sizes: Path, facts: Path) -> Iterator[Sized]:
    """Score every row of ``mem_gguf_sizes.csv`` whose architecture and format are known."""
    known = quantizations()
    pool = _candidates(facts)
    for _, row in pd.read_csv(sizes).iterrows():
        quantization = _quantization(row.quant, known)
        if quantization is None or "gguf" not in quantization.container:
            continue
        given, rounding = _given(row)
        if not given or math.isnan(given):
            continue
        entry = _match(row, given, quantization, pool)
        if entry is None or (row.kind == "per_tensor_map_sum" and quantization.id != "bf16"):
            continue  # those maps give one type to every tensor: no mix
        try:
            sizes_by_rule = [groups.total_bytes for groups in _groups(entry.config, quantization, row)]
        except WillItRunError:
            continue
        raised = re.search(r"[-_.]ud[-_]", str(row.filename).lower()) is not None
        yield Sized(
            row.row_id,
            row.kind,
            str(row.model),
            entry.name,
            quantization.id,
            str(row.family),
            given,
            rounding,
            min(sizes_by_rule, key=lambda size: abs(size - given)),
            quantization.exact and not raised,
            row.kind in ("catalog_rounded", "file_bytes_exact", "model_card_table"),
        )
