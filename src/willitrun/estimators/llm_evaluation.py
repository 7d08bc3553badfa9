"""Language models and encoders: requests to rows, rows to blocks, blocks to results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.cell_buffers import CellBuffers, cell_buffers
from willitrun.estimators.evaluation import Evaluated, from_error
from willitrun.estimators.llm_lowering import BlockKey, Lowered, Prepared, prepare
from willitrun.estimators.llm_memory_packing import pack_memory
from willitrun.estimators.llm_packing import headline_of, pack_speed, tier_reasons
from willitrun.estimators.overheads import block_buffers, device_overhead
from willitrun.estimators.requests import Request
from willitrun.estimators.support import Support, support_of
from willitrun.frozen import derived, frozen
from willitrun.intervals import Interval
from willitrun.kernels.columns import Columns, at, columns_of, devices_at, numbers_of_row
from willitrun.kernels.elementwise import numbers_of
from willitrun.kernels.llm_block import LlmBlock, assess_block, cache_bytes
from willitrun.kernels.llm_ground import LlmGround, lay_ground
from willitrun.kernels.llm_levels import LevelTables, lay_out
from willitrun.kernels.llm_runtime import CacheKinds, Parallelism
from willitrun.kernels.overheads import MemoryRange
from willitrun.kernels.placement import TIERS
from willitrun.records.recipes import Placement
from willitrun.records.results import MemoryEstimate, Reason, SpeedEstimate, Tier

__all__ = ["EvaluatedLlm", "evaluate_llm", "parallelism_of"]


@lru_cache(maxsize=8)
def speed_tables(catalog: Catalog) -> LevelTables:
    """The LLM speed calibration, laid out for look-up."""
    calibration = catalog.calibrations["llm-speed"]
    return lay_out(calibration.coefficients, calibration.levels)


@frozen(eq=False)
class Stage:
    """A block without its loads, ready for any: ground, room, and what the runtime itself takes.

    ``request`` stands for the runtime, the system and the catalog, which all rows share.
    """

    ground: LlmGround
    available: NDArray[np.int64]
    overhead: MemoryRange
    request: Request

    @derived
    def cells(self) -> CellBuffers | None:
        """Buffers of llama.cpp; None for other runtimes."""
        if self.ground.policy.cache != "cells":
            return None
        return cell_buffers(self.ground, self.available, self.overhead.best, self.request)

    def run(self, loads: Columns) -> LlmBlock:
        """One array call for some loads."""
        ground, available = self.ground, self.available
        cache = cache_bytes(ground, loads)
        buffers = block_buffers(ground, loads, available, cache, self.overhead, self.request, self.cells)
        return assess_block(ground, loads, available, cache, buffers)

    def of_one_row(self) -> Stage:
        """The stage of one row on one device, as numbers instead of columns."""
        return Stage(
            self.ground.of_one_row(),
            self.available.reshape(())[()],
            numbers_of(self.overhead),
            self.request,
        )


def _set_stage(rows: Sequence[Lowered], request: Request, tables: LevelTables) -> Stage:
    first = rows[0]
    width = max(len(row.machine.available) for row in rows)
    available = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        available[number, : len(row.machine.available)] = row.machine.available
    models = columns_of([row.model for row in rows])
    machines = columns_of([row.machine.row for row in rows])
    kinds = CacheKinds.of([row.policy for row in rows])
    ground = lay_ground(first.policy, models, machines, parallelism_of(rows), tables, kinds=kinds)
    return Stage(ground, available, device_overhead(ground, request), request)


def parallelism_of(rows: Sequence[Lowered]) -> Parallelism:
    """Ranks and given splits of some rows, as columns."""
    ranks = np.array([row.parallelism for row in rows], dtype=np.int64)
    placements = [row.placement for row in rows]
    return Parallelism(
        tensor=ranks[:, 0],
        pipeline=ranks[:, 1],
        data=ranks[:, 2],
        expert_shards=ranks[:, 3],
        gpu_layers=np.array(
            [-1 if p.gpu_layers is None else p.gpu_layers for p in placements], dtype=np.int64
        ),
        cpu_moe_layers=np.array(
            [-1 if p.cpu_moe_layers is None else p.cpu_moe_layers for p in placements], dtype=np.int64
        ),
    )


def run_block(rows: Sequence[Prepared], tables: LevelTables | None = None) -> LlmBlock:
    """One array call for rows that share a policy; without ``tables``, with the catalog's calibration."""
    loads = columns_of([row.load for row in rows])
    return run_rows([row.lowered for row in rows], loads, rows[0].request, tables)


def run_rows(
    lowered: Sequence[Lowered],
    loads: Columns,
    request: Request,
    tables: LevelTables | None = None,
) -> LlmBlock:
    """One array call; ``request`` stands for the runtime, the system and the catalog, which all rows share."""
    if tables is not None:
        stage = _set_stage(lowered, request, tables)
    else:
        stage = request.catalog.memo("stages", most=256).get(
            tuple(lowered), None, lambda: _set_stage(lowered, request, speed_tables(request.catalog))
        )
    return stage.run(loads)


def run_alone(row: Prepared) -> LlmBlock:
    """One row, as numbers where it is on one device: the same calls as for a block, without arrays of length one."""
    lowered, request = row.lowered, row.request
    if len(lowered.machine.available) != 1:
        return run_block([row])
    stage = request.catalog.memo("stages-of-one", most=1024).get(
        (lowered,), None, lambda: _set_stage([lowered], request, speed_tables(request.catalog)).of_one_row()
    )
    return stage.run(numbers_of_row(row.load))


