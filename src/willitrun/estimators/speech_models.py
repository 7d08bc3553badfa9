"""A speech recogniser as two language-model requests: its encoder over a window, its decoder at batch 1 and up."""

from __future__ import annotations

from dataclasses import replace

from willitrun.errors import MissingDataError
from willitrun.estimators.requests import Request
from willitrun.frozen import frozen
from willitrun.kernels.speech_speed import count_windows
from willitrun.records.models import TransformerConfig
from willitrun.records.recipes import Workload

__all__ = ["SpeechLoad", "decoder_request", "encoder_request", "speech_load"]

PROMPT_TOKENS = 4
"""Start of transcript, language, task, no timestamps: https://github.com/openai/whisper (tokenizer.py)."""
MOST_OUTPUT = 224
"""Half of Whisper's 448 positions are for the prompt: https://github.com/openai/whisper (decoding.py)."""
_BEAMS = {"faster-whisper": 5, "whisper.cpp": 5}
"""Beams that a runtime follows unless told otherwise; the others decode greedily:
https://github.com/SYSTRAN/faster-whisper (transcribe), https://github.com/ggml-org/whisper.cpp (examples/cli)."""


@frozen
class SpeechLoad:
    """What is asked, in windows."""

    audio_s: float
    recordings: int
    windows: int
    at_once: int
    tokens: int
    positions: int
    beams: int


def speech_load(request: Request) -> SpeechLoad:
    """Windows of the audio, and how many are processed together.

    Raises
    ------
    MissingDataError
        The record does not say how long a window is, or how many positions it takes.
    """
    speech, workload = request.model.speech, request.workload
    if speech is None or speech.window_s is None or speech.encoder_positions is None:
        raise MissingDataError(f"{request.model.name}: no source says how long its audio window is.")
    audio = workload.audio_s or speech.window_s
    windows = int(count_windows(audio, speech.window_s, workload.concurrency))
    return SpeechLoad(
        audio_s=audio,
        recordings=workload.concurrency,
        windows=windows,
        at_once=min(windows, max(workload.batch_size or 1, workload.concurrency)),
        tokens=min(workload.output_tokens or 1, MOST_OUTPUT),
        positions=speech.encoder_positions,
        beams=_BEAMS.get(request.profile.id, 1),
    )


def decoder_request(request: Request, load: SpeechLoad, *, beams: int = 1) -> Request:
    """The decoder as a language model with cross-attention: one sequence per window, or per window and beam.

    The encoder's positions count as cached tokens: a step reads their keys and values like those of its own past,
    which have the same width.
    """
    if request.model.transformer is None:
        raise MissingDataError(f"{request.model.name}: no source gives its decoder's sizes.")
    workload = Workload(
        task=request.workload.task,
        context_tokens=PROMPT_TOKENS + load.tokens,
        prompt_tokens=PROMPT_TOKENS,
        cached_tokens=load.positions,
        output_tokens=load.tokens,
        concurrency=load.at_once * beams,
    )
    return replace(request, workload=workload)


def encoder_request(request: Request, load: SpeechLoad) -> Request:
    """The encoder as an encoder-only language model that reads one window; its convolutions are not counted."""
    speech, transformer = request.model.speech, request.model.transformer
    if (
        speech is None
        or transformer is None
        or speech.encoder_layers is None
        or speech.encoder_hidden_size is None
        or speech.encoder_ffn_dim is None
    ):
        raise MissingDataError(f"{request.model.name}: no source gives its encoder's sizes.")
    config = TransformerConfig(
        model_type="bert",
        num_hidden_layers=speech.encoder_layers,
        hidden_size=speech.encoder_hidden_size,
        intermediate_size=speech.encoder_ffn_dim,
        num_attention_heads=transformer.num_attention_heads,
        vocab_size=1,
        max_position_embeddings=load.positions,
    )
    model = request.model.model_copy(update={"transformer": config, "tensors": None})
    workload = Workload(
        context_tokens=load.positions, prompt_tokens=load.positions, output_tokens=1, batch_size=1
    )
    return replace(request, model=model, workload=workload)
