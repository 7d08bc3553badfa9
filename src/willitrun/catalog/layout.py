"""Which kind of record lies in which files, under which table name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from willitrun.frozen import frozen
from willitrun.records.bases import Record

__all__ = ["KINDS", "Kind", "record_class"]


@frozen
class Kind:
    """One kind of record.

    ``patterns`` are file globs relative to the catalog root; ``table`` is the TOML array of tables;
    ``labels`` are fields beside ``id``, ``name`` and ``aliases`` by which a record is found; ``grouped`` is
    the field by which all records of one value are asked for.
    """

    name: str
    attribute: str
    table: str
    patterns: tuple[str, ...]
    record: str
    labels: tuple[str, ...] = ()
    grouped: str = ""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "accelerator",
            "accelerators",
            "accelerator",
            ("accelerators/*.toml",),
            "willitrun.records.accelerators:Accelerator",
            ("os_names",),
        ),
        Kind(
            "host",
            "hosts",
            "host",
            ("hosts/*.toml", "hosts/*.csv"),
            "willitrun.records.accelerators:HostPlatform",
            ("os_names",),
        ),
        Kind(
            "interconnect",
            "interconnects",
            "interconnect",
            ("interconnects.toml",),
            "willitrun.records.interconnects:Interconnect",
        ),
        Kind(
            "model",
            "models",
            "model",
            ("models/*.toml", "vision/*.toml", "diffusion/*.toml"),
            "willitrun.records.models:Model",
        ),
        Kind(
            "checkpoint",
            "checkpoints",
            "checkpoint",
            ("models/*.toml", "vision/*.toml", "diffusion/*.toml"),
            "willitrun.records.checkpoints:Checkpoint",
            ("repository",),
        ),
        Kind(
            "quantization",
            "quantizations",
            "quantization",
            ("quantizations.toml",),
            "willitrun.records.recipes:Quantization",
        ),
        Kind(
            "runtime", "runtimes", "runtime", ("runtimes/*.toml",), "willitrun.records.recipes:RuntimeProfile"
        ),
        Kind(
            "workload",
            "workloads",
            "workload",
            ("workloads.toml",),
            "willitrun.records.recipes:WorkloadProfile",
        ),
        Kind("dataset", "datasets", "dataset", ("datasets.toml",), "willitrun.records.sources:Dataset"),
        Kind(
            "glossary",
            "glossary",
            "glossary",
            ("glossary/*.toml",),
            "willitrun.records.knowledge:GlossaryEntry",
        ),
        Kind(
            "troubleshooting",
            "troubleshooting",
            "troubleshooting",
            ("troubleshooting/*.toml",),
            "willitrun.records.knowledge:TroubleshootingEntry",
        ),
        Kind(
            "reason",
            "reasons",
            "reason",
            ("reasons.toml",),
            "willitrun.records.knowledge:ReasonLinks",
            grouped="code",
        ),
        Kind(
            "price",
            "prices",
            "price",
            ("cloud/*.toml", "prices/*.toml"),
            "willitrun.records.prices:Price",
        ),
        Kind("guide", "guides", "guide", ("guides/*.toml",), "willitrun.records.guides:Guide"),
        Kind("prompt-kit", "prompt_kits", "kit", ("prompts/*.toml",), "willitrun.records.guides:PromptKit"),
        Kind("price-age", "price_ages", "age", ("prices/ages.toml",), "willitrun.records.prices:PriceAge"),
        Kind("source", "sources", "source", ("sources*.toml",), "willitrun.records.sources:Source"),
        Kind(
            "calibration",
            "calibrations",
            "",
            ("calibrations/*.toml",),
            "willitrun.records.calibrations:Calibration",
        ),
        Kind(
            "measurement",
            "measurements",
            "",
            ("measurements/*.csv",),
            "willitrun.records.measurements:Measurement",
            grouped="accelerator",
        ),
    )
}


@cache
def record_class(kind: str) -> type[Record]:
    """The pydantic class of a kind; imported on first use."""
    module, _, name = KINDS[kind].record.partition(":")
    found: Any = getattr(import_module(module), name)
    return found  # type: ignore[no-any-return]
