"""`plan_blocks`: sweeps larger than memory, as tables of one tile at a time.

`plan` lowers every pair of a model and a machine, which is exact for any placement and costs a tenth of a millisecond
a pair. A fleet has millions of pairs. Here models are lowered once per kind of machine (vendors and system decide what
a runtime makes of a model), machines once per runtime, and tiles of models x machines go through the kernels as grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog, load_catalog
from willitrun.checkpoints.descriptions import describe_model
from willitrun.errors import InvalidWorkloadError, MissingDataError
from willitrun.estimators.llm_machines import MachineView, machine_row
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen, with_changes
from willitrun.hardware.descriptions import describe_machine
from willitrun.planning.axes import refuse_empty
from willitrun.planning.decks import Group, deck_for
from willitrun.planning.fleet_grids import Grid, Hosts
from willitrun.planning.plans import plan
from willitrun.planning.sheets import Sheet
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
class _Seen:
    """Machines as one runtime uses them, in tiles, and those of which a fact is missing."""

    hosts: tuple[Hosts, ...]
    gaps: list[int]


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
    seen: dict[tuple[Any, ...], _Seen]
    """Machines as runtimes use them, lowered once for all models and loads."""

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
            lines.setdefault(_heads(row.request) if by_heads else None, []).append(number)
        single = [n for n in members if len(self.machines[n].accelerators) <= 1]
        several = [n for n in members if len(self.machines[n].accelerators) > 1]
        # One card is the same whatever the number of heads.
        for numbers, places, heads in [
            (list(range(len(group.prepared))), single, None),
            *((chosen, several, heads) for heads, chosen in lines.items()),
        ]:
            if not places:
                continue
            seen = self._seen(group.prepared[numbers[0]].request, places, heads)
            for hosts in seen.hosts:
                grid = Grid.of(self.catalog, group, hosts)
                step = max(1, TILE_ROWS // len(hosts.places))
                for start in range(0, len(numbers), step):
                    chosen = np.array(numbers[start : start + step])
                    sheet = grid.judge(chosen)
                    requests = [group.prepared[number].request for number in chosen.tolist()]
                    yield self._table(requests, hosts.labels, sheet)
            asked = [group.prepared[number].request for number in numbers] if seen.gaps else []
            for begin in range(0, len(seen.gaps), TILE_MACHINES):
                yield self._unknown(asked, seen.gaps[begin : begin + TILE_MACHINES])

    def _seen(self, request: Request, places: list[int], heads: int | None) -> _Seen:
        """Some machines as a runtime uses them, whatever the load. The first of them names them all."""
        key = (places[0], request.profile.id, request.runtime, heads)
        if key in self.seen:
            return self.seen[key]
        by_count: dict[int, list[tuple[Machine, MachineView]]] = {}
        numbers: dict[int, list[int]] = {}
        gaps = []
        for place in places:
            machine = self.machines[place]
            try:
                view = machine_row(with_changes(request, machine=machine))
            except MissingDataError:
                gaps.append(place)
                continue
            by_count.setdefault(len(view.available), []).append((machine, view))
            numbers.setdefault(len(view.available), []).append(place)
        hosts = [
            Hosts.of(
                self.catalog,
                request,
                tuple(numbers[count][begin : begin + TILE_MACHINES]),
                found[begin : begin + TILE_MACHINES],
                self.codes["machine"],
            )
            for count, found in by_count.items()
            for begin in range(0, len(found), TILE_MACHINES)
        ]
        self.seen[key] = _Seen(tuple(hosts), gaps)
        return self.seen[key]

    def _table(self, requests: Sequence[Request], machines: NDArray[np.int32], sheet: Sheet) -> PlanTable:
        """What each row of a tile asks, and what became of it: columns over (requests, machines)."""
        shape = (len(requests), len(machines))
        codes = self.codes

        def down(values: list[int], kind: Any) -> NDArray[Any]:
            return np.broadcast_to(np.array(values, dtype=kind)[:, None], shape).reshape(-1)

        columns = {
            "model": down([codes["model"][one.model.id] for one in requests], np.int32),
            "quantization": down([codes["quantization"][_format(one)] for one in requests], np.int16),
            "runtime": down([codes["runtime"][one.profile.id] for one in requests], np.int16),
            "machine": np.broadcast_to(machines[None], shape).reshape(-1),
        }
        for name in ("context_tokens", "prompt_tokens", "output_tokens", "concurrency", "batch_size"):
            columns[name] = down([getattr(one.workload, name) or 0 for one in requests], np.int64)
        return PlanTable(columns | sheet.columns(), self.labels | sheet.categories())

    def _unknown(self, requests: Sequence[Request], places: Sequence[int]) -> PlanTable:
        sheet = Sheet(len(requests), len(places), ("", "memory-not-modelled"))
        sheet.out["blocked_by"][:] = 1
        known = self.codes["machine"]
        labels = np.array([known[self.machines[place].name] for place in places], dtype=np.int32)
        return self._table(requests, labels, sheet)


def _heads(request: Request) -> int | None:
    transformer = request.model.transformer
    return transformer.num_attention_heads if transformer is not None else None


def _format(request: Request) -> str:
    return request.quantization.id if request.quantization is not None else ""
