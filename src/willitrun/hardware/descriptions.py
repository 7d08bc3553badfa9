"""`describe_machine`: a machine from what a person says about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from willitrun.errors import MissingDataError, UnknownIdError, WillItRunError
from willitrun.hardware.budgets import metal_budget
from willitrun.hardware.devices import DeviceWish, read_wishes, resolve_wish
from willitrun.hardware.hosts import describe_host, host_of_board
from willitrun.hardware.identity import is_share
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import Host, InstalledAccelerator, Link, Machine
from willitrun.units import format_bytes, parse_rate

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["describe_machine"]

_KEYS = ("name", "accelerators", "host", "links")
_LINK_KEYS = ("kind", "devices", "bandwidth")
_LINK_KINDS = ("pcie", "nvlink", "infinity-fabric", "c2c", "usb4", "thunderbolt", "ethernet", "oculink")


def describe_machine(spec: object, *, catalog: Catalog | None = None) -> Machine:
    """A machine from an id, a name, a list of devices, or a mapping.

    Parameters
    ----------
    spec
        - an accelerator id, alias or the name a driver reports: ``"rtx-4090"``, ``"NVIDIA GeForce RTX 4090"``,
          its PCI id (``"10de:2684"``), optionally with a count (``"2x rtx-3090"``, ``"rtx-3090 x2"``) or a memory
          size (``"m3-max-40gpu:64 GiB"``);
        - a host platform without a GPU: ``"ddr5-5600-dual"``, ``"raspberry-pi-5"``, or ``"cpu"`` for the assumed one;
        - a list of accelerators;
        - a mapping with ``name``, ``accelerators``, ``host`` (``ram``, ``cpu``, ``os``, ``memory``, ...), ``links``;
        - a `Machine`, which passes through.
    catalog
        Where names are looked up; default: the shared one.

    Returns
    -------
    Machine
        What nobody said is assumed, and every assumption is stated in ``assumptions``.

    Raises
    ------
    UnknownIdError
        No record has that name, or a mapping has a key that does not exist; ``suggestions`` holds near ones.
    AmbiguousNameError
        Several products go by that name; ``candidates`` holds them.
    UnitError
        A quantity has no unit or a wrong one.

    Examples
    --------
    >>> machine = describe_machine(["rtx-3090", "rtx-3090"])
    >>> len(machine.accelerators), machine.host.ram_total_bytes // 2**30
    (2, 32)
    """
    if isinstance(spec, Machine):
        return spec
    if catalog is None:
        from willitrun.catalog import load_catalog

        catalog = load_catalog()
    if isinstance(spec, str):
        # One name is one machine: what follows from the machine is then found again, too.
        return catalog.memo("machines").get((), spec, lambda: _from_name(spec, catalog))
    if isinstance(spec, Mapping):
        return _from_mapping(spec, catalog)
    if isinstance(spec, Iterable):
        return _build(read_wishes(spec), {}, None, None, catalog)
    raise WillItRunError(
        f"a machine is a name, a list of accelerators, a mapping or a Machine, got {type(spec).__name__}.",
        hint="Pass a name such as 'rtx-4090', a list of them, or {'accelerators': [...], 'host': {...}}.",
        code="invalid-machine",
    )


def _from_name(name: str, catalog: Catalog) -> Machine:
    if name.strip().lower() == "cpu":
        return _build((), {}, None, None, catalog)
    wishes = read_wishes([name])
    base = wishes[0].name or name
    try:
        if not catalog.os_names(base) and catalog.hosts.named(base):
            return _build((), {"memory": base}, None, None, catalog)
        return _build(wishes, {}, None, None, catalog)
    except UnknownIdError as error:
        if error.kind != "accelerator":
            raise
        near = tuple(dict.fromkeys([*error.suggestions, *catalog.hosts.suggestions(base)]))[:5]
        raise UnknownIdError("accelerator or host", name, near, hint=_way_to_say(name)) from None


def _way_to_say(name: str) -> str | None:
    """How to write what somebody means by a name that is none; None where near spellings tell more."""
    if is_share(name):
        return (
            "A MIG slice or a vGPU profile is a share of its card, never the card: detect() reads it where it runs; described, it takes "
            "what it has: {'name': 'H100 1g.10gb', 'vendor': 'nvidia', 'memory': ..., 'memory_bandwidth': ..., 'peaks': {'fp16_tensor': ...}}."
        )
    if re.search(r"(?i)\bmac|\bimac", name):
        return "A Mac goes by its chip, with its memory behind a colon: 'apple-m4-10gpu:16 GiB'; `willitrun catalog find m4` lists chips."
    if re.search(r"[,+]", name):
        return "Several cards of one machine are a list: ['rtx-3090', 'rtx-3060-12gb']."
    return None


def _from_mapping(spec: Mapping[Any, Any], catalog: Catalog) -> Machine:
    for key in spec:
        if key not in _KEYS:
            raise UnknownIdError("machine key", str(key), _KEYS, hint=f"A machine has {', '.join(_KEYS)}.")
    accelerators = spec.get("accelerators") or ()
    if isinstance(accelerators, str | Mapping):
        accelerators = (accelerators,)
    host = spec.get("host") or {}
    if isinstance(host, str):
        host = {"memory": host}
    if not isinstance(host, Mapping) or not isinstance(accelerators, Iterable):
        raise WillItRunError(
            "machine.host is a mapping or the id of a host platform; machine.accelerators is a list.",
            code="invalid-machine",
        )
    name = spec.get("name")
    return _build(
        read_wishes(accelerators), host, None if name is None else str(name), spec.get("links"), catalog
    )


def _build(
    wishes: Iterable[DeviceWish], host: Mapping[Any, Any], name: str | None, links: object, catalog: Catalog
) -> Machine:
    assumptions: list[str] = []
    found = [resolve_wish(wish, catalog) for wish in wishes]
    boards = [accelerator for wish, accelerator in found if accelerator.form == "sbc"]
    if boards and len(found) == len(boards) == 1:
        described, more = host_of_board(boards[0], found[0][0].memory_bytes, host, catalog)
        return Machine(
            name=name or boards[0].name, source="described", host=described, assumptions=tuple(more)
        )
    shared = [(wish, accelerator) for wish, accelerator in found if accelerator.unified_memory]
    ram = _ram_of_shared(shared, host, assumptions)
    described, more = describe_host(host, catalog, ram_bytes=ram, shared=[a for _, a in shared])
    assumptions += more
    devices = tuple(_installed(wish, accelerator, described, assumptions) for wish, accelerator in found)
    make = Machine.model_construct if name is None else Machine
    return make(
        name=name or _title([accelerator for _, accelerator in found], described),
        source="described",
        accelerators=devices,
        host=described,
        links=_links(links, devices, catalog),
        assumptions=tuple(dict.fromkeys(assumptions)),
    )


def _ram_of_shared(
    shared: list[tuple[DeviceWish, Accelerator]], host: Mapping[Any, Any], assumptions: list[str]
) -> int | None:
    """RAM that a unified-memory device implies: the size asked for, or the middle of those it is sold with."""
    sizes = {wish.memory_bytes for wish, _ in shared if wish.memory_bytes is not None}
    if len(sizes) > 1:
        raise WillItRunError(
            "devices that share the host's memory are given different sizes.", code="invalid-machine"
        )
    if sizes:
        return sizes.pop()
    if not shared or host.get("ram") is not None:
        return None
    accelerator = shared[0][1]
    options = sorted(accelerator.unified_memory_options)
    if not options:
        return None
    size = options[len(options) // 2]
    if len(options) > 1:
        sold = ", ".join(format_bytes(option) for option in options)
        assumptions.append(f"{accelerator.name} with {format_bytes(size)} of memory (sold with {sold})")
    return size


def _installed(
    wish: DeviceWish, accelerator: Accelerator, host: Host, assumptions: list[str]
) -> InstalledAccelerator:
    shares = accelerator.unified_memory
    total = (
        host.ram_total_bytes
        if shares
        else wish.memory_bytes or accelerator.memory or accelerator.memory_marketed
    )
    budget = None
    if shares and accelerator.vendor == "apple" and total is not None:
        budget, how = metal_budget(total)
        assumptions.append(
            f"the GPU may use {format_bytes(budget)} ({how}; the system tells the exact limit)"
        )
    generation, lanes = wish.pcie_generation, wish.pcie_lanes
    if not shares:
        slot = host.pcie_generation
        own = accelerator.pcie_generation
        generation = generation or min((value for value in (own, slot) if value is not None), default=None)
        lanes = lanes or accelerator.pcie_lanes or 16
    asked = (wish.memory_free_bytes, wish.pcie_generation, wish.pcie_lanes, wish.power_limit_w)
    make = InstalledAccelerator.model_construct if asked == (None,) * 4 else InstalledAccelerator
    return make(
        accelerator=accelerator,
        identity=wish.identity,
        reported_name=None,
        memory_total_bytes=total,
        memory_free_bytes=wish.memory_free_bytes,
        memory_bandwidth_bytes_per_s=accelerator.memory_bandwidth,
        compute_units=accelerator.compute_units,
        compute_capability=accelerator.compute_capability,
        pcie_generation=generation,
        pcie_lanes=lanes,
        pcie_generation_max=generation,
        pcie_lanes_max=lanes,
        power_limit_w=wish.power_limit_w,
        power_default_w=accelerator.tdp,
        shares_host_memory=shares,
        unified_budget_bytes=budget,
    )


def _links(given: object, devices: tuple[InstalledAccelerator, ...], catalog: Catalog) -> tuple[Link, ...]:
    if given is None:
        return ()
    entries = (given,) if isinstance(given, str | Mapping) else given
    if not isinstance(entries, Iterable):
        raise WillItRunError("machine.links is a kind, a mapping or a list of them.", code="invalid-machine")
    return tuple(
        _link({"kind": entry} if isinstance(entry, str) else entry, devices, catalog) for entry in entries
    )


def _link(entry: object, devices: tuple[InstalledAccelerator, ...], catalog: Catalog) -> Link:
    if isinstance(entry, Link):
        return entry
    if not isinstance(entry, Mapping):
        raise WillItRunError(
            "a link is a kind or a mapping of kind, devices, bandwidth.", code="invalid-machine"
        )
    for key in entry:
        if key not in _LINK_KEYS:
            raise UnknownIdError(
                "link key", str(key), _LINK_KEYS, hint=f"A link has {', '.join(_LINK_KEYS)}."
            )
    kind, bandwidth = str(entry.get("kind")), entry.get("bandwidth")
    rate = None if bandwidth is None else parse_rate(bandwidth, "bytes_per_s")
    if kind not in _LINK_KINDS:
        # An interconnect by its name says its bandwidth, too: "10gbe", "thunderbolt-4".
        try:
            known = catalog.resolve("interconnect", kind)
        except UnknownIdError as error:
            near = (*error.suggestions, *_LINK_KINDS)
            raise UnknownIdError("kind of link", kind, near) from None
        kind, rate = known.kind, rate or known.bandwidth_per_direction
    joined = tuple(int(index) for index in entry.get("devices") or ())
    if any(not 0 <= index < len(devices) for index in joined):
        raise WillItRunError(
            f"a link names device {max(joined)}; there are {len(devices)}.", code="invalid-machine"
        )
    if rate is None:
        ends = [devices[index].accelerator for index in joined or range(len(devices))]
        known = [end.link_bandwidth for end in ends if end.link_bandwidth]
        if kind not in ("nvlink", "infinity-fabric") or not known or len(known) < len(ends):
            raise MissingDataError(
                f"no source says the bandwidth of this {kind} link.",
                hint="Name one that has it (10gbe, thunderbolt-4, oculink-x4), or pass bandwidth = '... GB/s' (per direction).",
            )
        # Sheets state the total of both directions.
        rate = min(known) / 2
    return Link(kind=kind, devices=joined, bandwidth_bytes_per_s=rate)


def _title(accelerators: list[Accelerator], host: Host) -> str:
    if not accelerators:
        return host.cpu or "a machine without a GPU"
    counted: dict[str, int] = {}
    for accelerator in accelerators:
        counted[accelerator.name] = counted.get(accelerator.name, 0) + 1
    return " + ".join(f"{count} x {name}" if count > 1 else name for name, count in counted.items())
