"""The pure function that all engines run: scenarios in, the same scenarios with results out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from willitrun.errors import InvalidWorkloadError, MissingExtraError
from willitrun.interop.frames import to_arrow
from willitrun.planning.plans import ROW_FIELDS, plan_rows
from willitrun.records.recipes import Workload

__all__ = ["RESULT_COLUMNS", "arrow", "judge_batch", "result_schema"]

RESULT_COLUMNS = {
    "tier": "string",
    "total_bytes": "int64",
    "total_bytes_low": "int64",
    "total_bytes_high": "int64",
    "available_bytes": "int64",
    "decode_tokens_per_s": "float64",
    "decode_tokens_per_s_low": "float64",
    "decode_tokens_per_s_high": "float64",
    "prefill_tokens_per_s": "float64",
    "images_per_s": "float64",
    "bound": "string",
    "evidence": "string",
    "blocked_by": "string",
}
"""Results that are handed back by default, and their Arrow types."""


def arrow() -> ModuleType:
    """pyarrow, or an error that says how to get it."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", "engines") from error
    found: ModuleType = pyarrow
    return found


def result_schema(scenarios: Any, results: Sequence[str] = tuple(RESULT_COLUMNS)) -> Any:
    """Schema of what `judge_batch` returns for scenarios of a schema."""
    types = arrow()
    schema = scenarios
    for name in results:
        schema = schema.append(types.field(name, types.type_for_alias(RESULT_COLUMNS[name])))
    return schema


def judge_batch(batch: Any, *, results: Sequence[str] = tuple(RESULT_COLUMNS)) -> Any:
    """Judge a batch of scenarios.

    Parameters
    ----------
    batch
        Arrow table or record batch with ``model``, ``machine``, and what else `plan_rows` takes. Columns of your
        own (a host's name, an owner) are carried along.
    results
        Which of `RESULT_COLUMNS` to add.

    Returns
    -------
    pyarrow.Table
        The scenarios in their order, with the results beside them. The same input gives the same output.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed (extra ``engines``).
    InvalidWorkloadError
        A column of your own looks like a misspelt one of these, or is named like a result.
    UnknownIdError
        A model, a machine or a format that does not exist.
    """
    types = arrow()
    table = types.Table.from_batches([batch]) if isinstance(batch, types.RecordBatch) else batch
    schema = result_schema(table.schema, results)
    if table.num_rows == 0:
        return schema.empty_table()
    found = to_arrow(plan_rows(table.select(_asked(table.column_names, results)).to_pylist()))
    columns = [table.column(name) for name in table.column_names]
    for name in results:
        columns.append(found.column(name).cast(schema.field(name).type))
    return types.Table.from_arrays(columns, schema=schema)


def _asked(names: Iterable[str], results: Sequence[str]) -> list[str]:
    """The columns that say what to judge. A fleet's own ones stand beside them, but no misspelt ones."""
    known = (*ROW_FIELDS, *Workload.model_fields)
    asked = []
    for name in names:
        if name in results:
            raise InvalidWorkloadError(f"the column {name!r} is a result.", hint="Rename or drop it.")
        if name in known:
            asked.append(name)
        elif near := get_close_matches(name.lower(), known, n=1, cutoff=0.8):
            raise InvalidWorkloadError(f"the column {name!r} is unknown.", hint=f"Did you mean {near[0]!r}?")
    return asked
