"""Spark: Arrow batches of scenarios on executors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from willitrun.interop.engines.batches import RESULT_COLUMNS, judge_batch

__all__ = ["judge_spark"]

_TYPES = {"string": "string", "int64": "bigint", "float64": "double"}


def judge_spark(frame: Any) -> Any:
    """A Spark data frame of scenarios with results beside them, lazily, by ``mapInArrow``."""
    given = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in frame.schema.fields)
    added = ", ".join(f"`{name}` {_TYPES[kind]}" for name, kind in RESULT_COLUMNS.items())

    def judged(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield from judge_batch(batch).to_batches()

    return frame.mapInArrow(judged, f"{given}, {added}")
