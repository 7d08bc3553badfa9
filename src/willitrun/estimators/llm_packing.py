"""Rows of an evaluated block as records: estimates with terms, and the reasons behind a tier."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from willitrun.estimators.calibration_anchors import with_anchor_term
from willitrun.estimators.calibration_rows import phase_of
from willitrun.estimators.llm_term_inputs import DECODE_EQUATIONS, decode_inputs
from willitrun.estimators.obstacles import memory_suffices
from willitrun.estimators.overheads import borrowed_from
from willitrun.estimators.paged_pools import pool_notes
from willitrun.estimators.support import headline_phase, interval_of, interval_task
from willitrun.intervals import Interval
from willitrun.kernels.columns import at, devices_at
from willitrun.kernels.llm_decode import FloatArray, Terms
from willitrun.kernels.llm_speed import BOUNDS
from willitrun.kernels.placement import TIERS
from willitrun.kernels.reason_codes import DOMINANCE_REASONS, FIT_REASONS
from willitrun.records.results import Bound, DeviceMemory, MemoryEstimate, Reason, SpeedEstimate, Term
from willitrun.units import format_bytes

if TYPE_CHECKING:
    from willitrun.estimators.llm_evaluation import EvaluatedLlm

__all__ = ["headline_of", "pack_memory", "pack_speed", "tier_reasons"]

EXACT = Interval.exact(0)


def pack_memory(found: EvaluatedLlm) -> MemoryEstimate:
    """The memory estimate of one row, exact parts with zero width."""
    layout, place = found.block.layout, found.place
    row, policy = found.prepared.model, found.prepared.policy
    view = found.prepared.machine
    weights, kv, state = (
        devices_at(values, place) for values in (layout.weights, layout.kv_cache, layout.state)
    )
    activation, overhead = devices_at(layout.activation, place), devices_at(layout.overhead, place)
    bounds = [
        Interval(*map(float, row))
        for row in zip(
            devices_at(layout.total_low, place),
            devices_at(layout.total, place),
            devices_at(layout.total_high, place),
            strict=True,
        )
    ]
    devices = tuple(
        DeviceMemory.model_construct(
            device=name,
            weights_bytes=weights[i],
            kv_cache_bytes=kv[i],
            state_bytes=state[i],
            activation_bytes=activation[i],
            gradient_bytes=0,
            optimizer_bytes=0,
            overhead_bytes=overhead[i],
            total_bytes=bounds[i],
            available_bytes=view.available[i],
        )
        for i, name in enumerate(view.names)
    )
    total = found.total()
    weight_sum = sum(weights)
    spread = total.high - total.best
    cells = policy.cache == "cells"
    kv_inputs: dict[str, float | int | str] = {
        "context_tokens": found.prepared.load.context_tokens,
        "concurrency": found.prepared.load.concurrency,
        "kv_elements_per_token": row.full_k + row.full_v,
        "windowed_elements_per_token": row.windowed_k + row.windowed_v,
        "type_k": policy.kind_k,
        "type_v": policy.kind_v,
    }
    quantization = found.request.quantization
    lender = borrowed_from(found.request)
    stands_for = {"figures_of": lender} if lender else {}
    terms = (
        Term.model_construct(
            name="weights",
            value=weight_sum,
            unit="B",
            equation="sum over tensors of rows x blocks per row x bytes per block, less what lies on the host",
            inputs={
                "quantization": quantization.id if quantization else "",
                "layers_bytes": row.repeating,
                "output_bytes": row.output,
                "host_layers": int(at(layout.host_layers, place)),
                "host_moe_layers": int(at(layout.host_moe_layers, place)),
            },
            cites=tuple(citation.source for citation in quantization.citations("block_bytes"))
            if quantization
            else (),
            evidence="exact" if row.exact else "calibrated",
        ),
        Term.model_construct(
            name="KV cache",
            value=sum(kv),
            unit="B",
            equation="cells x streams x (K elements x bytes(K) + V elements x bytes(V)), summed over layers"
            if cells
            else "tokens x (K + V elements) x bytes, summed over layers, in whole blocks",
            inputs=kv_inputs,
            cites=(),
            evidence="exact",
        ),
        Term.model_construct(
            name="recurrent state",
            value=sum(state),
            unit="B",
            equation="sequences x (convolution + state elements) x 4 bytes",
            inputs={"elements": row.conv_state + row.recurrent_state},
            cites=(),
            evidence="exact",
        ),
        Term.model_construct(
            name="activations and compute buffers",
            value=sum(activation),
            unit="B",
            equation="max(logits path, attention path) of one physical batch, per device",
            inputs={
                "n_ubatch": policy.n_ubatch,
                "n_vocab": row.vocab_size,
                "n_embd": row.hidden_size,
                **stands_for,
            },
            cites=("memory",),
            evidence="calibrated",
        ),
        Term.model_construct(
            name="runtime overhead",
            value=sum(overhead),
            unit="B",
            equation="device context, allocator and graphs of the runtime, per device",
            inputs={"runtime": found.request.runtime.name, "devices": len(devices), **stands_for},
            cites=("memory",),
            evidence="calibrated",
        ),
    )
    host = float(at(layout.host, place))
    activation_sum, overhead_sum = float(sum(activation)), float(sum(overhead))
    return MemoryEstimate.model_construct(
        weights_bytes=Interval(
            weight_sum * row.weights_low,
            float(weight_sum),
            weight_sum * row.weights_high,
            1.0 if row.exact else 0.9,
        ),
        kv_cache_bytes=Interval.exact(float(sum(kv))),
        state_bytes=Interval.exact(float(sum(state))),
        activation_bytes=Interval(activation_sum, activation_sum, activation_sum)
        if not spread
        else _part(found, "activation"),
        gradient_bytes=EXACT,
        optimizer_bytes=EXACT,
        overhead_bytes=Interval.exact(overhead_sum) if not spread else _part(found, "overhead"),
        total_bytes=total,
        host_bytes=Interval(
            min(host, float(at(layout.host, place))), host, float(at(layout.host_high, place))
        ),
        disk_bytes=Interval(
            row.total_bytes * row.weights_low, float(row.total_bytes), row.total_bytes * row.weights_high
        ),
        per_device=devices,
        terms=terms,
        notes=pool_notes(found),
    )


def _part(found: EvaluatedLlm, name: str) -> Interval:
    buffers, place = found.block.buffers, found.place
    devices = len(found.prepared.machine.names)
    low, best, high = (
        float(_over_devices(devices_at(getattr(buffers, f"{name}{suffix}"), place), devices))
        for suffix in ("_low", "", "_high")
    )
    return Interval(min(low, best), best, max(high, best))


def _over_devices(amounts: list[int], devices: int) -> int:
    """Sum over devices; one amount stands for each of them."""
    return amounts[0] * devices if len(amounts) == 1 else sum(amounts)


def _task(found: EvaluatedLlm) -> str:
    return "tpot" if found.prepared.policy.interference and found.prepared.load.concurrency > 1 else "decode"


def _classed(found: EvaluatedLlm, task: str) -> str:
    calibration = found.request.catalog.calibrations["llm-speed"]
    return interval_task(calibration, task, found.prepared.policy.codes, moe=found.prepared.model.experts > 0)


def headline_of(found: EvaluatedLlm) -> tuple[str, Interval] | None:
    """Decode speed of one sequence, or texts per second of an encoder."""
    calibration = found.request.catalog.calibrations["llm-speed"]
    speed, place, level = found.block.speed, found.place, found.support.level
    shift = found.support.shift(headline_phase(found.request))
    if found.prepared.model.encoder_only:
        prefill = interval_of(
            calibration,
            _classed(found, "prefill"),
            level,
            float(at(speed.prefill_tokens_per_s, place)),
            shift=shift,
        )
        return "samples_per_s", prefill.scale(1.0 / found.prepared.load.prompt_tokens)
    return "decode_tokens_per_s", interval_of(
        calibration,
        _classed(found, _task(found)),
        level,
        float(at(speed.decode_tokens_per_s, place)),
        shift=shift,
    )


def pack_speed(found: EvaluatedLlm) -> SpeedEstimate | None:
    """The speed estimate of one row, for as long as it fits: whether it does is the memory's question."""
    speed, place, level = found.block.speed, found.place, found.support.level
    calibration = found.request.catalog.calibrations["llm-speed"]
    notes: list[Reason] = []

    of_prefill = found.support.shift("prefill")
    of_output = found.support.shift(phase_of("decode_tokens_per_s", found.prepared.load.concurrency))

    def rate(values: FloatArray, task: str) -> Interval:
        shift = of_prefill if task == "prefill" else of_output
        return interval_of(calibration, _classed(found, task), level, float(at(values, place)), shift=shift)

    task = _task(found)
    encoder = found.prepared.model.encoder_only
    token_s = float(at(speed.time_per_output_token_s, place))
    loaded = float(at(speed.loaded_time_to_first_token_s, place))
    if math.isnan(loaded):
        kept = float(at(speed.effective_concurrency, place))
        notes.append(
            Reason.model_construct(
                code="kv-pool-too-small",
                message=f"Only {kept:.0f} of {found.prepared.load.concurrency} sequences fit the KV pool at a time; "
                "the rest wait, so the time to first token has no fixed value.",
                numbers={"effective_concurrency": kept, "concurrency": found.prepared.load.concurrency},
            )
        )
    prefill = rate(speed.prefill_tokens_per_s, "prefill")
    terms = speed.prefill_terms if encoder else speed.terms
    row = found.prepared
    cites = ("llm-speed", *row.machine.cites)
    bound: Bound = BOUNDS[int(at(speed.bound, place))]  # type: ignore[assignment]
    return SpeedEstimate.model_construct(
        decode_tokens_per_s=None if encoder else rate(speed.decode_tokens_per_s, task),
        time_per_output_token_s=None
        if encoder
        else interval_of(calibration, _classed(found, task), level, token_s, inverse=True, shift=of_output),
        throughput_tokens_per_s=None if encoder else rate(speed.throughput_tokens_per_s, task),
        prefill_tokens_per_s=prefill,
        time_to_first_token_s=None
        if encoder or math.isnan(loaded)
        else interval_of(calibration, _classed(found, "ttft"), level, loaded, inverse=True, shift=of_prefill),
        samples_per_s=prefill.scale(1.0 / row.load.prompt_tokens) if encoder else None,
        bound=bound,
        evidence=found.support.evidence,
        support=f"{'prefill' if encoder else task}/{level}",
        terms=with_anchor_term(
            tuple(_time_terms(found, terms, cites)),
            of_prefill if encoder else of_output,
        ),
        notes=tuple(notes),
    )


@lru_cache(maxsize=256)
def _idle_term(name: str, equation: str, cites: tuple[str, ...]) -> Term:
    """A term that is nothing here needs no numbers: one record stands for all of them."""
    return Term.model_construct(
        name=name, value=0.0, unit="s", equation=equation, inputs={}, cites=cites, evidence="calibrated"
    )


def _time_terms(found: EvaluatedLlm, terms: Terms, cites: tuple[str, ...]) -> Iterator[Term]:
    encoder = found.prepared.model.encoder_only
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
    "launch": "Starting kernels takes longer than the work they do: the model is small for this device.",
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
        bound = BOUNDS[int(at(block.speed.bound, place))]
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
    elif code == "no-cpu-offload-in-runtime":
        message = (
            f"It needs {need} and {have} are available; "
            f"{found.request.profile.name} keeps everything on the accelerator."
        )
    else:
        message = f"It needs {need} and {have} are available."
    return Reason.model_construct(code=code, message=message, numbers=numbers)
