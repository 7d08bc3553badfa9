"""GGUF sizes: exact files and tensor sums, printed tables, and what publishers' own mixes add."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.memory.configurations import config_of, models
from accuracy.memory.formats import quantizations
from willitrun.catalog import load_catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.inventory import is_tied, parameters
from willitrun.estimators.inventory_formats import WeightGroups, weight_groups
from willitrun.kernels.gguf_mixes import Era
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
    publisher: str = ""
    experts_kept: bool = False
    """Experts published in MXFP4 beside other types: the quantiser refuses to convert those, types were chosen."""
    variant: bool = False
    """Standard name, but its publisher chose types for this model: see `score`."""
    label: str = ""
    """What a bench table prints of a file that it doesn't name: the type in its header."""
    own_types: bool = False
    """The file's header lists tensors of types that the mix doesn't give them."""

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
    native: str = "bf16"
    catalogued: bool = False

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
            found.append(_Candidate(row["id"], config, count, _native(config)))
    return found + _catalogued({entry.name for entry in found})


def _native(config: TransformerConfig) -> str:
    """gpt-oss was published with its experts in MXFP4."""
    return "mxfp4" if config.model_type == "gpt_oss" else "bf16"


def _catalogued(known: set[str]) -> list[_Candidate]:
    """Models of the library's own catalog whose fields agree with the count that is cited beside them."""
    found = []
    for model in load_catalog().models.values():
        if model.transformer is None or model.parameters is None:
            continue
        try:
            count = parameters(model.transformer)
        except (WillItRunError, ValueError):
            continue
        names = [name for name in model.aliases if "/" in name and name not in known]
        if abs(count / model.parameters - 1) < 1e-3:
            found += [
                _Candidate(name, model.transformer, count, _native(model.transformer)) for name in names
            ]
    return found


def _given(row: Any) -> tuple[float, float]:
    if not math.isnan(row.size_bytes):
        return float(row.size_bytes), 0.0
    text = str(row.size_text)
    unit = _UNITS.get(str(row.size_unit), 0)
    decimals = len(text.partition(".")[2]) if "." in text else 0
    step = 10**-decimals * unit
    if "mradermacher" in str(row.source_url) and row.kind == "model_card_table":
        # Those cards print the rounded size and a tenth: 8.57 GB reads 8.7, 12.12 GB reads 12.2.
        return (float(text) - 0.1) * unit, 0.5 * step
    return float(text) * unit, 0.5 * step


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().removesuffix(".gguf")).strip("-")


def _groups(
    config: TransformerConfig, quantization: Quantization, row: Any, native: str
) -> list[WeightGroups]:
    """Sizes without and with an importance matrix: few files say whether one was used."""
    words = f"{row.model} {row.filename} {row.note}".lower()
    known = any(mark in words for mark in (".i1-", "bartowski", "unsloth", "imat"))
    # The repacked layouts of 2024 were ftypes of their own, which the rule for Q4_0 does not name.
    repacked = re.search(r"q4_0_[48]_[48]", words) is not None
    kept = "bf16" if "bf16" in str(row.model).lower() else native
    # TheBloke stopped before the Q2_K of today, and MLA was stored whole; few files say when they were made.
    eras: list[Era] = ["2025"]
    if quantization.id == "q2_k":
        eras.append("2023")
    if config.kv_lora_rank:
        eras.append("2024")
    return [
        weight_groups(config, quantization, container="gguf", imatrix=imatrix, native=kept, era=era)
        for imatrix in ((False,) if repacked else (True,) if known else (False, True))
        for era in eras
    ]


def _spelt(filename: str, known: dict[str, Quantization]) -> Quantization | None:
    """The format that a file name ends with: more reliable than a table's column."""
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", filename.lower())
    stem = re.sub(r"q4_0_[48]_[48]$", "q4_0", stem)
    found = re.search(r"(ud-)?((?:i?q|tq)\d\w*|mxfp4\w*|bf16|f16|f32|fp16)$", stem)
    return None if found is None else known.get(found.group(0)) or known.get(found.group(2))


TABLE = "llama_bench_table"

