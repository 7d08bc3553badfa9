"""What the library answers with: terms, estimates, reasons, verdicts."""

from typing import Any, Literal

from pydantic import Field

from willitrun.intervals import Interval
from willitrun.records.bases import IntervalField, Record
from willitrun.records.deferred import Deferred
from willitrun.records.presentation import Presented, format_field, format_interval
from willitrun.records.recipes import Placement

__all__ = [
    "Bound",
    "DeviceMemory",
    "Evidence",
    "Inputs",
    "Link",
    "MemoryEstimate",
    "Provenance",
    "Reason",
    "Remedy",
    "RemedyKind",
    "SpeedEstimate",
    "Term",
    "Tier",
    "Verdict",
]

Tier = Literal["comfortable", "tight", "offload", "will-not-run", "unknown"]
Evidence = Literal["measured", "measured-near", "calibrated", "estimated"]
RemedyKind = Literal[
    "placement",
    "quantization",
    "kv-type",
    "context",
    "batch",
    "concurrency",
    "offload",
    "runtime",
    "hardware",
    "image-size",
    "precision",
    "execution",
    "training",
]
Bound = Literal["memory-bandwidth", "compute", "launch", "interconnect", "host-memory", "input", "disk"]


class Term(Record):
    """One addend of an estimate. The values of an estimate's terms sum to it exactly."""

    name: str
    value: float
    unit: str
    equation: str = ""
    inputs: dict[str, float | int | str] = Field(default_factory=dict)
    cites: tuple[str, ...] = ()
    evidence: Literal["exact", "vendor", "derived", "secondary", "measured", "calibrated", "assumed"] = (
        "calibrated"
    )


class Reason(Record):
    """Why a verdict is what it is; ``code`` is stable, ``numbers`` carry what the message says."""

    code: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    message: str
    numbers: dict[str, float | int | str] = Field(default_factory=dict)
    see: tuple[str, ...] = ()


class DeviceMemory(Record):
    """Memory of one device of a placement [bytes]."""

    device: str
    weights_bytes: int
    kv_cache_bytes: int
    state_bytes: int
    activation_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    overhead_bytes: int
    total_bytes: IntervalField
    available_bytes: int | None = None

    @property
    def headroom_bytes(self) -> int | None:
        """Available less the best estimate; negative when it does not fit."""
        if self.available_bytes is None:
            return None
        return self.available_bytes - round(self.total_bytes.best)


class MemoryEstimate(Presented):
    """Memory of a model under a workload [bytes], accelerator side unless the name says otherwise."""

    weights_bytes: IntervalField
    kv_cache_bytes: IntervalField
    state_bytes: IntervalField
    activation_bytes: IntervalField
    gradient_bytes: IntervalField
    optimizer_bytes: IntervalField
    overhead_bytes: IntervalField
    total_bytes: IntervalField
    host_bytes: IntervalField
    disk_bytes: IntervalField
    per_device: tuple[DeviceMemory, ...] = ()
    terms: tuple[Term, ...] = ()
    notes: tuple[Reason, ...] = ()

    def summary(self) -> str:
        return (
            f"{format_interval('total_bytes', self.total_bytes)}: weights "
            f"{format_field('weights_bytes', self.weights_bytes.best)}, KV cache "
            f"{format_field('kv_cache_bytes', self.kv_cache_bytes.best)}"
        )


class SpeedEstimate(Presented):
    """Predicted speed. A quantity that the task does not have, or that is not modelled, is None."""

    decode_tokens_per_s: IntervalField | None = None
    """Tokens per second of one sequence, averaged over the output, while no prompt of others is read."""
    time_per_output_token_s: IntervalField | None = None
    """Mean time between tokens of one sequence, prompts of others in between where the runtime mixes them in [s]."""
    throughput_tokens_per_s: IntervalField | None = None
    prefill_tokens_per_s: IntervalField | None = None
    time_to_first_token_s: IntervalField | None = None
    images_per_s: IntervalField | None = None
    seconds_per_image: IntervalField | None = None
    """Seconds of one output: an image, or a video with all its frames."""
    iterations_per_s: IntervalField | None = None
    real_time_factor: IntervalField | None = None
    samples_per_s: IntervalField | None = None
    training_step_s: IntervalField | None = None
    load_s: IntervalField | None = None
    """From a cold disk to the devices; None unless the host's ``disk_read_bytes_per_s`` is known. Its ends are those of
    two kinds of loaders, not calibrated."""
    energy_j_per_unit: IntervalField | None = None
    bound: Bound | None = None
    evidence: Evidence = "estimated"
    support: str = ""
    """Support tier of the interval: how far from calibration data this case lies."""
    terms: tuple[Term, ...] = ()
    """Addends of the step time of the headline quantity [s]."""
    notes: tuple[Reason, ...] = ()

    def headline(self) -> tuple[str, Interval] | None:
        """Name and value of the quantity that answers "how fast" for this task."""
        for name in (
            "images_per_s",
            "decode_tokens_per_s",
            "seconds_per_image",
            "real_time_factor",
            "training_step_s",
            "samples_per_s",
            "prefill_tokens_per_s",
        ):
            value = getattr(self, name)
            if value is not None:
                return name, value
        return None

    def summary(self) -> str:
        head = self.headline()
        if head is None:
            return "unknown speed" + (f": {self.notes[0].message}" if self.notes else "")
        return f"{format_interval(*head)}, bound by {self.bound}, {self.evidence}"


