"""pandas and polars: frames in, frames out."""

from __future__ import annotations

from typing import Any

from willitrun.interop.engines.batches import arrow, judge_batch

__all__ = ["judge_pandas", "judge_polars"]


def judge_pandas(frame: Any, **options: Any) -> Any:
    """A pandas frame of scenarios with results beside them; missing values mean that nothing is said."""
    types = arrow()
    return judge_batch(types.Table.from_pandas(frame, preserve_index=False), **options).to_pandas()


def judge_polars(frame: Any, **options: Any) -> Any:
    """A polars frame of scenarios with results beside them: fits ``LazyFrame.map_batches`` and ``DataFrame.pipe``."""
    import polars

    return polars.from_arrow(judge_batch(frame.to_arrow(), **options))
