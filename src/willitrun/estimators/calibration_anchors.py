"""Measurements of a device as a posterior: how far a prediction moves near them, and how sure it becomes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from willitrun.catalog import Catalog
from willitrun.estimators.calibration_rows import METRICS, AnchorKeys, Comparison, compare
from willitrun.frozen import derived, frozen
from willitrun.kernels.anchors import condition, narrowing
from willitrun.records.calibrations import Calibration
from willitrun.records.results import Term

__all__ = [
    "ANCHORS",
    "LEVELS",
    "NO_SHIFT",
    "DeviceAnchors",
    "Shift",
    "device_anchors",
    "read_posterior",
    "with_anchor_term",
    "write_posterior",
]

#: Id of the calibration that holds the variances, and the log ratios that `calibrate` found.
ANCHORS = "anchors"

#: Levels of effects: a device, one box with it, its runtime, a model family on it, one configuration anywhere,
#: and that configuration on the same box.
LEVELS = ("device", "box", "runtime", "family", "configuration", "run")

_KEYS = tuple(field.name for field in fields(AnchorKeys))


@frozen
class Shift:
    """What measurements near by make of a prediction.

    Attributes
    ----------
    log_ratio
        The rate is multiplied by ``exp(log_ratio)``.
    narrowing
        Exponent on the interval's factors, 1 without measurements.
    anchors
        How many measurements had a say.
    cites
        Where they come from.
    """

    log_ratio: float = 0.0
    narrowing: float = 1.0
    anchors: int = 0
    cites: tuple[str, ...] = ()

    @property
    def factor(self) -> float:
        """Multiplier of a rate."""
        return math.exp(self.log_ratio)


NO_SHIFT = Shift()


@frozen
class DeviceAnchors:
    """Measurements on one device (or several alike) that may carry a verdict, ready to condition on."""

    comparisons: tuple[Comparison, ...]
    variances: Mapping[str, float]

    @derived
    def admitted(self) -> frozenset[str]:
        """Ids of the measurements that passed the physics gate."""
        return frozenset(found.measurement.id for found in self.comparisons)

    @derived
    def _known(self) -> dict[str, dict[str, set[str]]]:
        """Values of keys that something was measured with, by phase and name of the key."""
        found: dict[str, dict[str, set[str]]] = {}
        for comparison in self.comparisons:
            if comparison.keys is not None:
                by_name = found.setdefault(comparison.phase, {name: set() for name in _KEYS})
                for name, value in _named(comparison.keys):
                    by_name[name].add(value)
        return found

    @derived
    def _shifts(self) -> dict[tuple[str, AnchorKeys], Shift]:
        return {}

    def shift(self, phase: str, keys: AnchorKeys) -> Shift:
        """The posterior for one tuple: mean and narrowing of its log ratio."""
        # What nothing was measured with is all alike: a sweep over a thousand models asks for few shifts.
        known = self._known.get(phase, {})
        keys = AnchorKeys(*(value if value in known.get(name, ()) else "" for name, value in _named(keys)))
        place = (phase, keys)
        if place not in self._shifts:
            self._shifts[place] = self._condition(phase, keys)
        return self._shifts[place]

    def _condition(self, phase: str, keys: AnchorKeys) -> Shift:
        near = [found for found in self.comparisons if found.phase == phase and found.keys is not None]
        if not near:
            return NO_SHIFT
        codes: defaultdict[str, int] = defaultdict(lambda: len(codes))
        rows = np.array(
            [
                _codes(found.keys, codes)
                for found in (*near, Comparison(near[0].measurement, keys, phase, 0.0))
            ]
        )
        ratios = np.array([found.log_ratio for found in near])
        variances = np.array([self.variances[f"{phase}.{level}"] for level in LEVELS])
        noise = self.variances[f"{phase}.noise"]
        found = condition(ratios, rows[:-1], rows[-1:], variances, noise)
        return Shift(
            float(found.mean[0]),
            float(narrowing(found, noise)[0]),
            len(near),
            tuple(dict.fromkeys(comparison.measurement.source_url for comparison in near)),
        )


def with_anchor_term(terms: tuple[Term, ...], shift: Shift) -> tuple[Term, ...]:
    """Terms of a time with one more, so that they sum to the time that the measurements made of it.

    The physical terms stay what the kernel computed; what measurements near by add or take away is a term of its
    own, ``t (exp(-r) - 1)``, negative where they were faster.
    """
    if not shift.anchors:
        return terms
    base = sum(term.value for term in terms)
    return (
        *terms,
        Term.model_construct(
            name="anchor",
            value=base * math.expm1(-shift.log_ratio),
            unit="s",
            equation="sum of the terms above x (exp(-r) - 1), r the shrunk log ratio of measured to predicted speed",
            inputs={"r": shift.log_ratio, "measurements": shift.anchors},
            cites=(ANCHORS, *shift.cites),
            evidence="measured",
        ),
    )


def _named(keys: AnchorKeys) -> list[tuple[str, str]]:
    return [(name, getattr(keys, name)) for name in _KEYS]


def _codes(keys: AnchorKeys | None, codes: Mapping[str, int]) -> list[int]:
    assert keys is not None
    run = f"{keys.box}:{keys.configuration}"
    values = (keys.device, keys.box, keys.runtime, keys.family, keys.configuration, run)
    return [codes[f"{level}:{value}"] for level, value in zip(LEVELS, values, strict=True)]


def device_anchors(catalog: Catalog, device: str, count: int, *, images: bool) -> DeviceAnchors | None:
    """The measurements of a catalog on ``count`` devices of one kind, None where there are none.

    Of image models or of language models: neither says anything of the other. Log ratios that `calibrate` found
    are taken from the catalog's posterior; those of its other measurements are computed once per catalog, when
    somebody first asks about the device.
    """
    key = (device, count, images)
    return catalog.remember((ANCHORS, *key), lambda: _device_anchors(catalog, key))


def _device_anchors(catalog: Catalog, key: tuple[str, int, bool]) -> DeviceAnchors | None:
    rows = _rows_of(catalog, *key)
    if not rows or ANCHORS not in catalog.calibrations:
        return None
    record = catalog.calibrations[ANCHORS]
    known = read_posterior(record, catalog)
    unknown = [catalog.measurements[name] for name in rows if name not in known]
    found = [known[name] for name in rows if name in known] + compare(unknown, catalog)
    kept = tuple(comparison for comparison in found if not comparison.refused)
    return DeviceAnchors(kept, record.coefficients) if kept else None


def _rows_of(catalog: Catalog, device: str, count: int, images: bool) -> list[str]:
    # Raw rows are read first: they tell which of them are records worth making.
    found = []
    for name in catalog.measurements.grouped(device):
        raw = catalog.measurements.raw(name)
        same = int(raw.get("accelerator_count") or 1) == count
        if same and raw["metric"] in METRICS and (raw["metric"] == "images_per_s") == images:
            found.append(name)
    return found


def read_posterior(record: Calibration, catalog: Catalog) -> dict[str, Comparison]:
    """Comparisons that a posterior record holds, by measurement."""
    return {
        row["measurement"]: Comparison(
            catalog.measurements[row["measurement"]],
            AnchorKeys(*(row[name] for name in _KEYS)),
            row["phase"],
            row["log_ratio"],
        )
        for row in record.residuals
        if "log_ratio" in row
    }


def write_posterior(comparison: Comparison) -> dict[str, Any]:
    """One row of a posterior record."""
    keys = comparison.keys
    assert keys is not None
    head = {
        "measurement": comparison.measurement.id,
        "phase": comparison.phase,
        "log_ratio": comparison.log_ratio,
    }
    return head | {name: getattr(keys, name) for name in _KEYS}
