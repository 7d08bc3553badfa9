"""The host of a described machine: what was said, what a platform record adds, and what is assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from willitrun.errors import UnitError, UnknownIdError, WillItRunError
from willitrun.hardware.platforms import DEFAULT_PLATFORM, instruction_sets_of
from willitrun.hardware.processors import compute_peak, cores_of, memory_of, processor_of
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import Host
from willitrun.units import format_bytes, format_rate, parse_bytes, parse_rate

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["describe_host", "host_of_board"]

_KEYS = (
    "ram",
    "ram_available",
    "cpu",
    "cores",
    "os",
    "memory",
    "memory_bandwidth",
    "memory_type",
    "memory_channels",
    "swap",
    "disk_free",
    "disk_read",
    "pcie",
    "instruction_sets",
    "fp32",
)
_SYSTEMS = {"linux": "linux", "windows": "windows", "macos": "macos", "darwin": "macos", "wsl2": "linux"}
_DEFAULT_RAM = 32 << 30
_DEFAULT_CORES = 8
_DEFAULT_PCIE = 4
_LEAST_RAM = 64 << 20
_APPLE_CHIP = r"\bApple M\d+(?: (?:Pro|Max|Ultra))?\b"


def describe_host(
    spec: Mapping[Any, Any],
    catalog: Catalog,
    *,
    ram_bytes: int | None = None,
    shared: list[Accelerator] | None = None,
) -> tuple[Host, list[str]]:
    """The host, and what was assumed about it.

    Parameters
    ----------
    spec
        ``ram``, ``cpu`` (a name, or the id of a host record), ``memory`` (the id of a platform), ``os``, ``cores``,
        ``memory_bandwidth``, ``swap``, ``disk_free``, ``disk_read``, ``pcie``, ``instruction_sets``, ``fp32``.
    catalog
        Holds the platforms.
    ram_bytes
        RAM that a unified-memory device implies [bytes].
    shared
        Devices that compute out of the host's memory; its bandwidth is theirs.
    """
    for key in spec:
        if key not in _KEYS:
            raise UnknownIdError("host key", str(key), _KEYS, hint=f"A host has {', '.join(_KEYS)}.")
    assumed: list[str] = []
    fields: dict[str, Any] = {}
    _apply_platforms(spec, catalog, fields)
    _apply_quantities(spec, fields)
    _apply_system(spec, fields, shared or [], assumed)
    given = fields.get("ram_total_bytes")
    if given is not None and ram_bytes is not None and given != ram_bytes:
        raise WillItRunError(
            f"host.ram is {format_bytes(given)}, but the device shares {format_bytes(ram_bytes)} with it.",
            code="invalid-machine",
        )
    if ram_bytes is not None:
        fields["ram_total_bytes"] = ram_bytes
    _apply_defaults(catalog, fields, shared or [], assumed)
    # What the catalog and the defaults give is valid; what a caller writes is checked.
    return (Host(**fields) if spec else Host.model_construct(**fields)), assumed


def _apply_platforms(spec: Mapping[Any, Any], catalog: Catalog, fields: dict[str, Any]) -> None:
    names = [("memory", spec.get("memory")), ("cpu", spec.get("cpu"))]
    for key, name in names:
        if name is None:
            continue
        platform = processor_of(str(name), catalog)
        if platform is None and key == "cpu":
            # A processor without a record of its own is a label; its memory decides the speed.
            fields["cpu"] = str(name)
            continue
        if platform is None:
            platform = catalog.resolve("host", str(name))
        peak, given = compute_peak(platform), spec.get("cores")
        if peak is not None and platform.cores and isinstance(given, int):
            peak *= given / platform.cores
        for ours, theirs in (
            ("memory_bandwidth_bytes_per_s", platform.memory_bandwidth),
            ("memory_type", platform.memory_type),
            ("memory_channels", platform.memory_channels),
            ("cores", platform.cores),
            ("instruction_sets", platform.instruction_sets),
            ("fp32_flop_per_s", peak),
            ("pcie_generation", platform.pcie_generation),
        ):
            if theirs not in (None, ()):
                fields.setdefault(ours, theirs)
        fields["cpu"] = platform.name


def _apply_quantities(spec: Mapping[Any, Any], fields: dict[str, Any]) -> None:
    for key, ours in (
        ("ram", "ram_total_bytes"),
        ("ram_available", "ram_available_bytes"),
        ("swap", "swap_total_bytes"),
        ("disk_free", "disk_free_bytes"),
    ):
        if spec.get(key) is not None:
            fields[ours] = parse_bytes(spec[key])
    ram = fields.get("ram_total_bytes")
    if ram is not None and ram < _LEAST_RAM:
        raise UnitError(f"host.ram is {format_bytes(ram)}.", hint="Write the unit, for example '64 GiB'.")
    for key, ours, dimension in (
        ("memory_bandwidth", "memory_bandwidth_bytes_per_s", "bytes_per_s"),
        ("disk_read", "disk_read_bytes_per_s", "bytes_per_s"),
        ("fp32", "fp32_flop_per_s", "flop_per_s"),
    ):
        if spec.get(key) is not None:
            fields[ours] = parse_rate(spec[key], dimension)
    for key in ("cores", "memory_channels"):
        count = spec.get(key)
        if count is not None:
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise WillItRunError(
                    f"host.{key} is a whole number above 0, got {count!r}.", code="invalid-machine"
                )
            fields[key] = count
    if spec.get("memory_type") is not None:
        fields["memory_type"] = str(spec["memory_type"])
    generation = spec.get("pcie")
    if generation is not None:
        text = str(generation).lower().removeprefix("gen").strip().removesuffix(".0")
        if text not in ("1", "2", "3", "4", "5", "6", "7"):
            raise WillItRunError(
                f"host.pcie is a generation such as '4.0', got {generation!r}.", code="invalid-machine"
            )
        fields["pcie_generation"] = int(text)
    sets = spec.get("instruction_sets")
    if sets is not None:
        fields["instruction_sets"] = tuple(map(str, sets))


def _apply_system(
    spec: Mapping[Any, Any], fields: dict[str, Any], shared: list[Accelerator], assumed: list[str]
) -> None:
    name = spec.get("os")
    if name is None:
        apple = any(accelerator.vendor == "apple" for accelerator in shared)
        fields["system"] = "macos" if apple else "linux"
        if not apple:
            assumed.append("Linux")
        return
    text = str(name).strip().lower()
    word = text.split()[0] if text else ""
    if word in ("ubuntu", "debian", "fedora", "arch", "rhel"):
        word = "linux"
    if word not in _SYSTEMS:
        raise UnknownIdError("operating system", str(name), ("linux", "windows", "macos", "wsl2"))
    fields["system"] = _SYSTEMS[word]
    if word == "wsl2":
        fields["virtualization"] = "wsl2"


def _apply_defaults(
    catalog: Catalog, fields: dict[str, Any], shared: list[Accelerator], assumed: list[str]
) -> None:
    if fields.get("ram_total_bytes") is None:
        fields["ram_total_bytes"] = _DEFAULT_RAM
        assumed.append(f"{format_bytes(_DEFAULT_RAM)} of RAM")
    if fields.get("memory_bandwidth_bytes_per_s") is None:
        own = [accelerator.memory_bandwidth for accelerator in shared if accelerator.memory_bandwidth]
        own = own or _chip_bandwidth(catalog, fields.get("cpu"))
        if own:
            fields["memory_bandwidth_bytes_per_s"] = max(own)
            fields.setdefault("memory_type", shared[0].memory_type if shared else None)
        else:
            cpu = fields.get("cpu")
            platform = memory_of(cpu, processor_of(cpu, catalog), catalog) or catalog.hosts[DEFAULT_PLATFORM]
            fields["memory_bandwidth_bytes_per_s"] = platform.memory_bandwidth
            fields["memory_type"] = platform.memory_type
            fields["memory_channels"] = platform.memory_channels
            assumed.append(f"{platform.name} ({format_rate(platform.memory_bandwidth or 0.0, 'B/s')})")
    if fields.get("cores") is None:
        fields["cores"] = cores_of(fields.get("cpu"), catalog)
    if not fields.get("instruction_sets"):
        fields["instruction_sets"] = instruction_sets_of(fields.get("cpu"))
    if fields.get("cores") is None:
        fields["cores"] = _DEFAULT_CORES
        assumed.append(f"{_DEFAULT_CORES} CPU cores")
    fields["usable_cores"] = float(fields["cores"])
    if fields.get("pcie_generation") is None:
        fields["pcie_generation"] = _DEFAULT_PCIE
        if not shared:
            assumed.append("PCIe 4.0 x16")


def _chip_bandwidth(catalog: Catalog, cpu: str | None) -> list[float]:
    """What the memory of an Apple chip gives by its name, over its variants [bytes/s]."""
    chip = re.search(_APPLE_CHIP, cpu) if cpu else None
    if chip is None:
        return []
    prefix = chip.group().lower().replace(" ", "-")
    variants = (catalog.accelerators[name] for name in catalog.accelerators if name.startswith(f"{prefix}-"))
    return [
        record.memory_bandwidth
        for record in variants
        if record.memory_bandwidth and record.name.startswith(f"{chip.group()} (")
    ]


def host_of_board(
    board: Accelerator, memory_bytes: int | None, spec: Mapping[Any, Any], catalog: Catalog
) -> tuple[Host, list[str]]:
    """A single-board computer as a host: its CPU does the work out of the board's memory."""
    assumed: list[str] = []
    ram = memory_bytes
    if ram is None and spec.get("ram") is None and board.unified_memory_options:
        ram = max(board.unified_memory_options)
        assumed.append(f"{board.name} with {format_bytes(ram)} of memory")
    described, more = describe_host({"cpu": board.name, **spec}, catalog, ram_bytes=ram, shared=[board])
    return described, [*assumed, *more]
