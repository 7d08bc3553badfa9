"""Sweep graphs of operators: networks, devices and passes are lowered once each, and meet as grids.

The axes are networks, devices and batches. Everything else of a workload (precision, execution, layout, image size,
dataset) makes a grid of its own, and so does what a device executes (a host another profile than its accelerator).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.datasets import input_rates
from willitrun.estimators.graph_devices import device_generation
from willitrun.estimators.graph_intervals import spread_factors, spread_kind
from willitrun.estimators.graph_rates import profile_of, profile_rates
from willitrun.estimators.graph_sides import (
    DeviceRow,
    NetworkRow,
    device_row,
    meet,
    network_row,
    pass_row,
    stack_rates,
)
from willitrun.estimators.graph_traces import find_trace, residuals_of, trace_family, work_of
from willitrun.estimators.llm_machines import MachineView, machine_row, on_host
from willitrun.estimators.requests import Request
from willitrun.estimators.support import device_classes, model_family, support_code
from willitrun.frozen import frozen
from willitrun.kernels.columns import Columns, columns_of
from willitrun.kernels.operator_inputs import DeviceRates
from willitrun.kernels.operator_work import OperatorWork
from willitrun.planning.axes import Axes, Unit
from willitrun.planning.graph_anchors import GraphAnchors, graph_anchors
from willitrun.planning.graph_sheets import GraphSpread, GraphTile, store_graphs, store_unknown
from willitrun.planning.lone_rows import store_alone
from willitrun.planning.sheets import Sheet
from willitrun.records.recipes import Workload
from willitrun.records.traces import OperatorTrace

__all__ = ["sweep_graphs"]

TILE_ROWS = 8192
VISION = "vision-speed"
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_SETTING = attrgetter(*(name for name in Workload.model_fields if name != "batch_size"))
Progress = Callable[[int], object] | None


def sweep_graphs(axes: Axes, sheet: Sheet, *, progress: Progress = None) -> None:
    """Judge the graphs of a sweep and write them into its sheet."""
    groups: dict[tuple[object, ...], list[tuple[int, Unit]]] = {}
    for number, unit in enumerate(axes.units):
        if unit.by_kind:
            groups.setdefault(_used_alike(unit), []).append((number, unit))
    settings: dict[tuple[object, ...], list[int]] = {}
    for number, load in enumerate(axes.workloads):
        settings.setdefault(_SETTING(load), []).append(number)
    for members in groups.values():
        devices, gaps = _devices(axes, members[0][1])
        for numbers in settings.values():
            loads = np.array(numbers)
            if axes.workloads[numbers[0]].mode != "inference":
                _store_training(axes, members, loads, sheet)
            else:
                _sweep(axes, sheet, members, devices, gaps, loads, progress)
                continue
            if progress is not None:
                progress(len(members) * len(loads) * len(axes.machines) * axes.n_placements)


def _used_alike(unit: Unit) -> tuple[object, ...]:
    """What decides how machines are used: units that agree on it share their devices."""
    transformer = unit.request.model.transformer
    heads = transformer.num_attention_heads if transformer is not None else None
    return heads, *((id(one.runtime), one.profile.id, id(one.placement)) for one in unit.by_kind)


@frozen
class _Network:
    """A network at the image size of a setting."""

    number: int
    unit: Unit
    request: Request
    trace: OperatorTrace
    row: NetworkRow
    work: OperatorWork


@frozen
class _Device:
    """A machine with a placement, as the networks of a group use it."""

    place: int
    """Line of a unit."""
    kind: int
    """Place of the request of its kind in a unit."""
    request: Request
    view: MachineView


@frozen
class _Used:
    """A device under a setting."""

    device: _Device
    request: Request
    row: DeviceRow
    rates: DeviceRates


def _devices(axes: Axes, unit: Unit) -> tuple[list[_Device], list[int]]:
    """Machines with placements, and lines of those of which a fact is missing."""
    found, gaps = [], []
    for number, machine in enumerate(axes.described):
        for placement in range(axes.n_placements):
            place, kind = (one * axes.n_placements + placement for one in (number, axes.kinds[number]))
            request = replace(unit.by_kind[kind], machine=machine)
            try:
                found.append(_Device(place, kind, request, machine_row(request)))
            except MissingDataError:
                gaps.append(place)
    return found, gaps


def _networks(members: Sequence[tuple[int, Unit]], load: int) -> tuple[list[_Network], list[int]]:
    """Networks under a load, and numbers of units that nobody traced."""
    found, gaps = [], []
    for number, unit in members:
        request = replace(unit.request, workload=unit.loads.workloads[load])
        try:
            trace = find_trace(request)
        except MissingDataError:
            gaps.append(number)
            continue
        row, work = network_row(request, trace), work_of(request, trace)
        found.append(_Network(number, unit, request, trace, row, work))
    return found, gaps


def _sweep(
    axes: Axes,
    sheet: Sheet,
    members: Sequence[tuple[int, Unit]],
    devices: Sequence[_Device],
    gaps: Sequence[int],
    loads: IntArray,
    progress: Progress,
) -> None:
    """One setting on all devices."""
    networks, untraced = _networks(members, int(loads[0]))
    places = [device.place for device in devices]
    shape = len(axes.units), len(axes.machines) * axes.n_placements, axes.n_workloads
    for numbers, lines in (([n for n, _ in members], gaps), (untraced, places)):
        if numbers and lines:
            store_unknown(sheet, GraphTile.of(shape, np.array(numbers), np.array(lines), loads))
            if progress is not None:
                progress(len(numbers) * len(lines) * len(loads))
    by_profile: dict[str, list[_Device]] = {}
    for device in devices if networks else ():
        load = networks[0].request.workload
        profile = profile_of(load.execution or "eager", load.layout or "nchw", host=on_host(device.request))
        by_profile.setdefault(profile, []).append(device)
    for profile, chosen in by_profile.items():
        grid = _Grid.of(axes, networks, chosen, profile, loads)
        for tile in _tiles(len(networks), len(chosen), len(loads)):
            grid.store(sheet, shape, tile)
            if progress is not None:
                progress(int(np.prod([part.stop - part.start for part in tile])))


def _tiles(*shape: int) -> Iterator[tuple[slice, slice, slice]]:
    """Boxes of about `TILE_ROWS` rows: whole along the last axes first."""
    steps: list[int] = []
    room = TILE_ROWS
    for size in reversed(shape):
        steps.insert(0, max(1, min(size, room)))
        room //= steps[0]
    starts = [range(0, size, step) for size, step in zip(shape, steps, strict=True)]
    for i in starts[0]:
        for j in starts[1]:
            for k in starts[2]:
                yield tuple(  # type: ignore[misc]
                    slice(start, min(start + step, size))
                    for start, step, size in zip((i, j, k), steps, shape, strict=True)
                )


@frozen(eq=False)
class _Grid:
    """Networks down, devices across, batches in depth: the sides, and what pairs of the first two add."""

    catalog: Catalog
    numbers: IntArray
    places: IntArray
    loads: IntArray
    networks: Columns
    work: OperatorWork
    devices: Columns
    rates: DeviceRates
    passes: Columns
    log_residual: FloatArray
    blocked: NDArray[np.object_]
    spread: GraphSpread
    anchors: GraphAnchors

    @classmethod
    def of(
        cls, axes: Axes, networks: list[_Network], devices: list[_Device], profile: str, loads: IntArray
    ) -> _Grid:
        catalog = axes.catalog
        load = networks[0].request.workload
        used = [_use(device, load, profile) for device in devices]
        filled = [networks[0].unit.loads.workloads[number] for number in loads.tolist()]
        batches = np.array([one.batch_size or 1 for one in filled], dtype=np.int64)
        row = columns_of([pass_row(load, profile)])
        passes = Columns(
            {name: array[None, None] for name, array in row.arrays.items()} | {"batch": batches[None, None]}
        )
        rates = stack_rates([one.rates for one in used])
        levels = _levels(catalog, networks, used)
        kinds = [spread_kind(one.request, one.device.view) for one in used]
        tables = np.stack([spread_factors(catalog, profile, kind) for kind in kinds])
        anchors = graph_anchors(
            catalog, [one.request for one in networks], [(one.request, one.device.view) for one in used], levels, filled
        )  # fmt: skip
        pairs = np.arange(len(used))[None]
        spread = GraphSpread.of(
            catalog,
            profile,
            tables[pairs, :, levels],
            np.array([one.row.from_totals for one in networks]),
        )
        disk = np.array([_waits_for_disk(one.request) for one in used])
        return cls(
            catalog=catalog,
            numbers=np.array([one.number for one in networks]),
            places=np.array([one.device.place for one in used]),
            loads=loads,
            networks=columns_of([one.row for one in networks]),
            work=_stack([one.work for one in networks]),
            devices=Columns(columns_of([one.row for one in used]).arrays | {"disk": disk}),
            rates=rates,
            passes=passes,
            log_residual=_residuals(catalog, networks, used, profile),
            blocked=_blocked(networks, used),
            spread=spread,
            anchors=anchors,
        )

    def store(self, sheet: Sheet, shape: tuple[int, int, int], tile: tuple[slice, slice, slice]) -> None:
        """Judge a box of the grid and write it."""
        down, across, deep = tile
        # The longest side comes last: inner loops of arrays over two batches would be mostly calls.
        turned = across.stop - across.start > deep.stop - deep.start

        def face(values: NDArray[Any], *keep: slice | None) -> NDArray[Any]:
            """Values as a side of the grid: None stands for an axis that they do not have."""
            found = values[keep]
            return found.swapaxes(1, 2) if turned else found

        def sides(columns: Columns, *keep: slice | None) -> Columns:
            return Columns({name: face(array, *keep) for name, array in columns.arrays.items()})

        devices = sides(self.devices, None, across, None)
        block = meet(
            sides(self.networks, down, None, None),
            OperatorWork(
                *(getattr(self.work, field.name)[down, None, None] for field in fields(OperatorWork))
            ),
            devices,
            DeviceRates(
                *(face(getattr(self.rates, field.name), None, across, None) for field in fields(DeviceRates))
            ),
            Columns(
                {
                    name: face(array, slice(None), slice(None), deep if name == "batch" else slice(None))
                    for name, array in self.passes.arrays.items()
                }
            ),
            face(self.log_residual, down, across, None),
            self.catalog,
        )
        store_graphs(
            sheet,
            GraphTile.of(shape, self.numbers[down], self.places[across], self.loads[deep], turned=turned),
            block,
            available=devices["available"],
            overhead=devices["overhead"],
            disk=devices["disk"],
            blocked=self.blocked[down, across],
            spread=self.spread.take(down, across),
            anchors=self.anchors.take(down, across, deep),
        )


def _use(device: _Device, load: Workload, profile: str) -> _Used:
    request, view = replace(device.request, workload=load), device.view
    return _Used(device, request, device_row(request, view), profile_rates(request, view, profile))


def _stack(works: Sequence[OperatorWork]) -> OperatorWork:
    """Work of networks, which are repeated where one network has several units."""
    return OperatorWork.stack(list(works))


def _waits_for_disk(request: Request) -> bool:
    decoded, read = input_rates(request)
    return read < decoded


def _levels(catalog: Catalog, networks: Sequence[_Network], used: Sequence[_Used]) -> IntArray:
    """Support level of every network on every device."""
    calibration = catalog.calibrations[VISION]
    families = [model_family(one.request) for one in networks]
    known = {family: number for number, family in enumerate(dict.fromkeys(families))}
    lines: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[int]] = {}
    found = []
    for one in used:
        machine, ids = one.request.machine, one.device.view.device_ids
        assert machine is not None
        derived = any(device.identity == "derived" for device in machine.accelerators)
        key = (ids, device_classes(one.request, ids), derived)
        if key not in lines:
            lines[key] = [support_code(calibration, *key[:2], family, derived=derived) for family in known]
        found.append(lines[key])
    return np.array(found, dtype=np.int64).T[[known[family] for family in families]]


def _residuals(
    catalog: Catalog, networks: Sequence[_Network], used: Sequence[_Used], profile: str
) -> FloatArray:
    """Learnt log ratios of every network on every device; zero where work is spread from totals."""
    generations = [device_generation(one.request, one.device.view) for one in used]
    known = list(dict.fromkeys(generations))
    families = [trace_family(catalog, one.request.model, one.trace) for one in networks]
    work = _stack([one.work for one in networks])
    traced = np.array([not one.row.from_totals for one in networks])
    table = np.where(traced[:, None], residuals_of(catalog, work, families, profile, known), 0.0)
    return table[:, [known.index(generation) for generation in generations]]


def _blocked(networks: Sequence[_Network], used: Sequence[_Used]) -> NDArray[np.object_]:
    """Codes of what stands in the way whatever memory says; empty where nothing does."""
    kinds = [one.device.kind for one in used]
    lines = [[_first(request) for request in one.unit.by_kind] for one in networks]
    return np.array(lines, dtype=object)[:, kinds]


def _first(request: Request) -> str:
    return request.blockers[0].code if request.blockers else ""


def _store_training(axes: Axes, members: Sequence[tuple[int, Unit]], loads: IntArray, sheet: Sheet) -> None:
    """Training has no columns of its own yet."""
    slots = len(axes.machines) * axes.n_placements
    for number, unit in members:
        for line in range(slots):
            asked = axes.requests_of(unit, line)
            places = [(number * slots + line, load) for load in loads.tolist()]
            store_alone([asked[load] for load in loads.tolist()], places, sheet)
