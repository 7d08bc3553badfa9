"""Hardware: one page per vendor, one for hosts, one for links between devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from generators.links import cited, measured_link, terms
from generators.markup import Page, Section, page, table, toctree
from willitrun import Catalog
from willitrun.units import format_bytes, format_rate

SECTION = Section(
    "Hardware", "hardware/index", "Accelerators and host platforms, every value with its source"
)

HEAD = (
    ("device", ""), ("memory", "vram"), ("bandwidth", "memory-bandwidth"), ("read in", ""),
    ("FP16 into FP32", "tensor-core"), ("INT8", "int8"), ("power", "power-limit"), ("PCIe", "pcie-lanes"),
    ("measured", ""), ("id", ""),
)  # fmt: skip
HOST_HEAD = (
    ("host", ""), ("channels", "memory-channels"), ("memory bandwidth", "host-memory-bandwidth"), ("read in", ""),
    ("cores", ""), ("clock", ""), ("FP32, all cores", "flop"), ("id", ""),
)  # fmt: skip
LINK_HEAD = (("link", "interconnect"), ("kind", ""), ("each way", ""), ("read in", ""), ("id", ""))


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page per vendor, hosts, links, and their index."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for record in catalog.accelerators.values():
        groups[record.vendor].append(record)
    for vendor, records in groups.items():
        title = vendor.upper() if len(vendor) <= 3 else vendor.capitalize()
        yield page(f"hardware/{vendor}.md", [f"# {title}", "", *_vendor(records, catalog)])
    hosts = [_host(host, catalog) for host in catalog.hosts.values()]
    yield page("hardware/hosts.md", ["# Hosts", "", *table(terms(HOST_HEAD, catalog, up=1), hosts)])
    links = [
        [link.name, link.kind, format_rate(link.bandwidth_per_direction, "B/s"),
         cited(link, "bandwidth_per_direction", catalog), f"`{link.id}`"]
        for link in catalog.interconnects.values()
    ]  # fmt: skip
    yield page("hardware/links.md", ["# Links", "", *table(terms(LINK_HEAD, catalog, up=1), links)])
    yield page("hardware/index.md", _index(catalog, groups))


def _index(catalog: Catalog, groups: dict[str, list[Any]]) -> list[str]:
    return [
        "# Hardware",
        "",
        f"{len(catalog.accelerators)} accelerators, {len(catalog.hosts)} hosts, {len(catalog.interconnects)} links. Peaks are dense, "
        "tensor rates accumulate in FP32 unless a column says otherwise. `willitrun card DEVICE` shows everything about one device: each "
        "fact with its sources, the names it goes by, and what it runs.",
        "",
        "What was measured on them: [measurements](../measurements/index.md). What they run: [models](../models/index.md) under "
        "[runtimes](../runtimes.md). Where facts were read: [sources](../sources.md).",
        "",
        *toctree([*sorted(groups), "hosts", "links"]),
    ]


def _vendor(records: list[Any], catalog: Catalog) -> Iterator[str]:
    """A section per architecture, newest first."""
    sections: defaultdict[str, list[Any]] = defaultdict(list)
    for record in records:
        sections[record.architecture or "Other"].append(record)
    newest = {
        name: max((str(record.launched or "") for record in members), default="")
        for name, members in sections.items()
    }
    for name in sorted(sections, key=lambda name: newest[name], reverse=True):
        members = sorted(sections[name], key=lambda record: record.name)
        yield from (f"## {name}", "")
        yield from table(terms(HEAD, catalog, up=1), [_row(record, catalog) for record in members])
        yield ""


def _row(record: Any, catalog: Catalog) -> list[object]:
    memory = record.memory_marketed or record.memory
    lanes = (
        f"{record.pcie_generation}.0 x{record.pcie_lanes}"
        if record.pcie_generation and record.pcie_lanes
        else ""
    )
    return [
        record.name,
        format_bytes(memory) if memory else "shared",
        format_rate(record.memory_bandwidth, "B/s") if record.memory_bandwidth else "",
        cited(record, "memory_bandwidth", catalog) if record.memory_bandwidth else "",
        format_rate(record.peaks.fp16_tensor, "FLOP/s") if record.peaks.fp16_tensor else "",
        format_rate(record.peaks.int8, "OP/s") if record.peaks.int8 else "",
        f"{record.tdp:.0f} W" if record.tdp else "",
        lanes,
        measured_link(record, "accelerator", catalog, up=1),
        f"`{record.id}`",
    ]


def _host(host: Any, catalog: Catalog) -> list[object]:
    cores = f"{host.cores}" if host.cores else ""
    if host.efficiency_cores:
        cores += f" ({host.efficiency_cores} small)"
    clock = host.base_clock or host.boost_clock
    return [
        host.name,
        host.memory_channels or "",
        format_rate(host.memory_bandwidth, "B/s") if host.memory_bandwidth else "",
        cited(host, "memory_bandwidth" if host.memory_bandwidth else "cores", catalog),
        cores,
        f"{'' if host.base_clock else 'up to '}{format_rate(clock, 'Hz')}" if clock else "",
        format_rate(host.fp32_peak, "FLOP/s") if host.fp32_peak else "",
        f"`{host.id}`",
    ]
