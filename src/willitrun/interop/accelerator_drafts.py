"""Draft an accelerator record from a specification sheet, for a person to review.

The sheet is text with one fact a line, ``Label: value`` or ``Label<tab>value``, as it is copied from a product page or a
database. Bandwidth is derived from bus width and data rate where the sheet gives both; what contradicts itself is said.
Tensor rates are not read: sheets mix dense with sparse and FP16 with FP32 accumulation, so they need the vendor's table
and a citation of their own. So do names that drivers report, and PCI ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from willitrun.records.accelerators import Accelerator

__all__ = ["draft_accelerator", "read_sheet"]

NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
BANDWIDTH_TOLERANCE = 0.02

Reader = Callable[[str], Any]


def _quantity(units: Mapping[str, str]) -> Reader:
    pattern = re.compile(rf"{NUMBER}\s*({'|'.join(map(re.escape, units))})\b", re.IGNORECASE)
    names = {unit.lower(): name for unit, name in units.items()}

    def read(text: str) -> dict[str, Any] | None:
        found = pattern.search(text)
        return {"value": _number(found[1]), "unit": names[found[2].lower()]} if found else None

    return read


def _count(text: str) -> int | None:
    found = re.search(NUMBER, text)
    return int(found[1].replace(",", "")) if found and "." not in found[1] else None


def _match(pattern: str) -> Reader:
    def read(text: str) -> str | None:
        found = re.search(pattern, text, re.IGNORECASE)
        return found[1] if found else None

    return read


def _number(text: str) -> int | float:
    plain = text.replace(",", "")
    return float(plain) if "." in plain else int(plain)


_CAPACITY = _quantity({"GiB": "GiB", "GB": "GiB", "MiB": "MiB", "MB": "MiB"})
_CLOCK = _quantity({"MHz": "MHz", "GHz": "GHz"})
_RATE = _quantity({"TFLOPS": "TFLOP/s", "TFLOP/s": "TFLOP/s", "GFLOPS": "GFLOP/s"})
_WATT = _quantity({"W": "W", "Watts": "W"})

# Label of the sheet, field of the record, reader of the value.
FIELDS: tuple[tuple[str, str, Reader], ...] = (
    (r"(?:product )?name|graphics card", "name", str.strip),
    (r"(?:gpu )?architecture", "architecture", str.strip),
    (r"gpu name|graphics processor|chip", "chip", str.strip),
    (r"memory (?:size|capacity)|vram|memory", "memory_marketed", _CAPACITY),
    (r"memory type", "memory_type", str.strip),
    (r"memory (?:bus|interface)(?: width)?", "memory_bus_width_bits", _count),
    (r"memory (?:speed|data rate|clock)", "memory_data_rate", _quantity({"Gbps": "GT/s", "Gbit/s": "GT/s", "GT/s": "GT/s", "MT/s": "MT/s"})),
    (r"(?:memory )?bandwidth", "memory_bandwidth", _quantity({"GB/s": "GB/s", "TB/s": "TB/s"})),
    (r"l2 cache", "l2_cache", _CAPACITY),
    (r"sm count|sms|compute units|xe[- ]cores|gpu cores|streaming multiprocessors", "compute_units", _count),
    (r"(?:gpu )?boost clock", "boost_clock", _CLOCK),
    (r"cuda|compute capability", "compute_capability", _match(r"(\d{1,2}\.\d)")),
    (r"tdp|tgp|tbp|(?:total )?(?:board|graphics) power|max(?:imum)? power", "tdp", _WATT),
    (r"bus interface|interface|pcie|pci express", "pcie_generation", _match(r"(?:gen\s*|pcie\s*|express\s*)(\d)")),
    (r"bus interface|interface|pcie|pci express", "pcie_lanes", _match(r"x\s*(\d{1,2})")),
    (r"fp32(?: \(float\))?(?: performance)?|single[- ]precision(?: performance)?", "peaks.fp32", _RATE),
    (r"(?:launch|release) date|launched", "launched", _match(r"(\d{4}-\d{2}-\d{2})")),
)  # fmt: skip
_WHOLE = ("pcie_generation", "pcie_lanes")


def read_sheet(lines: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Fields of a sheet, and the lines that say nothing this reader knows.

    >>> read_sheet(["Memory Size: 24 GB", "RT Cores: 128"])
    ({'memory_marketed': {'value': 24, 'unit': 'GiB'}}, ['RT Cores: 128'])
    """
    found: dict[str, Any] = {}
    unread = []
    for line in lines:
        label, _, value = re.sub(r"\t+|:\s+|\s{2,}", "\0", line.strip(), count=1).partition("\0")
        known = False
        for pattern, field, read in FIELDS:
            if value and re.fullmatch(pattern, label.strip(), re.IGNORECASE):
                content = read(value)
                if content is not None and field not in found:
                    found[field] = int(content) if field in _WHOLE else content
                known = known or content is not None
        if line.strip() and not known:
            unread.append(line.strip())
    return found, unread


def draft_accelerator(
    sheet: Mapping[str, Any], *, vendor: str, kind: str, form: str, source: str, basis: str, at: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """A record with what a sheet says, cited to ``source``, and the contradictions in it."""
    citation = {"source": source, "basis": basis} | ({"at": at} if at else {})
    name = str(sheet.get("name", "unnamed"))
    record: dict[str, Any] = {
        "id": re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-"),
        "name": name,
        "vendor": vendor,
        "kind": kind,
        "form": form,
    }
    record |= {key: value for key, value in sheet.items() if key != "name" and not key.startswith("peaks.")}
    if "memory_marketed" in record:
        record["memory"] = record["memory_marketed"]
    peaks = {key.removeprefix("peaks."): value for key, value in sheet.items() if key.startswith("peaks.")}
    if peaks:
        record["peaks"] = peaks
    cite: dict[str, Any] = {"*": [citation]}
    doubts = []
    checked = Accelerator.model_validate(record | {"cite": cite})
    if checked.memory_bus_width_bits and checked.memory_data_rate:
        derived = checked.memory_bus_width_bits / 8 * checked.memory_data_rate
        stated = checked.memory_bandwidth
        if stated and abs(stated - derived) > BANDWIDTH_TOLERANCE * derived:
            doubts.append(
                f"bandwidth: stated {stated / 1e9:.1f} GB/s, bus x data rate {derived / 1e9:.1f} GB/s"
            )
        else:
            record["memory_bandwidth"] = {"value": round(derived / 1e9, 2), "unit": "GB/s"}
            cite["memory_bandwidth"] = [citation | {"basis": "derived", "rule": "bus width / 8 x data rate"}]
    return record | {"cite": cite}, doubts
