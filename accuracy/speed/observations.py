"""Measurements as columns, lowered by the library itself: work, rates, load and level codes of `estimate_speed`.

Every row becomes a `Request` as the public door makes it and runs through the same block, so that work, rates, load,
placement and level codes are those that a caller gets; what cannot be asked is skipped and counted by reason.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from accuracy.speed.asks import Ask, RowSkipped, ask_serving, ask_single, machine_asked
from accuracy.speed.contradictions import contradicted
from willitrun import (
    Placement,
    Runtime,
    WillItRunError,
    Workload,
    describe_machine,
    describe_model,
    load_catalog,
)
from willitrun.estimators.llm_evaluation import run_block
from willitrun.estimators.llm_lowering import Prepared, prepare
from willitrun.estimators.requests import complete_request
from willitrun.estimators.support import device_classes, model_family
from willitrun.kernels.llm_block import LlmBlock
from willitrun.kernels.llm_ground import level_codes
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_levels import AXES, UNKNOWN, LevelTables, level_code
from willitrun.kernels.llm_speed import effective_concurrency

DATA_FILES = ("llm_speed.csv", "serving_speed.csv")
PHASES = ("decode", "prefill", "offload-decode", "offload-prefill", "static", "tpot", "ttft")

#: Rows of one configuration that enter the fit; what is left out is counted in the weight of those that stay. A served
#: configuration is measured at several parallelisms, lengths and loads.
MOST_ROWS = {"tpot": 16, "ttft": 16}
FEW_ROWS = 6

Columns = TypeVar("Columns", LlmWork, LlmRates, LlmLoad)


@dataclass(frozen=True, slots=True)
class Observations:
    """Measured rows as columns. ``row`` maps a kernel row to its observation (LocalScore has nine each)."""

    work: LlmWork
    rates: LlmRates
    load: LlmLoad
    codes: dict[str, np.ndarray]
    row: np.ndarray
    phase: np.ndarray
    actual: np.ndarray  # a rate: tokens/s, or 1/s for latencies
    device: np.ndarray
    model: np.ndarray
    family: np.ndarray
    source: np.ndarray
    vendor_class: np.ndarray
    configuration: np.ndarray
    single_stream: np.ndarray
    crowd: np.ndarray
    identifier: np.ndarray
    stands_for: np.ndarray
    """Measured rows that a row stands for: long series of one configuration are thinned."""
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.actual)


def digest_data(folder: Path) -> str:
    """Return the sha256 over the data files that the fit reads, names and contents in order."""
    total = hashlib.sha256()
    for name in DATA_FILES:
        total.update(name.encode())
        total.update((folder / name).read_bytes())
    return f"sha256:{total.hexdigest()}"


def read_asks(folder: Path) -> tuple[list[Ask], Counter[str]]:
    """The questions of the measurement files of a folder, and how many rows ask nothing, by reason."""
    skipped: Counter[str] = Counter()
    asks: list[Ask] = []
    for name, ask in (("llm_speed.csv", ask_single), ("serving_speed.csv", ask_serving)):
        path = folder / name
        if not path.exists():
            continue
        with path.open(encoding="utf-8", newline="") as stream:
            records = list(csv.DictReader(stream))
        # Served rows have the copies and labels of their own collection, which `ask_serving` knows.
        doubted = contradicted(records) if ask is ask_single else {}
        for record in records:
            try:
                found = list(ask(record))
            except RowSkipped as reason:
                skipped[f"{name}: {reason}"] += 1
                continue
            if found and found[0].identifier in doubted:
                skipped[f"{name}: {doubted[found[0].identifier]}"] += 1
            else:
                asks.extend(found)
    return _without_copies(asks, skipped), skipped


def _without_copies(asks: list[Ask], skipped: Counter[str]) -> list[Ask]:
    """One ask per measurement: dumps of servers state some of theirs under several names, with all digits the same."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for ask in asks:
        if ask.phase in ("tpot", "ttft"):
            figure = (ask.phase, ask.actual, ask.device, ask.runtime[0], ask.quant, ask.workload)
            if figure in seen:
                skipped["measurement stated twice"] += 1
                continue
            seen.add(figure)
        kept.append(ask)
    return kept


@lru_cache(maxsize=4096)
def model_of(name: str) -> Any:
    """The model, described once."""
    return describe_model(name)


@lru_cache(maxsize=4096)
def machine_of(
    device: str, count: int, host: tuple[tuple[str, str | int], ...], power_limit_w: float = 0.0
) -> Any:
    """The machine, described once."""
    return describe_machine(machine_asked(device, count, host, power_limit_w))  # type: ignore[arg-type]


