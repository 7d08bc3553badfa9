"""Buyer guides and prompt kits: what they ask, and what the engine answers."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from willitrun.records.bases import CitedRecord, IntervalField, Record, RecordId
from willitrun.records.presentation import Presented, format_field
from willitrun.records.results import Tier

__all__ = ["Guide", "GuideReport", "GuideRow", "PromptKit"]


class Guide(CitedRecord):
    """A question that buyers ask: which of these machines does which of these workloads. Answers are computed."""

    question: str
    introduction: str
    machines: tuple[str, ...] = Field(min_length=2)
    """Anything `describe_machine` takes: ids, or ids with a memory size."""
    workloads: tuple[RecordId, ...] = Field(min_length=1)
    """Workload records that name a reference model."""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"question", "introduction", "machines", "workloads"}


class GuideRow(Record):
    """One workload on one machine."""

    workload: str
    model: str
    quantization: str | None
    machine: str
    accelerator: str
    tier: Tier
    practical: bool | None
    total_bytes: float | None = None
    headline: str = ""
    speed: IntervalField | None = None
    tdp: float | None = None
    """Board power of the data sheet [W]."""

    def cell(self) -> str:
        """Tier, and the speed where it runs."""
        if self.speed is None or self.tier in ("will-not-run", "unknown"):
            return self.tier
        return f"{self.tier}, {format_field(self.headline, self.speed.best)}"


class GuideReport(Presented):
    """A guide, answered: every workload on every machine, and which machines to look at first."""

    guide: str
    question: str
    day: date
    catalog_version: str
    rows_: tuple[GuideRow, ...] = ()
    least: dict[str, str] = Field(default_factory=dict)
    """Workload -> the machine with the least memory that does it comfortably and fast enough."""
    fastest: dict[str, str] = Field(default_factory=dict)
    frugal: dict[str, str] = Field(default_factory=dict)
    """Workload -> most work per watt of board power."""
    assumptions: tuple[str, ...] = ()

    def summary(self) -> str:
        return f"{self.question} {len(self.least)} workloads have an answer; computed {self.day} from catalog {self.catalog_version}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = []
        for workload, machine in self.least.items():
            more = [f"least memory: {machine}", f"fastest: {self.fastest[workload]}"]
            if workload in self.frugal:
                more.append(f"most per watt: {self.frugal[workload]}")
            shown.append((workload, "; ".join(more)))
        return (*shown, *(("assumed", text) for text in self.assumptions))


class PromptKit(CitedRecord):
    """Prompts of a task with their token counts, to be used as a workload."""

    task: str
    use: RecordId
    """The workload record whose floor decides what is practical."""
    system: str = ""
    prompts: tuple[str, ...] = Field(min_length=1)
    tokens: dict[str, tuple[int, ...]]
    """Tokenizer -> count of each prompt with the system text in front of it."""
    output_tokens: int = Field(gt=0)
    """What an answer is expected to take [tokens]."""
    note: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"task", "use", "system", "prompts", "tokens", "note"}

    def longest(self, tokenizer: str) -> int:
        """Tokens of the longest prompt under a tokenizer."""
        return max(self.tokens[tokenizer])
