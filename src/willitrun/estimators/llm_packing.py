"""Rows of an evaluated block as records: estimates with terms, and the reasons behind a tier."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from willitrun.estimators.calibration_anchors import Shift, with_anchor_term
from willitrun.estimators.calibration_rows import phase_of
from willitrun.estimators.llm_term_inputs import DECODE_EQUATIONS, decode_inputs
from willitrun.estimators.obstacles import memory_suffices
from willitrun.estimators.support import (
    headline_phase,
    interval_task,
    interval_within,
    level_factors,
)
from willitrun.intervals import Interval
from willitrun.kernels.columns import at, devices_at
from willitrun.kernels.llm_decode import FloatArray
from willitrun.kernels.llm_speed import BOUNDS
from willitrun.kernels.placement import TIERS
from willitrun.kernels.reason_codes import DOMINANCE_REASONS, FIT_REASONS
from willitrun.records.results import Bound, Reason, SpeedEstimate, Term
from willitrun.units import format_bytes

if TYPE_CHECKING:
    from willitrun.estimators.llm_evaluation import EvaluatedLlm

__all__ = ["headline_of", "pack_speed", "tier_reasons"]


def _task(found: EvaluatedLlm) -> str:
    return "tpot" if found.prepared.policy.interference and found.prepared.load.concurrency > 1 else "decode"


def _interval(
    found: EvaluatedLlm, task: str, best: FloatArray, shift: Shift, *, inverse: bool = False
) -> Interval:
    """One row of a rate, or of a time (``inverse``), with the calibrated factors of its task."""
    catalog, lowered, level = found.request.catalog, found.prepared.lowered, found.support.level
    known: dict[str, tuple[float, float]] = catalog.memo("llm-factors").get((lowered,), level, dict)
    factors = known.get(task)
    if factors is None:
        calibration = catalog.calibrations["llm-speed"]
        classed = interval_task(calibration, task, lowered.policy.codes, moe=lowered.model.experts > 0)
        factors = known[task] = level_factors(calibration, classed, level)
    return interval_within(factors, float(at(best, found.place)), inverse=inverse, shift=shift)


def headline_of(found: EvaluatedLlm) -> tuple[str, Interval] | None:
    """Decode speed of one sequence, or texts per second of an encoder."""
    speed = found.block.speed
    shift = found.support.shift(headline_phase(found.request))
    if found.prepared.model.reads_only:
        prefill = _interval(found, "prefill", speed.prefill_tokens_per_s, shift)
        return "samples_per_s", prefill.scale(1.0 / found.prepared.load.prompt_tokens)
    return "decode_tokens_per_s", _interval(found, _task(found), speed.decode_tokens_per_s, shift)


_RATES = (
    "decode_tokens_per_s",
    "time_per_output_token_s",
    "throughput_tokens_per_s",
    "prefill_tokens_per_s",
    "time_to_first_token_s",
    "samples_per_s",
)


def pack_speed(found: EvaluatedLlm) -> SpeedEstimate | None:
    """The speed estimate of one row, for as long as it fits: whether it does is the memory's question."""
    speed, place, load = found.block.speed, found.place, found.prepared.load
    encoder, task = found.prepared.model.reads_only, _task(found)
    of_prefill = found.support.shift("prefill")
    of_output = found.support.shift(phase_of("decode_tokens_per_s", load.concurrency))
    prefill = _interval(found, "prefill", speed.prefill_tokens_per_s, of_prefill)
    waits = math.isnan(float(at(speed.loaded_time_to_first_token_s, place)))
    rates: dict[str, Interval | None] = dict.fromkeys(_RATES)
    rates["prefill_tokens_per_s"] = prefill
    if encoder:
        rates["samples_per_s"] = prefill.scale(1.0 / load.prompt_tokens)
    else:
        rates |= {
            "decode_tokens_per_s": _interval(found, task, speed.decode_tokens_per_s, of_output),
            "time_per_output_token_s": _interval(
                found, task, speed.time_per_output_token_s, of_output, inverse=True
            ),
            "throughput_tokens_per_s": _interval(found, task, speed.throughput_tokens_per_s, of_output),
            "time_to_first_token_s": None
            if waits
            # With one sequence nobody stands in a queue: the first token waits for a prefill, and is as sure as one.
            else _interval(
                found,
                "ttft" if load.concurrency > 1 else "prefill",
                speed.loaded_time_to_first_token_s,
                of_prefill,
                inverse=True,
            ),
        }
    return SpeedEstimate.model_defer(
        {"terms": partial(_time_terms, found, of_prefill if encoder else of_output)},
        **rates,
        bound=_bound(found),
        evidence=found.support.evidence,
        support=f"{'prefill' if encoder else task}/{found.support.level}",
        notes=(_too_small(found),) if waits else (),
    )


def _bound(found: EvaluatedLlm) -> Bound:
    """What a decode step mostly waits for; of an encoder, its pass over the texts."""
    speed = found.block.speed
    codes = speed.prefill_bound if found.prepared.model.reads_only else speed.bound
    return BOUNDS[int(at(codes, found.place))]  # type: ignore[return-value]


def _too_small(found: EvaluatedLlm) -> Reason:
    kept, asked = (
        float(at(found.block.speed.effective_concurrency, found.place)),
        found.prepared.load.concurrency,
    )
    return Reason.model_construct(
        code="kv-pool-too-small",
        message=f"Only {kept:.0f} of {asked} sequences fit the KV pool at a time; "
        "the rest wait, so the time to first token has no fixed value.",
        numbers={"effective_concurrency": kept, "concurrency": asked},
    )


def _time_terms(found: EvaluatedLlm, shift: Shift) -> tuple[Term, ...]:
    return with_anchor_term(tuple(_physical_terms(found)), shift)