OWN_MIX = re.compile(r"-neo[-+]|neo-imatrix|qat-q4_0|q4_v\d|-hrr-|optimized|-v2\.gguf")
"""Marks of publishers who override tensor types; Google's QAT files keep the embedding in F16."""


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
        # A printed count and an architecture's label fit many fine-tunes: the fact sheet's models stand for all.
        pool = [entry for entry in pool if not entry.catalogued and abs(entry.count / count - 1) < 7e-4]
        pool = [entry for entry in pool if _label(entry) in label or _plain(entry.short) in text]
        exact = [entry for entry in pool if entry.count == count]
        if not exact and len({entry.count for entry in pool}) > 1:
            return None  # print precision does not tell these models apart
        pool = exact or pool
    else:
        pool = [entry for entry in pool if _names(entry, row, text)]
    for entry in sorted(pool, key=lambda entry: -len(entry.short)):
        rough = (quantization.nominal_bits or 5.0) / 8 * entry.count
        if 0.5 < given / rough < 2.2:
            return entry
    return None


_DECORATION = re.compile(
    r"-(gguf|i1|imatrix|imat|hf|text|qat|bf16|abliterated|uncensored|v\d|q\d.*|iq\d.*|instruct|it|chat)(?=-|$)"
)


def _names(entry: _Candidate, row: Any, text: str) -> bool:
    """Whether a row speaks of this model: its name, and beside it nothing that makes it another model."""
    short = _plain(entry.short)
    if f"-{short}-" not in text:
        return False
    if any(mark in text for mark in ("brainstorm", "reap", "-think-", "pruned", "merge")):
        return any(mark in short for mark in ("brainstorm", "reap", "think", "pruned", "merge"))
    rest = _DECORATION.sub("", f"-{_plain(str(row.model))}-".replace(f"-{short}-", "-"))
    # Another size beside the name is another model: "Jan-Nano-128k-6B".
    return re.search(r"-\d+(\.\d+)?b-", rest) is None


def _label(entry: _Candidate) -> str:
    return {"qwen3_moe": "qwen3moe", "gemma3_text": "gemma3", "gpt_oss": "gpt-oss"}.get(
        entry.config.model_type, entry.config.model_type
    )


def score(sizes: Path, facts: Path) -> Iterator[Sized]:
    """Score every row of ``mem_gguf_sizes.csv`` whose architecture and format are known.

    A model with tied embeddings whose repository stores the head a second time is scored so where the
    repository's *other* files say so: the architecture alone cannot tell.

    A publisher's files of a model are marked as its own variants, all of them, where the publisher demonstrably chose
    tensor types: one of them differs from the rule that another publisher's file of the same model and mix
    follows (bartowski's and lmstudio-community's mixtures of experts of 2025, see llama.cpp pull request
    12727; Unsloth's Gemma 3n and files of quantization-aware training), or experts stay in MXFP4 beside
    K-quants, which the quantiser does not do (``requantizing from type mxfp4 is disabled``). So are files of which a
    loader's log lists other types than the mix has, and what a bench table prints of a file that it doesn't name, where
    a named file of such types has the same printed size, parameters and header type.
    """
    rows = list(_voted(sizes, facts))
    prints = {
        (sized.label, round(sized.given_bytes / 2**30, 2))
        for sized in rows
        if sized.label and sized.kind != TABLE and (sized.own_types or not sized.standard)
    }
    followed: dict[tuple[str, str], set[str]] = {}
    for sized in rows:
        if sized.standard and sized.agrees:
            followed.setdefault((sized.matched, sized.quantization), set()).add(sized.publisher)
    own = {
        (sized.publisher, sized.model)
        for sized in rows
        if sized.publisher
        and sized.standard
        and not sized.agrees
        and (
            sized.experts_kept or followed.get((sized.matched, sized.quantization), set()) - {sized.publisher}
        )
    }
    for sized in rows:
        chosen = (sized.publisher, sized.model) in own or sized.own_types
        if sized.kind == TABLE and not sized.agrees:
            chosen = chosen or (sized.label, round(sized.given_bytes / 2**30, 2)) in prints
        yield replace(sized, variant=sized.standard and chosen)


