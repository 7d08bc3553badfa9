"""Run a lowered sweep in blocks that fit the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.estimators.evaluation import evaluate
from willitrun.estimators.llm_evaluation import BlockKey, block_key, speed_tables
from willitrun.estimators.overheads import block_buffers
from willitrun.estimators.support import LEVELS, interval_factors
from willitrun.kernels.columns import columns_of, take
from willitrun.kernels.llm_block import LlmBlock, Parallelism, assess_block, cache_bytes
from willitrun.kernels.llm_speed import BOUNDS
from willitrun.kernels.placement import TIERS, WILL_NOT_RUN
from willitrun.kernels.reason_codes import DOMINANCE_REASONS, FIT_REASONS
from willitrun.planning.anchors import EVIDENCE, AnchorColumns, anchor_columns
from willitrun.planning.axes import Axes, Unit, available_matrix

__all__ = ["BLOCK_ROWS", "run_sweep"]

BLOCK_ROWS = 8192
ALL_BOUNDS = ("", *BOUNDS, "input", "disk")
BYTES = ("weights_bytes", "kv_cache_bytes", "state_bytes", "activation_bytes", "overhead_bytes", "total_bytes",
         "total_bytes_low", "total_bytes_high", "host_bytes", "available_bytes")  # fmt: skip
RATES = ("decode_tokens_per_s", "throughput_tokens_per_s", "prefill_tokens_per_s", "time_to_first_token_s",
         "images_per_s", "samples_per_s", "real_time_factor")  # fmt: skip


def run_sweep(
    axes: Axes, *, progress: Callable[[int], object] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    """Columns and categories of all rows."""
    n = len(axes)
    out: dict[str, NDArray[Any]] = {name: np.zeros(n, dtype=np.int64) for name in BYTES}
    for name in RATES:
        for suffix in ("", "_low", "_high"):
            out[name + suffix] = np.full(n, np.nan)
    out["tier"] = np.full(n, TIERS.index("unknown"), dtype=np.int8)
    out["bound"] = np.zeros(n, dtype=np.int8)
    out["evidence"] = np.zeros(n, dtype=np.int8)
    blocked = ["", *sorted({slot.blocked for unit in axes.units for slot in unit.slots} - {""}),
               "context-above-trained-maximum", "memory-not-modelled", "speed-not-modelled"]  # fmt: skip
    out["blocked_by"] = np.zeros(n, dtype=np.int16)
    out["fit_reason"] = np.zeros(n, dtype=np.int8)
    out["dominance_reason"] = np.zeros(n, dtype=np.int8)
    inputs, categories = _input_columns(axes)
    for number, unit in enumerate(axes.units):
        start = number * axes.rows_per_unit
        groups: dict[BlockKey, list[int]] = {}
        alone: list[int] = []
        for position, slot in enumerate(unit.slots):
            if slot.prepared is None:
                alone.append(position)
            else:
                groups.setdefault(block_key(slot.prepared), []).append(position)
        if alone:
            _scalar_rows(axes, unit, alone, start, out, blocked)
            if progress is not None:
                progress(len(alone) * axes.n_workloads)
        for members in groups.values():
            _group_rows(axes, unit, members, start, out, blocked, progress)
    categories |= {
        "tier": TIERS,
        "bound": ALL_BOUNDS,
        "evidence": EVIDENCE,
        "blocked_by": tuple(blocked),
        "fit_reason": FIT_REASONS,
        "dominance_reason": DOMINANCE_REASONS,
    }
    return inputs | out, categories


def _input_columns(axes: Axes) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    per = axes.rows_per_unit
    slots = len(axes.machines) * axes.n_placements
    models = list(dict.fromkeys(unit.request.model.id for unit in axes.units))
    quants = list(dict.fromkeys(_quantization(unit) for unit in axes.units))
    runtimes = list(dict.fromkeys(unit.request.runtime.name for unit in axes.units))
    columns: dict[str, NDArray[Any]] = {
        "model": np.repeat(
            np.array([models.index(u.request.model.id) for u in axes.units], dtype=np.int32), per
        ),
        "quantization": np.repeat(
            np.array([quants.index(_quantization(u)) for u in axes.units], dtype=np.int16), per
        ),
        "runtime": np.repeat(
            np.array([runtimes.index(u.request.runtime.name) for u in axes.units], dtype=np.int16), per
        ),
        "machine": np.tile(
            np.repeat(np.arange(len(axes.machines), dtype=np.int32), axes.n_placements * axes.n_workloads),
            len(axes.units),
        ),
    }
    for name in ("context_tokens", "prompt_tokens", "output_tokens", "concurrency", "batch_size"):
        values = [[getattr(load, name) or 0 for load in unit.workloads] for unit in axes.units]
        columns[name] = np.concatenate([np.tile(np.array(row, dtype=np.int64), slots) for row in values])
    categories = {
        "model": tuple(models),
        "quantization": tuple(quants),
        "runtime": tuple(runtimes),
        "machine": axes.machines,
    }
    return columns, categories


def _quantization(unit: Unit) -> str:
    return unit.request.quantization.id if unit.request.quantization is not None else ""


def _group_rows(
    axes: Axes,
    unit: Unit,
    members: list[int],
    start: int,
    out: dict[str, NDArray[Any]],
    blocked: list[str],
    progress: Callable[[int], object] | None,
) -> None:
    """Rows of one unit on the slots that share a runtime and a system."""
    chosen = [unit.slots[position] for position in members]
    prepared = [slot.prepared for slot in chosen if slot.prepared is not None]
    first = prepared[0]
    tables = speed_tables(axes.catalog)
    calibration = axes.catalog.calibrations["llm-speed"]
    model = columns_of([first.model])
    slots = columns_of([row.machine.row for row in prepared])
    loads = columns_of(list(unit.loads))
    available = available_matrix(prepared)
    ranks = np.array([row.parallelism for row in prepared], dtype=np.int64)
    places = [row.request.placement for row in prepared]
    gpu_layers = np.array([-1 if p.gpu_layers is None else p.gpu_layers for p in places], dtype=np.int64)
    cpu_moe = np.array([-1 if p.cpu_moe_layers is None else p.cpu_moe_layers for p in places], dtype=np.int64)
    levels = np.array([LEVELS.index(slot.level) for slot in chosen])
    anchors = anchor_columns(unit, chosen)
    obstacles = np.array([blocked.index(slot.blocked) for slot in chosen], dtype=np.int16)
    factors = {task: interval_factors(calibration, task) for task in ("decode", "tpot", "prefill", "ttft")}
    transformer = unit.request.model.transformer
    longest = transformer.max_position_embeddings if transformer is not None else None
    position = start + np.array(members)[:, None] * axes.n_workloads + np.arange(axes.n_workloads)[None, :]
    targets = position.ravel()
    for begin in range(0, len(targets), BLOCK_ROWS):
        rows = np.arange(begin, min(begin + BLOCK_ROWS, len(targets)))
        slot, load = rows // axes.n_workloads, rows % axes.n_workloads
        parallelism = Parallelism(
            tensor=ranks[slot, 0],
            pipeline=ranks[slot, 1],
            data=ranks[slot, 2],
            expert_shards=ranks[slot, 3],
            gpu_layers=gpu_layers[slot],
            cpu_moe_layers=cpu_moe[slot],
        )
        machines, asked = take(slots, slot), take(loads, load)
        room = available[slot]
        cache = cache_bytes(first.policy, model, asked)
        buffers = block_buffers(
            first.policy, model, machines, asked, parallelism, room, cache[0], first.request
        )
        block = assess_block(first.policy, model, machines, asked, room, parallelism, cache, buffers, tables)
        place = targets[rows]
        too_long = (
            asked["context_tokens"] > longest if longest is not None else np.zeros(len(rows), dtype=bool)
        )
        stops = np.where(
            obstacles[slot] > 0,
            obstacles[slot],
            np.where(too_long, blocked.index("context-above-trained-maximum"), 0),
        )
        near = anchors.take(slot, load)
        _store(out, place, block, room, stops, near.evidence)
        task = np.where(first.policy.interference & (asked["concurrency"] > 1), 1, 0)
        _store_rates(out, place, block, levels[slot], task, factors, first.model.encoder_only, near)
        if progress is not None:
            progress(len(rows))


def _store(
    out: dict[str, NDArray[Any]],
    place: NDArray[np.int64],
    block: LlmBlock,
    room: NDArray[np.int64],
    stops: NDArray[np.int16],
    evidence: NDArray[np.int8],
) -> None:
    layout = block.layout
    for name, values in (
        ("weights_bytes", layout.weights),
        ("kv_cache_bytes", layout.kv_cache),
        ("state_bytes", layout.state),
        ("activation_bytes", layout.activation),
        ("overhead_bytes", layout.overhead),
        ("total_bytes", layout.total),
        ("total_bytes_low", layout.total_low),
        ("total_bytes_high", layout.total_high),
        ("available_bytes", room),
    ):
        out[name][place] = values.sum(axis=1)
    out["host_bytes"][place] = layout.host
    out["tier"][place] = np.where(stops > 0, WILL_NOT_RUN, layout.tier)
    out["fit_reason"][place] = block.fit
    out["dominance_reason"][place] = block.dominance
    out["blocked_by"][place] = stops
    out["bound"][place] = np.where(out["tier"][place] == WILL_NOT_RUN, 0, block.speed.bound + 1)
    out["evidence"][place] = evidence


def _store_rates(
    out: dict[str, NDArray[Any]],
    place: NDArray[np.int64],
    block: LlmBlock,
    level: NDArray[Any],
    task: NDArray[Any],
    factors: dict[str, NDArray[np.float64]],
    encoder: bool,
    near: AnchorColumns,
) -> None:
    speed = block.speed
    output, prefill = speed.decode_tokens_per_s, speed.prefill_tokens_per_s
    throughput, wait = speed.throughput_tokens_per_s, speed.loaded_time_to_first_token_s
    either = np.stack([factors["decode"], factors["tpot"]])[task, level]
    of_prefill, of_wait = factors["prefill"][level], factors["ttft"][level]
    if near.anchored:
        output, throughput = output * near.output_factor, throughput * near.output_factor
        prefill, wait = prefill * near.prefill_factor, wait / near.prefill_factor
        either = either**near.output_narrowing
        of_prefill, of_wait = of_prefill**near.prefill_narrowing, of_wait**near.prefill_narrowing
    plain = {"prefill_tokens_per_s": (prefill, of_prefill)}
    if encoder:
        texts_per_s = plain["prefill_tokens_per_s"][0] / block.load.prompt_tokens
        plain["samples_per_s"] = (texts_per_s, plain["prefill_tokens_per_s"][1])
    else:
        plain |= {
            "decode_tokens_per_s": (output, either),
            "throughput_tokens_per_s": (throughput, either),
        }
        wait = np.where(out["tier"][place] == WILL_NOT_RUN, np.nan, wait)
        bounds = of_wait
        out["time_to_first_token_s"][place] = wait
        out["time_to_first_token_s_low"][place] = wait / bounds[:, 1]
        out["time_to_first_token_s_high"][place] = wait / bounds[:, 0]
    refused = out["tier"][place] == WILL_NOT_RUN
    for name, (values, bounds) in plain.items():
        values = np.where(refused, np.nan, values)
        out[name][place] = values
        out[f"{name}_low"][place] = values * bounds[:, 0]
        out[f"{name}_high"][place] = values * bounds[:, 1]


def _scalar_rows(
    axes: Axes, unit: Unit, members: list[int], start: int, out: dict[str, NDArray[Any]], blocked: list[str]
) -> None:
    """Slots without columns of their own (graphs, training, gaps in the facts): evaluated as requests."""
    requests = [
        replace(unit.slots[position].request, workload=workload).rechecked()
        for position in members
        for workload in unit.workloads
    ]
    for number, found in enumerate(evaluate(requests)):
        row = start + members[number // axes.n_workloads] * axes.n_workloads + number % axes.n_workloads
        out["tier"][row] = TIERS.index(found.tier)
        code = found.request.blockers[0].code if found.request.blockers else ""
        if found.tier == "unknown":
            code = found.reasons[0].code
        if code not in blocked:
            blocked.append(code)
        out["blocked_by"][row] = blocked.index(code)
        memory, speed = found.memory_estimate(), found.speed_estimate()
        if memory is not None:
            for name in (
                "weights_bytes",
                "kv_cache_bytes",
                "activation_bytes",
                "overhead_bytes",
                "host_bytes",
            ):
                out[name][row] = round(getattr(memory, name).best)
            for suffix, bound in (("", "best"), ("_low", "low"), ("_high", "high")):
                out[f"total_bytes{suffix}"][row] = round(getattr(memory.total_bytes, bound))
            out["available_bytes"][row] = sum(device.available_bytes or 0 for device in memory.per_device)
        fit = next((reason.code for reason in found.reasons if reason.code in FIT_REASONS), None)
        if fit is not None:
            out["fit_reason"][row] = FIT_REASONS.index(fit)
        if speed is None or found.tier == "will-not-run":
            continue
        out["evidence"][row] = EVIDENCE.index(speed.evidence)
        out["bound"][row] = ALL_BOUNDS.index(speed.bound or "")
        for name in RATES:
            value = getattr(speed, name)
            if value is not None:
                out[name][row] = value.best
                out[f"{name}_low"][row], out[f"{name}_high"][row] = value.low, value.high
