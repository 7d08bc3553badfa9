"""Processors as rows of a table: one line each, where a record would repeat the same citation a thousand times."""

from __future__ import annotations

from typing import Any

from willitrun.catalog.names import normalise_name

__all__ = ["processor_record"]

_COUNTS = ("cores", "efficiency_cores", "threads", "fp32_flop_per_cycle", "memory_channels")
_VECTORS = {"amd": "peakperf", "intel": "cpufp"}
"""Where the width of vector units was read, by maker, for cores that differ from what their instruction sets say."""


def processor_record(row: dict[str, str]) -> dict[str, Any]:
    """The host record of one row of ``hosts/*.csv``.

    ``source`` and ``at`` cover what the row states. Two values are derived: the efficiency cores of a hybrid, whose
    performance cores run two threads each and whose efficiency cores run one, and the memory bandwidth.

    >>> row = {"name": "Intel Core i7-1365U", "cores": "10", "efficiency_cores": "8", "threads": "12", "source": "x"}
    >>> processor_record(row)["id"], processor_record(row)["efficiency_cores"]
    ('intel-core-i7-1365u', 8)
    """
    stated = {key: value for key, value in row.items() if value}
    name = stated.get("name", "")
    source, at = stated.get("source", ""), stated.get("at", "")
    maker = name.partition(" ")[0].lower()
    record: dict[str, Any] = {
        "id": normalise_name(name),
        "name": name,
        "vendor": maker,
        "kind": "cpu",
    }
    cite: dict[str, Any] = {"*": [{"source": source, "basis": "secondary", "at": at}]}
    record.update({key: int(stated[key]) for key in _COUNTS if key in stated})
    if "launched" in stated:
        record["launched"] = stated["launched"]
    if "memory_type" in stated:
        rate = int(stated["memory_mt_per_s"])
        record["memory_type"] = stated["memory_type"]
        record["memory_data_rate"] = {"value": rate, "unit": "MT/s"}
    if "memory_channels" in record:
        record["memory_bandwidth"] = {"value": record["memory_channels"] * 8 * rate / 1000, "unit": "GB/s"}
        cite["memory_bandwidth"] = [
            {"source": source, "basis": "derived", "at": at, "rule": "channels x 8 bytes x data rate"}
        ]
    if "efficiency_cores" in record:
        cite["efficiency_cores"] = [
            {"source": source, "basis": "derived", "at": at, "rule": "2 x cores - threads"}
        ]
    if "fp32_flop_per_cycle" in record:
        cite["fp32_flop_per_cycle"] = [
            {
                "source": _VECTORS.get(maker, source),
                "basis": "derived",
                "at": "measured rate of a core of this kind",
                "rule": "measured FP32 rate / (cores x clock)",
            }
        ]
    return {**record, "cite": cite}