def evaluate_llm(requests: Sequence[Request]) -> list[Evaluated]:
    """Evaluate language-model requests, one block per runtime policy."""
    results: list[Evaluated | None] = [None] * len(requests)
    groups: dict[BlockKey, list[tuple[int, Prepared]]] = {}
    for number, request in enumerate(requests):
        if request.workload.mode != "inference":
            from willitrun.estimators.training import evaluate_training

            results[number] = evaluate_training(request)
            continue
        try:
            row = prepare(request)
        except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
            results[number] = from_error(request, error)
            continue
        groups.setdefault(row.lowered.key, []).append((number, row))
    for members in groups.values():
        block = run_alone(members[0][1]) if len(members) == 1 else run_block([row for _, row in members])
        for place, (number, row) in enumerate(members):
            results[number] = EvaluatedLlm(row, block, place)
    return [result for result in results if result is not None]


@frozen
class EvaluatedLlm:
    """One row of an evaluated block."""

    prepared: Prepared
    block: LlmBlock
    place: int

    @property
    def request(self) -> Request:
        """The request."""
        return self.prepared.request

    @derived
    def tier(self) -> Tier:
        """Tier by memory; whatever stands in the way makes it `will-not-run`."""
        if self.request.blockers or self._indivisible():
            return "will-not-run"
        return TIERS[int(at(self.block.layout.tier, self.place))]  # type: ignore[return-value]

    def _indivisible(self) -> Reason | None:
        if self.prepared.lowered.divides:
            return None
        transformer = self.request.model.transformer
        assert transformer is not None
        ranks, heads = self.prepared.parallelism[0], transformer.num_attention_heads
        assert heads is not None
        name, kv_heads = self.request.model.name, transformer.num_key_value_heads or heads
        if heads % ranks:
            return Reason.model_construct(
                code="tensor-parallel-does-not-divide",
                message=f"{ranks} tensor-parallel ranks do not divide the {heads} attention heads of {name}.",
                numbers={"tp": ranks, "num_attention_heads": heads},
            )
        return Reason.model_construct(
            code="tensor-parallel-does-not-divide",
            message=f"{ranks} tensor-parallel ranks neither divide the {kv_heads} KV heads of {name} nor are divided by them.",
            numbers={"tp": ranks, "num_key_value_heads": kv_heads},
        )

    @derived
    def placement(self) -> Placement:
        """What lies where, as the runtime would be told."""
        layout, place = self.block.layout, self.place
        row = self.prepared.model
        tensor, pipeline, data, _ = self.prepared.parallelism
        on_host = self.prepared.machine.row.on_host
        layers_on_host = int(at(layout.host_layers, place))
        given = self.request.placement
        strategy = given.strategy
        if strategy is None:
            strategy = "cpu" if on_host else "tensor" if tensor > 1 else "layer" if pipeline > 1 else "single"
        cells = self.prepared.policy.cache == "cells"
        return Placement.model_construct(
            strategy=strategy,
            gpu_layers=self._gpu_layers(row.n_layers, layers_on_host, on_host) if cells else given.gpu_layers,
            cpu_moe_layers=int(at(layout.host_moe_layers, place)) or None,
            split=given.split,
            tp=tensor if tensor > 1 else given.tp,
            pp=given.pp if given.pp else (pipeline if pipeline > 1 and not cells else None),
            ep=given.ep,
            dp=data if data > 1 else given.dp,
        )

    def _gpu_layers(self, layers: int, host_layers: int, on_host: bool) -> int:
        """llama.cpp counts the output matrix as one layer more."""
        given = self.request.placement.gpu_layers
        if on_host or (host_layers >= layers and given is None):
            return 0
        if given is not None:
            return min(given, layers + 1)
        last = self.prepared.policy.output_last and host_layers > 0
        return layers - host_layers if last else layers + 1 - host_layers

    @derived
    def support(self) -> Support:
        """How far this case lies from the calibration data."""
        return support_of(self.request, self.prepared.machine.device_ids, "llm-speed")

    @derived
    def reasons(self) -> tuple[Reason, ...]:
        """Why this tier, what binds the speed, and remarks on the machine."""
        found = list(tier_reasons(self))
        indivisible = self._indivisible()
        if indivisible is not None:
            found.insert(0, indivisible)
        return (*found, *self.prepared.machine.reasons, *self.support.reasons)

    @property
    def cites(self) -> tuple[str, ...]:
        """Measurements that the speed rests on."""
        return self.support.cites

    @property
    def calibrations(self) -> tuple[str, ...]:
        """Calibrations that were used."""
        return ("llm-speed", "memory", "system-reserve")

    def total(self) -> Interval:
        """Memory on the accelerators [bytes]."""
        layout, place = self.block.layout, self.place
        return Interval(
            float(sum(devices_at(layout.total_low, place))),
            float(sum(devices_at(layout.total, place))),
            float(sum(devices_at(layout.total_high, place))),
        )

    def headline(self) -> tuple[str, Interval] | None:
        """Decode speed, or prefill speed for encoders."""
        return self._headline

    @derived
    def _headline(self) -> tuple[str, Interval] | None:
        return headline_of(self)

    @derived
    def _memory(self) -> MemoryEstimate:
        return pack_memory(self)

    @derived
    def _speed(self) -> SpeedEstimate | None:
        return pack_speed(self)

    def memory_estimate(self) -> MemoryEstimate:
        """The memory estimate with terms."""
        return self._memory

    def speed_estimate(self) -> SpeedEstimate | None:
        """The speed estimate with terms; None where it cannot run at all."""
        return self._speed
