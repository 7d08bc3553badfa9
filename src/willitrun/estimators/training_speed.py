"""Time of a fine-tuning step of a language model."""

from __future__ import annotations

import math

from willitrun.estimators.inventory_blocks import head_widths
from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.llm_models import ModelRow
from willitrun.estimators.requests import Request
from willitrun.intervals import Interval
from willitrun.kernels.training import TrainingStates
from willitrun.kernels.training_speed import exposed_exchange_s, step_seconds, step_work
from willitrun.records.models import TransformerConfig
from willitrun.records.presentation import counted
from willitrun.records.results import Reason, SpeedEstimate, Term
from willitrun.units import format_duration

__all__ = ["SPEED", "training_speed"]

SPEED = "llm-training"

_EQUATIONS = {
    "matrices": "passes x 2 x active parameters x tokens / (efficiency x tensor peak)",
    "attention": "passes x 2 x layers x query width x context x tokens / (efficiency x tensor peak)",
    "weight traffic": "passes x (bytes as stored + bytes made whole) / bandwidth",
    "state traffic": "2 x (gradients + master weights + optimizer states) / bandwidth",
    "gradient exchange": "2 (ranks - 1) / ranks x gradients / link, less what the backward pass hides",
}


def training_speed(
    request: Request,
    config: TransformerConfig,
    row: ModelRow,
    view: MachineView,
    states: TrainingStates,
    *,
    exchanged_bytes: int,
) -> tuple[SpeedEstimate, Reason]:
    """Seconds of one step on every rank and sequences per second over all of them, or why they are unknown."""
    load, rates = request.workload, view.row
    if rates.on_host or math.isnan(rates.fp16):
        where = "on a CPU" if rates.on_host else "without a published tensor peak"
        note = Reason.model_construct(
            code="speed-not-modelled", message=f"The time of a fine-tuning step {where} is not calibrated."
        )
        return SpeedEstimate(notes=(note,)), note
    context, batch, ranks = load.context_tokens or 1, load.batch_size or 1, len(view.available)
    total = row.dense_params + row.lm_head_params + row.expert_params
    active = float(row.dense_params + row.lm_head_params)
    if row.n_experts:
        active += row.expert_params * row.n_experts_used / row.n_experts
    heads, _, key, _ = head_widths(config, 0)
    full = load.mode == "full-finetune"
    work = step_work(
        active,
        tokens=context * batch,
        context=context,
        layers=config.num_hidden_layers,
        query_width=heads * key,
        trains_weights=full,
        recomputes=load.gradient_checkpointing == "full",
        recomputes_attention=load.gradient_checkpointing == "selective",
        stored_bytes=2 * total if full else row.repeating + row.output,
        dequantized_parameters=total if load.mode == "qlora" else 0,
        updated_bytes=float(states.gradients + states.master + states.optimizer),
    )
    calibration = request.catalog.calibrations[SPEED]
    parts = step_seconds(
        work,
        flop_per_s=rates.fp16,
        bytes_per_s=rates.memory_bytes_per_s,
        efficiency=calibration.coefficients["efficiency"],
    )
    exchange = 0.0
    if ranks > 1:
        exchange = float(
            exposed_exchange_s(
                exchanged_bytes,
                ranks,
                link_bytes_per_s=rates.link_bytes_per_s,
                hidden_s=parts[0] / 2,
            )
        )
    values = dict(zip(_EQUATIONS, (*map(float, parts), exchange), strict=True))
    seconds = sum(values.values())
    spread = calibration.intervals["training_step_s"]
    step = Interval(seconds * spread["low"], seconds, seconds * spread["high"])
    arithmetic = values["matrices"] + values["attention"]
    bound = (
        "interconnect"
        if exchange > seconds / 2
        else "compute"
        if arithmetic > seconds / 2
        else "memory-bandwidth"
    )
    inputs: dict[str, float | int | str] = {
        "tokens": context * batch,
        "active_parameters": int(active),
        "ranks": ranks,
    }
    speed = SpeedEstimate.model_construct(
        training_step_s=step,
        samples_per_s=Interval(*(batch * ranks / end for end in (step.high, step.best, step.low))),
        bound=bound,  # type: ignore[arg-type]
        evidence="estimated",
        support="training/unseen-device",
        terms=tuple(
            Term.model_construct(
                name=name,
                value=value,
                unit="s",
                equation=_EQUATIONS[name],
                inputs=inputs,
                cites=(SPEED, *view.cites),
                evidence="calibrated",
            )
            for name, value in values.items()
        ),
        notes=(),
    )
    return speed, Reason.model_construct(
        code=f"{bound}-bound",
        message=f"A step over {counted(batch, 'sequence')} of {context:,} tokens takes {format_duration(step.best)}.",
        numbers={"training_step_s": step.best, "batch_size": batch, "context_tokens": context},
    )
