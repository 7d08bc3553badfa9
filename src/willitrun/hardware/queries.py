"""A machine as a short string to share: ``gpu=nvidia-geforce-rtx-3090&ram=64+GiB``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from willitrun.errors import UnknownIdError, WillItRunError
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.machines import InstalledAccelerator, Link, Machine
from willitrun.units import parse_rate

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["from_query", "to_query"]

# Key in the query -> (key of a host description, field of `Host`).
_HOST = {
    "ram": ("ram", "ram_total_bytes"),
    "bandwidth": ("memory_bandwidth", "memory_bandwidth_bytes_per_s"),
    "memory": ("memory_type", "memory_type"),
    "channels": ("memory_channels", "memory_channels"),
    "cores": ("cores", "cores"),
    "os": ("os", "system"),
    "pcie": ("pcie", "pcie_generation"),
    "fp32": ("fp32", "fp32_flop_per_s"),
}
_COUNTS = ("cores", "channels")
_KEYS = ("name", "cpu", "gpu", "link", "nvlink", *_HOST)
_MOST = 4096


def to_query(machine: Machine) -> str:
    """The parts of a machine that decide verdicts, as a URL query. What is free now is left out.

    Raises
    ------
    WillItRunError
        A device has no catalog record, and so no id to share (code ``not-shareable``).

    Examples
    --------
    >>> from willitrun.hardware.descriptions import describe_machine
    >>> to_query(describe_machine("rtx-3090"))
    'gpu=nvidia-geforce-rtx-3090~pcie+4.0+x16&ram=32+GiB&bandwidth=89.6+GB%2Fs&memory=DDR5&channels=2&cores=8&os=linux&pcie=4'
    """
    pairs = [("gpu", _device(device)) for device in machine.accelerators]
    if machine.host.cpu:
        pairs.append(("cpu", machine.host.cpu))
    for key, (_, field) in _HOST.items():
        value = getattr(machine.host, field)
        if value is not None:
            pairs.append((key, _written(key, value)))
    pairs += [("link", _joined(link)) for link in machine.links]
    return urlencode(pairs, safe="~:,")


def _joined(link: Link) -> str:
    """``ethernet~0,1~1.25 GB/s``: kind, the devices it joins (all of them where empty), bandwidth per direction."""
    devices = ",".join(map(str, link.devices))
    return f"{link.kind}~{devices}~{_written('bandwidth', link.bandwidth_bytes_per_s)}"


def _parted(text: str) -> dict[str, Any]:
    kind, *rest = text.split("~")
    devices = rest[0].split(",") if rest and rest[0] else []
    if len(rest) > 2 or not all(part.isdecimal() and len(part) < 4 for part in devices):
        raise WillItRunError(
            f"{text[:80]!r} is no link of a machine query.",
            code="invalid-machine",
            hint="Write kind~devices~bandwidth: ethernet~0,1~1.25 GB/s.",
        )
    found: dict[str, Any] = {"kind": kind}
    if devices:
        found["devices"] = [int(part) for part in devices]
    if len(rest) == 2 and rest[1]:
        found["bandwidth"] = rest[1]
    return found


def _written(key: str, value: Any) -> str:
    """A value as people write it where that is exact, else in base units."""
    if key == "ram":
        return f"{value >> 30} GiB" if value % (1 << 30) == 0 else f"{value} B"
    unit = {"bandwidth": "B/s", "fp32": "FLOP/s"}.get(key)
    if unit is None:
        return str(value)
    short = f"{value / 1e9:.6g} G{unit}"
    dimension = "bytes_per_s" if key == "bandwidth" else "flop_per_s"
    return short if parse_rate(short, dimension) == value else f"{value!r} {unit}"


def _device(device: InstalledAccelerator) -> str:
    record = device.accelerator
    if record.id.startswith(("derived-", "given-")):
        raise WillItRunError(
            f"{record.name} has no catalog record to share by id.",
            code="not-shareable",
            hint="Share the capture instead (willitrun detect --capture FILE).",
        )
    parts = [record.id]
    if device.pcie_generation and device.pcie_lanes:
        parts.append(f"pcie {device.pcie_generation}.0 x{device.pcie_lanes}")
    if device.power_limit_w is not None:
        parts.append(f"power {device.power_limit_w} W")
    return "~".join(parts)


def from_query(text: str, *, catalog: Catalog | None = None) -> Machine:
    """The machine that a query describes.

    Raises
    ------
    UnknownIdError
        A key or a device is unknown.
    WillItRunError
        The text is no query (code ``invalid-machine``).
    """
    if len(text) > _MOST:
        raise WillItRunError(f"a machine query has at most {_MOST} characters.", code="invalid-machine")
    try:
        pairs = parse_qsl(text.removeprefix("?"), strict_parsing=True, max_num_fields=256)
    except ValueError as error:
        raise WillItRunError(f"{text[:80]!r} is no machine query.", code="invalid-machine") from error
    spec: dict[str, Any] = {"accelerators": [], "host": {}}
    for key, value in pairs:
        if key not in _KEYS:
            raise UnknownIdError("key of a machine query", key, _KEYS)
        if key == "gpu":
            spec["accelerators"].append(_wish(value))
        elif key == "nvlink":
            spec.setdefault("links", []).append("nvlink")  # As earlier versions wrote it.
        elif key == "link":
            spec.setdefault("links", []).append(_parted(value))
        elif key == "name":
            spec["name"] = value
        else:
            name = _HOST[key][0] if key in _HOST else key
            spec["host"][name] = int(value) if key in _COUNTS and value.isdigit() else value
    return describe_machine(spec, catalog=catalog)


def _wish(text: str) -> str | dict[str, Any]:
    name, *options = text.split("~")
    if not options:
        return name
    wish: dict[str, Any] = {"id": name}
    for option in options:
        key, _, value = option.partition(" ")
        if key == "pcie":
            wish["pcie"] = value
        elif key == "power":
            wish["power_limit"] = value
        else:
            raise UnknownIdError("device option of a machine query", key, ("pcie", "power"))
    return wish
