"""Tiles of a fleet: some models as the lines of a grid, some machines as its columns, judged in one pass of array calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.estimators.calibration_anchors import device_anchors
from willitrun.estimators.llm_evaluation import speed_tables
from willitrun.estimators.llm_machines import MachineView, parallel
from willitrun.estimators.overheads import block_buffers, device_overhead
from willitrun.estimators.requests import Request
from willitrun.estimators.support import LEVELS, classed_factors, device_classes, support_code
from willitrun.frozen import frozen, with_changes
from willitrun.kernels.columns import Columns, columns_of, side, take
from willitrun.kernels.llm_block import assess_block, cache_bytes
from willitrun.kernels.llm_ground import lay_ground
from willitrun.kernels.llm_runtime import Parallelism
from willitrun.planning.anchors import EVIDENCE, AnchorColumns
from willitrun.planning.decks import Group
from willitrun.planning.hands import near_of
from willitrun.planning.sheets import LANGUAGE_RATES, RATES, Sheet, Tile, factors_of_load, tasks_of
from willitrun.records.machines import Machine

__all__ = ["Grid", "Hosts"]


@frozen
class _Kind:
    """Machines with the same devices: how far they lie from the calibration data, family by family of models."""

    machine: Machine
    devices: tuple[str, ...]
    classes: tuple[str, ...]
    derived: bool
    anchored: bool
    """Whether measurements on these very devices have a say."""
    known: dict[str, int]
    """Support level by family, as far as somebody asked."""


@frozen(eq=False)
class Hosts:
    """Machines with as many devices each, as one runtime uses them: the columns of a grid, whatever models and loads."""

    places: tuple[int, ...]
    labels: NDArray[np.int32]
    machines: Columns
    """Rates, across a grid."""
    room: NDArray[np.int64]
    kinds: tuple[_Kind, ...]
    kind: NDArray[np.int64]
    """Kind of each machine."""

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        request: Request,
        places: tuple[int, ...],
        found: Sequence[tuple[Machine, MachineView]],
        labels: Mapping[str, int],
    ) -> Hosts:
        """Machines with their views; ``labels`` number their names, ``request`` stands for the runtime."""
        kinds: dict[tuple[tuple[str, ...], bool], int] = {}
        described: list[_Kind] = []
        index = []
        for machine, view in found:
            devices, derived = view.device_ids, any(one.identity == "derived" for one in machine.accelerators)
            if (devices, derived) not in kinds:
                kinds[devices, derived] = len(described)
                alike = len(set(devices)) == 1
                described.append(
                    _Kind(
                        machine,
                        devices,
                        device_classes(with_changes(request, machine=machine), devices),
                        derived,
                        alike and device_anchors(catalog, devices[0], len(devices), images=False) is not None,
                        {},
                    )
                )
            index.append(kinds[devices, derived])
        return cls(
            places=places,
            labels=np.array([labels[machine.name] for machine, _ in found], dtype=np.int32),
            machines=side(columns_of([view.row for _, view in found]), 1),
            room=np.array([view.available for _, view in found], dtype=np.int64)[None],
            kinds=tuple(described),
            kind=np.array(index),
        )

    def levels(self, catalog: Catalog, families: tuple[str, ...]) -> NDArray[np.int64]:
        """Support level by family and kind of machine."""
        calibration = catalog.calibrations["llm-speed"]
        for kind in self.kinds:
            for family in families:
                if family not in kind.known:
                    kind.known[family] = support_code(
                        calibration, kind.devices, kind.classes, family, derived=kind.derived
                    )
        return np.array([[kind.known[family] for kind in self.kinds] for family in families])


@frozen
class Grid:
    """Some machines as the columns of a grid; the lines are rows of a group."""

    catalog: Catalog
    group: Group
    hosts: Hosts
    parallelism: Parallelism
    levels: NDArray[np.int64]
    """Support level by family and kind of machine."""
    request: Request

    @classmethod
    def of(cls, catalog: Catalog, group: Group, hosts: Hosts) -> Grid:
        """The grid of a group of models on some machines."""
        request = with_changes(group.prepared[0].request, machine=hosts.kinds[0].machine)
        one = np.ones((1, 1), dtype=np.int64)
        tensor, pipeline, data, shards = (one * rank for rank in parallel(request, hosts.room.shape[-1]))
        return cls(
            catalog=catalog,
            group=group,
            hosts=hosts,
            parallelism=Parallelism(tensor, pipeline, data, shards, gpu_layers=-one, cpu_moe_layers=-one),
            levels=hosts.levels(catalog, group.families),
            request=request,
        )

    def judge(self, lines: NDArray[np.int64]) -> Sheet:
        """Judge some rows of the group on all machines of the grid."""
        group, catalog, hosts = self.group, self.catalog, self.hosts
        first = group.prepared[0]
        ground = lay_ground(
            first.policy,
            side(take(group.models, lines), 0),
            hosts.machines,
            self.parallelism,
            speed_tables(catalog),
        )
        loads = side(take(group.loads, lines), 0)
        cache = cache_bytes(ground, loads)
        overhead = device_overhead(ground, self.request)
        buffers = block_buffers(ground, loads, hosts.room, cache, overhead, self.request)
        block = assess_block(ground, loads, hosts.room, cache, buffers)
        codes = sorted({group.blocked[line] for line in lines.tolist()} | {""})
        rates = RATES if first.model.reads_only else LANGUAGE_RATES
        sheet = Sheet(len(lines), len(hosts.places), tuple(codes), rates=rates)
        stops = np.array([codes.index(group.blocked[line]) for line in lines.tolist()], dtype=np.int16)[
            :, None
        ]
        tile = Tile.of(np.arange(len(lines)), slice(0, len(hosts.places)))
        near = self._near(lines)
        refused = sheet.store_fit(tile, block, hosts.room, stops, near.evidence)
        level = self.levels[group.family[lines][:, None], hosts.kind[None]]
        calibration = catalog.calibrations["llm-speed"]
        moe = np.array([group.prepared[line].model.experts > 0 for line in lines.tolist()])[:, None]
        codes_of = first.policy.codes
        factors = factors_of_load(
            {
                task: classed_factors(calibration, task, codes_of, moe, level)
                for task in tasks_of(first.policy)
            },
            loads["concurrency"],
        )
        sheet.store_speed(tile, block, refused, factors, near, encoder=first.model.reads_only)
        return sheet

    def _near(self, lines: NDArray[np.int64]) -> AnchorColumns:
        """Evidence, and shifts by measurements on the very devices."""
        group, catalog, hosts = self.group, self.catalog, self.hosts
        family = group.family[lines]
        unseen = LEVELS.index("unseen-class")
        evidence = np.where(
            self.levels[family] == unseen, EVIDENCE.index("estimated"), EVIDENCE.index("calibrated")
        ).astype(np.int8)
        shifts = np.ones((len(lines), len(hosts.kinds), 4))
        for place, kind in enumerate(hosts.kinds):
            if not kind.anchored:
                continue
            for number, line in enumerate(lines.tolist()):
                found, shift = near_of(group.prepared[line].request, kind.machine, kind.devices, catalog)
                evidence[number, place], shifts[number, place] = EVIDENCE.index(found), shift
        wide = shifts[:, hosts.kind]
        return AnchorColumns(
            evidence[:, hosts.kind],
            wide[..., 0],
            wide[..., 1, None],
            wide[..., 2],
            wide[..., 3, None],
            any(kind.anchored for kind in hosts.kinds),
        )
