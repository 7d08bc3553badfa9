"""Times of encoder and decoder as a speed estimate of a transcription."""

from __future__ import annotations

from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.estimators.speech_models import SpeechLoad
from willitrun.estimators.support import LEVELS, interval_factors
from willitrun.intervals import Interval
from willitrun.kernels.llm_block import LlmBlock
from willitrun.kernels.llm_speed import BOUNDS
from willitrun.kernels.speech_speed import time_transcription
from willitrun.records.results import Bound, Reason, SpeedEstimate, Term
from willitrun.units import format_duration

__all__ = ["pack_transcription"]

CALIBRATION, SPEECH = "llm-speed", "speech-speed"


def _factors(request: Request) -> tuple[float, float]:
    """The widest of the language models' intervals: too few measurements of speech for one of its own."""
    calibration = request.catalog.calibrations[CALIBRATION]
    widest = LEVELS.index("unseen-class")
    pairs = [interval_factors(calibration, task)[widest] for task in ("decode", "prefill")]
    return float(min(pair[0] for pair in pairs)), float(max(pair[1] for pair in pairs))


def pack_transcription(
    request: Request, view: MachineView, load: SpeechLoad, encoding: LlmBlock, decoding: LlmBlock
) -> tuple[SpeedEstimate, Reason]:
    """Real-time factor with terms that sum to the seconds of all recordings, and what binds it."""
    step = decoding.speed
    records = request.catalog.calibrations
    slowdown = records[SPEECH].coefficients["slowdown"] if SPEECH in records else 1.0
    found = time_transcription(
        float(encoding.speed.prefill_s[0]),
        float(step.step_s[0]),
        audio_s=load.audio_s,
        recordings=load.recordings,
        windows=load.windows,
        at_once=load.at_once,
        tokens_per_window=load.tokens,
        slowdown=slowdown,
    )
    low, high = _factors(request)
    best = float(found.real_time_factor)
    repeats = float(found.decoder_repeats)
    encoder_s, decoder_s = float(found.encoder_s), repeats * float(step.step_s[0])
    inputs: dict[str, float | int | str] = {
        "windows": load.windows,
        "windows_at_once": load.at_once,
        "beams": load.beams,
        "encoder_positions": load.positions,
        "tokens_per_window": load.tokens,
        "audio_s": load.audio_s * load.recordings,
        "slowdown": slowdown,
    }
    cites = (CALIBRATION, SPEECH, *view.cites)
    terms = [
        Term.model_construct(
            name="encoder",
            value=encoder_s,
            unit="s",
            equation="slowdown x windows x prefill of one window's positions",
            inputs=inputs,
            cites=cites,
            evidence="calibrated",
        ),
        *(
            Term.model_construct(
                name=f"decoder {name}",
                value=repeats * float(values[0]),
                unit="s",
                equation="slowdown x groups of windows x tokens per window x the same term of one decoding step",
                inputs={},
                cites=(CALIBRATION,),
                evidence="calibrated",
            )
            for name, values in step.terms
        ),
    ]
    bound: Bound = "compute" if encoder_s > decoder_s else BOUNDS[int(step.bound[0])]  # type: ignore[assignment]
    speed = SpeedEstimate.model_construct(
        real_time_factor=Interval(best * low, best, best * high),
        bound=bound,
        evidence="estimated",
        support="decode/unseen-class",
        terms=tuple(terms),
        notes=(),
    )
    seconds = float(found.seconds)
    reason = Reason.model_construct(
        code=f"{bound}-bound",
        message=f"{format_duration(load.audio_s * load.recordings)} of audio take {format_duration(seconds)}: encoder "
        f"{format_duration(encoder_s)}, decoder {format_duration(decoder_s)} at {load.tokens} tokens a window.",
        numbers={"seconds": seconds, "encoder_s": encoder_s, "decoder_s": decoder_s},
    )
    return speed, reason
