"""`plan`, `plan_rows`: judge many scenarios at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.kernels.placement import best_format
from willitrun.planning.axes import build_axes, refuse_empty
from willitrun.planning.sweeps import run_sweep
from willitrun.planning.tables import PlanTable, concatenate
from willitrun.records.recipes import Placement, Runtime, Workload

__all__ = ["ROW_FIELDS", "plan", "plan_rows"]


def plan(
    *,
    models: Sequence[Any],
    machines: Sequence[Any],
    workloads: Sequence[Workload] | Workload | None = None,
    quantizations: Sequence[str | None] | None = None,
    runtimes: Sequence[str | Runtime | None] | None = None,
    placements: Sequence[str | Placement | None] | None = None,
    catalog: Catalog | None = None,
    progress: Callable[[int], object] | None = None,
    precision: Literal["float64", "float32"] = "float64",
) -> PlanTable:
    """Judge every combination of models, machines, formats, runtimes, placements and workloads.

    Parameters
    ----------
    models, machines
        Whatever `describe_model` and `describe_machine` take.
    workloads
        One or several; `Workload.grid` builds axes.
    quantizations, runtimes, placements
        None takes the defaults of `assess`: for a model without a format of its own each row gets the best
        GGUF format that is comfortable there (eight formats are judged for it).
    progress
        Called with the number of rows after each block; ``tqdm(...).update`` fits.
    precision
        ``float32`` keeps rates in single precision: half the memory, equal to 1e-5.

    Returns
    -------
    PlanTable
        One row per combination: models outermost, then formats, runtimes, machines, placements, workloads.
        Row i says what `assess` says of the same tuple: bytes exactly, rates to rounding.

    Examples
    --------
    >>> table = plan(models=["llama-3.1-8b"], machines=["rtx-4090", "rtx-3060-12gb"],
    ...     workloads=Workload.grid(contexts=[8192, 131072]), quantizations=["q4_k_m"])
    >>> len(table)
    4
    """
    catalog = catalog or load_catalog()
    if isinstance(workloads, Workload) or workloads is None:
        workloads = (workloads or Workload(),)
    refuse_empty(models=models, machines=machines, workloads=workloads)
    modes: dict[str, list[int]] = {}
    for number, workload in enumerate(workloads):
        modes.setdefault(workload.mode, []).append(number)
    parts = [
        _plan_mode(
            models=models,
            machines=machines,
            workloads=[workloads[number] for number in numbers],
            quantizations=quantizations or (None,),
            runtimes=runtimes or (None,),
            placements=placements or (None,),
            catalog=catalog,
            progress=progress,
        )
        for numbers in modes.values()
    ]
    table = parts[0] if len(parts) == 1 else _interleave(parts, list(modes.values()))
    return table.as_float32() if precision == "float32" else table


def _plan_mode(*, progress: Callable[[int], object] | None, **subjects: Any) -> PlanTable:
    """Judge loads of one mode: training takes other formats and runtimes than inference where nobody says."""
    axes = build_axes(**subjects)
    table = PlanTable(*run_sweep(axes, progress=progress))
    if all(count == 1 for count in axes.choices):
        return table
    rows = axes.rows_per_unit
    tiers = table.codes("tier").reshape(len(axes.units), rows)
    firsts = np.cumsum([0, *axes.choices[:-1]])
    chosen = [
        first + best_format(tiers[first : first + count])
        for first, count in zip(firsts, axes.choices, strict=True)
    ]
    return table.take((np.stack(chosen) * rows + np.arange(rows)).reshape(-1))


def _interleave(parts: Sequence[PlanTable], columns: Sequence[Sequence[int]]) -> PlanTable:
    """One table of parts that hold some of the loads each, in the order in which the loads were asked for."""
    width = sum(map(len, columns))
    lines = len(parts[0]) // len(columns[0])
    places = [np.arange(lines)[:, None] * width + np.array(numbers) for numbers in columns]
    return concatenate(parts).take(np.argsort(np.concatenate([place.reshape(-1) for place in places])))


_SPARSE = 8
"""A product of machines and loads this many times the rows that were asked for is not worth judging."""

ROW_FIELDS = ("model", "machine", "quantization", "runtime", "placement")


def plan_rows(table: Any, *, catalog: Catalog | None = None) -> PlanTable:
    """Judge scenarios row by row.

    Parameters
    ----------
    table
        A mapping of columns (or a data frame, or a sequence of mappings) with ``model``, ``machine``,
        optionally ``quantization``, ``runtime``, ``placement`` and any `Workload` field.

    Returns
    -------
    PlanTable
        The results in the order of the rows.

    Raises
    ------
    InvalidWorkloadError
        A column that is neither a subject nor a workload field, a row that is no mapping, columns that differ in
        length.

    Examples
    --------
    >>> found = plan_rows([{"model": "llama-3.1-8b", "machine": "rtx-4090", "quantization": "q4_k_m"}])
    >>> found["tier"].tolist()
    ['comfortable']
    """
    rows = _as_rows(table)
    if not rows:
        raise InvalidWorkloadError("there are no rows to plan.")
    _refuse_foreign_columns(rows)
    # Machines may be lists and mappings, which are told apart by how they are written. So are loads, which are
    # built once each: comparing records costs more than judging them.
    hosts = [repr(row["machine"]) for row in rows]
    asked = [_asked(row) for row in rows]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(rows):
        key = (
            repr(row["model"]),
            repr(row.get("quantization")),
            repr(row.get("runtime")),
            repr(row.get("placement")),
        )
        groups.setdefault(key, []).append(number)
    parts: list[PlanTable] = []
    order: list[int] = []
    for members in _dense(groups.values(), hosts, asked):
        first = rows[members[0]]
        machines = {hosts[number]: rows[number]["machine"] for number in members}
        loads = {asked[number]: _workload(rows[number]) for number in members}
        places = {text: place for place, text in enumerate(machines)}
        columns = {text: place for place, text in enumerate(loads)}
        cube = plan(
            models=[first["model"]],
            machines=list(machines.values()),
            workloads=list(loads.values()),
            quantizations=[first.get("quantization")],
            runtimes=[first.get("runtime")],
            placements=[first.get("placement")],
            catalog=catalog,
        )
        index = [places[hosts[number]] * len(loads) + columns[asked[number]] for number in members]
        parts.append(cube.take(np.array(index)))
        order += members
    joined = concatenate(parts)
    return joined.take(np.argsort(np.array(order), kind="stable"))


def _dense(groups: Iterable[list[int]], hosts: Sequence[str], asked: Sequence[str]) -> Iterator[list[int]]:
    """Groups whose machines and loads mostly meet: where few of them do, each machine gets a group of its own."""
    for members in groups:
        machines: dict[str, list[int]] = {}
        for number in members:
            machines.setdefault(hosts[number], []).append(number)
        loads = len({asked[number] for number in members})
        if len(machines) * loads > _SPARSE * len(members):
            yield from machines.values()
        else:
            yield members


def _refuse_foreign_columns(rows: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        unknown = set(row) - set(ROW_FIELDS) - _load_fields().keys()
        if unknown:
            raise InvalidWorkloadError(
                f"{min(map(str, unknown))!r} is neither {', '.join(ROW_FIELDS)} nor a field of Workload."
            )
        for name in ("model", "machine"):
            if row.get(name) is None:
                raise InvalidWorkloadError(f"row {number} names no {name}.")


@cache
def _load_fields() -> dict[str, None]:
    """Fields of a workload, in order: pydantic makes the mapping anew for every look-up."""
    return dict.fromkeys(Workload.model_fields)


def _asked(row: Mapping[str, Any]) -> str:
    return repr([(name, row[name]) for name in _load_fields() if row.get(name) is not None])


def _workload(row: Mapping[str, Any]) -> Workload:
    return Workload(
        **{name: value for name, value in row.items() if name in _load_fields() and value is not None}
    )


def _as_rows(table: Any) -> list[dict[str, Any]]:
    if hasattr(table, "to_pylist") and hasattr(table, "column_names"):
        # An Arrow table: asked for what it can do, so that no package is imported.
        table = table.to_pylist()
    if hasattr(table, "to_dict") and hasattr(table, "columns") and not isinstance(table, PlanTable):
        table = {name: list(table[name]) for name in table.columns}
    if isinstance(table, Mapping):
        _refuse_ragged(table)
        names = list(table)
        table = [
            dict(zip(names, values, strict=True))
            for values in zip(*(list(table[n]) for n in names), strict=True)
        ]
    if isinstance(table, str | bytes) or not isinstance(table, Iterable):
        raise InvalidWorkloadError(
            f"a table of scenarios has rows, got {type(table).__name__}.", hint=_SUCH_ROWS
        )
    rows = []
    for number, row in enumerate(table):
        if not isinstance(row, Mapping):
            raise InvalidWorkloadError(
                f"row {number} is no mapping but {type(row).__name__}.", hint=_SUCH_ROWS
            )
        rows.append({name: _known(value) for name, value in row.items()})
    return rows


_SUCH_ROWS = "Pass rows such as [{'model': 'llama-3.1-8b', 'machine': 'rtx-4090'}], columns, or a data frame."


def _refuse_ragged(columns: Mapping[str, Any]) -> None:
    """Columns are lists of one length: a string would be taken letter by letter."""
    sizes: dict[str, int] = {}
    for name, values in columns.items():
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise InvalidWorkloadError(
                f"column {name!r} is no list but {type(values).__name__}.", hint="Write one value per row."
            )
        sizes[name] = len(values)
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InvalidWorkloadError(f"columns differ in length: {said}.", hint="Write one value per row.")


def _known(value: Any) -> Any:
    """Data frames write NaN where nothing is said."""
    return None if isinstance(value, float) and value != value else value
