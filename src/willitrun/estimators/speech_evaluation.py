"""Speech as evaluated requests: recognisers as encoder and decoder, voices by their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from willitrun.errors import MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError
from willitrun.estimators.evaluation import Evaluated, from_error, not_modelled
from willitrun.estimators.llm_evaluation import run_block
from willitrun.estimators.llm_lowering import Prepared, prepare
from willitrun.estimators.llm_machines import MachineView, machine_row
from willitrun.estimators.overheads import allocator_slack, runtime_overhead
from willitrun.estimators.ready import Part, Ready, judge_parts, where_it_runs
from willitrun.estimators.requests import Request
from willitrun.estimators.speech_models import (
    SpeechLoad,
    decoder_request,
    encoder_request,
    speech_load,
)
from willitrun.estimators.speech_packing import pack_transcription
from willitrun.estimators.workloads import ASR_TASKS
from willitrun.kernels.activations import encoder_peak
from willitrun.kernels.diffusion_memory import component_bytes
from willitrun.kernels.llm_block import LlmBlock
from willitrun.kernels.overheads import MemoryRange, scale_range
from willitrun.records.recipes import Placement
from willitrun.records.results import Reason, SpeedEstimate

__all__ = ["evaluate_speech"]


def evaluate_speech(requests: Sequence[Request]) -> list[Evaluated]:
    """Evaluate speech requests, in order."""
    return [_evaluate(request) for request in requests]


def _evaluate(request: Request) -> Evaluated:
    if request.workload.mode != "inference":
        return not_modelled(
            request,
            "memory-not-modelled",
            f"{request.workload.mode} of {request.model.task} is not modelled yet.",
        )
    try:
        return _recogniser(request) if request.model.task in ASR_TASKS else _voice(request)
    except (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError) as error:
        return from_error(request, error)


def _recogniser(request: Request) -> Ready:
    load = speech_load(request)
    view = machine_row(request)
    decoder = prepare(decoder_request(request, load), view=view)
    # Beams share the encoder's keys and values in memory; each step reads them, and its own, for every beam.
    beams = prepare(decoder_request(request, load, beams=load.beams), view=view)
    encoder = prepare(encoder_request(request, load), view=view)
    decoding, encoding = run_block([beams]), run_block([encoder])
    parts = _recogniser_parts(request, view, load, decoder, run_block([decoder]))
    tier, memory, reason = judge_parts(request, view, parts, disk_bytes=decoder.model.total_bytes)
    speed, bound = pack_transcription(request, view, load, encoding, decoding)
    return Ready(
        request=request,
        tier=tier,
        placement=Placement(strategy="cpu" if view.row.on_host else "single"),
        reasons=(reason, *where_it_runs(tier, bound), *view.reasons),
        cites=(),
        calibrations=tuple(
            name
            for name in ("llm-speed", "speech-speed", "memory", "system-reserve")
            if name in request.catalog.calibrations
        ),
        memory=memory,
        speed=speed,
    )


def _recogniser_parts(
    request: Request, view: MachineView, load: SpeechLoad, decoder: Prepared, block: LlmBlock
) -> list[Part]:
    speech, transformer = request.model.speech, request.model.transformer
    assert speech is not None
    assert transformer is not None
    weights = int(block.layout.weights[0].sum())
    cache = int(block.kv_cache[0])
    activation = int(
        encoder_peak(
            load.positions,
            batch=load.at_once,
            hidden=speech.encoder_hidden_size or 0,
            feed_forward=speech.encoder_ffn_dim or 0,
            heads=transformer.num_attention_heads or 0,
            element_bytes=decoder.model.element_bytes,
        )
    )
    return [
        Part.exact(
            "weights",
            "weights",
            weights,
            "sum over tensors of encoder and decoder",
            {"quantization": request.quantization.id if request.quantization else ""},
        ),
        Part.exact(
            "kv_cache",
            "self- and cross-attention cache",
            cache,
            "windows at once x (decoder positions + encoder positions) x (K + V elements) x bytes",
            {
                "windows_at_once": load.at_once,
                "encoder_positions": load.positions,
            },
        ),
        Part.exact(
            "activation",
            "encoder activations",
            activation,
            "windows at once x positions x (3 feed-forward + 2 hidden) x bytes",
            {"windows_at_once": load.at_once, "encoder_positions": load.positions},
        ),
        *_runtime_parts(request, view, cache + activation),
    ]


def _runtime_parts(request: Request, view: MachineView, live: int) -> list[Part]:
    slack = scale_range(np.int64(live), *allocator_slack(request))
    context = MemoryRange(
        *(np.int64(v) for v in runtime_overhead(request, host=view.row.on_host))  # type: ignore[arg-type]
    )
    return [
        Part.ranged("overhead", "device context", context, "context and libraries of the runtime", {}),
        Part.ranged(
            "overhead",
            "allocator slack",
            slack,
            "share of the live tensors that a caching allocator holds beyond them",
            {},
        ),
    ]


def _voice(request: Request) -> Ready:
    """A text-to-speech model whose networks no source describes: its weights are known, its speed is not.

    Raises
    ------
    MissingDataError
        No source says how many parameters it has.
    UnsupportedFormatError
        Its format mixes others by a rule for language models.
    """
    model, chosen = request.model, request.quantization
    assert chosen is not None
    if model.parameters is None:
        raise MissingDataError(f"{model.name}: no source says how many parameters it has.")
    if chosen.block_weights is None or chosen.block_bytes is None:
        raise UnsupportedFormatError(f"{chosen.id} mixes formats by rules for language models.")
    view = machine_row(request)
    weights = int(component_bytes(model.parameters, chosen.block_weights, chosen.block_bytes))
    parts = [
        Part.exact(
            "weights",
            "weights",
            weights,
            "parameters / weights per block x bytes per block",
            {"parameters": model.parameters, "quantization": chosen.id},
        ),
        *_runtime_parts(request, view, weights),
    ]
    tier, memory, reason = judge_parts(request, view, parts, disk_bytes=weights)
    note = Reason.model_construct(
        code="speed-not-modelled",
        message=f"No source describes the networks of {model.name}; its activations are not counted either.",
        numbers={"task": model.task},
    )
    return Ready(
        request=request,
        tier=tier,
        placement=Placement(strategy="cpu" if view.row.on_host else "single"),
        reasons=(reason, *where_it_runs(tier, note), *view.reasons),
        cites=(),
        calibrations=("memory", "system-reserve"),
        memory=memory,
        speed=SpeedEstimate(notes=(note,)),
    )
