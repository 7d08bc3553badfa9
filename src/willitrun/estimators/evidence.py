"""Measurements near a fit tuple: found among those that passed the physics gate, and cited."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from willitrun.catalog import Catalog
from willitrun.records.knowledge import Measurement

__all__ = ["Nearest", "nearest_measurement"]

Nearness = Literal["exact", "device-and-model", "model-family", "none"]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest measurement of a quantity, and how near it is."""

    level: Nearness
    measurement: Measurement | None = None


_TUPLE = ("quantization", "execution", "precision", "layout", "image_size", "batch_size", "concurrency")


@lru_cache(maxsize=8)
def _by_subject(catalog: Catalog) -> dict[tuple[str, str, str], list[str]]:
    """Measurement ids by (model, accelerator, metric), names resolved as a caller's would be."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for identifier in catalog.measurements:
        raw = catalog.measurements.raw(identifier)
        names = catalog.models.named(raw["model"]) or (raw["model"],)
        for name in names:
            found.setdefault((name, raw["accelerator"], raw["metric"]), []).append(identifier)
    return found


def nearest_measurement(
    catalog: Catalog,
    *,
    model: str,
    accelerator: str | None,
    metric: str,
    count: int = 1,
    runtime: str | None = None,
    admitted: Container[str] | None = None,
    **fields: object,
) -> Nearest:
    """The catalogued measurement that lies nearest to a fit tuple.

    Parameters
    ----------
    catalog
        Where to look.
    model, accelerator
        Catalog ids.
    metric
        ``decode_tokens_per_s``, ``prefill_tokens_per_s``, ``images_per_s``, ...
    admitted
        Ids of measurements that may carry a verdict; None asks for any.
    fields
        Further fields of the tuple (`quantization`, `precision`, `batch_size`, ...); None means "any".

    Returns
    -------
    Nearest
        ``exact`` where every field of the tuple agrees, ``device-and-model`` where those two do.
    """
    if accelerator is None:
        return Nearest("none")
    best: tuple[int, Measurement] | None = None
    for identifier in _by_subject(catalog).get((model, accelerator, metric), ()):
        if admitted is not None and identifier not in admitted:
            continue
        found = catalog.measurements[identifier]
        if found.accelerator_count != count:
            continue
        misses = sum(
            1
            for name in _TUPLE
            if fields.get(name) is not None and getattr(found, name) not in (None, "", fields[name])
        )
        if runtime is not None and found.runtime != runtime:
            misses += 1
        if best is None or misses < best[0]:
            best = (misses, found)
    if best is None:
        return Nearest("none")
    return Nearest("exact" if best[0] == 0 else "device-and-model", best[1])
