"""Measurements near a fit tuple: found among those that passed the physics gate, and cited."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from willitrun.catalog import Catalog
from willitrun.frozen import frozen

if TYPE_CHECKING:
    from willitrun.records.measurements import Measurement

__all__ = ["Nearest", "is_measured", "nearest_measurement"]

Nearness = Literal["exact", "device-and-model", "model-family", "none"]


@frozen
class Nearest:
    """The nearest measurement of a quantity, and how near it is."""

    level: Nearness
    measurement: Measurement | None = None


_TUPLE = (
    "quantization",
    "execution",
    "precision",
    "layout",
    "image_size",
    "batch_size",
    "concurrency",
    "runtime",
)


@lru_cache(maxsize=8)
def _by_subject(catalog: Catalog) -> dict[tuple[str, str, str], list[str]]:
    """Measurement ids by (model, accelerator, metric) and by (family, accelerator, metric).

    Names are resolved as a caller's would be; a family has a colon before it, which no id of a model has.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for identifier in catalog.measurements:
        raw = catalog.measurements.raw(identifier)
        names = catalog.models.named(raw["model"]) or (raw["model"],)
        families = {_family(catalog, name) for name in names} - {""}
        for name in (*names, *families):
            found.setdefault((name, raw["accelerator"], raw["metric"]), []).append(identifier)
    return found


def _family(catalog: Catalog, model: str) -> str:
    family = catalog.models.raw(model).get("family") if model in catalog.models else None
    return f":{family}" if family else ""


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
        ``exact`` where every field of the tuple agrees, ``device-and-model`` where those two do,
        ``model-family`` where another model of the family was measured on the device, else ``none``.
    """
    if accelerator is None:
        return Nearest("none")
    known = _by_subject(catalog)
    wanted = {**fields, "runtime": runtime}
    if best := _closest(catalog, known.get((model, accelerator, metric), ()), count, wanted, admitted):
        return Nearest("exact" if best[0] == 0 else "device-and-model", best[1])
    family = _family(catalog, model)
    if family and (
        best := _closest(catalog, known.get((family, accelerator, metric), ()), count, wanted, admitted)
    ):
        return Nearest("model-family", best[1])
    return Nearest("none")


def is_measured(catalog: Catalog, model: str, accelerator: str, metric: str) -> bool:
    """Whether a quantity of the very model was measured on the device, with whatever else."""
    return (model, accelerator, metric) in _by_subject(catalog)


def _closest(
    catalog: Catalog,
    identifiers: Iterable[str],
    count: int,
    wanted: Mapping[str, object],
    admitted: Container[str] | None,
) -> tuple[int, Measurement] | None:
    """The measurement that disagrees in the fewest fields, and in how many it does."""
    best: tuple[int, Measurement] | None = None
    for identifier in identifiers:
        if admitted is not None and identifier not in admitted:
            continue
        found = catalog.measurements[identifier]
        if found.accelerator_count != count:
            continue
        misses = sum(
            wanted.get(name) is not None and getattr(found, name) not in (None, "", wanted[name])
            for name in _TUPLE
        )
        if best is None or misses < best[0]:
            best = (misses, found)
    return best
