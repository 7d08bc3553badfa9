"""Run a lowered sweep in tiles that fit the cache.

A sweep is a grid: pairs of a model and a machine (with format, runtime and placement) down, loads across. What
depends on one side only is computed once for that side, and columns grow to a tile where both sides meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.estimators.llm_evaluation import parallelism_of, speed_tables
from willitrun.estimators.llm_lowering import BlockKey, Prepared
from willitrun.estimators.overheads import block_buffers, device_overhead
from willitrun.estimators.support import LEVELS, classed_factors
from willitrun.estimators.workloads import LLM_TASKS
from willitrun.frozen import frozen
from willitrun.kernels.columns import Columns, columns_of, side, stretches, take
from willitrun.kernels.llm_block import assess_block, cache_bytes
from willitrun.kernels.llm_ground import LlmGround, lay_ground
from willitrun.kernels.llm_runtime import Parallelism
from willitrun.kernels.overheads import MemoryRange
from willitrun.planning.anchors import anchor_columns
from willitrun.planning.axes import Axes, Loads, Slot, Unit
from willitrun.planning.graph_sweeps import sweep_graphs
from willitrun.planning.lone_rows import store_alone
from willitrun.planning.sheets import (
    GRAPH_RATES,
    LANGUAGE_RATES,
    RATES,
    Sheet,
    Tile,
    factors_of_load,
    tasks_of,
)

__all__ = ["BLOCK_ROWS", "run_sweep"]

BLOCK_ROWS = 32768
IntArray = NDArray[np.int64]
TOO_LONG = "context-above-trained-maximum"


def run_sweep(
    axes: Axes, *, progress: Callable[[int], object] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    """Columns and categories of all rows."""
    slots = len(axes.machines) * axes.n_placements
    found = sorted({slot.blocked for unit in axes.units for slot in unit.slots} - {""})
    blocked = ("", *found, TOO_LONG, "memory-not-modelled", "speed-not-modelled")
    sheet = Sheet(len(axes.units) * slots, axes.n_workloads, blocked, rates=_rates(axes))
    inputs, categories = _input_columns(axes)
    groups: dict[tuple[BlockKey, int], list[_Pair]] = {}
    for number, unit in enumerate(axes.units):
        first = number * slots
        alone: list[int] = []
        for position, slot in enumerate(unit.slots):
            if slot.problem is not None:
                sheet.store_gap(first + position, slot.problem.code)
                if progress is not None:
                    progress(axes.n_workloads)
                continue
            if slot.prepared is None:
                alone.append(position)
                continue
            key = slot.prepared.lowered.key, len(slot.prepared.machine.available)
            groups.setdefault(key, []).append(_Pair(first + position, number, slot, slot.prepared))
        if alone:
            _store_alone(axes, unit, alone, first, sheet)
            if progress is not None:
                progress(len(alone) * axes.n_workloads)
    if any(unit.by_kind for unit in axes.units):
        sweep_graphs(axes, sheet, progress=progress)
    for members in groups.values():
        group = _Group.of(axes, sheet, members)
        for lines, rows in _tiles(len(members), axes.n_workloads):
            group.fill(sheet, lines, rows)
            if progress is not None:
                progress((lines.stop - lines.start) * (rows.stop - rows.start))
    return inputs | sheet.columns(), categories | sheet.categories()


def _rates(axes: Axes) -> tuple[str, ...]:
    """Rates that rows of the sweep have: all of them where kinds of models are mixed, or rows are judged alone."""
    found = {_rates_of(unit, slot) for unit in axes.units for slot in unit.slots or (None,)}
    return found.pop() if len(found) == 1 else RATES


def _rates_of(unit: Unit, slot: Slot | None) -> tuple[str, ...]:
    if slot is None:
        return GRAPH_RATES if all(load.mode == "inference" for load in unit.loads.workloads) else RATES
    if slot.prepared is None:
        # A gap in the facts has no rates at all, and fits the columns of its unit's task.
        language = slot.problem is not None and unit.request.model.task in LLM_TASKS
    else:
        language = not slot.prepared.model.reads_only
    return LANGUAGE_RATES if language else RATES


def _store_alone(axes: Axes, unit: Unit, members: list[int], first: int, sheet: Sheet) -> None:
    requests = [request for line in members for request in axes.requests_of(unit, line)]
    places = [(first + line, load) for line in members for load in range(axes.n_workloads)]
    store_alone(requests, places, sheet)


@frozen
class _Pair:
    """A line of the grid: where it lies, its unit's number, and what it was lowered to."""

    line: int
    unit: int
    slot: Slot
    prepared: Prepared


