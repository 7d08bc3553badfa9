"""The cheapest changes that make it fit, or faster: candidates evaluated together, the useful ones kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.llm_evaluation import (
    BlockKey,
    EvaluatedLlm,
    Lowered,
    Prepared,
    prepare,
    run_rows,
)
from willitrun.estimators.llm_machines import WorkloadRow
from willitrun.estimators.remedy_candidates import (
    Candidate,
    lasting_llm_changes,
    llm_load_changes,
    other_changes,
)
from willitrun.estimators.requests import (
    Request,
)
from willitrun.estimators.workloads import LLM_TASKS, context_reason
from willitrun.frozen import frozen
from willitrun.kernels.llm_block import LlmBlock
from willitrun.kernels.placement import TIERS
from willitrun.records.presentation import format_field
from willitrun.records.results import Remedy, Tier

__all__ = ["find_remedies"]

_ORDER = {"will-not-run": 0, "unknown": 0, "offload": 1, "tight": 2, "comfortable": 3}
_KINDS = (
    "runtime",
    "quantization",
    "offload",
    "kv-type",
    "context",
    "batch",
    "concurrency",
    "precision",
    "execution",
    "hardware",
)
MOST_REMEDIES = 6
FASTER = 1.15


def find_remedies(found: Evaluated) -> tuple[Remedy, ...]:
    """Remedies in order of cost: runtime, format, cache type, context, batch, then hardware.

    Of each kind the mildest change that lifts the tier is kept; where none lifts it, the mildest that makes
    it clearly faster. Candidates are evaluated together in as few array calls as there are runtimes.
    """
    outcomes = _outcomes(found)
    kept: list[Remedy] = []
    for kind in _KINDS:
        best = _mildest(found, [outcome for outcome in outcomes if outcome.candidate.kind == kind])
        if best is not None:
            kept.append(_remedy(best))
    return tuple(kept[:MOST_REMEDIES])


@frozen
class Outcome:
    """What a candidate comes to: its tier at once, everything else when somebody looks."""

    candidate: Candidate
    tier: Tier
    look: Callable[[], Evaluated]

    @cached_property
    def evaluated(self) -> Evaluated:
        """The evaluated request."""
        return self.look()


def _outcomes(found: Evaluated) -> list[Outcome]:
    stuck = found.tier == "will-not-run"
    if isinstance(found, EvaluatedLlm) and found.request.model.task in LLM_TASKS:
        return _llm_outcomes(found, stuck)
    candidates = list(other_changes(found.request, stuck=stuck))
    results = evaluate([candidate.request for candidate in candidates])
    return [
        Outcome(candidate, result.tier, partial(_same, result))
        for candidate, result in zip(candidates, results, strict=True)
    ]


def _same(result: Evaluated) -> Evaluated:
    return result


@frozen(eq=False)
class _Row:
    """A candidate as a row of a block. ``blocked`` says that something stands in its way whatever memory says."""

    candidate: Candidate
    lowered: Lowered
    load: WorkloadRow
    blocked: bool


def _llm_outcomes(found: EvaluatedLlm, stuck: bool) -> list[Outcome]:
    """Candidates in one array call per runtime; what no load changes of them was lowered before."""
    request, load = found.request, found.prepared.load
    too_long = context_reason(request.model, request.workload) is not None
    records = (request.model, request.machine, request.quantization, request.runtime, request.profile)
    lasting = request.catalog.memo("changes", most=512).get(
        (*records, request.placement), (request.memory, stuck), lambda: _lasting_changes(request, stuck)
    )
    rows = [
        _Row(candidate, lowered, load, too_long or bool(candidate.request.blockers))
        for candidate, lowered in lasting
        if not (too_long and candidate.kind in ("runtime", "quantization"))
    ]
    rows += [
        _Row(candidate, prepared.lowered, prepared.load, bool(candidate.request.blockers))
        for candidate in llm_load_changes(request)
        for prepared in (prepare(candidate.request),)
    ]
    groups: dict[BlockKey, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.lowered.key, []).append(row)
    outcomes = []
    for members in groups.values():
        block = run_rows(
            [row.lowered for row in members], [row.load for row in members], members[0].candidate.request
        )
        for place, (row, tier) in enumerate(zip(members, block.layout.tier.tolist(), strict=True)):
            runs = row.lowered.divides and not row.blocked
            outcomes.append(
                Outcome(
                    row.candidate,
                    TIERS[tier] if runs else "will-not-run",  # type: ignore[arg-type]
                    partial(_evaluated, row, block, place),
                )
            )
    return outcomes


def _evaluated(row: _Row, block: LlmBlock, place: int) -> EvaluatedLlm:
    # A lasting change carries no context; nothing that a remedy says asks for one.
    return EvaluatedLlm(Prepared(row.candidate.request, row.lowered, row.load), block, place)


def _lasting_changes(request: Request, stuck: bool) -> tuple[tuple[Candidate, Lowered], ...]:
    """Changes that the load does not decide, lowered; those of which a fact is missing are no remedy."""
    # Without a context nothing of the load stands in the way.
    workload = request.workload.model_copy(update={"context_tokens": None})
    plain = replace(request, workload=workload).rechecked()
    found = []
    for candidate in lasting_llm_changes(plain, stuck=stuck):
        try:
            found.append((candidate, prepare(candidate.request).lowered))
        except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError):
            continue
    return tuple(found)


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
    candidate, result = outcome.candidate, outcome.evaluated
    head = result.headline()
    total = result.total()
    parts: list[str] = [outcome.tier]
    if total is not None:
        parts.append(format_field("bytes", total.best))
    if head is not None:
        parts.append(format_field(head[0], head[1].best))
    return Remedy.model_construct(
        change=candidate.text,
        kind=candidate.kind,
        arguments=candidate.arguments,
        tier=outcome.tier,
        total_bytes=total,
        headline=head[0] if head else "",
        speed=head[1] if head else None,
        message=f"{candidate.text}: {', '.join(parts)}",
    )
