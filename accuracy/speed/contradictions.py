"""Measured rows that contradict others of their own source, and copies: found in the columns, before anything is predicted.

Nothing here knows a prediction, a device or a model by name. A source's own rows on one device and program are the
measure: what is a small part of their median, or reads no faster than the same run writes, measures something
else than its columns say (a cached prompt, a unit, a machine that was busy or swapped).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["contradicted"]

Row = Mapping[str, str]

#: A dense model's prefill does about the same arithmetic per second whatever its size and format; formats are within
#: twice of each other.
FAR = 4.0
#: Runs of one configuration differ by their options; by more than this one of them was not the configuration.
FAR_ALONE = 5.0
#: A median of fewer rows says little.
FEW = 4
#: Models from this size on are bound by arithmetic in a prefill [1e9 parameters].
LARGE_B = 3.0
#: Depths and prompts up to which attention takes little [tokens].
SHALLOW = 4096
_PROMPTS = (128, 16384)
#: Figures that agree in this many digits are one figure.
DIGITS = 4
_RESIDENT = frozenset({"", "all", "99", "999", "999999", "100"})

COPY = "figure stated twice by its source"
SLOW_PROMPT = "prompt read no faster than its answer was written"
SLOW_ARITHMETIC = "prefill under a quarter of the arithmetic of the source's other runs on the device"
ALONE = "under a fifth of what its source measured of the same configuration"


def contradicted(rows: Sequence[Row]) -> dict[str, str]:
    """Identifier of each row that contradicts others -> why.

    Parameters
    ----------
    rows
        All rows of ``llm_speed.csv``; those with a quality flag take no part.
    """
    sound = [
        row for row in rows if not row["qc_flag"] and row["model_norm"] and _number(row["value_tok_s"]) > 0
    ]
    found: dict[str, str] = {}
    for reason, rule in (
        (COPY, _copies),
        (SLOW_PROMPT, _slow_prompts),
        (SLOW_ARITHMETIC, _slow_arithmetic),
        (ALONE, _alone),
    ):
        for row in rule(sound):
            found.setdefault(row["row_id"], reason)
    return found


def _number(text: str, default: float = 0.0) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        return default


def _groups(rows: Iterable[Row], *columns: str) -> Iterator[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    yield from groups.values()


_PLACE = ("source_id", "device", "hardware_id", "device_count", "runtime", "backend", "phase")


def _copies(rows: Sequence[Row]) -> Iterator[Row]:
    """All digits alike under the same load, also where the format differs: what states its command is the original."""
    load = ("prompt_tokens", "context_depth", "batch_size_concurrency", "metric_def")
    for group in _groups(rows, *_PLACE, "model_norm", *load, "value_tok_s"):
        digits = group[0]["value_tok_s"].rstrip("0").rstrip(".").replace(".", "").lstrip("0")
        if len(group) > 1 and len(digits) >= DIGITS:
            original = max(group, key=lambda row: len(row["notes"].partition("cmd=")[2].strip()))
            yield from (row for row in group if row is not original)


def _slow_prompts(rows: Sequence[Row]) -> Iterator[Row]:
    """Tokens of a prompt are worked on together, those of an answer one by one."""
    named = (row for row in rows if "#" in row["source_repo_path"])
    for run in _groups(named, "source_repo_path", "device", "model", "quant", "batch_size_concurrency"):
        written = [_number(row["value_tok_s"]) for row in run if row["phase"] == "decode"]
        if written and run[0]["batch_size_concurrency"] in ("", "1", "1.0"):
            yield from (
                row
                for row in run
                if row["phase"] == "prefill" and _number(row["value_tok_s"]) <= min(written)
            )


def _slow_arithmetic(rows: Sequence[Row]) -> Iterator[Row]:
    prefills = [
        row
        for row in rows
        if row["phase"] == "prefill"
        and row["active_params_b"] in ("", row["params_b"])
        and _number(row["params_b"]) >= LARGE_B
        and _number(row["context_depth"]) <= SHALLOW
        and _PROMPTS[0] <= _number(row["prompt_tokens"], 512) <= _PROMPTS[1]
        and row["cpu_offload_ngl"] in _RESIDENT
    ]
    for group in _groups(prefills, *_PLACE, "batch_size_concurrency"):
        if len(group) >= FEW:
            rate = [_number(row["value_tok_s"]) * _number(row["params_b"]) for row in group]
            middle = statistics.median(rate)
            yield from (row for row, own in zip(group, rate, strict=True) if own < middle / FAR)


def _alone(rows: Sequence[Row]) -> Iterator[Row]:
    shallow = [
        row
        for row in rows
        if row["phase"] in ("decode", "prefill")
        and max(_number(row["context_depth"]), _number(row["prompt_tokens"])) <= SHALLOW
    ]
    same = ("model_norm", "quant", "batch_size_concurrency", "cpu_offload_ngl", "n_threads")
    for group in _groups(shallow, *_PLACE, *same):
        if len(group) >= FEW - 1:
            middle = statistics.median(_number(row["value_tok_s"]) for row in group)
            yield from (row for row in group if _number(row["value_tok_s"]) < middle / FAR_ALONE)
