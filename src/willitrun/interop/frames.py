"""Plan tables as pandas, polars and Arrow tables, and as Parquet files.

Labels become categoricals (dictionaries in Arrow), bytes stay integers, and Arrow fields carry their unit in the
metadata. Any of them goes into `willitrun.plan_rows` as scenarios.
"""

from __future__ import annotations

from os import PathLike
from types import ModuleType
from typing import Any

import numpy as np

from willitrun.errors import MissingExtraError
from willitrun.planning.tables import PlanTable, unit_of

__all__ = ["from_arrow", "from_pandas", "from_polars", "load_parquet", "save_parquet", "to_arrow", "to_pandas", "to_polars"]  # fmt: skip


def _load(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "frames") from error


def to_pandas(table: PlanTable) -> Any:
    """A pandas data frame; labels are categoricals.

    Raises
    ------
    MissingExtraError
        pandas is not installed (extra ``frames``).
    """
    pandas = _load("pandas")
    return pandas.DataFrame(
        {
            name: pandas.Categorical.from_codes(values, categories=list(table.categories[name]))
            if name in table.categories
            else values
            for name, values in table.columns.items()
        }
    )


def to_arrow(table: PlanTable) -> Any:
    """An Arrow table; labels are dictionaries, and fields have their unit as metadata ``unit``."""
    arrow = _load("pyarrow")
    arrays, fields = [], []
    for name, values in table.columns.items():
        if name in table.categories:
            labels = arrow.array(list(table.categories[name]), type=arrow.string())
            array = arrow.DictionaryArray.from_arrays(arrow.array(values.astype(np.int32)), labels)
        else:
            array = arrow.array(np.ascontiguousarray(values))
        unit = unit_of(name)
        arrays.append(array)
        fields.append(arrow.field(name, array.type, metadata={"unit": unit} if unit else None))
    return arrow.Table.from_arrays(arrays, schema=arrow.schema(fields))


def to_polars(table: PlanTable) -> Any:
    """A polars data frame; labels are categoricals."""
    polars = _load("polars")
    columns = {}
    for name, values in table.columns.items():
        if name in table.categories:
            labels = polars.Series(name, list(table.categories[name]), dtype=polars.String)
            columns[name] = labels.gather(values.astype(np.int64)).cast(polars.Categorical)
        else:
            columns[name] = polars.Series(name, np.ascontiguousarray(values))
    return polars.DataFrame(columns)


def from_arrow(table: Any) -> PlanTable:
    """A plan table from an Arrow table that `to_arrow` wrote, or from any of numbers and strings."""
    arrow = _load("pyarrow")
    columns: dict[str, Any] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
            column = column.dictionary_encode()
        if arrow.types.is_dictionary(column.type):
            if isinstance(column, arrow.ChunkedArray):
                column = column.unify_dictionaries().combine_chunks()
            columns[name] = column.indices.to_numpy(zero_copy_only=False).astype(np.int32)
            categories[name] = tuple(str(label) for label in column.dictionary.to_pylist())
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return PlanTable(columns, categories)


def from_pandas(frame: Any) -> PlanTable:
    """A plan table from a pandas data frame."""
    arrow = _load("pyarrow")
    return from_arrow(arrow.Table.from_pandas(frame, preserve_index=False))


def from_polars(frame: Any) -> PlanTable:
    """A plan table from a polars data frame."""
    return from_arrow(frame.to_arrow())


def save_parquet(table: PlanTable, path: str | PathLike[str]) -> None:
    """Write a table to a Parquet file (zstd); labels and units are kept."""
    _load("pyarrow")
    parquet = _load("pyarrow.parquet")
    parquet.write_table(to_arrow(table), path, compression="zstd")


def load_parquet(path: str | PathLike[str]) -> PlanTable:
    """Read a table that `save_parquet` wrote."""
    _load("pyarrow")
    parquet = _load("pyarrow.parquet")
    return from_arrow(parquet.read_table(path))
