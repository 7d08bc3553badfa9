"""`plan_blocks`: sweeps larger than memory, as tables of one tile at a time.

`plan` lowers every pair of a model and a machine, which is exact for any placement and costs a tenth of a millisecond
a pair. A fleet has millions of pairs. Here models are lowered once per kind of machine (vendors and system decide what
a runtime makes of a model), machines once per runtime, and tiles of models x machines go through the kernels as grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog, load_catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import InvalidWorkloadError, MissingDataError
from willitrun.estimators.calibration_anchors import device_anchors
from willitrun.estimators.llm_evaluation import Prepared, speed_tables
from willitrun.estimators.llm_machines import MachineView, machine_row, parallel
from willitrun.estimators.overheads import block_buffers, device_overhead
from willitrun.estimators.requests import Request
from willitrun.estimators.support import LEVELS, classed_factors, device_classes, support_code
from willitrun.frozen import frozen
from willitrun.hardware.descriptions import describe_machine
from willitrun.kernels.columns import Columns, columns_of, side, take
from willitrun.kernels.llm_block import assess_block, cache_bytes
from willitrun.kernels.llm_ground import lay_ground
from willitrun.kernels.llm_runtime import Parallelism
from willitrun.planning.anchors import EVIDENCE, AnchorColumns
from willitrun.planning.axes import refuse_empty
from willitrun.planning.decks import Group, deck_for
from willitrun.planning.hands import near_of
from willitrun.planning.plans import plan
from willitrun.planning.sheets import LANGUAGE_RATES, RATES, Sheet, Tile
from willitrun.planning.tables import PlanTable, recode
from willitrun.records.machines import Machine
from willitrun.records.recipes import Runtime, Workload

__all__ = ["count_scenarios", "plan_blocks"]

TILE_ROWS = 16384
TILE_MACHINES = 512


def count_scenarios(*axes: Sequence[Any] | None) -> int:
    """Rows of a sweep over these axes: what a progress bar counts up to."""
    total = 1
    for axis in axes:
        total *= len(axis) if axis else 1
    return total


def plan_blocks(
    *,
    models: Sequence[Any],
    machines: Sequence[Any],
    workloads: Sequence[Workload] | Workload | None = None,
    quantizations: Sequence[str] | None = None,
    runtimes: Sequence[str | Runtime | None] | None = None,
    catalog: Catalog | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[PlanTable]:
    """Judge every combination, a tile at a time: the rows of `plan` in another order, in memory that does not grow.

    Parameters
    ----------
    models, machines, workloads, quantizations, runtimes, catalog, progress
        As for `plan`; machines that share a name share a label, so name the hosts of a fleet.

    Yields
    ------
    PlanTable
        Some rows; model, quantization, runtime and machine say which. Labels of these are the same in all tables.
        Reduce them as they come: `willitrun.planning.reductions`.

    Raises
    ------
    InvalidWorkloadError
        Nobody named a format and a model has none of its own.

    Examples
    --------
    >>> blocks = plan_blocks(models=["llama-3.1-8b"], machines=["rtx-4090", "rtx-3060-12gb"],
    ...     quantizations=["q4_k_m", "q8_0"], workloads=Workload.grid(contexts=[8192, 32768]))
    >>> sum(len(block) for block in blocks)
    8
    """
    catalog = catalog or load_catalog()
    if isinstance(workloads, Workload) or workloads is None:
        workloads = (workloads or Workload(),)
    refuse_empty(models=models, machines=machines, workloads=workloads)
    sweep = _Sweep.of(models, machines, tuple(quantizations or ()), catalog)
    for runtime in runtimes or (None,):
        for members in sweep.kinds.values():
            for load in workloads:
                for table in sweep.tables(members, load, runtime):
                    if progress is not None:
                        progress(len(table))
                    yield table


@frozen
class _Sweep:
    """The axes, and labels that all blocks share."""

    catalog: Catalog
    models: tuple[Any, ...]
    machines: tuple[Machine, ...]
    quantizations: tuple[str, ...]
    kinds: dict[tuple[Any, ...], list[int]]
    """Machines by what decides which runtime and back end suit a model."""
    labels: dict[str, tuple[str, ...]]
    codes: dict[str, dict[str, int]]
    """Place of each label."""
    views: dict[tuple[Any, ...], MachineView | None]
    """Machines as runtimes use them, lowered once for all loads."""

    @classmethod
    def of(
        cls, models: Sequence[Any], machines: Sequence[Any], quantizations: tuple[str, ...], catalog: Catalog
    ) -> _Sweep:
        described = tuple(describe_machine(machine, catalog=catalog) for machine in machines)
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for number, machine in enumerate(described):
            vendors = tuple(dict.fromkeys(device.accelerator.vendor for device in machine.accelerators))
            kinds.setdefault((vendors, machine.host.system), []).append(number)
        names = tuple(dict.fromkeys(describe_model(model, catalog=catalog).id for model in models))
        formats = tuple(dict.fromkeys((*quantizations, *catalog.quantizations, "")))
        labels = {
            "model": names,
            "quantization": formats,
            "runtime": tuple(catalog.runtimes),
            "machine": tuple(dict.fromkeys(machine.name for machine in described)),
        }
        codes = {name: {label: code for code, label in enumerate(known)} for name, known in labels.items()}
        return cls(catalog, tuple(models), described, quantizations, kinds, labels, codes, {})

    def tables(
        self, members: list[int], load: Workload, runtime: str | Runtime | None
    ) -> Iterator[PlanTable]:
        """Tiles of one kind of machine under one load."""
        deck = deck_for(
            self.machines[members[0]],
            self.models,
            load,
            quantizations=self.quantizations,
            runtime=runtime,
            placement=None,
            catalog=self.catalog,
        )
        if len(deck.cards) < len(self.models):
            raise InvalidWorkloadError(
                "a model of the sweep does not have a field of the workload.",
                hint="Sweep one task at a time.",
            )
        if not self.quantizations and any(
            len(set(group.card.tolist())) < len(group.card) for group in deck.groups
        ):
            raise InvalidWorkloadError(
                "a model has no weight format of its own.",
                hint="Name formats: quantizations=['q4_k_m', 'q8_0'].",
            )
        for group in deck.groups:
            yield from self._group(group, members)
        unknown = [request for _, request in deck.gaps]
        for begin in range(0, len(members) if unknown else 0, TILE_MACHINES):
            yield self._unknown(unknown, members[begin : begin + TILE_MACHINES])
        for number, _ in deck.alone:
            for begin in range(0, len(members), TILE_MACHINES):
                table = plan(
                    models=[deck.cards[number]],
                    machines=[self.machines[one] for one in members[begin : begin + TILE_MACHINES]],
                    workloads=load,
                    runtimes=[runtime],
                    catalog=self.catalog,
                )
                yield recode(table, self.labels)

    def _group(self, group: Group, members: list[int]) -> Iterator[PlanTable]:
        first = group.prepared[0]
        by_heads = "tensor" in first.request.profile.multi_gpu
        lines: dict[int | None, list[int]] = {}
        for number, row in enumerate(group.prepared):
            transformer = row.request.model.transformer
            heads = transformer.num_attention_heads if by_heads and transformer is not None else None
            lines.setdefault(heads, []).append(number)
        single = [n for n in members if len(self.machines[n].accelerators) <= 1]
        several = [n for n in members if len(self.machines[n].accelerators) > 1]
        # One card is the same whatever the number of heads.
        for numbers, places in [
            (list(range(len(group.prepared))), single),
            *((chosen, several) for chosen in lines.values()),
        ]:
            if not places:
                continue
            request = group.prepared[numbers[0]].request
            seen: dict[int, list[tuple[int, MachineView]]] = {}
            gaps = []
            for place in places:
                view = self._view(request, place, by_heads)
                if view is None:
                    gaps.append(place)
                    continue
                seen.setdefault(len(view.available), []).append((place, view))
            for found in seen.values():
                yield from self._tiles(group, np.array(numbers), found)
            for begin in range(0, len(gaps), TILE_MACHINES):
                asked = [group.prepared[number].request for number in numbers]
                yield self._unknown(asked, gaps[begin : begin + TILE_MACHINES])

    def _view(self, request: Request, place: int, by_heads: bool) -> MachineView | None:
        """A machine as a runtime uses it, whatever the load; None where a fact of it is missing."""
        transformer = request.model.transformer
        several = by_heads and len(self.machines[place].accelerators) > 1
        heads = transformer.num_attention_heads if several and transformer is not None else None
        key = (place, request.profile.id, request.runtime, heads)
        if key not in self.views:
            try:
                self.views[key] = machine_row(replace(request, machine=self.machines[place]))
            except MissingDataError:
                self.views[key] = None
        return self.views[key]

    def _tiles(
        self, group: Group, numbers: NDArray[np.int64], found: list[tuple[int, MachineView]]
    ) -> Iterator[PlanTable]:
        for begin in range(0, len(found), TILE_MACHINES):
            part = found[begin : begin + TILE_MACHINES]
            grid = _Grid.of(self, group, part)
            step = max(1, TILE_ROWS // len(part))
            for start in range(0, len(numbers), step):
                yield grid.table(numbers[start : start + step])

    def inputs(self, requests: Sequence[Request], places: Sequence[int]) -> dict[str, NDArray[Any]]:
        """What each row of a tile asks: columns over (requests, machines)."""
        shape = (len(requests), len(places))
        codes = self.codes

        def down(values: list[int], kind: Any) -> NDArray[Any]:
            return np.broadcast_to(np.array(values, dtype=kind)[:, None], shape).reshape(-1)

        names = [self.machines[place].name for place in places]
        columns = {
            "model": down([codes["model"][one.model.id] for one in requests], np.int32),
            "quantization": down([codes["quantization"][_format(one)] for one in requests], np.int16),
            "runtime": down([codes["runtime"][one.profile.id] for one in requests], np.int16),
            "machine": np.broadcast_to(
                np.array([codes["machine"][name] for name in names], dtype=np.int32)[None], shape
            ).reshape(-1),
        }
        for name in ("context_tokens", "prompt_tokens", "output_tokens", "concurrency", "batch_size"):
            columns[name] = down([getattr(one.workload, name) or 0 for one in requests], np.int64)
        return columns

    def _unknown(self, requests: Sequence[Request], places: Sequence[int]) -> PlanTable:
        sheet = Sheet(len(requests), len(places), ("", "memory-not-modelled"))
        sheet.out["blocked_by"][:] = 1
        return PlanTable(self.inputs(requests, places) | sheet.columns(), self.labels | sheet.categories())


def _format(request: Request) -> str:
    return request.quantization.id if request.quantization is not None else ""


@frozen
class _Grid:
    """Some machines as the columns of a grid; the lines are rows of a group."""

    sweep: _Sweep
    group: Group
    places: tuple[int, ...]
    machines: Columns
    room: NDArray[np.int64]
    ranks: NDArray[np.int64]
    devices: tuple[tuple[str, ...], ...]
    """Device ids of each kind of machine in the grid."""
    kind: NDArray[np.int64]
    """Kind of each machine."""
    levels: NDArray[np.int64]
    """Support level by family and kind of machine."""
    anchored: tuple[bool, ...]
    request: Request

    @classmethod
    def of(cls, sweep: _Sweep, group: Group, part: list[tuple[int, MachineView]]) -> _Grid:
        first: Prepared = group.prepared[0]
        catalog, calibration = sweep.catalog, sweep.catalog.calibrations["llm-speed"]
        machine = sweep.machines[part[0][0]]
        request = replace(first.request, machine=machine)
        count = len(part[0][1].available)
        kinds: dict[tuple[Any, ...], int] = {}
        devices: list[tuple[str, ...]] = []
        levels: list[list[int]] = []
        anchored: list[bool] = []
        index = []
        for place, view in part:
            derived = any(one.identity == "derived" for one in sweep.machines[place].accelerators)
            key = (view.device_ids, derived)
            if key not in kinds:
                kinds[key] = len(devices)
                devices.append(view.device_ids)
                moved = replace(first.request, machine=sweep.machines[place])
                classes = device_classes(moved, view.device_ids)
                levels.append(
                    [
                        support_code(calibration, view.device_ids, classes, family, derived=derived)
                        for family in group.families
                    ]
                )
                alike = len(set(view.device_ids)) == 1
                anchored.append(
                    alike and device_anchors(catalog, view.device_ids[0], count, images=False) is not None
                )
            index.append(kinds[key])
        return cls(
            sweep=sweep,
            group=group,
            places=tuple(place for place, _ in part),
            machines=columns_of([view.row for _, view in part]),
            room=np.array([view.available for _, view in part], dtype=np.int64)[None],
            ranks=np.array(parallel(request, count), dtype=np.int64),
            devices=tuple(devices),
            kind=np.array(index),
            levels=np.array(levels).T,
            anchored=tuple(anchored),
            request=request,
        )

    def table(self, lines: NDArray[np.int64]) -> PlanTable:
        """Judge some rows of the group on all machines of the grid."""
        group, catalog = self.group, self.sweep.catalog
        first = group.prepared[0]
        one = np.ones((1, 1), dtype=np.int64)
        tensor, pipeline, data, shards = (one * rank for rank in self.ranks.tolist())
        ground = lay_ground(
            first.policy,
            side(take(group.models, lines), 0),
            side(self.machines, 1),
            Parallelism(tensor, pipeline, data, shards, gpu_layers=-one, cpu_moe_layers=-one),
            speed_tables(catalog),
        )
        loads = side(take(group.loads, lines), 0)
        cache = cache_bytes(ground, loads)
        overhead = device_overhead(ground, self.request)
        buffers = block_buffers(ground, loads, self.room, cache[0], overhead, self.request)
        block = assess_block(ground, loads, self.room, cache, buffers)
        codes = sorted({group.blocked[line] for line in lines.tolist()} | {""})
        rates = RATES if first.model.encoder_only else LANGUAGE_RATES
        sheet = Sheet(len(lines), len(self.places), tuple(codes), rates=rates)
        stops = np.array([codes.index(group.blocked[line]) for line in lines.tolist()], dtype=np.int16)[
            :, None
        ]
        tile = Tile.of(np.arange(len(lines)), slice(0, len(self.places)))
        near = self._near(lines)
        refused = sheet.store_fit(tile, block, self.room, stops, near.evidence)
        level = self.levels[group.family[lines][:, None], self.kind[None]]
        calibration = catalog.calibrations["llm-speed"]
        moe = np.array([group.prepared[line].model.experts > 0 for line in lines.tolist()])[:, None]
        codes_of = first.policy.codes
        factors = {
            task: classed_factors(calibration, task, codes_of, moe, level)
            for task in ("decode", "prefill", "ttft")
        }
        factors["output"] = factors["decode"]
        if first.policy.interference:
            several = (loads["concurrency"] > 1)[..., None]
            crowded = classed_factors(calibration, "tpot", codes_of, moe, level)
            factors["output"] = np.where(several, crowded, factors["decode"])
        sheet.store_speed(tile, block, refused, factors, near, encoder=first.model.encoder_only)
        return PlanTable(
            self.sweep.inputs([group.prepared[line].request for line in lines.tolist()], self.places)
            | sheet.columns(),
            self.sweep.labels | sheet.categories(),
        )

    def _near(self, lines: NDArray[np.int64]) -> AnchorColumns:
        """Evidence, and shifts by measurements on the very devices."""
        group, catalog = self.group, self.sweep.catalog
        family = group.family[lines]
        unseen = LEVELS.index("unseen-class")
        evidence = np.where(
            self.levels[family] == unseen, EVIDENCE.index("estimated"), EVIDENCE.index("calibrated")
        ).astype(np.int8)
        shifts = np.ones((len(lines), len(self.devices), 4))
        for kind in np.flatnonzero(self.anchored).tolist():
            machine = self.sweep.machines[self.places[int(np.argmax(self.kind == kind))]]
            for number, line in enumerate(lines.tolist()):
                found, shift = near_of(group.prepared[line].request, machine, self.devices[kind], catalog)
                evidence[number, kind], shifts[number, kind] = EVIDENCE.index(found), shift
        wide = shifts[:, self.kind]
        return AnchorColumns(
            evidence[:, self.kind],
            wide[..., 0],
            wide[..., 1, None],
            wide[..., 2],
            wide[..., 3, None],
            any(self.anchored),
        )
