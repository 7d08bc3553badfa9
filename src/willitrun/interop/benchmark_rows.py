"""What all parsers of benchmark output share: bounds, subjects that the output leaves open, and records."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from willitrun.errors import WillItRunError
from willitrun.frozen import frozen
from willitrun.records.measurements import Measurement

__all__ = ["MOST_CHARACTERS", "MOST_ROWS", "Subject", "fail", "parse_json", "record"]

#: Text beyond this is refused before anything is parsed.
MOST_CHARACTERS = 8_000_000
MOST_ROWS = 10_000
_DEEPEST = 32


@frozen
class Subject:
    """What the caller knows and a benchmark's output may not say; each wins over what the output says."""

    model: str | None = None
    accelerator: str | None = None
    accelerator_count: int | None = None
    quantization: str | None = None
    runtime: str | None = None
    source_url: str | None = None
    precision: str | None = None
    execution: str | None = None
    layout: str | None = None

    def over(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The fields found in the output, with the caller's on top."""
        own = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        return {name: value for name, value in found.items() if value not in (None, "")} | own


def fail(place: str, problem: str, remedy: str) -> WillItRunError:
    """An error that names where in the text, what is wrong, and what to do."""
    return WillItRunError(f"{place}: {problem}", code="invalid-benchmark", hint=remedy)


def record(place: str, subject: Subject, **found: Any) -> Measurement:
    """A measurement from what was found and what the caller knows.

    Raises
    ------
    WillItRunError
        A field that a measurement needs is neither in the output nor given, or a value makes no sense.
    """
    raw = subject.over(found)
    for name in ("model", "accelerator", "runtime"):
        if name not in raw:
            raise fail(place, f"does not say the {name}.", f"Pass {name}=... to the parser.")
    value = raw.get("value")
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise fail(
            place,
            f"{raw.get('metric')} is {value!r}.",
            "A speed is a positive number; leave failed runs out.",
        )
    raw.setdefault("task", "image-classification" if raw["metric"] == "images_per_s" else "text-generation")
    raw.setdefault("source_url", "user")
    raw.setdefault(
        "unit",
        "s"
        if raw["metric"].startswith("time_")
        else "1/s"
        if raw["metric"] == "images_per_s"
        else "tokens/s",
    )
    if "id" not in raw:
        # The place tells repeated runs apart.
        text = json.dumps([place, raw], sort_keys=True, default=str)
        raw["id"] = f"user-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        return Measurement.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise fail(
            place, f"{name}: {first['msg']} (got {str(first['input'])[:60]!r}).", "Correct that field."
        ) from error


def parse_json(text: str, place: str) -> Any:
    """JSON from text that nobody vouches for: nesting is bounded before it is parsed.

    Raises
    ------
    WillItRunError
        It is no JSON, or is nested too deep.
    """
    depth = deepest = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > _DEEPEST:
        raise fail(
            place,
            f"is nested {deepest} deep.",
            f"Benchmarks write at most {_DEEPEST} levels; pass one result.",
        )
    try:
        return json.loads(text)
    except ValueError as error:
        raise fail(
            place, f"is no valid JSON ({error}).", "Pass the tool's output as it was written."
        ) from error
