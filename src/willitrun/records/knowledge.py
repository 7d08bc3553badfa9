"""Sources, datasets, glossary and troubleshooting entries, measurements, calibrations."""

from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator

from willitrun.records.bases import Bytes, CitedRecord, Record, RecordId

__all__ = [
    "Calibration",
    "Cause",
    "Dataset",
    "Fix",
    "GlossaryEntry",
    "Measurement",
    "ReasonLinks",
    "Source",
    "TroubleshootingEntry",
]


class Source(Record):
    """A place where facts were read."""

    id: RecordId
    title: str
    publisher: str
    url: str = Field(pattern=r"^https?://[^\s]+$")
    kind: Literal[
        "vendor",
        "paper",
        "config",
        "repository",
        "documentation",
        "database",
        "encyclopedia",
        "measurement",
        "standard",
    ]
    retrieved: date
    licence: str | None = None


class Dataset(CitedRecord):
    """A dataset that workloads name: counts, classes, size on disk."""

    task: str
    splits: dict[str, int] = Field(default_factory=dict)
    classes: int | None = Field(None, gt=0)
    disk: Bytes | None = None
    mean_image_bytes: Bytes | None = None
    mean_image_pixels: int | None = None
    hours: float | None = None
    licence: str | None = None
    note: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"task", "note"}


class GlossaryEntry(CitedRecord):
    """A term of the field.

    Numbers in the examples are engine expressions: ``{{ ... }}`` is evaluated when the entry is shown
    (see `willitrun.explanations`), so that prose can't drift from the engine.
    """

    category: str
    definition: str = Field(max_length=400)
    explanation: str
    example: str = ""
    workflow: str = ""
    related: tuple[RecordId, ...] = ()
    fields: tuple[str, ...] = ()
    """API fields that carry the quantity, such as ``MemoryEstimate.kv_cache_bytes``."""
    goes_wrong: tuple[RecordId, ...] = ()
    """Troubleshooting entries."""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"category", "related", "fields", "goes_wrong"}


class Cause(Record):
    """One cause of a failure, with a check that can be run here."""

    cause: str
    check: str = ""
    """How to see whether it applies, in words."""
    command: str = ""
    probe: str = ""
    """Name of a probe of this library that answers it."""
    fixes: tuple[int, ...] = ()
    """Indices into the entry's ``fixes``."""


class Fix(Record):
    """One remedy, where it applies and what it costs."""

    fix: str
    command: str = ""
    versions: str = ""
    effect: str = ""
    """Predicted effect; ``{{ ... }}`` expressions are evaluated by the engine."""


class TroubleshootingEntry(CitedRecord):
    """A failure people meet: how to recognise it, why it happens, what helps and what does not."""

    severity: Literal["fatal", "degraded", "warning"]
    category: str
    summary: str = Field(max_length=500)
    runtimes: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    """Regular expressions; named groups ``tried``, ``free``, ``total``, ``reserved`` capture numbers."""
    general_signatures: tuple[str, ...] = ()
    """Expressions that tell the kind of a failure and not which: they count on lines where no signature holds."""
    uncited_signatures: tuple[str, ...] = ()
    """Like ``signatures``, but written from what the program is known to print: no public message is cited for them yet."""
    uncited_general_signatures: tuple[str, ...] = ()
    """Like ``general_signatures``, without a cited message."""
    threads: tuple[str, ...] = ()
    """Public threads that hold messages of this failure, which the signatures were taken from or checked with."""
    causes: tuple[Cause, ...] = ()
    fixes: tuple[Fix, ...] = ()
    dead_ends: tuple[str, ...] = ()
    related: tuple[RecordId, ...] = ()
    reasons: tuple[str, ...] = ()
    """Reason codes of verdicts that this entry explains."""
    verified_with: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {
            "severity",
            "category",
            "runtimes",
            "vendors",
            "systems",
            "tasks",
            "signatures",
            "general_signatures",
            "uncited_signatures",
            "uncited_general_signatures",
            "threads",
            "related",
            "reasons",
        }


class Measurement(Record):
    """One published measurement with its whole tuple."""

    id: RecordId
    model: str
    accelerator: str
    accelerator_count: int = Field(1, ge=1)
    task: str
    runtime: str
    runtime_version: str = ""
    backend: str = ""
    quantization: str = ""
    execution: str = ""
    precision: str = ""
    layout: str = ""
    image_size: int | None = None
    batch_size: int | None = None
    concurrency: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Tokens in the cache before the prompt (the depth of a llama-bench test)."""
    output_tokens: int | None = None
    context_tokens: int | None = None
    metric: str
    """``images_per_s``, ``decode_tokens_per_s``, ``prefill_tokens_per_s``, ..."""
    value: float = Field(gt=0)
    unit: str
    date: str = ""
    source_url: str
    licence: str = ""
    command: str = ""
    notes: str = ""

    @field_validator(
        "image_size",
        "batch_size",
        "concurrency",
        "prompt_tokens",
        "cached_tokens",
        "output_tokens",
        "context_tokens",
        mode="before",
    )
    @classmethod
    def _empty_is_unknown(cls, value: Any) -> Any:
        return None if value == "" else value


class Calibration(Record):
    """Fitted numbers, kept apart from facts: coefficients, residuals, intervals and where they come from."""

    id: RecordId
    kind: str
    method: str
    fitted: date
    data_digest: str
    n_rows: int
    n_configurations: int
    coefficients: dict[str, float]
    levels: dict[str, dict[str, float]] = Field(default_factory=dict)
    intervals: dict[str, dict[str, float]] = Field(default_factory=dict)
    difficulty: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Task -> ``"<runtime>/<back end>/<dense or moe>"`` -> class of spread; its intervals are ``"<task>:<class>/<tier>"``."""
    residuals: tuple[dict[str, Any], ...] = ()
    support: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What the fit has seen: ``devices``, ``families``, ``classes`` (vendor/memory class)."""


class ReasonLinks(Record):
    """Which entries explain a reason code, for which tasks."""

    id: str = ""
    """Name of a further row of a code; the first row of a code goes by the code alone."""
    code: str
    title: str
    explanation: str = ""
    glossary: tuple[RecordId, ...] = ()
    troubleshooting: tuple[RecordId, ...] = ()
    tasks: tuple[str, ...] = ()
    """Tasks that this row is for; empty: all of them."""
