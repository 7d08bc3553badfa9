"""A verdict or an estimate taken apart: steps, effects of single changes, sources."""

from pydantic import Field

from willitrun.records.bases import Record
from willitrun.records.presentation import Presented, format_field
from willitrun.records.results import Link, Tier

__all__ = ["Explanation", "Sensitivity", "Step"]


class Step(Record):
    """One line of an explanation."""

    title: str
    text: str
    equation: str = ""
    value: float | None = None
    unit: str = ""
    cites: tuple[str, ...] = ()
    see: tuple[str, ...] = ()


class Sensitivity(Record):
    """What one change does to the answer, by asking the engine again."""

    change: str
    headline: str
    """Name of the speed that ``before`` and ``after`` are."""
    before: float
    after: float
    ratio: float
    """How many times faster; below 1 is slower."""
    total_bytes_before: float | None = None
    total_bytes_after: float | None = None
    tier: Tier

    def sentence(self) -> str:
        """The effect in words."""
        word = "faster" if self.ratio >= 1 else "slower"
        percent = abs(self.ratio - 1)
        told = f"{percent:.1%} {word}" if percent >= 0.0005 else "the same speed"
        speed = f"{self.change}: {told}, {format_field(self.headline, self.after)}"
        if self.total_bytes_after is not None and self.total_bytes_after != self.total_bytes_before:
            speed += f", {format_field('bytes', self.total_bytes_after)} of memory"
        return f"{speed}, {self.tier}"


class Explanation(Presented):
    """A verdict or an estimate taken apart."""

    title: str
    steps: tuple[Step, ...]
    sensitivities: tuple[Sensitivity, ...] = ()
    """Effects of single changes, the largest on speed first."""
    links: tuple[Link, ...] = ()
    citations: dict[str, str] = Field(default_factory=dict)
    """Source id -> title and URL."""

    def summary(self) -> str:
        return self.title

    def rows(self) -> tuple[tuple[str, str], ...]:
        shown = [(step.title, " ".join(filter(None, (step.text, step.equation)))) for step in self.steps]
        shown += [("what would change it", effect.sentence()) for effect in self.sensitivities]
        shown += [(f"source {name}", text) for name, text in self.citations.items()]
        return tuple(shown)

    def text(self) -> str:
        """The explanation as plain text."""
        lines = [self.title, ""]
        for step in self.steps:
            lines.append(f"- {step.title}: {step.text}")
            if step.equation:
                lines.append(f"    {step.equation}")
        if self.sensitivities:
            lines += ["", "What would change it, most first"]
            lines += [f"- {effect.sentence()}" for effect in self.sensitivities]
        if self.citations:
            lines += ["", "Sources"] + [f"  [{key}] {value}" for key, value in self.citations.items()]
        return "\n".join(lines)
