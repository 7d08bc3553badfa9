"""The cheapest changes that make it fit, or faster: candidates evaluated together, the useful ones kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.llm_evaluation import EvaluatedLlm, run_rows
from willitrun.estimators.llm_lowering import BlockKey, Lowered, Prepared, prepare
from willitrun.estimators.llm_machines import WorkloadRow, workload_row
from willitrun.estimators.remedy_candidates import (
    lasting_llm_changes,
    llm_load_changes,
    other_changes,
)
from willitrun.estimators.remedy_machines import Candidate
from willitrun.estimators.requests import Request
from willitrun.estimators.workloads import LLM_TASKS, context_reason
from willitrun.frozen import with_changes
from willitrun.intervals import Interval
from willitrun.kernels.columns import columns_of, take
from willitrun.kernels.llm_block import LlmBlock
from willitrun.kernels.placement import TIERS
from willitrun.records.presentation import format_field
from willitrun.records.results import Remedy, Tier

__all__ = ["find_remedies"]

_ORDER = {"will-not-run": 0, "unknown": 0, "offload": 1, "tight": 2, "comfortable": 3}
_KINDS = (
    "placement",
    "runtime",
    "quantization",
    "offload",
    "kv-type",
    "context",
    "batch",
    "concurrency",
    "precision",
    "execution",
    "training",
    "hardware",
)
MOST_REMEDIES = 6
FASTER = 1.15


def find_remedies(found: Evaluated) -> tuple[Remedy, ...]:
    """Remedies in order of cost: runtime, format, cache type, context, batch, then hardware.

    Of each kind the mildest change that lifts the tier is kept; where none lifts it, the mildest that makes
    it clearly faster. Candidates are evaluated together in as few array calls as there are runtimes.
    """
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in _outcomes(found):
        by_kind.setdefault(outcome.candidate.kind, []).append(outcome)
    kept: list[Remedy] = []
    for kind in _KINDS:
        best = _mildest(found, by_kind.get(kind, []))
        if best is not None:
            kept.append(_remedy(best))
            if len(kept) == MOST_REMEDIES:
                break
    return tuple(kept)


class Outcome:
    """What a candidate comes to: its tier at once, everything else when somebody looks."""

    __slots__ = ("_evaluated", "_look", "_where", "candidate", "tier")

    def __init__(
        self, candidate: Candidate, tier: Tier, look: Callable[..., Evaluated], where: tuple[Any, ...]
    ) -> None:
        self.candidate, self.tier, self._look, self._where = candidate, tier, look, where
        self._evaluated: Evaluated | None = None

    @property
    def evaluated(self) -> Evaluated:
        """The evaluated request."""
        if self._evaluated is None:
            self._evaluated = self._look(*self._where)
        return self._evaluated


def _outcomes(found: Evaluated) -> list[Outcome]:
    stuck = found.tier == "will-not-run"
    if isinstance(found, EvaluatedLlm) and found.request.model.task in LLM_TASKS:
        return _llm_outcomes(found, stuck)
    candidates = list(other_changes(found.request, stuck=stuck))
    results = evaluate([candidate.request for candidate in candidates])
    return [
        Outcome(candidate, result.tier, _same, (result,))
        for candidate, result in zip(candidates, results, strict=True)
    ]


def _same(result: Evaluated) -> Evaluated:
    return result


Change = tuple[Candidate, Lowered, bool]
"""A candidate, what no load changes of it, and whether nothing but a load can be in its way."""


def _llm_outcomes(found: EvaluatedLlm, stuck: bool) -> list[Outcome]:
    """Candidates in one array call per runtime; what no load changes of them was lowered before."""
    request, own, load = found.request, found.prepared.lowered, found.prepared.load
    too_long = context_reason(request.model, request.workload) is not None
    records = (request.model, request.machine, request.quantization, request.runtime, request.profile)
    lasting = request.catalog.memo("changes", most=512).get(
        (*records, request.placement), (request.memory, stuck), lambda: _lasting_changes(request, stuck)
    )
    own_changes = [_change(candidate, own) for candidate in llm_load_changes(request)]
    own_loads = [workload_row(request.model, one[0].request.workload) for one in own_changes]
    outcomes = []
    for group in lasting:
        changes = [one for one in group if not (too_long and one[0].kind in ("runtime", "quantization"))]
        loads = [load] * len(changes)
        blocked = [too_long] * len(changes)
        if changes and changes[0][1].key == own.key:
            changes, loads = [*changes, *own_changes], [*loads, *own_loads]
            blocked += [False] * len(own_changes)
            own_changes = []
        outcomes += _judge(changes, loads, blocked)
    return outcomes + _judge(own_changes, own_loads, [False] * len(own_changes))


def _change(candidate: Candidate, lowered: Lowered) -> Change:
    return candidate, lowered, lowered.divides and not candidate.request.blockers


_MULTIPLE = 8


def _judge(changes: Sequence[Change], loads: Sequence[WorkloadRow], blocked: Sequence[bool]) -> list[Outcome]:
    """Outcomes of changes that share a block; ``blocked``: the load is in the way of a change."""
    if not changes:
        return []
    # Rounded up, so that the ground that is laid for some rows serves other loads of them too.
    spare = -len(changes) % _MULTIPLE
    lowered = [one[1] for one in changes] + [changes[-1][1]] * spare
    # Most changes leave the load as it is: it becomes columns once.
    distinct = list({id(load): load for load in loads}.values())
    place_of = {id(load): number for number, load in enumerate(distinct)}
    index = [place_of[id(load)] for load in loads]
    columns = take(columns_of(distinct), np.array(index + index[-1:] * spare))
    block = run_rows(lowered, columns, changes[0][0].request)
    tiers = block.layout.tier[: len(changes)].tolist()
    return [
        Outcome(
            candidate,
            TIERS[tier] if runs and not barred else "will-not-run",  # type: ignore[arg-type]
            _evaluated,
            (candidate, row, load, block, place),
        )
        for place, ((candidate, row, runs), load, tier, barred) in enumerate(
            zip(changes, loads, tiers, blocked, strict=True)
        )
    ]


def _evaluated(
    candidate: Candidate, row: Lowered, load: WorkloadRow, block: LlmBlock, place: int
) -> EvaluatedLlm:
    # A lasting change carries no context; nothing that a remedy says asks for one.
    return EvaluatedLlm(Prepared(candidate.request, row, load), block, place)


def _lasting_changes(request: Request, stuck: bool) -> tuple[tuple[Change, ...], ...]:
    """Changes that the load does not decide, lowered, by block; those of which a fact is missing are no remedy."""
    # Without a context nothing of the load stands in the way.
    workload = request.workload.model_copy(update={"context_tokens": None})
    plain = with_changes(request, workload=workload).rechecked()
    groups: dict[BlockKey, list[Change]] = {}
    for candidate in lasting_llm_changes(plain, stuck=stuck):
        try:
            lowered = prepare(candidate.request).lowered
        except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError):
            continue
        groups.setdefault(lowered.key, []).append(_change(candidate, lowered))
    return tuple(tuple(changes) for changes in groups.values())


def _mildest(found: Evaluated, outcomes: list[Outcome]) -> Outcome | None:
    now = _ORDER[found.tier]
    for wanted in ("comfortable", "tight", "offload"):
        if _ORDER[wanted] <= now:
            break
        for outcome in outcomes:
            if outcome.tier == wanted:
                return outcome
    base = found.headline() if found.tier not in ("will-not-run", "unknown") else None
    if base is None:
        return None
    for outcome in outcomes:
        if _ORDER[outcome.tier] >= now:
            head = outcome.evaluated.headline()
            if head is not None and head[1].best > FASTER * base[1].best:
                return outcome
    return None


def _remedy(outcome: Outcome) -> Remedy:
    """The change with its tier; its memory is summed and its speed predicted when somebody reads them."""
    candidate = outcome.candidate
    return Remedy.model_defer(
        {
            "total_bytes": lambda: outcome.evaluated.total(),
            "headline": lambda: _headline(outcome)[0],
            "speed": lambda: _headline(outcome)[1],
            "message": partial(_message, outcome),
        },
        change=candidate.text,
        kind=candidate.kind,
        arguments=candidate.arguments,
        tier=outcome.tier,
    )


def _headline(outcome: Outcome) -> tuple[str, Interval | None]:
    head = outcome.evaluated.headline()
    return ("", None) if head is None else head


def _message(outcome: Outcome) -> str:
    total, (name, speed) = outcome.evaluated.total(), _headline(outcome)
    parts: list[str] = [outcome.tier]
    if total is not None:
        parts.append(format_field("bytes", total.best))
    if speed is not None:
        parts.append(format_field(name, speed.best))
    return f"{outcome.candidate.text}: {', '.join(parts)}"
