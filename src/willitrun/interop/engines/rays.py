"""Ray Data: batches of scenarios on a cluster."""

from __future__ import annotations

from typing import Any

from willitrun.interop.engines.batches import judge_batch

__all__ = ["judge_ray"]


def judge_ray(dataset: Any, **options: Any) -> Any:
    """A Ray dataset of scenarios with results beside them, lazily; ``options`` go to ``map_batches``."""
    return dataset.map_batches(judge_batch, batch_format="pyarrow", **options)
