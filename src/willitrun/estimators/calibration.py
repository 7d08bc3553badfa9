"""Own measurements: a catalog whose predictions have moved towards them, as far as they reach."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import CatalogInvalidError, WillItRunError
from willitrun.estimators.calibration_anchors import ANCHORS, write_posterior
from willitrun.estimators.calibration_rows import METRICS, OWN, Comparison, compare
from willitrun.estimators.workloads import GRAPH_TASKS
from willitrun.records.measurements import Measurement

__all__ = ["calibrate", "compare_measurements"]

#: Most rows of one call: a posterior is conditioned on all measurements of a device at once.
MOST_ROWS = 2000

_FILE = "measurements"
_UNITS = {"images_per_s": "1/s"}


def calibrate(
    measurements: Iterable[Measurement | Mapping[str, Any]], *, catalog: Catalog | None = None
) -> Catalog:
    """Take measurements into account: a new catalog whose predictions have moved near them.

    A measurement moves every prediction that shares its device: most for the same configuration, less for the
    same model family or runtime, least for the device alone, and never on another device (equations in
    `willitrun.kernels.anchors`; variances in the calibration ``anchors``). Intervals narrow as the posterior
    variance does, the evidence becomes ``measured`` or ``measured-near``, and the measurement is cited.

    Parameters
    ----------
    measurements
        `Measurement` records or mappings of their fields; the parsers of `willitrun.interop.benchmark_logs` return
        them. A mapping needs ``model``, ``accelerator``, ``runtime``, ``metric`` and ``value``; the rest follows:
        ``task`` from the model, ``source_url`` is ``"user"``, ``id`` a digest of the row.
    catalog
        Where to start; None is the shared default. It stays as it is.

    Returns
    -------
    Catalog
        With the measurements and the posterior in ``calibrations["anchors"]``. It pickles, and calibrating it
        again adds to it.

    Raises
    ------
    CatalogInvalidError
        A row is incomplete, names nothing that is known, or is faster than the hardware can be; the message says
        which and why.

    Examples
    --------
    >>> from willitrun import estimate_speed
    >>> own = {"model": "llama-3.1-8b", "accelerator": "rtx-4090", "runtime": "llama.cpp", "quantization": "q4_k_m",
    ...     "metric": "decode_tokens_per_s", "value": 100.0, "prompt_tokens": 512, "output_tokens": 128}
    >>> catalog = calibrate([own])
    >>> estimate_speed("llama-3.1-8b", "rtx-4090", quantization="q4_k_m", catalog=catalog).evidence
    'measured'
    """
    catalog = catalog or load_catalog()
    found = compare_measurements(measurements, catalog=catalog)
    for comparison in found:
        if comparison.refused:
            bad = sum(1 for other in found if other.refused)
            raise CatalogInvalidError(
                _FILE,
                comparison.measurement.id,
                comparison.refused,
                hint=f"{bad} of {len(found)} rows cannot be used; compare_measurements() lists them all.",
            )
    return _with_anchors(catalog, found)


def compare_measurements(
    measurements: Iterable[Measurement | Mapping[str, Any]], *, catalog: Catalog | None = None
) -> list[Comparison]:
    """Measurements against their predictions without measurements near by, and against what physics allows.

    Parameters
    ----------
    measurements, catalog
        As of `calibrate`.

    Returns
    -------
    list of Comparison
        ``log_ratio`` is ln(measured / predicted); ``refused`` says why a row may not carry a verdict, empty if it
        may.
    """
    catalog = catalog or load_catalog()
    rows = list(measurements)
    if len(rows) > MOST_ROWS:
        raise CatalogInvalidError(_FILE, "rows", f"{len(rows):,} of them; at most {MOST_ROWS:,} at a time")
    return compare([_normalised(row, number, catalog) for number, row in enumerate(rows, 1)], catalog)


def _normalised(row: Measurement | Mapping[str, Any], number: int, catalog: Catalog) -> Measurement:
    """The row with catalog ids for names, and with what follows from the rest."""
    raw = row.model_dump() if isinstance(row, Measurement) else dict(row)
    name = str(raw.get("id") or f"row {number}")
    for field in ("model", "accelerator", "runtime", "metric", "value"):
        if raw.get(field) in (None, ""):
            raise CatalogInvalidError(
                _FILE,
                f"{name}.{field}",
                "is missing.",
                hint=f"Add {field!r} to the row, or pass it to the parser.",
            )
    if raw["metric"] not in METRICS:
        raise CatalogInvalidError(
            _FILE, f"{name}.metric", f"{raw['metric']!r} is no speed.", hint=f"Metrics: {', '.join(METRICS)}."
        )
    try:
        model = catalog.resolve("model", str(raw["model"]))
        raw["accelerator"] = catalog.resolve("accelerator", str(raw["accelerator"])).id
        runtime, _, backend = str(raw["runtime"]).partition(":")
        raw["runtime"] = catalog.resolve("runtime", runtime).id
        if raw.get("quantization"):
            raw["quantization"] = catalog.resolve("quantization", str(raw["quantization"])).id
    except WillItRunError as error:
        raise CatalogInvalidError(_FILE, name, str(error)) from error
    # Another name of the same model may say its format.
    if not raw.get("quantization") and model.task not in GRAPH_TASKS and model.quantization:
        raw["quantization"] = model.quantization if raw["model"] != model.id else ""
    raw["model"] = model.id
    raw["backend"] = raw.get("backend") or backend
    raw["task"] = raw.get("task") or model.task
    raw["unit"] = raw.get("unit") or _UNITS.get(
        raw["metric"], "s" if raw["metric"].endswith("_s") and "per_s" not in raw["metric"] else "tokens/s"
    )
    raw["source_url"] = raw.get("source_url") or OWN
    if not raw.get("id"):
        text = json.dumps(raw, sort_keys=True, default=str)
        raw["id"] = f"user-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        return Measurement.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        pointer = ".".join([name, *(str(part) for part in first["loc"])])
        raise CatalogInvalidError(
            _FILE, pointer, f"{first['msg']} (got {str(first['input'])[:80]!r})"
        ) from error


def _with_anchors(catalog: Catalog, found: list[Comparison]) -> Catalog:
    base = dict(catalog.calibrations.raw(ANCHORS))
    rows = {row["measurement"]: row for row in base.get("residuals", ()) if "measurement" in row}
    others = [row for row in base.get("residuals", ()) if "measurement" not in row]
    rows |= {comparison.measurement.id: write_posterior(comparison) for comparison in found}
    base["residuals"] = (*others, *rows.values())
    own = {
        comparison.measurement.id: comparison.measurement.model_dump(exclude_none=True)
        for comparison in found
    }
    return catalog.with_records({"measurement": own, "calibration": {ANCHORS: base}})
