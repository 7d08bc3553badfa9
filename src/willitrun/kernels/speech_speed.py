"""Time to transcribe audio with an encoder and an autoregressive decoder, window by window.

::

    windows = recordings x ceil(audio / window)          groups = ceil(windows / at once)
    t = slowdown x (windows x encoder + groups x tokens x decoder step)
    real-time factor = recordings x audio / t

The encoder is compute-bound, so its time grows with windows whatever is batched; one decoder step serves all windows
of a group. What a loop over windows adds to that is one calibrated factor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen

__all__ = ["Transcription", "count_windows", "time_transcription"]

Array = NDArray[np.float64]


@frozen
class Transcription:
    """Time of a transcription.

    Attributes
    ----------
    seconds
        Wall time of all recordings [s].
    real_time_factor
        Seconds of audio per second of work.
    encoder_s
        The encoder's share [s].
    decoder_repeats
        How often the decoder steps: its terms times this are the rest.
    """

    seconds: Array
    real_time_factor: Array
    encoder_s: Array
    decoder_repeats: Array


def count_windows(audio_s: ArrayLike, window_s: ArrayLike, recordings: ArrayLike) -> NDArray[np.int64]:
    """Windows of all recordings; the last one of each is padded.

    Examples
    --------
    >>> count_windows(95.0, 30.0, 2).item()
    8
    """
    each = np.ceil(np.asarray(audio_s, dtype=np.float64) / np.asarray(window_s, dtype=np.float64) - 1e-9)
    return np.asarray(np.maximum(each, 1).astype(np.int64) * np.asarray(recordings, dtype=np.int64))


def time_transcription(
    encoder_window_s: ArrayLike,
    decoder_step_s: ArrayLike,
    *,
    audio_s: ArrayLike,
    recordings: ArrayLike,
    windows: ArrayLike,
    at_once: ArrayLike,
    tokens_per_window: ArrayLike,
    slowdown: ArrayLike = 1.0,
) -> Transcription:
    """Time and real-time factor of recordings.

    Parameters
    ----------
    encoder_window_s
        One window through the encoder [s].
    decoder_step_s
        One step of the decoder over the windows of a group [s].
    audio_s, recordings
        Length of one recording [s], and their number.
    windows, at_once
        Windows of all recordings (`count_windows`), and how many are decoded together.
    tokens_per_window
        Tokens generated for a window.
    slowdown
        Calibrated factor on the time: windows that overlap, second attempts, timestamps, features.

    Examples
    --------
    >>> found = time_transcription(0.1, 0.01, audio_s=60.0, recordings=1, windows=2, at_once=1, tokens_per_window=90)
    >>> round(found.seconds.item(), 6), round(found.real_time_factor.item(), 2)
    (2.0, 30.0)
    """
    count = np.asarray(windows, dtype=np.float64)
    groups = np.ceil(count / np.asarray(at_once, dtype=np.float64))
    factor = np.asarray(slowdown, dtype=np.float64)
    encoder = factor * count * np.asarray(encoder_window_s, dtype=np.float64)
    repeats = factor * groups * np.asarray(tokens_per_window, dtype=np.float64)
    seconds = encoder + repeats * np.asarray(decoder_step_s, dtype=np.float64)
    heard = np.asarray(audio_s, dtype=np.float64) * np.asarray(recordings, dtype=np.float64)
    return Transcription(seconds, heard / seconds, encoder, np.asarray(repeats))
