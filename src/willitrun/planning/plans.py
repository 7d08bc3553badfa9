"""`plan`, `plan_rows`: judge many scenarios at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.planning.axes import build_axes
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
        None takes the defaults of `assess`.
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
    axes = build_axes(
        models=models,
        machines=machines,
        workloads=workloads,
        quantizations=quantizations or (None,),
        runtimes=runtimes or (None,),
        placements=placements or (None,),
        catalog=catalog,
    )
    columns, categories = run_sweep(axes, progress=progress)
    table = PlanTable(columns, categories)
    return table.as_float32() if precision == "float32" else table


ROW_FIELDS = ("model", "machine", "quantization", "runtime")


def plan_rows(table: Any, *, catalog: Catalog | None = None) -> PlanTable:
    """Judge scenarios row by row.

    Parameters
    ----------
    table
        A mapping of columns (or a data frame, or a sequence of mappings) with ``model``, ``machine``,
        optionally ``quantization``, ``runtime`` and any `Workload` field.

    Returns
    -------
    PlanTable
        The results in the order of the rows.

    Raises
    ------
    InvalidWorkloadError
        A column that is neither a subject nor a workload field.

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
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(rows):
        key = (repr(row["model"]), row.get("quantization"), repr(row.get("runtime")))
        groups.setdefault(key, []).append(number)
    parts: list[PlanTable] = []
    order: list[int] = []
    for members in groups.values():
        first = rows[members[0]]
        # Machines may be lists and mappings, which are told apart by how they are written.
        machines = {repr(rows[number]["machine"]): rows[number]["machine"] for number in members}
        places = {text: place for place, text in enumerate(machines)}
        # So are loads, which are built once each: comparing records costs more than judging them.
        asked = [_asked(rows[number]) for number in members]
        loads = {text: _workload(rows[number]) for text, number in zip(asked, members, strict=True)}
        columns = {text: place for place, text in enumerate(loads)}
        cube = plan(
            models=[first["model"]],
            machines=list(machines.values()),
            workloads=list(loads.values()),
            quantizations=[first.get("quantization")],
            runtimes=[first.get("runtime")],
            catalog=catalog,
        )
        index = [
            places[repr(rows[number]["machine"])] * len(loads) + columns[text]
            for text, number in zip(asked, members, strict=True)
        ]
        parts.append(cube.take(np.array(index)))
        order += members
    joined = concatenate(parts)
    return joined.take(np.argsort(np.array(order), kind="stable"))


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
        names = list(table)
        table = [
            dict(zip(names, values, strict=True))
            for values in zip(*(list(table[n]) for n in names), strict=True)
        ]
    return [{name: _known(value) for name, value in dict(row).items()} for row in table]


def _known(value: Any) -> Any:
    """Data frames write NaN where nothing is said."""
    return None if isinstance(value, float) and value != value else value