@lru_cache(maxsize=65536)
def _prepared(ask: tuple[Any, ...]) -> Prepared:
    model, device, count, host, power_limit_w, workload, quantization, runtime, placement = ask
    request = complete_request(
        model_of(model),
        machine_of(device, count, host, power_limit_w),
        Workload(**dict(workload)),
        quantization=quantization,
        runtime=Runtime(**dict(runtime)),
        placement=Placement(**dict(placement)),
        catalog=load_catalog(),
    )
    return prepare(request)


def prepare_ask(ask: Ask) -> Prepared:
    """The ask as rows of the estimators.

    Raises
    ------
    WillItRunError
        The library does not know a name, or cannot compute the combination.
    """
    return _prepared(
        (
            ask.model,
            ask.device,
            ask.count,
            ask.host,
            ask.power_limit_w,
            ask.workload,
            ask.quantization,
            ask.runtime,
            ask.placement,
        )
    )


def load_observations(folder: Path) -> Observations:
    """Read the calibration data of ``folder`` into columns."""
    asks, skipped = read_asks(folder)
    kept: list[tuple[Ask, Prepared]] = []
    refused: set[str] = set()
    for ask in asks:
        if ask.identifier in refused:
            continue
        try:
            kept.append((ask, prepare_ask(ask)))
        except WillItRunError as error:
            refused.add(ask.identifier)
            skipped[f"{type(error).__name__}: {str(error)[:80]}"] += 1
    return pack_asks(kept, dict(skipped))


def pack_asks(kept: list[tuple[Ask, Prepared]], skipped: dict[str, int]) -> Observations:
    """Return rows as columns; consecutive rows of one identifier and phase are parts of one observation."""
    groups: dict[Any, list[int]] = {}
    for number, (_, prepared) in enumerate(kept):
        groups.setdefault(prepared.lowered.key, []).append(number)
    order = np.array([number for members in groups.values() for number in members])
    # Work, rates and load do not depend on the calibration: any numbers do, the shipped ones may lack a new term.
    any_numbers = LevelTables({item.name: 1.0 for item in fields(LlmCoefficients)}, ())
    blocks = [(run_block([kept[i][1] for i in members], any_numbers), members) for members in groups.values()]
    back = np.argsort(order)
    work = _stack(LlmWork, [(block.ground.work, len(members)) for block, members in blocks], back)
    rates = _stack(LlmRates, [(block.ground.rates, len(members)) for block, members in blocks], back)
    load = _stack(LlmLoad, [(block.load, len(members)) for block, members in blocks], back)
    codes = _codes(kept, blocks, back)
    # What the kernel can be told and the public door cannot: prompts that are prefilled together, requests that are kept back.
    static = np.array([ask.static_batch for ask, _ in kept])
    load.prefill_sequences[static > 0] = static[static > 0]
    load.interference[static > 0] = 0.0
    load.held_steps[:] = [ask.held_steps for ask, _ in kept]

    keys = [(ask.identifier, ask.phase) for ask, _ in kept]
    first = [i for i, key in enumerate(keys) if i == 0 or keys[i - 1] != key]
    owner = np.zeros(len(kept), dtype=np.int64)
    owner[first[1:]] = 1
    heads = [kept[i][0] for i in first]
    requests = [kept[i][1].request for i in first]
    classes = [
        (device_classes(request, kept[i][1].machine.device_ids) or ("",))[0]
        for i, request in zip(first, requests, strict=True)
    ]
    text = {
        "device": [head.device or dict(head.host).get("cpu", "cpu") for head in heads],
        "model": [head.model for head in heads],
        "family": [model_family(request) for request in requests],
        "source": [head.source for head in heads],
        "vendor_class": classes,
        "configuration": [
            "|".join(
                str(part)
                for part in (
                    head.phase, head.source, head.device or dict(head.host).get("cpu", "cpu"), head.count, head.model,
                    head.quant, request.runtime.name, request.runtime.backend,
                )
            )
            for head, request in zip(heads, requests, strict=True)
        ],
        "identifier": [head.identifier for head in heads],
        "phase": [head.phase for head in heads],
    }  # fmt: skip
    found = Observations(
        work=work,
        rates=rates,
        load=load,
        codes=codes,
        row=np.cumsum(owner),
        actual=np.array([head.actual for head in heads], dtype=np.float64),
        single_stream=np.array([head.single_stream for head in heads]),
        crowd=np.array([head.crowd for head in heads]),
        stands_for=np.ones(len(heads)),
        skipped=skipped,
        **{name: np.array(values) for name, values in text.items()},
    )
    # Of memory that the host shares, and of the host's own, nobody says how much there is.
    rows = [prepared.machine.row for _, prepared in kept]
    room = np.array([np.inf if row.unified or row.on_host else row.total_memory for row in rows])
    return _without_saturated(_without_impossible(_without_spilled(found, room)))


