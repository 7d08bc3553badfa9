"""Accelerators as people name them: what is wished for, and the record that it resolves to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from willitrun.errors import AmbiguousNameError, UnitError, UnknownIdError, WillItRunError
from willitrun.frozen import frozen
from willitrun.records.accelerators import Accelerator, Peaks
from willitrun.records.bases import Citation
from willitrun.units import format_bytes, parse_bytes, parse_rate

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["DeviceWish", "read_wishes", "resolve_wish"]

# Compiled where they are used: most names are plain ids.
_SIZED = r"(?i)(?P<name>.*\S)[\s-]+(?P<size>\d{1,4})\s?Gi?B\Z"
_COUNTED = r"\s*(?P<before>\d{1,4})\s*[x×*]\s+(?P<what>\S.*)\Z"
_COUNTED_AFTER = r"\s*(?P<what>\S.*?)\s+[x×*]\s*(?P<before>\d{1,4})\s*\Z"
_PCI_ID = r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}\Z"
_MOST_DEVICES = 1024
_TOLERANCE = 0.07
# Keys of a device mapping that describe this copy of it, and those that describe the product.
_COPY = ("id", "count", "memory", "memory_free", "power_limit", "pcie")
_PRODUCT = (
    "name",
    "vendor",
    "kind",
    "form",
    "architecture",
    "memory_type",
    "memory_bus_width_bits",
    "memory_clock",
    "memory_bandwidth",
    "l2_cache",
    "compute_units",
    "boost_clock",
    "peaks",
    "compute_capability",
    "gfx_target",
    "tdp",
    "link_bandwidth",
    "unified_memory",
)
_GIVEN = (
    Citation.model_construct(source="given-by-caller", basis="derived", rule="as the caller described it"),
)


@frozen
class DeviceWish:
    """One accelerator as described: a name to look up, or a product given in full, and what differs on this copy."""

    name: str | None = None
    product: Mapping[str, Any] = field(default_factory=dict)
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    power_limit_w: float | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    identity: Literal["catalog-id", "given"] = "catalog-id"
    record: Accelerator | None = None


def read_wishes(specs: Iterable[object]) -> list[DeviceWish]:
    """Wishes out of names (``"2x rtx-3090"``, ``"m3-max-40gpu:64 GiB"``), mappings and `Accelerator` records."""
    wishes: list[DeviceWish] = []
    for spec in specs:
        if isinstance(spec, Accelerator):
            wishes.append(DeviceWish(record=spec))
        elif isinstance(spec, str):
            count, name = _count_and_name(spec)
            wishes += [_named(name.strip())] * _counted(count)
        elif isinstance(spec, Mapping):
            wishes += [_mapped(spec)] * _counted(spec.get("count", 1))
        else:
            raise WillItRunError(
                f"an accelerator is a name or a mapping, got {type(spec).__name__}.",
                code="invalid-machine",
                hint="Pass a name such as 'rtx-4090', or {'name': ..., 'memory': '24 GiB'}.",
            )
        if len(wishes) > _MOST_DEVICES:
            raise WillItRunError(f"more than {_MOST_DEVICES} accelerators.", code="invalid-machine")
    return wishes


def _count_and_name(spec: str) -> tuple[int, str]:
    # A count is set off by a space.
    spaced = len(spec.split()) > 1
    match = re.match(_COUNTED, spec) or re.match(_COUNTED_AFTER, spec) if spaced else None
    return (int(match["before"]), match["what"]) if match else (1, spec)


def _counted(count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_DEVICES:
        raise WillItRunError(
            f"count is a whole number from 1 to {_MOST_DEVICES}, got {count!r}.", code="invalid-machine"
        )
    return count


def _named(name: str) -> DeviceWish:
    if _is_pci_id(name):
        return DeviceWish(name=name)
    head, separator, tail = name.rpartition(":")
    if separator and head:
        try:
            return DeviceWish(name=head.strip(), memory_bytes=parse_bytes(tail.strip()))
        except UnitError:
            # Not a memory size: the colon belongs to the name.
            return DeviceWish(name=name)
    return DeviceWish(name=name)


def _mapped(spec: Mapping[Any, Any]) -> DeviceWish:
    known = (*_COPY, *_PRODUCT)
    for key in spec:
        if key not in known:
            raise UnknownIdError("accelerator key", str(key), tuple(sorted(known)))
    name = spec.get("id")
    if name is None and spec.get("name") is None:
        raise WillItRunError(
            "an accelerator needs an 'id' to look up, or a 'name' with its own figures.",
            code="invalid-machine",
            hint="For example {'id': 'rtx-4090'} or {'name': 'my card', 'memory': '24 GiB', "
            "'memory_bandwidth': '900 GB/s', 'peaks': {'fp16_tensor': '150 TFLOP/s'}}.",
        )
    generation, lanes = _pcie(spec.get("pcie"))
    wish = _named(str(name)) if name is not None else DeviceWish()
    memory = spec.get("memory")
    limit = spec.get("power_limit")
    free = spec.get("memory_free")
    return DeviceWish(
        name=wish.name,
        product={key: spec[key] for key in _PRODUCT if key in spec},
        memory_bytes=wish.memory_bytes if memory is None else parse_bytes(memory),
        memory_free_bytes=None if free is None else parse_bytes(free),
        power_limit_w=None if limit is None else parse_rate(limit, "watt"),
        pcie_generation=generation,
        pcie_lanes=lanes,
        identity="catalog-id" if name is not None else "given",
    )


def _pcie(text: object) -> tuple[int | None, int | None]:
    """``"4.0 x8"``, ``"gen4 x8"``, ``"x4"`` or ``"5.0"`` as generation and lanes."""
    if text is None:
        return None, None
    match = re.fullmatch(
        r"\s*(?:gen\s*)?(?:([1-7])(?:\.0)?)?\s*(?:x\s*(1|2|4|8|12|16|32))?\s*", str(text).lower()
    )
    if match is None or not any(match.groups()):
        raise WillItRunError(
            f"{text!r} is no PCIe link.", code="invalid-machine", hint="Write for example '4.0 x8'."
        )
    return (int(match[1]) if match[1] else None), (int(match[2]) if match[2] else None)


def resolve_wish(wish: DeviceWish, catalog: Catalog) -> tuple[DeviceWish, Accelerator]:
    """The record of a wish: looked up, told apart by memory where a name fits several, with overrides applied."""
    if wish.record is not None:
        return wish, wish.record
    if wish.name is None:
        return wish, _given(wish)
    try:
        accelerator = _looked_up(wish, catalog)
    except UnknownIdError:
        # "M4 Max 128GB": people write the size of shared memory after the name, as they do that of a card.
        sized = re.match(_SIZED, wish.name)
        if sized is None or wish.memory_bytes is not None:
            raise
        wish = replace(wish, name=sized["name"], memory_bytes=int(sized["size"]) << 30)
        accelerator = _looked_up(wish, catalog)
    _check_memory(wish, accelerator)
    if wish.product:
        accelerator = _changed(accelerator, wish.product)
    return wish, accelerator


def _looked_up(wish: DeviceWish, catalog: Catalog) -> Accelerator:
    assert wish.name is not None
    try:
        found = _by_pci_id(wish.name, catalog) or catalog.resolve("accelerator", wish.name)
    except AmbiguousNameError as error:
        if wish.memory_bytes is None:
            raise
        fitting = [
            identifier
            for identifier in error.candidates
            if _fits(catalog.accelerators[identifier], wish.memory_bytes)
        ]
        if len(fitting) != 1:
            raise AmbiguousNameError("accelerator", wish.name, tuple(fitting) or error.candidates) from None
        return catalog.accelerators[fitting[0]]
    except UnknownIdError:
        # Drivers and systems spell names in ways that only identification knows ("GeForce RTX 4090", "(R)", "(TM)").
        from willitrun.hardware.identity import identify_accelerator

        known = identify_accelerator(catalog, name=wish.name, memory_bytes=wish.memory_bytes)
        if known.record_id is None:
            raise
        return catalog.accelerators[known.record_id]
    accelerator: Accelerator = found
    return accelerator


def _is_pci_id(name: str) -> bool:
    return name[4:5] == ":" and re.match(_PCI_ID, name) is not None


def _by_pci_id(name: str, catalog: Catalog) -> Accelerator | None:
    """The one device that lists a PCI id (``"10de:2684"``); None where the name is no PCI id or is not listed."""
    if not _is_pci_id(name):
        return None
    ids = catalog.pci(name)
    if len(ids) > 1:
        raise AmbiguousNameError("accelerator", name, ids)
    return catalog.accelerators[ids[0]] if ids else None


def _fits(accelerator: Accelerator, memory_bytes: int) -> bool:
    if accelerator.unified_memory:
        return memory_bytes in accelerator.unified_memory_options
    sizes = [size for size in (accelerator.memory, accelerator.memory_marketed) if size]
    return any(abs(memory_bytes / size - 1) <= _TOLERANCE for size in sizes)


def _check_memory(wish: DeviceWish, accelerator: Accelerator) -> None:
    """A card with another size of memory is another product (or a modified one, which is described in full)."""
    size = wish.memory_bytes
    if size is None or accelerator.unified_memory or _fits(accelerator, size):
        return
    own = accelerator.memory or accelerator.memory_marketed
    if own is not None:
        raise WillItRunError(
            f"{accelerator.name} has {format_bytes(own)}, not {format_bytes(size)}.",
            code="invalid-machine",
            hint="Name the variant, or describe the device in full with 'name' in place of 'id'.",
        )


def _changed(accelerator: Accelerator, product: Mapping[str, Any]) -> Accelerator:
    raw = accelerator.model_dump()
    cite = dict(raw["cite"])
    for key, value in product.items():
        if key == "peaks":
            raw["peaks"] = {**raw["peaks"], **_peaks(value)}
        else:
            raw[key] = value
        cite[key] = _GIVEN
    return _validated({**raw, "cite": cite})


def _given(wish: DeviceWish) -> Accelerator:
    product = dict(wish.product)
    name = str(product.pop("name"))
    if "peaks" in product:
        product["peaks"] = _peaks(product["peaks"])
    slug = re.sub(r"[^a-z0-9._+-]+", "-", name.lower()).strip("-.") or "device"
    raw: dict[str, Any] = {
        "id": f"given-{slug[:100]}",
        "name": name,
        "vendor": "generic",
        "kind": "gpu",
        "form": "desktop",
        "memory": None if product.get("unified_memory") else wish.memory_bytes,
        "pcie_generation": wish.pcie_generation,
        "pcie_lanes": wish.pcie_lanes,
        "cite": {"*": _GIVEN},
        **product,
    }
    return _validated(raw)


def _peaks(value: object) -> dict[str, Any]:
    if isinstance(value, Peaks):
        return value.model_dump()
    if not isinstance(value, Mapping):
        raise WillItRunError(
            "peaks is a mapping such as {'fp16_tensor': '150 TFLOP/s'}.", code="invalid-machine"
        )
    for key in value:
        if key not in Peaks.model_fields:
            raise UnknownIdError("peak", str(key), tuple(Peaks.model_fields))
    return dict(value)


def _validated(raw: Mapping[str, Any]) -> Accelerator:
    try:
        return Accelerator.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise WillItRunError(f"accelerator.{place}: {first['msg']}.", code="invalid-machine") from error
