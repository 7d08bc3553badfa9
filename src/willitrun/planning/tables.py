"""`plan`, `plan_rows` and the table that they return."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.planning.axes import build_axes
from willitrun.planning.sweeps import run_sweep
from willitrun.records.presentation import format_field
from willitrun.records.recipes import Placement, Runtime, Workload

__all__ = ["PlanTable", "plan", "plan_rows"]


@dataclass(frozen=True, slots=True, repr=False)
class PlanTable:
    """Scenarios and their results as columns.

    ``columns`` holds one array per column; those named in ``categories`` hold codes into its tuples.
    ``table["tier"]`` decodes; ``table.codes("tier")`` does not. Columns carry their unit in the name and
    ``_low`` / ``_high`` bounds of 90 % intervals. Feed it to pandas or polars with ``DataFrame(table.to_dict())``.
    """

    columns: dict[str, NDArray[Any]]
    categories: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        values = self.columns[name]
        if name in self.categories:
            labels: NDArray[Any] = np.array(self.categories[name], dtype=object)
            return np.asarray(labels[values])
        return values

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def keys(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.columns)

    def codes(self, name: str) -> NDArray[Any]:
        """Codes of a categorical column."""
        return self.columns[name]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Decoded columns, as data-frame constructors take them."""
        return {name: self[name] for name in self.columns}

    def row(self, index: int) -> dict[str, Any]:
        """One scenario with its results; counts from the end where negative."""
        place = range(len(self))[index]
        return {name: self[name][place : place + 1].tolist()[0] for name in self}

    def take(self, index: NDArray[Any] | Sequence[int] | slice) -> PlanTable:
        """Rows by index, mask or slice."""
        return PlanTable({name: values[index] for name, values in self.columns.items()}, self.categories)

    def filter(self, mask: NDArray[np.bool_] | None = None, **equals: object) -> PlanTable:
        """Rows where a mask holds and columns equal values: ``table.filter(tier="comfortable")``."""
        keep = np.ones(len(self), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        for name, wanted in equals.items():
            if name in self.categories:
                labels = self.categories[name]
                code = labels.index(str(wanted)) if wanted in labels else -1
                keep &= self.columns[name] == code
            else:
                keep &= self.columns[name] == wanted
        return self.take(keep)

    def sort_by(self, name: str, *, descending: bool = True) -> PlanTable:
        """Rows by a numeric column; unknown values last."""
        values = self.columns[name].astype(np.float64)
        values = np.where(np.isnan(values), -np.inf if descending else np.inf, values)
        order = np.argsort(-values if descending else values, kind="stable")
        return self.take(order)

    def best_per(self, group: str, by: str) -> PlanTable:
        """The best row of each group by a numeric column."""
        ordered = self.sort_by(by)
        _, first = np.unique(ordered.columns[group], return_index=True)
        return ordered.take(np.sort(first))

    def head(self, count: int = 10) -> PlanTable:
        """The first rows."""
        return self.take(slice(0, count))

    def __repr__(self) -> str:
        return f"<PlanTable {len(self):,} rows x {len(self.columns)} columns>"

    def _repr_html_(self) -> str:
        shown = self.head(20)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in shown)
        lines = []
        for index in range(len(shown)):
            cells = []
            for name, value in shown.row(index).items():
                text = (
                    format_field(name, value) if isinstance(value, float) and value == value else str(value)
                )
                cells.append(f"<td>{html.escape(text)}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        return f"<table><caption>{html.escape(repr(self))}</caption><tr>{head}</tr>{''.join(lines)}</table>"


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
    return PlanTable(columns, categories)


_ROW_FIELDS = ("model", "machine", "quantization", "runtime")


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
        loads = list(dict.fromkeys(_workload(rows[number]) for number in members))
        cube = plan(
            models=[first["model"]],
            machines=list(machines.values()),
            workloads=loads,
            quantizations=[first.get("quantization")],
            runtimes=[first.get("runtime")],
            catalog=catalog,
        )
        index = [
            places[repr(rows[number]["machine"])] * len(loads) + loads.index(_workload(rows[number]))
            for number in members
        ]
        parts.append(cube.take(np.array(index)))
        order += members
    joined = concatenate(parts)
    return joined.take(np.argsort(np.array(order), kind="stable"))


def _refuse_foreign_columns(rows: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        unknown = set(row) - set(_ROW_FIELDS) - set(Workload.model_fields)
        if unknown:
            raise InvalidWorkloadError(
                f"{min(map(str, unknown))!r} is neither {', '.join(_ROW_FIELDS)} nor a field of Workload."
            )
        for name in ("model", "machine"):
            if row.get(name) is None:
                raise InvalidWorkloadError(f"row {number} names no {name}.")


def _workload(row: Mapping[str, Any]) -> Workload:
    return Workload(
        **{name: value for name, value in row.items() if name in Workload.model_fields and value is not None}
    )


def _as_rows(table: Any) -> list[dict[str, Any]]:
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


def concatenate(parts: Sequence[PlanTable]) -> PlanTable:
    """Tables of the same columns, one below the other."""
    names = parts[0].keys()
    columns: dict[str, NDArray[Any]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in parts[0].categories:
            labels = tuple(dict.fromkeys(label for part in parts for label in part.categories[name]))
            place = {label: code for code, label in enumerate(labels)}
            columns[name] = np.concatenate(
                [
                    np.array([place[label] for label in part.categories[name]])[part.columns[name]]
                    for part in parts
                ]
            )
            categories[name] = labels
        else:
            columns[name] = np.concatenate([part.columns[name] for part in parts])
    return PlanTable(columns, categories)
