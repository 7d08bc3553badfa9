"""DuckDB: judge scenarios in SQL."""

from __future__ import annotations

from typing import Any

from willitrun.interop.engines.batches import RESULT_COLUMNS, arrow, judge_batch

__all__ = ["register_duckdb"]

_SQL_TYPES = {"string": "VARCHAR", "int64": "BIGINT", "float64": "DOUBLE"}


def register_duckdb(connection: Any, *, name: str = "willitrun") -> None:
    """Register ``willitrun(model, machine, quantization, context_tokens, concurrency)`` as a vectorised function.

    It returns a STRUCT of `RESULT_COLUMNS`: ``SELECT willitrun(model, machine, 'q4_k_m', 8192, 1).tier FROM fleet``.
    DuckDB hands it Arrow arrays, some thousand rows at a time.
    """
    types = arrow()
    fields = ("model", "machine", "quantization", "context_tokens", "concurrency")

    # DuckDB counts the parameters, so they are written out.
    def judge(model: Any, machine: Any, quantization: Any, context_tokens: Any, concurrency: Any) -> Any:
        columns = (model, machine, quantization, context_tokens, concurrency)
        table = types.table(dict(zip(fields, columns, strict=True)))
        found = judge_batch(table)
        arrays = [found.column(one).combine_chunks() for one in RESULT_COLUMNS]
        return types.StructArray.from_arrays(arrays, names=list(RESULT_COLUMNS))

    struct = ", ".join(f"{one} {_SQL_TYPES[kind]}" for one, kind in RESULT_COLUMNS.items())
    connection.create_function(
        name,
        judge,
        ["VARCHAR", "VARCHAR", "VARCHAR", "BIGINT", "BIGINT"],
        f"STRUCT({struct})",
        type="arrow",
        null_handling="special",
    )