def _tiles(lines: int, loads: int) -> Iterator[tuple[slice, slice]]:
    """Rectangles of about `BLOCK_ROWS` rows: many lines of few loads, or a stretch of one line."""
    together = max(1, BLOCK_ROWS // loads)
    for first in range(0, lines, together):
        for start in range(0, loads, BLOCK_ROWS):
            yield slice(first, min(first + together, lines)), slice(start, min(start + BLOCK_ROWS, loads))


@frozen(eq=False)
class _Group:
    """Lines that share a runtime and a system: what tiles take stretches of, lowered once."""

    axes: Axes
    pairs: list[_Pair]
    ground: Callable[[slice], tuple[LlmGround, MemoryRange]]
    """The ground of some lines, and what their runtime itself takes."""
    room: IntArray
    stops: NDArray[np.int16]
    longest: IntArray
    numbers: IntArray
    factors: dict[str, NDArray[np.float64]]
    """Low and high factors by task, (lines, 1, 2)."""
    loads: Callable[[slice, slice], Columns]

    @classmethod
    def of(cls, axes: Axes, sheet: Sheet, pairs: list[_Pair]) -> _Group:
        prepared = [pair.prepared for pair in pairs]
        policy, calibration = prepared[0].policy, axes.catalog.calibrations["llm-speed"]
        level = np.array([LEVELS.index(pair.slot.level) for pair in pairs])[:, None]
        moe = np.array([row.model.experts > 0 for row in prepared])[:, None]
        ranks = parallelism_of([row.lowered for row in prepared])
        ground = lay_ground(
            policy,
            side(columns_of([row.model for row in prepared]), 0),
            side(columns_of([row.machine.row for row in prepared]), 0),
            Parallelism(*(getattr(ranks, field.name)[:, None] for field in fields(Parallelism))),
            speed_tables(axes.catalog),
        )
        return cls(
            axes=axes,
            pairs=pairs,
            ground=stretches((ground, device_overhead(ground, prepared[0].request))),
            room=np.array([row.machine.available for row in prepared], dtype=np.int64)[:, None, :],
            stops=np.array([sheet.blocked_code(pair.slot.blocked) for pair in pairs], dtype=np.int16)[
                :, None
            ],
            longest=np.array([_trained(axes.units[pair.unit]) for pair in pairs], dtype=np.int64)[:, None],
            numbers=np.array([pair.line for pair in pairs]),
            factors={
                task: classed_factors(calibration, task, policy.codes, moe, level)
                for task in tasks_of(policy)
            },
            loads=_loads([axes.units[pair.unit].loads for pair in pairs]),
        )

    def fill(self, sheet: Sheet, lines: slice, rows: slice) -> None:
        """Judge one tile: some of the lines, and a stretch of the loads."""
        pairs, axes = self.pairs[lines], self.axes
        first = pairs[0].prepared
        ground, overhead = self.ground(lines)
        asked, room = self.loads(lines, rows), self.room[lines]
        cache = cache_bytes(ground, asked)
        buffers = block_buffers(ground, asked, room, cache, overhead, first.request)
        block = assess_block(ground, asked, room, cache, buffers)
        tile = Tile.of(self.numbers[lines], rows)
        near = anchor_columns([(axes.units[pair.unit], pair.slot) for pair in pairs], rows)
        # What stands in the way whatever memory says.
        stops, too_long = self.stops[lines], np.int16(sheet.blocked.index(TOO_LONG))
        longer = asked["context_tokens"] > self.longest[lines]
        stops = np.where(stops > 0, stops, np.where(longer, too_long, np.int16(0)))
        refused = sheet.store_fit(tile, block, room, stops, near.evidence)
        factors = factors_of_load(
            {task: values[lines] for task, values in self.factors.items()}, asked["concurrency"]
        )
        sheet.store_speed(tile, block, refused, factors, near, encoder=first.model.reads_only)


def _loads(loads: Sequence[Loads]) -> Callable[[slice, slice], Columns]:
    """Loads of a tile: one line for all of a group's, or a line for each where models fill them differently."""
    columns = [load.columns for load in loads if load.columns is not None]
    first = columns[0]
    known: dict[tuple[int, int], Columns] = {}

    def stretch(lines: slice, rows: slice) -> Columns:
        chosen = columns[lines]
        if not alike and not all(line is chosen[0] for line in chosen):
            return Columns({name: np.stack([line[name][rows] for line in chosen]) for name in first.arrays})
        if not alike:
            return side(take(chosen[0], rows), 1)
        key = rows.start, rows.stop
        if key not in known:
            known[key] = side(take(first, rows), 1)
        return known[key]

    alike = all(line is first or line.equals(first) for line in {id(one): one for one in columns}.values())
    return stretch


def _trained(unit: Unit) -> int:
    transformer = unit.request.model.transformer
    longest = transformer.max_position_embeddings if transformer is not None else None
    return np.iinfo(np.int64).max if longest is None else longest


def _input_columns(axes: Axes) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    """What each row asks, as columns over (units, slots, loads)."""
    shape = (len(axes.units), len(axes.machines) * axes.n_placements, axes.n_workloads)

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(values, shape).reshape(-1)

    columns: dict[str, NDArray[Any]] = {}
    categories: dict[str, tuple[str, ...]] = {"machine": axes.machines}
    for name, labels in (
        ("model", [(unit.request.model.id,) for unit in axes.units]),
        ("quantization", [(_quantization(unit),) for unit in axes.units]),
        ("runtime", [_runtimes(axes, unit) for unit in axes.units]),
    ):
        codes = {label: code for code, label in enumerate(dict.fromkeys(chain.from_iterable(labels)))}
        kind = np.int32 if name == "model" else np.int16
        columns[name] = spread(
            np.stack([np.broadcast_to([codes[one] for one in line], shape[1]) for line in labels]).astype(
                kind
            )[..., None]
        )
        categories[name] = tuple(codes)
    places = np.repeat(np.arange(len(axes.machines), dtype=np.int32), axes.n_placements)
    columns["machine"] = spread(places[None, :, None])
    for name in ("context_tokens", "prompt_tokens", "output_tokens", "concurrency", "batch_size"):
        lines: dict[int, NDArray[np.int64]] = {}
        for unit in axes.units:
            if id(unit.loads) not in lines:
                asked = [getattr(load, name) or 0 for load in unit.loads.workloads]
                lines[id(unit.loads)] = np.array(asked, dtype=np.int64)
        columns[name] = spread(np.stack([lines[id(unit.loads)] for unit in axes.units])[:, None, :])
    return columns, categories


def _quantization(unit: Unit) -> str:
    return unit.request.quantization.id if unit.request.quantization is not None else ""


def _runtimes(axes: Axes, unit: Unit) -> tuple[str, ...]:
    """Runtime of each slot of a unit, or the one of all: what suits a format may differ between machines."""
    requests = unit.by_kind or tuple(slot.request for slot in unit.slots)
    if len({request.runtime.name for request in requests}) == 1:
        return (unit.request.runtime.name,)
    lines = range(len(axes.machines) * axes.n_placements)
    return tuple(axes.request_at(unit, line).runtime.name for line in lines)