class Remedy(Deferred):
    """A change that makes it fit, or faster, with its predicted effect."""

    change: str
    kind: RemedyKind
    arguments: dict[str, Any] = Field(default_factory=dict)
    tier: Tier
    total_bytes: IntervalField | None = None
    headline: str = ""
    """Name of the speed field that ``speed`` carries."""
    speed: IntervalField | None = None
    message: str = ""


class Link(Record):
    """A catalog entry that matters for this very verdict."""

    ref: str
    """``glossary:imagenet`` or ``troubleshooting:cuda-out-of-memory``."""
    title: str
    why: str

    @property
    def page(self) -> str:
        """Page of the documentation, relative to its root; offline, `Catalog.entry` has the same record."""
        kind, _, name = self.ref.partition(":")
        return f"catalog/{kind}/{name}.html"


class Inputs(Record):
    """The whole fit tuple, defaults filled in: enough to recompute the verdict."""

    model: str
    machine: str
    accelerators: tuple[str, ...]
    workload: dict[str, Any]
    quantization: str | None
    runtime: dict[str, Any]
    placement: dict[str, Any]
    memory: Literal["free", "idle", "nameplate"]
    defaulted: tuple[str, ...] = ()
    """Which of these nobody asked for."""


class Provenance(Record):
    """What computed this: package, catalog and method versions."""

    package_version: str
    catalog_version: str
    catalog_digest: str
    methods: dict[str, str] = Field(default_factory=dict)


class Verdict(Presented):
    """Will it run, and how fast? Feasible, practical and measured are kept apart."""

    tier: Tier
    feasible: bool
    practical: bool | None
    memory: MemoryEstimate | None
    speed: SpeedEstimate | None
    placement: Placement | None
    evidence: Evidence
    evidence_cites: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    links: tuple[Link, ...] = ()
    commands: tuple[str, ...] = ()
    inputs: Inputs
    provenance: Provenance

    def __bool__(self) -> bool:
        return self.feasible

    def sentence(self) -> str:
        """The verdict in one sentence."""
        quant = f" {self.inputs.quantization}" if self.inputs.quantization else ""
        subject = f"{self.inputs.model}{quant} on {self.inputs.machine}"
        fewer = next((reason.numbers for reason in self.reasons if reason.code == "devices-left-out"), None)
        if fewer is not None:
            subject += f" ({fewer['devices']} of {fewer['devices_present']} devices)"
        if any(reason.code == "accelerator-not-driven" for reason in self.reasons):
            subject += " (on its processor)"
        word = {
            "comfortable": "runs comfortably",
            "tight": "fits, tightly",
            "offload": "runs only with part of it in host memory",
            "will-not-run": "will not run",
            "unknown": "is undecided",
        }[self.tier]
        if self.tier == "will-not-run" and self.reasons:
            # Its memory may be the least of what stands in the way.
            return f"{subject}: {word}. {self.reasons[0].message}"
        parts = [f"{subject}: {word}"]
        if self.memory is not None and self.tier != "unknown":
            need = format_field("bytes", self.memory.total_bytes.best)
            room = [device.available_bytes for device in self.memory.per_device]
            if room and all(amount is not None for amount in room):
                need += f" of {format_field('bytes', float(sum(filter(None, room))))} available"
            parts.append(need)
        head = self.speed.headline() if self.speed is not None else None
        if head is not None and self.speed is not None and self.feasible:
            parts.append(f"{format_interval(*head)}, bound by {self.speed.bound}")
        if self.feasible and self.practical is False:
            parts.append("below what is practical")
        return ", ".join(parts) + "."

    def summary(self) -> str:
        return self.sentence()

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = [("tier", self.tier), ("feasible", str(self.feasible)), ("practical", str(self.practical))]
        for part in (self.memory, self.speed):
            if part is not None:
                shown += part.rows()
        shown += [(f"reason: {reason.code}", reason.message) for reason in self.reasons]
        shown += [(f"remedy {i}", remedy.message) for i, remedy in enumerate(self.remedies, 1)]
        shown += [(link.ref, link.title) for link in self.links]
        return tuple(shown)
