"""From what a driver says about a device to one catalog record, or to a refusal with its reason.

PCI id first, then the exact name, then the normalised name; where several records remain, memory size,
memory clock, compute units and form factor decide, in that order. A name is never matched by its parts: a
laptop chip that inherits the numbers of the desktop card of the same name would be wrong by a factor of two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from willitrun.catalog.names import normalise_name
from willitrun.frozen import frozen
from willitrun.records.accelerators import Accelerator
from willitrun.units import format_bytes

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["DeviceReading", "Identity", "identify", "identify_accelerator", "is_virtual"]

MatchedBy = Literal["pci-id", "name", "normalised-name"]

MEMORY_TOLERANCE = 0.07
"""ECC on GDDR6 takes 6.25 %, drivers reserve some more."""
UNIFIED_SHORTFALL = 0.15
"""Firmware and kernel take up to this share of unified memory before the system reports it."""
CLOCK_TOLERANCE = 0.03

# Compiled where they are used: ids need none of them.
_MIG = r"(?i)\s+MIG\s+\d+(?:c\.\d+)?g\.\d+gb\S*$"
_VGPU = r"-\d{1,3}[ABCQ]$|\bMxGPU\b|\bvGPU\b|\bVF$"
_MARKS = r"(?i)\((?:r|tm|c)\)|[®™]"
_QUALIFIERS = {
    "laptop": "laptop",
    "mobile": "laptop",
    "max-q": "max-q",
    "super": "super",
    "ti": "ti",
    "d": "d",
    "sxm": "sxm",
    "sxm2": "sxm",
    "sxm3": "sxm",
    "sxm4": "sxm",
    "sxm5": "sxm",
    "pcie": "pcie",
    "nvl": "nvl",
}
_LAPTOPS = ("laptop", "laptop-workstation")


@frozen
class DeviceReading:
    """What the system says about one device; everything may be missing.

    ``pci_id`` is ``vendor:device`` in hex, ``revision`` two hex digits, ``form_hint`` a form of the catalog
    (``laptop``, ``desktop``, ...) that the machine's chassis suggests.
    """

    vendor: str | None = None
    pci_id: str | None = None
    revision: str | None = None
    name: str | None = None
    memory_bytes: int | None = None
    memory_clock_hz: float | None = None
    compute_units: int | None = None
    form_hint: str | None = None


@frozen
class Identity:
    """The record of a device, or the reason why none is claimed.

    ``candidates`` are the records that came into question; ``decided_by`` the readings that chose among them.
    """

    record_id: str | None
    matched_by: MatchedBy | None
    candidates: tuple[str, ...]
    reason: str
    decided_by: tuple[str, ...] = ()


def is_share(name: str) -> bool:
    """Whether a name is that of a part of a card: a MIG slice in any spelling, or a virtual GPU.

    >>> is_share("h100 mig 1g.10gb"), is_share("a100-sxm4-80gb:mig-3g.40gb"), is_share("A40-24Q"), is_share("rtx-4090")
    (True, True, True, False)
    """
    return re.search(rf"(?i)\bmig\b|\b\d(?:c\.\d)?g\.\d+gb\b|{_VGPU}", name) is not None


def is_virtual(name: str) -> bool:
    """Whether a name is that of a virtual GPU, which is a share of a card.

    >>> is_virtual("GRID T4-8Q"), is_virtual("Tesla T4")
    (True, False)
    """
    return re.search(_VGPU, name) is not None


def identify_accelerator(
    catalog: Catalog,
    *,
    vendor: str | None = None,
    pci_id: str | None = None,
    revision: str | None = None,
    name: str | None = None,
    memory_bytes: int | None = None,
    memory_clock_hz: float | None = None,
    compute_units: int | None = None,
    form_hint: str | None = None,
) -> Identity:
    """Identify a device against a catalog, without reading more of it than the records in question.

    Parameters
    ----------
    vendor
        ``nvidia``, ``amd``, ``intel``, ``apple``, ...
    pci_id, revision
        ``"10de:2684"`` and ``"a1"``.
    name
        The name by which driver or operating system report the device.
    memory_bytes
        Total memory of the device, or of the machine where memory is unified [B].
    memory_clock_hz
        Maximum memory clock as NVML counts it [Hz].
    compute_units
        SMs, CUs or GPU cores.
    form_hint
        Form factor that the machine suggests.
    """
    return identify(
        DeviceReading(
            vendor, pci_id, revision, name, memory_bytes, memory_clock_hz, compute_units, form_hint
        ),
        by_pci_id=catalog.pci,
        by_name=catalog.os_names,
        get=catalog.accelerators.__getitem__,
    )


def identify(
    reading: DeviceReading,
    *,
    by_pci_id: Callable[[str], Iterable[str]],
    by_name: Callable[[str], Iterable[str]],
    get: Callable[[str], Accelerator],
) -> Identity:
    """Identify a device from readings and two look-ups.

    Parameters
    ----------
    by_pci_id
        Ids of the records that list a PCI id (``vendor:device`` or ``vendor:device:revision``).
    by_name
        Ids of the records that go by a name after normalisation; it may return too few or too many,
        every one is checked here.
    get
        The record of an id.
    """
    name = (reading.name or "").strip()
    for pattern, what in ((_MIG, "a MIG slice"), (_VGPU, "a virtual GPU")):
        if re.search(pattern, name):
            whole = _named(re.sub(pattern, "", name), by_name, get)[1]
            return Identity(None, None, _ids(whole), f"{name!r} is {what}, not the whole device.")
    by_id = [record for record in _with_pci_id(reading, by_pci_id, get) if _same_vendor(record, reading)]
    exact, named = _named(name, by_name, get)
    named = [record for record in named if _same_vendor(record, reading)]
    found, matched_by = (by_id or named), _how(bool(by_id), exact)
    if by_id and named:
        found = [record for record in by_id if record in named]
        if not found:
            return Identity(
                None,
                None,
                _ids([*by_id, *named]),
                f"PCI id {reading.pci_id} and name {name!r} belong to different records.",
            )
    elif by_id and name:
        found = [record for record in by_id if not _contradicts(name, record)]
        if not found:
            return Identity(
                None, None, _ids(by_id), f"{name!r} is another variant than the records of its PCI id."
            )
    if not found:
        return Identity(None, None, (), f"no record has {_said(reading, name)}.")
    return _tell_apart(found, reading, matched_by)


def _how(pci: bool, exact: bool) -> MatchedBy:
    return "pci-id" if pci else "name" if exact else "normalised-name"


def _said(reading: DeviceReading, name: str) -> str:
    parts = [f"the PCI id {reading.pci_id}"] if reading.pci_id else []
    parts += [f"the name {name!r}"] if name else []
    return " or ".join(parts) or "a name or PCI id to go by"


def _ids(records: Iterable[Accelerator]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(record.id for record in records))


def _same_vendor(record: Accelerator, reading: DeviceReading) -> bool:
    return reading.vendor is None or record.vendor == reading.vendor.lower()


def _with_pci_id(
    reading: DeviceReading, by_pci_id: Callable[[str], Iterable[str]], get: Callable[[str], Accelerator]
) -> list[Accelerator]:
    if not reading.pci_id:
        return []
    plain = reading.pci_id.lower().replace("0x", "")
    keys = [f"{plain}:{reading.revision.lower().replace('0x', '').zfill(2)}"] if reading.revision else []
    for key in [*keys, plain]:
        found = sorted(set(by_pci_id(key)))
        if found:
            return [get(identifier) for identifier in found]
    return []


def _spellings(name: str) -> list[str]:
    """The name as reported, without trade marks, and with or without the vendor that old drivers omit."""
    plain = " ".join(re.sub(_MARKS, " ", name).split())
    bare = plain.removeprefix("NVIDIA ").removeprefix("AMD ")
    return list(dict.fromkeys([name, plain, f"NVIDIA {bare}", f"AMD {bare}", bare]))


def _named(
    name: str, by_name: Callable[[str], Iterable[str]], get: Callable[[str], Accelerator]
) -> tuple[bool, list[Accelerator]]:
    """Whether a record lists the name exactly, and the records that go by it."""
    if not name:
        return False, []
    for spelling in _spellings(name):
        wanted = normalise_name(spelling)
        ids = dict.fromkeys(by_name(spelling))
        for identifier in list(ids):
            ids |= dict.fromkeys(get(identifier).ambiguous_with)
        records = [get(identifier) for identifier in ids]
        exact = [record for record in records if name in record.os_names]
        if exact:
            return True, exact
        near = [record for record in records if wanted in _normalised_names(record)]
        if near:
            return False, near
    return False, []


def _normalised_names(record: Accelerator) -> set[str]:
    listed = (record.id, record.name, *record.aliases, *record.os_names)
    return {normalise_name(spelling) for name in listed for spelling in (name, re.sub(_MARKS, " ", name))}


def _qualifiers(name: str) -> set[str]:
    words = normalise_name(name).replace("max-q", "max_q").split("-")
    return {_QUALIFIERS[word] for word in (word.replace("_", "-") for word in words) if word in _QUALIFIERS}


def _contradicts(name: str, record: Accelerator) -> bool:
    """Whether a name that no record lists denies the record that the PCI id gave.

    Makers sell one PCI id under several names ("with Max-Q Design"); other vendors than NVIDIA report too
    many spellings for the check to mean anything.
    """
    if record.vendor != "nvidia" or not any(character.isdigit() for character in name):
        return False
    return all(_qualifiers(name) != _qualifiers(known) for known in (record.name, *record.os_names))


def _tell_apart(found: list[Accelerator], reading: DeviceReading, matched_by: MatchedBy) -> Identity:
    every = _ids(found)
    decided: list[str] = []
    for what, fits in (
        ("memory", _memory_fits),
        ("memory_clock", _clock_fits),
        ("compute_units", _units_fit),
        ("form", _form_fits),
    ):
        left = [record for record in found if fits(record, reading)]
        if not left and (what == "memory" or (what == "compute_units" and _counts_are_firm(found))):
            return Identity(
                None, None, every, f"{_reading_of(what, reading)} is not what {' or '.join(every)} has."
            )
        if left and len(left) < len(found):
            decided.append(what)
            found = left
    if len(found) > 1:
        return Identity(
            None,
            None,
            _ids(found),
            f"{len(found)} records fit; they differ in {_differences(found)}.",
            tuple(decided),
        )
    how = f" and {', '.join(decided)}" if decided else ""
    return Identity(
        found[0].id, matched_by, every, f"matched by {matched_by.replace('-', ' ')}{how}.", tuple(decided)
    )


def _reading_of(what: str, reading: DeviceReading) -> str:
    if what == "memory" and reading.memory_bytes is not None:
        return f"{format_bytes(reading.memory_bytes)} of memory"
    return f"{reading.compute_units} compute units"


def _differences(records: list[Accelerator]) -> str:
    told = sorted({word.replace("_", " ") for record in records for word in record.told_apart_by})
    return ", ".join(told) or "nothing that a driver reports"


def _memory_fits(record: Accelerator, reading: DeviceReading) -> bool:
    read = reading.memory_bytes
    if read is None:
        return True
    if record.unified_memory:
        # AMD's driver tells how much the firmware carved out, and Intel's what it lends: neither is what was sold.
        sizes = record.unified_memory_options if _counts_are_firm([record]) else ()
        return not sizes or any((1 - UNIFIED_SHORTFALL) * size <= read <= 1.01 * size for size in sizes)
    sizes = tuple(size for size in (record.memory, record.memory_marketed) if size is not None)
    return not sizes or any(abs(read - size) <= MEMORY_TOLERANCE * size for size in sizes)


def _clock_fits(record: Accelerator, reading: DeviceReading) -> bool:
    if reading.memory_clock_hz is None or record.memory_clock is None:
        return True
    return abs(reading.memory_clock_hz - record.memory_clock) <= CLOCK_TOLERANCE * record.memory_clock


def _units_fit(record: Accelerator, reading: DeviceReading) -> bool:
    return (
        None in (reading.compute_units, record.compute_units) or reading.compute_units == record.compute_units
    )


def _counts_are_firm(found: list[Accelerator]) -> bool:
    """Whether another count denies the records: Intel drivers count execution units, AMD cards are partitioned."""
    return all(record.vendor in ("nvidia", "apple") for record in found)


def _form_fits(record: Accelerator, reading: DeviceReading) -> bool:
    if reading.form_hint is None:
        return True
    return (record.form in _LAPTOPS) == (reading.form_hint in _LAPTOPS)
