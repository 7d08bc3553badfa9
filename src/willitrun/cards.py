"""The card of a device: what it is, by which names it goes, and what it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from willitrun.catalog import load_catalog
from willitrun.hardware.descriptions import describe_machine
from willitrun.planning.labels import chips
from willitrun.records.accelerators import Accelerator, HostPlatform, Peaks
from willitrun.records.bases import Basis, Citation, CitedRecord, Record
from willitrun.records.presentation import Presented, format_field
from willitrun.records.rankings import Chip
from willitrun.units import format_bytes, format_rate

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["CardFact", "CardSource", "HardwareCard", "hardware_card"]


class CardSource(Record):
    """Where a fact was read."""

    id: str
    title: str
    url: str
    basis: Basis
    at: str = ""
    rule: str = ""


class CardFact(Record):
    """One specification as text, and its sources."""

    field: str
    label: str
    text: str
    sources: tuple[CardSource, ...]


class HardwareCard(Presented):
    """Specifications with sources, names, and verdicts for common workloads."""

    id: str
    name: str
    kind: str
    vendor: str
    facts: tuple[CardFact, ...]
    names: tuple[str, ...]
    """Ids, aliases and the names that drivers report."""
    pci_ids: tuple[str, ...] = ()
    confused_with: tuple[str, ...] = ()
    """Records that share a name or a PCI id, told apart by ``told_apart_by``."""
    told_apart_by: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    machine: str = ""
    """The machine on which the workloads were tried: the device in a host that is assumed."""
    assumptions: tuple[str, ...] = ()
    chips: tuple[Chip, ...] = ()
    """Common workloads and whether it is up to them."""
    measurements: tuple[str, ...] = ()
    """Ids of the catalogued measurements on it."""

    def summary(self) -> str:
        return "; ".join([self.name, *(f"{chip.label}: {chip.answer}" for chip in self.chips[:3])])

    def rows(self) -> tuple[tuple[str, str], ...]:
        facts = [(fact.label, fact.text) for fact in self.facts]
        return (*facts, *((chip.label, f"{chip.answer} ({chip.why})") for chip in self.chips))


_LABELS = {
    "memory": "memory, as drivers show it",
    "memory_marketed": "memory, as sold",
    "memory_bus_width_bits": "memory bus",
    "compute_units": "SMs, CUs or cores",
    "fp32_flop_per_cycle": "FP32 results per core and clock",
    "efficiency_fp32_flop_per_cycle": "FP32 results per efficiency core and clock",
    "link_bandwidth": "direct link, both directions",
    "msrp": "launch price",
    "tdp": "board power",
    "peaks.fp32": "peak FP32",
    "peaks.fp16": "peak FP16, vector",
    "peaks.tf32_tensor": "peak TF32, dense",
    "peaks.fp16_tensor": "peak FP16 into FP32, dense",
    "peaks.fp16_tensor_fp16_accumulate": "peak FP16 into FP16, dense",
    "peaks.bf16_tensor": "peak BF16 into FP32, dense",
    "peaks.int8": "peak INT8, dense",
    "peaks.fp8_tensor": "peak FP8, dense",
    "peaks.fp4_tensor": "peak FP4, dense",
}
_RATES = {"memory_bandwidth": "B/s", "link_bandwidth": "B/s", "fp32_peak": "FLOP/s"}
_CLOCKS = ("memory_clock", "boost_clock", "base_clock", "efficiency_boost_clock")
_BYTES = ("memory", "memory_marketed", "l2_cache")


def hardware_card(
    device: str, *, catalog: Catalog | None = None, workloads: Iterable[str] | None = None
) -> HardwareCard:
    """What the catalog knows of a device, with sources, and what the engine says it runs.

    Parameters
    ----------
    device
        Id, alias, or name that a driver reports, of an accelerator or a host.
    catalog
        Where to look; None is the shipped one.
    workloads
        Ids of workload records to try; None tries those that name a reference model, an empty list none.

    Returns
    -------
    HardwareCard
        A workload that cannot be judged is ``unknown`` and says why.

    Raises
    ------
    UnknownIdError, AmbiguousNameError
        No record, or several, go by the name.

    Examples
    --------
    >>> card = hardware_card("rtx-4090", workloads=["chat-7b"])
    >>> card.chips[0].answer, next(fact.text for fact in card.facts if fact.field == "memory_bandwidth")
    ('yes', '1.01 TB/s')
    """
    found = catalog if catalog is not None else load_catalog()
    record = _record(device, found)
    names = dict.fromkeys((record.id, *record.aliases, record.name, *getattr(record, "os_names", ())))
    chosen = None if workloads is None else {found.resolve("workload", name).id for name in workloads}
    machine = (
        describe_machine(record.id, catalog=found)
        if isinstance(record, Accelerator)
        else describe_machine({"host": {"cpu": record.id}}, catalog=found)
    )
    return HardwareCard(
        id=record.id,
        name=record.name,
        kind=record.kind,
        vendor=record.vendor,
        facts=tuple(_facts(record, found)),
        names=tuple(names),
        pci_ids=getattr(record, "pci_ids", ()),
        confused_with=getattr(record, "ambiguous_with", ()),
        told_apart_by=getattr(record, "told_apart_by", ()),
        flags=record.flags,
        machine=machine.summary(),
        assumptions=machine.assumptions,
        chips=tuple(
            chip
            for chip in (chips(machine, memory="nameplate", catalog=found).chips if chosen != set() else ())
            if chosen is None or chip.workload in chosen
        ),
        measurements=tuple(
            key for key in found.measurements if found.measurements.raw(key)["accelerator"] == record.id
        ),
    )


def _record(device: str, catalog: Catalog) -> Accelerator | HostPlatform:
    if not catalog.os_names(device) and catalog.hosts.named(device):
        host: HostPlatform = catalog.resolve("host", device)
        return host
    accelerator: Accelerator = catalog.resolve("accelerator", device)
    return accelerator


def _facts(record: CitedRecord, catalog: Catalog) -> Iterable[CardFact]:
    for name, value in record.facts().items():
        if name == "pci_ids":
            continue
        parts = (
            [(f"peaks.{key}", peak) for key, peak in value if peak is not None]
            if isinstance(value, Peaks)
            else [(name, value)]
        )
        for field, part in parts:
            yield CardFact(
                field=field,
                label=_label(field),
                text=_text(field, part),
                sources=tuple(
                    CardSource(
                        id=citation.source,
                        title=catalog.sources[citation.source].title,
                        url=catalog.sources[citation.source].url,
                        basis=citation.basis,
                        at=citation.at,
                        rule=citation.rule,
                    )
                    for citation in _citations(record, field)
                ),
            )


def _citations(record: CitedRecord, field: str) -> tuple[Citation, ...]:
    # A peak has citations of its own, or those of all peaks, or the record's.
    return record.cite.get(field) or record.cite.get(field.partition(".")[0]) or record.cite.get("*", ())


def _label(field: str) -> str:
    return _LABELS.get(field, field.removeprefix("peaks.").replace("_", " "))


def _text(field: str, value: object) -> str:
    if isinstance(value, tuple):
        texts = [format_bytes(part) if field == "unified_memory_options" else str(part) for part in value]
        return ", ".join(texts)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    if field in _BYTES:
        return format_bytes(value)
    if field in _RATES:
        return format_rate(value, _RATES[field])
    if field.startswith("peaks."):
        return format_rate(value, "OP/s" if field == "peaks.int8" else "FLOP/s")
    if field in _CLOCKS:
        return format_rate(value, "Hz")
    if field == "memory_data_rate":
        return format_rate(value, "T/s")
    if field in ("tdp", "power_min", "power_max"):
        return f"{value:g} W"
    if field == "msrp":
        return f"{value:,.0f} USD"
    if field.endswith("_bits"):
        return f"{value} bit"
    return f"{value:,}" if isinstance(value, int) else format_field(field, value)
