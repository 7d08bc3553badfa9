"""The table that plans return: scenarios and their results as columns."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.errors import InvalidWorkloadError, UnknownIdError
from willitrun.frozen import frozen
from willitrun.planning.fronts import pareto_front
from willitrun.records.presentation import format_field

__all__ = ["PlanTable", "concatenate", "recode", "unit_of"]

_UNITS = (("_bytes", "B"), ("_tokens_per_s", "tokens/s"), ("images_per_s", "images/s"), ("samples_per_s", "samples/s"),
          ("_tokens", "tokens"), ("real_time_factor", "s/s"), ("_w", "W"), ("usd", "USD"), ("_s", "s"))  # fmt: skip


def unit_of(column: str) -> str:
    """Unit of a column, from its name; empty for labels and counts.

    >>> unit_of("total_bytes_high"), unit_of("decode_tokens_per_s"), unit_of("time_to_first_token_s_low")
    ('B', 'tokens/s', 's')
    """
    name = column.removesuffix("_low").removesuffix("_high")
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "")


@frozen
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
        """Rows where a mask holds and columns equal a value, or one of a list: ``table.filter(tier="comfortable")``.

        Raises
        ------
        UnknownIdError
            No column has that name.
        """
        keep = np.ones(len(self), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        for name, wanted in equals.items():
            if name not in self.columns:
                raise UnknownIdError("column", name, tuple(self.columns))
            among = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
            if name in self.categories:
                labels = self.categories[name]
                among = [labels.index(str(one)) for one in among if one in labels]
            keep &= np.isin(self.columns[name], np.array(among))
        return self.take(keep)

    def sort_by(self, name: str, *, descending: bool = True) -> PlanTable:
        """Rows by a numeric column; unknown values last."""
        values = self.columns[name].astype(np.float64)
        values = np.where(np.isnan(values), -np.inf if descending else np.inf, values)
        order = np.argsort(-values if descending else values, kind="stable")
        return self.take(order)

    def best_per(self, group: str, by: str) -> PlanTable:
        """The best row of each group by a numeric column."""
        return self.best_by((group,), by)

    def best_by(self, groups: Sequence[str], by: str, *, descending: bool = True) -> PlanTable:
        """The best row of each combination of some columns; rows without a value come last."""
        if not len(self):
            return self
        ordered = self.sort_by(by, descending=descending)
        _, first = np.unique(ordered.keys_of(groups), return_index=True)
        return ordered.take(np.sort(first))

    def count_by(self, *groups: str) -> PlanTable:
        """How many rows each combination of some columns has, most first: column ``count``."""
        _, first, count = np.unique(self.keys_of(groups), return_index=True, return_counts=True)
        columns = {name: self.columns[name][first] for name in groups}
        labels = {name: self.categories[name] for name in groups if name in self.categories}
        return PlanTable(columns | {"count": count.astype(np.int64)}, labels).sort_by("count")

    def keys_of(self, groups: Sequence[str]) -> NDArray[np.int64]:
        """One number per row that is equal where the group columns are."""
        key = np.zeros(len(self), dtype=np.int64)
        for name in groups:
            values = self.columns[name]
            if name in self.categories:
                size = len(self.categories[name])
            else:
                known, values = np.unique(values, return_inverse=True)
                size = len(known)
            key = key * max(size, 1) + values
        return key

    def rank(self, by: str, *, descending: bool = True) -> NDArray[np.int64]:
        """Rank of each row by a numeric column, 1 for the best; unknown values last."""
        values = self.columns[by].astype(np.float64)
        values = np.where(np.isnan(values), np.inf, -values if descending else values)
        place = np.empty(len(self), dtype=np.int64)
        place[np.argsort(values, kind="stable")] = np.arange(1, len(self) + 1)
        return place

    def pareto(self, **directions: str) -> PlanTable:
        """Rows that no other row beats in every column: ``table.pareto(total_bytes="min", decode_tokens_per_s="max")``.

        Rows with an unknown value are left out.

        Raises
        ------
        InvalidWorkloadError
            A direction is neither ``min`` nor ``max``.
        """
        points = self.points(directions)
        known = np.flatnonzero(~np.isnan(points).any(axis=1))
        return self.take(known[list(pareto_front(points[known]))])

    def points(self, directions: dict[str, str]) -> NDArray[np.float64]:
        """Columns as coordinates of which every one is to be small."""
        wrong = next((word for word in directions.values() if word not in ("min", "max")), None)
        if wrong is not None or not directions:
            raise InvalidWorkloadError(f"a direction is 'min' or 'max', got {wrong!r}.")
        signs = [1.0 if word == "min" else -1.0 for word in directions.values()]
        return np.stack(
            [self.columns[n].astype(np.float64) * sign for n, sign in zip(directions, signs, strict=True)],
            axis=1,
        )

    def at_least(self, tier: str) -> NDArray[np.bool_]:
        """Mask of the rows that reach a tier: ``comfortable``, ``tight`` or ``offload``."""
        order = {"will-not-run": 0, "offload": 1, "tight": 2, "comfortable": 3}
        ranks = np.array([order.get(name, -1) for name in self.categories["tier"]])
        reached: NDArray[np.bool_] = ranks[self.columns["tier"]] >= order[tier]
        return reached

    def smallest_machine(self, *groups: str, tier: str = "comfortable") -> PlanTable:
        """Of each group (default: model) the row with the least memory to hand that still reaches a tier."""
        reached = self.filter(self.at_least(tier))
        return reached.best_by(groups or ("model",), "available_bytes", descending=False)

    @property
    def units(self) -> dict[str, str]:
        """Unit of every column that has one."""
        return {name: unit for name in self if (unit := unit_of(name))}

    @property
    def nbytes(self) -> int:
        """Memory of the columns [bytes]."""
        return sum(values.nbytes for values in self.columns.values())

    def as_float32(self) -> PlanTable:
        """The same rows with rates in single precision: half the memory, equal to 1e-5. Bytes stay integers."""
        return PlanTable(
            {
                name: values.astype(np.float32) if values.dtype == np.float64 else values
                for name, values in self.columns.items()
            },
            self.categories,
        )

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


def concatenate(parts: Sequence[PlanTable]) -> PlanTable:
    """Tables of the same columns, one below the other."""
    names = parts[0].keys()
    columns: dict[str, NDArray[Any]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in names:
        labels = parts[0].categories.get(name)
        if labels is not None and any(part.categories[name] is not labels for part in parts):
            labels = tuple(dict.fromkeys(label for part in parts for label in part.categories[name]))
            place = {label: code for code, label in enumerate(labels)}
            columns[name] = np.concatenate(
                [
                    np.array([place[label] for label in part.categories[name]])[part.columns[name]]
                    for part in parts
                ]
            )
        else:
            # Numbers, or codes into labels that all parts share, as those of `plan_blocks` do.
            columns[name] = np.concatenate([part.columns[name] for part in parts])
        if labels is not None:
            categories[name] = labels
    return PlanTable(columns, categories)


def recode(table: PlanTable, labels: Mapping[str, tuple[str, ...]]) -> PlanTable:
    """The same rows with codes into other labels, which hold all of the table's."""
    columns, categories = dict(table.columns), dict(table.categories)
    for name, wanted in labels.items():
        place = {label: code for code, label in enumerate(wanted)}
        known = np.array([place[label] for label in categories[name]], dtype=np.int32)
        columns[name], categories[name] = known[columns[name]], wanted
    return PlanTable(columns, categories)
