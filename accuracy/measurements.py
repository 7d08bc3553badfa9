"""Score the catalogued measurements through the public door: what ``make accuracy`` can do without other data."""

from __future__ import annotations

from typing import Any

import numpy as np

from willitrun import Runtime, WillItRunError, Workload, estimate_speed, load_catalog
from willitrun.catalog import Catalog
from willitrun.records.measurements import Measurement

METRICS = (
    "images_per_s",
    "decode_tokens_per_s",
    "prefill_tokens_per_s",
    "samples_per_s",
    "seconds_per_image",
)


def without_measurements(catalog: Catalog) -> Catalog:
    """The catalog with no measurement to lean on: a row must not be predicted from itself."""
    return Catalog(catalog.root, {}, hidden=("measurement",))


def predicted(row: Measurement, catalog: Catalog) -> Any:
    """The interval that the library gives for a measurement's tuple, None where it gives none."""
    load = {
        name: value
        for name in ("image_size", "batch_size", "prompt_tokens", "output_tokens", "context_tokens")
        if (value := getattr(row, name)) is not None
    }
    for name in ("execution", "precision", "layout"):
        if getattr(row, name):
            load[name] = getattr(row, name)
    if row.concurrency:
        load["concurrency"] = row.concurrency
    machine = [row.accelerator] * row.accelerator_count
    speed = estimate_speed(
        row.model,
        machine,
        Workload(**load),
        quantization=row.quantization or None,
        runtime=Runtime(name=row.runtime, backend=row.backend or None),
        catalog=catalog,
    )
    return getattr(speed, row.metric, None)


def main() -> None:
    """Median error and coverage per study and metric."""
    catalog = without_measurements(load_catalog())
    found: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for row in load_catalog().measurements.values():
        if row.metric not in METRICS:
            continue
        try:
            interval = predicted(row, catalog)
        except WillItRunError as error:
            print(f"{row.id}: {error}")
            continue
        if interval is None:
            continue
        error = interval.best / row.value - 1
        found.setdefault((row.runtime, row.metric), []).append((abs(error), row.value in interval))
    for (runtime, metric), pairs in sorted(found.items()):
        errors = np.array([error for error, _ in pairs])
        inside = np.mean([hit for _, hit in pairs])
        print(
            f"{runtime:14} {metric:22} n={len(pairs):4} median {np.median(errors):6.1%}  p90 {np.quantile(errors, 0.9):6.1%}"
            f"  inside the interval {inside:4.0%}"
        )


if __name__ == "__main__":
    main()
