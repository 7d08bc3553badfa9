"""Hardware: one page per vendor, and the hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from generators.markup import Page, Section, page, table, toctree
from willitrun import Catalog
from willitrun.units import format_bytes, format_rate

SECTION = Section(
    "Hardware", "hardware/index", "Accelerators and host platforms, every value with its source"
)

HEAD = (
    "device",
    "memory",
    "bandwidth",
    "FP16 tensor (FP32 acc.)",
    "INT8",
    "power",
    "basis of bandwidth",
    "id",
)


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page per vendor, one for host platforms, and their index."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for record in catalog.accelerators.values():
        groups[record.vendor].append(record)
    for vendor, records in groups.items():
        title = vendor.upper() if len(vendor) <= 3 else vendor.capitalize()
        yield page(f"hardware/{vendor}.md", [f"# {title}", "", *table(HEAD, map(_row, records))])
    hosts = [
        [
            host.name,
            format_rate(host.memory_bandwidth, "B/s") if host.memory_bandwidth else "",
            f"`{host.id}`",
        ]
        for host in catalog.hosts.values()
    ]
    yield page("hardware/hosts.md", ["# Hosts", "", *table(["platform", "memory bandwidth", "id"], hosts)])
    counts = f"{len(catalog.accelerators)} accelerators, {len(catalog.hosts)} host platforms."
    yield page("hardware/index.md", ["# Hardware", "", counts, "", *toctree([*sorted(groups), "hosts"])])


def _row(record: Any) -> list[object]:
    memory = record.memory_marketed or record.memory
    basis = record.citations("memory_bandwidth")
    return [
        record.name,
        format_bytes(memory) if memory else "shared",
        format_rate(record.memory_bandwidth, "B/s") if record.memory_bandwidth else "",
        format_rate(record.peaks.fp16_tensor, "FLOP/s") if record.peaks.fp16_tensor else "",
        format_rate(record.peaks.int8, "OP/s") if record.peaks.int8 else "",
        f"{record.tdp:.0f} W" if record.tdp else "",
        basis[0].basis if basis and record.memory_bandwidth else "",
        f"`{record.id}`",
    ]