def thin_rows(found: Observations) -> Observations:
    """At most ``MOST_ROWS`` rows per configuration, evenly spaced: each stands for its share of the series."""
    from accuracy.speed.prediction import select_rows

    keep = np.zeros(len(found), dtype=bool)
    stands_for = found.stands_for.copy()
    _, member = np.unique(found.configuration, return_inverse=True)
    order = np.argsort(member, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        chosen, most = rows, MOST_ROWS.get(str(found.phase[rows[0]]), FEW_ROWS)
        if len(rows) > most:
            chosen = rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]
        keep[chosen] = True
        stands_for[chosen] = len(rows) / len(chosen)
    return select_rows(replace(found, stands_for=stands_for), keep)


def _stack(kind: type[Columns], parts: Iterable[tuple[Any, int]], back: np.ndarray) -> Columns:
    parts = list(parts)
    values = {
        field.name: np.concatenate(
            [np.broadcast_to(getattr(part, field.name), (count,)) for part, count in parts]
        )[back].astype(np.float64)
        for field in fields(kind)
    }
    return kind(**values)


def _codes(
    kept: list[tuple[Ask, Prepared]], blocks: list[tuple[LlmBlock, list[int]]], back: np.ndarray
) -> dict[str, np.ndarray]:
    """Level codes as the block used them."""
    result = {}
    known = [
        (level_codes(block.ground.policy, block.ground.models, block.ground.machines), len(members))
        for block, members in blocks
    ]
    for axis in AXES:
        parts = [np.broadcast_to(codes.get(axis, np.array([UNKNOWN])), (count,)) for codes, count in known]
        result[axis] = np.concatenate(parts)[back].astype(np.int64)
    return result


def _without_spilled(found: Observations, room: np.ndarray) -> Observations:
    """Without rows whose weights are larger than all memory of the devices while none is said to lie elsewhere."""
    from accuracy.speed.prediction import select_rows

    work, load = found.work, found.load
    weights = work.dense_bytes + work.lm_head_bytes + work.expert_bytes
    told = (load.host_dense_fraction > 0) | (load.host_expert_fraction > 0)
    over = np.zeros(len(found), dtype=bool)
    over[found.row] = np.broadcast_to((weights > room) & ~told, found.row.shape)
    if not over.any():
        return found
    found.skipped["weights larger than the memory, and no offload stated"] = int(over.sum())
    return select_rows(found, ~over)


def _without_impossible(found: Observations) -> Observations:
    """Without rows of 16-bit weights, whose size is certain, that read them faster than their memory's sheet allows.

    A prompt that a cache answers in part is one such. What experts are read is not certain: they count for nothing.
    """
    from accuracy.speed.prediction import select_rows

    work, load = found.work, found.load
    phase = found.phase[found.row]
    prompt = phase == "prefill"
    read = (1.0 - load.host_dense_fraction) * work.dense_bytes + np.where(prompt, 0.0, work.lm_head_bytes)
    least_s = read / (load.tensor * found.rates.memory_bytes_per_s)
    done = np.where(prompt, load.prompt_tokens * load.prefill_sequences, load.concurrency)
    taken_s = done / found.actual[found.row]
    whole = [level_code("format", name) for name in ("f16", "bf16", "f32")]
    alone = np.bincount(found.row)[found.row] == 1
    faster = alone & np.isin(phase, ("decode", "prefill")) & np.isin(found.codes["format"], whole)
    over = np.zeros(len(found), dtype=bool)
    over[found.row[faster & (taken_s < least_s)]] = True
    if not over.any():
        return found
    found.skipped["16-bit weights read faster than the memory's sheet allows"] = int(over.sum())
    return select_rows(found, ~over)


def _without_saturated(found: Observations) -> Observations:
    """Without first tokens of servers whose cache is full: requests queue, there is no steady time."""
    from accuracy.speed.prediction import select_rows

    full = np.zeros(len(found), dtype=bool)
    full[found.row] = effective_concurrency(found.work, found.load) < found.load.concurrency
    keep = ~((found.phase == "ttft") & full)
    if keep.all():
        return found
    found.skipped["cache full, time to first token not steady"] = int((~keep).sum())
    return select_rows(found, keep)