@lru_cache(maxsize=256)
def _idle_term(name: str, equation: str, cites: tuple[str, ...]) -> Term:
    """A term that is nothing here needs no numbers: one record stands for all of them."""
    return Term.model_construct(
        name=name, value=0.0, unit="s", equation=equation, inputs={}, cites=cites, evidence="calibrated"
    )


def _physical_terms(found: EvaluatedLlm) -> Iterator[Term]:
    speed, encoder = found.block.speed, found.prepared.model.reads_only
    terms = speed.prefill_terms if encoder else speed.terms
    cites = ("llm-speed", *found.prepared.machine.cites)
    # The names of a prefill's terms are those of a decode step; its equations differ.
    equations = {} if encoder else DECODE_EQUATIONS
    inputs_of = decode_inputs(found)
    for name, values in terms:
        seconds = float(at(values, found.place))
        own = cites if name == "dense-weights" else ("llm-speed",)
        if not seconds:
            yield _idle_term(name, equations.get(name, ""), own)
            continue
        yield Term.model_construct(
            name=name,
            value=seconds,
            unit="s",
            equation=equations.get(name, ""),
            inputs=inputs_of(name) if name in equations else {},
            cites=own,
            evidence="calibrated",
        )


_BOUND_TEXT = {
    "memory-bandwidth": "Reading weights and cache from memory takes most of a step.",
    "compute": "Arithmetic takes most of a step.",
    "launch": "Starting kernels takes longer than the work they do: at this load each has little to do.",
    "interconnect": "Moving activations between devices takes most of a step.",
    "host-memory": "The part that lies in host memory takes most of a step.",
}


def tier_reasons(found: EvaluatedLlm) -> list[Reason]:
    """Why this tier, what dominates the memory, and what binds the speed."""
    block, place = found.block, found.place
    layout = block.layout
    total = found.total()
    reasons = [_fit_reason(found, total)]
    dominance = DOMINANCE_REASONS[int(at(block.dominance, place))]
    if dominance == "kv-cache-dominates":
        kv = float(sum(devices_at(layout.kv_cache, place)))
        # What the model costs as a whole, wherever it lies.
        weights, cache = float(found.prepared.model.total_bytes), float(at(block.kv_cache, place))
        reasons.append(
            Reason.model_construct(
                code=dominance,
                message=f"The KV cache takes {format_bytes(kv)} of {format_bytes(total.best)}: context and concurrency "
                f"decide. All of the weights and the whole cache of {format_bytes(cache, digits=4)} come to "
                f"{format_bytes(weights + cache, digits=4)}.",
                numbers={
                    "kv_cache_bytes": kv,
                    "whole_kv_cache_bytes": cache,
                    "weights_and_kv_cache_bytes": weights + cache,
                },
            )
        )
    elif dominance:
        weights = float(sum(devices_at(layout.weights, place)))
        reasons.append(
            Reason.model_construct(
                code=dominance,
                message=f"The weights take {format_bytes(weights)} of {format_bytes(total.best)}: the weight format decides.",
                numbers={"weights_bytes": weights},
            )
        )
    if found.tier != "will-not-run":
        bound = _bound(found)
        reasons.append(
            Reason.model_construct(
                code=f"{bound}-bound", message=_BOUND_TEXT[bound], numbers={"bound": bound}
            )
        )
    return reasons


def _fit_reason(found: EvaluatedLlm, total: Interval) -> Reason:
    block, place, row = found.block, found.place, found.prepared.model
    room = sum(found.prepared.machine.available)
    need, have = format_bytes(total.best), format_bytes(room)
    code = FIT_REASONS[int(at(block.fit, place))]
    if found.tier == "will-not-run" and int(at(block.layout.tier, place)) != TIERS.index("will-not-run"):
        return memory_suffices(total.best, room)
    host = float(at(block.layout.host, place))
    what: list[str] = []
    layers, experts = int(at(block.layout.host_layers, place)), int(at(block.layout.host_moe_layers, place))
    numbers: dict[str, float | int | str] = {"total_bytes": total.best, "available_bytes": room}
    if code == "needs-offload":
        what = [f"the experts of {experts} of {row.n_moe_layers} layers"] if experts else []
        what += [f"{layers} of {row.n_layers} layers"] if layers else []
        what = what or ["the output matrix"]
        numbers |= {"host_layers": layers, "host_moe_layers": experts, "host_bytes": host}
    if code == "fits-comfortably":
        message = f"{need} of {have}, with room to spare."
    elif code == "fits-tightly":
        message = f"{need} of {have}: the best estimate fits, the high end ({format_bytes(total.high)}) leaves too little."
    elif code == "needs-offload":
        message = f"It runs with {' and '.join(what)} in host memory ({format_bytes(host)} there)."
    elif code == "out-of-host-memory":
        message = (
            f"It would need {format_bytes(host)} of host memory and "
            f"{format_bytes(found.prepared.machine.row.host_available)} are available."
        )
    elif total.best <= room and (lacking := _lacking_device(found)):
        message = f"{need} are less than the {have} of all devices, but {lacking}."
    elif code == "no-cpu-offload-in-runtime":
        message = (
            f"It needs {need} and {have} are available; "
            f"{found.request.profile.name} keeps everything on the accelerator."
        )
    else:
        message = f"It needs {need} and {have} are available."
    return Reason.model_construct(code=code, message=message, numbers=numbers)


def _lacking_device(found: EvaluatedLlm) -> str:
    """The device whose part is larger than its memory, in words; empty where none is."""
    parts = devices_at(found.block.layout.total, found.place)
    machine = found.prepared.machine
    for name, part, room in zip(machine.names, parts, machine.available, strict=False):
        if part > room:
            return f"{name} has {format_bytes(room)} for its part of {format_bytes(float(part))}"
    return ""
