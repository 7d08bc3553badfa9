"""Dask: partitions of scenarios on many workers."""

from __future__ import annotations

from typing import Any

from willitrun.interop.engines.batches import RESULT_COLUMNS
from willitrun.interop.engines.frames import judge_pandas

__all__ = ["judge_dask"]

_DTYPES = {"string": "object", "int64": "int64", "float64": "float64"}


def judge_dask(frame: Any) -> Any:
    """A Dask data frame of scenarios with results beside them, lazily: one call per partition.

    A partition whose worker dies is judged again elsewhere; the result is the same.
    """
    meta = frame._meta.copy()
    for name, kind in RESULT_COLUMNS.items():
        meta[name] = meta.iloc[:, 0].astype(object).astype(_DTYPES[kind])
    return frame.map_partitions(judge_plain, meta=meta)


def judge_plain(part: Any) -> Any:
    """A partition with results in the types that ``judge_dask`` promises."""
    found = judge_pandas(
        part.astype({name: object for name in part.columns if part[name].dtype.name == "string"})
    )
    found.index = part.index
    for name, kind in RESULT_COLUMNS.items():
        found[name] = found[name].astype(_DTYPES[kind])
    for name in part.columns:
        found[name] = part[name]
    return found
