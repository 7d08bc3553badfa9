"""Training and fine-tuning of language models: states, gradients and activations as an evaluated request."""

from __future__ import annotations

import numpy as np

from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.evaluation import Evaluated, from_error, not_modelled
from willitrun.estimators.inventory import tensor_inventory
from willitrun.estimators.inventory_blocks import head_widths
from willitrun.estimators.inventory_cache import feed_forward_width
from willitrun.estimators.inventory_traits import traits_of
from willitrun.estimators.llm_machines import machine_row
from willitrun.estimators.llm_models import model_row
from willitrun.estimators.overheads import allocator_slack, runtime_overhead
from willitrun.estimators.ready import Part, Ready, judge_parts, where_it_runs
from willitrun.estimators.requests import Request
from willitrun.estimators.training_speed import SPEED, training_speed
from willitrun.kernels.overheads import MemoryRange, scale_range
from willitrun.kernels.training import (
    TrainingBlock,
    block_activation_bytes,
    core_attention_bytes,
    logits_activation_bytes,
    lora_parameters,
    model_activation_bytes,
    training_states,
)
from willitrun.records.models import TransformerConfig
from willitrun.records.recipes import Placement

__all__ = ["evaluate_training"]

ADAPTED_PARTS = ("attention", "dense_ffn", "shared_experts")
"""Matrices that LoRA adapts where nobody lists modules: all linear layers but routed experts and heads."""

UNTRAINED_PARTS = ("vision", "prediction")
"""Parts of a checkpoint that a step on text does not touch."""


def evaluate_training(request: Request) -> Evaluated:
    """Memory and time of a training step."""
    if request.model.vision is not None:
        from willitrun.estimators.graph_training import evaluate_graph_training

        return evaluate_graph_training(request)
    transformer = request.model.transformer
    if transformer is None:
        return not_modelled(
            request,
            "memory-not-modelled",
            f"{request.workload.mode} of {request.model.task} is not modelled yet.",
        )
    try:
        return _language(request, transformer)
    except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
        return from_error(request, error)


def _block(config: TransformerConfig) -> TrainingBlock:
    heads, kv_heads, key, value = head_widths(config, 0)
    return TrainingBlock(
        hidden=config.hidden_size,
        feed_forward=feed_forward_width(config),
        query=heads * key,
        key_value=kv_heads * max(key, value),
        heads=heads,
        gated=traits_of(config.model_type).gated,
    )


def _trained(request: Request, config: TransformerConfig, total: int) -> int:
    if request.workload.mode == "full-finetune":
        return total
    groups = [group for group in tensor_inventory(config) if group.part in ADAPTED_PARTS and group.matrix]
    return int(
        lora_parameters(
            np.array([group.rows for group in groups], dtype=np.int64),
            np.array([group.width for group in groups], dtype=np.int64),
            np.array([group.count * group.stack for group in groups], dtype=np.int64),
            request.workload.lora_rank or 16,
        )
    )


def _language(request: Request, config: TransformerConfig) -> Ready:
    load = request.workload
    view = machine_row(request)
    mode = load.mode
    catalog = request.catalog
    frozen = catalog.quantizations["nf4" if mode == "qlora" else "bf16"]
    row = model_row(request.model, frozen, "safetensors", catalog)
    total = sum(group.elements for group in tensor_inventory(config) if group.part not in UNTRAINED_PARTS)
    trained = _trained(request, config, total)
    ranks = len(view.available)
    full = mode == "full-finetune"
    # Adapters are small enough to be kept in float32.
    element = 2 if full else 4
    states = training_states(
        trained,
        frozen_bytes=0 if full else row.repeating + row.output,
        parameter_bytes=element,
        gradient_bytes=element,
        master_bytes=4 if full else 0,
        optimizer=load.optimizer or "adamw",
        zero_stage=load.zero_stage or 0,
        ranks=ranks,
    )
    tokens, batch = load.context_tokens or 1, load.batch_size or 1
    checkpointing = load.gradient_checkpointing or "none"
    widths = _block(config)
    kept = model_activation_bytes(
        block_activation_bytes(widths, tokens, batch=batch),
        tokens,
        batch=batch,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        checkpointing=checkpointing,
        # Korthikanti et al. (https://arxiv.org/abs/2205.05198): little where flash attention keeps no scores.
        selective_bytes=core_attention_bytes(widths, tokens, batch=batch),
    )
    logits = logits_activation_bytes(tokens, batch=batch, vocabulary=config.vocab_size)
    activation = int(kept) + int(logits)
    slack = scale_range(np.int64(activation), *allocator_slack(request))
    context = MemoryRange(*(np.int64(v) for v in runtime_overhead(request, host=view.row.on_host)))  # type: ignore[arg-type]
    inputs: dict[str, float | int | str] = {
        "parameters": total,
        "trained_parameters": trained,
        "zero_stage": load.zero_stage or 0,
        "ranks": ranks,
    }
    step: dict[str, float | int | str] = {
        "tokens": tokens,
        "batch_size": batch,
        "gradient_checkpointing": checkpointing,
    }
    parts = [
        Part.exact(
            "weights",
            "weights and master copy",
            int(states.parameters + states.master),
            "trained x 2 + master 4 bytes (frozen ones at their format), sharded by ZeRO stage",
            inputs,
        ),
        Part.exact(
            "gradient",
            "gradients",
            int(states.gradients),
            "trained x bytes per gradient / ranks from stage 2",
            inputs,
        ),
        Part.exact(
            "optimizer",
            "optimizer states",
            int(states.optimizer),
            "trained x bytes per state / ranks from stage 1",
            inputs | {"optimizer": load.optimizer or "adamw"},
        ),
        Part.exact(
            "activation",
            "activations kept for the backward pass",
            activation,
            "sum over layers of tensors saved per block + logits of the whole batch",
            step,
        ),
        Part.ranged("overhead", "device context", context, "context and libraries of PyTorch", {}),
        Part.ranged(
            "overhead",
            "allocator slack",
            slack,
            "share of the live activations that a caching allocator holds beyond them",
            {},
        ),
    ]
    tier, memory, reason = judge_parts(
        request, view, parts, host_bytes=int(states.host), disk_bytes=row.total_bytes
    )
    speed, note = training_speed(request, config, row, view, states, exchanged_bytes=trained * element)
    return Ready(
        request=request,
        tier=tier,
        placement=Placement(strategy="data" if ranks > 1 else "single", dp=ranks if ranks > 1 else None),
        reasons=(reason, *view.reasons, *where_it_runs(tier, note)),
        cites=(),
        calibrations=("memory", "system-reserve", SPEED),
        memory=memory,
        speed=speed,
    )