def _voted(sizes: Path, facts: Path) -> Iterator[Sized]:
    """Every row, with a tied head as its repository stores it."""
    found = list(_pairs(sizes, facts))
    votes: dict[str, list[tuple[str, bool]]] = {}
    for once, twice in found:
        if twice is not None:
            vote = not once.agrees and abs(twice.error) < abs(once.error)
            votes.setdefault(once.model, []).append((once.row, vote))
    for once, twice in found:
        others = [vote for row, vote in votes.get(once.model, []) if row != once.row]
        yield twice if twice is not None and sum(others) > len(others) / 2 else once


def _pairs(sizes: Path, facts: Path) -> Iterator[tuple[Sized, Sized | None]]:
    """Each row with its head stored once, and twice where it is tied."""
    known = quantizations()
    pool = _candidates(facts)
    for _, row in pd.read_csv(sizes).iterrows():
        quantization = _spelt(str(row.filename), known) or _quantization(row.quant, known)
        if quantization is None or "gguf" not in quantization.container:
            continue
        given, rounding = _given(row)
        if not given or math.isnan(given):
            continue
        entry = _match(row, given, quantization, pool)
        if entry is None or (row.kind == "per_tensor_map_sum" and quantization.id != "bf16"):
            continue  # those maps give one type to every tensor: no mix
        once = _sized(row, entry, entry.config, quantization, given, rounding)
        if once is None:
            continue
        apart = entry.config.model_copy(update={"tie_word_embeddings": False})
        twice = _sized(row, entry, apart, quantization, given, rounding) if is_tied(entry.config) else None
        yield once, twice


def _listed_types(row: Any) -> dict[str, int]:
    """Tensors by type as a loader's log lists them; empty where none does."""
    if row.kind != "loader_log_model_size" or not str(row.note).startswith("{"):
        return {}
    return {name.lower(): int(count) for name, count in json.loads(row.note).items()}


def _label_of(row: Any, entry: _Candidate, quantization: Quantization) -> str:
    """What tells files of one architecture and header type from others: parameters as printed, and the type."""
    if row.kind not in (TABLE, "loader_log_model_size"):
        return ""
    count = pd.to_numeric(row.params, errors="coerce")
    kept = _quantization(row.quant, quantizations())
    return (
        "" if math.isnan(count) or kept is None else f"{entry.config.model_type} {count / 1e9:.2f} {kept.id}"
    )


def _publisher(row: Any) -> str:
    """Who made the file, where the row says."""
    found = re.search(r"huggingface\.co/([^/]+)/", str(row.note))
    return found.group(1) if found else ""


def _sized(
    row: Any,
    entry: _Candidate,
    config: TransformerConfig,
    quantization: Quantization,
    given: float,
    rounding: float,
) -> Sized | None:
    try:
        by_rule = _groups(config, quantization, row, entry.native)
    except WillItRunError:
        return None
    words = f"{row.model} {row.filename}".lower()
    # Tables of benchmarks name the file in the name of their own file, if at all.
    named = f"{row.filename} {str(row.source_url).rpartition('/')[2]}".lower()
    raised = re.search(r"[-_.]ud[-_]", named) or OWN_MIX.search(words)
    listed = _listed_types(row)
    scored = [
        Sized(
            row.row_id,
            row.kind,
            str(row.model),
            entry.name,
            quantization.id,
            str(row.family),
            given,
            rounding,
            groups.file_bytes,
            quantization.exact and raised is None,
            row.kind in ("catalog_rounded", "file_bytes_exact", "model_card_table"),
            _publisher(row),
            entry.native == "mxfp4" and quantization.id not in ("f16", "bf16", "q8_0", "mxfp4", "mxfp4_moe"),
            label=_label_of(row, entry, quantization),
            own_types=bool(listed)
            and any(listed.get(name, 0) > groups.formats.get(name, 0) for name in listed if name != "f32"),
        )
        for groups in by_rule
    ]
    return min(scored, key=lambda sized: (not sized.agrees, abs(sized.error)))
