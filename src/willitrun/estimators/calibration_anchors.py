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
from willitrun.kernels.anchors import Reach, narrowing, reach
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

#: Id of the calibration that holds the variances of images, whose times are of several terms.
IMAGES = "image-anchors"

#: Levels of effects: a device, one box with it, its runtime, a model family on it, one configuration anywhere,
#: and that configuration on the same box.
LEVELS = ("device", "box", "runtime", "family", "configuration", "run")

_KEYS = tuple(field.name for field in fields(AnchorKeys))
_ONE_TERM = np.ones(1)


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
    def _reaches(self) -> dict[tuple[str, AnchorKeys], Reach | None]:
        return {}

    @derived
    def _shifts(self) -> dict[tuple[str, AnchorKeys], Shift]:
        return {}

    def shift(self, phase: str, keys: AnchorKeys) -> Shift:
        """The posterior for one tuple whose time is of one term: mean and narrowing of its log ratio."""
        place = (phase, self._known_keys(phase, keys))
        if place not in self._shifts:
            self._shifts[place] = self.shift_by_term(phase, keys, _ONE_TERM)
        return self._shifts[place]

    def shift_by_term(self, phase: str, keys: AnchorKeys, shares: np.ndarray) -> Shift:
        """The posterior for one tuple whose time is of terms with these shares, shape (terms,)."""
        found = self.reach(phase, keys)
        if found is None:
            return NO_SHIFT
        posterior = found.at(shares[None])
        return Shift(
            float(posterior.mean[0]),
            float(narrowing(posterior, self.noise(phase))[0]),
            len(self._near(phase)),
            self.cites(phase),
        )

    def cites(self, phase: str) -> tuple[str, ...]:
        """Where the measurements of a phase come from."""
        return tuple(dict.fromkeys(found.measurement.source_url for found in self._near(phase)))

    def noise(self, phase: str) -> float:
        """Variance of a single measurement."""
        return self.variances[f"{phase}.noise"]

    def reach(self, phase: str, keys: AnchorKeys) -> Reach | None:
        """What the measurements say of a tuple, whatever the shares of its terms; None without measurements."""
        keys = self._known_keys(phase, keys)
        place = (phase, keys)
        if place not in self._reaches:
            self._reaches[place] = self._reach(phase, keys)
        return self._reaches[place]

    def _known_keys(self, phase: str, keys: AnchorKeys) -> AnchorKeys:
        # What nothing was measured with is all alike: a sweep over a thousand models asks for few shifts.
        known = self._known.get(phase, {})
        return AnchorKeys(*(value if value in known.get(name, ()) else "" for name, value in _named(keys)))

    def _near(self, phase: str) -> list[Comparison]:
        return self._by_phase.get(phase, [])

    @derived
    def _by_phase(self) -> dict[str, list[Comparison]]:
        found: dict[str, list[Comparison]] = {}
        for comparison in self.comparisons:
            if comparison.keys is not None:
                found.setdefault(comparison.phase, []).append(comparison)
        return found

    def _reach(self, phase: str, keys: AnchorKeys) -> Reach | None:
        near = self._near(phase)
        if not near:
            return None
        codes: defaultdict[str, int] = defaultdict(lambda: len(codes))
        rows = np.array(
            [
                _codes(found.keys, codes)
                for found in (*near, Comparison(near[0].measurement, keys, phase, 0.0))
            ]
        )
        ratios = np.array([found.log_ratio for found in near])
        variances = np.array([self.variances[f"{phase}.{level}"] for level in LEVELS])
        shares = np.array([found.shares for found in near])
        return reach(ratios, rows[:-1], rows[-1:], variances, self.noise(phase), shares)


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
    variances = catalog.calibrations[IMAGES].coefficients if key[2] else record.coefficients
    known = read_posterior(record, catalog)
    unknown = [catalog.measurements[name] for name in rows if name not in known]
    found = [known[name] for name in rows if name in known] + compare(unknown, catalog)
    kept = tuple(comparison for comparison in found if not comparison.refused)
    return DeviceAnchors(kept, variances) if kept else None


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
            shares=tuple(row["shares"]),
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
        "shares": list(comparison.shares),
    }
    return head | {name: getattr(keys, name) for name in _KEYS}
