"""What the image encoder of a vision-language model holds while it looks at the images of a prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from willitrun.kernels.activations import image_encoder_peak
from willitrun.kernels.columns import Columns
from willitrun.kernels.elementwise import maximum, minimum, where
from willitrun.kernels.llm_block import IntArray
from willitrun.kernels.overheads import MemoryRange, add_ranges
from willitrun.kernels.splits import by_device, is_alone

__all__ = ["with_image_encoder"]


def with_image_encoder(
    activation: MemoryRange,
    models: Columns,
    loads: Columns,
    sequences: IntArray,
    available: IntArray,
    cache: str,
) -> MemoryRange:
    """Activations of the language model, with those of its image encoder: prompts have images.

    llama.cpp encodes one image (or tile) after the other in float32, in buffers that stay beside those of the
    language model on the first device; the high end holds without flash attention in the encoder. PyTorch runs
    the encoder before the language model, so that the larger of both counts: transformers on the images of all
    sequences, a paged server on those of one request.
    """
    patches, tiles = loads["image_patches"], loads["image_tiles"]
    shape = {
        "hidden": models["tower_hidden"],
        "held_width": models["tower_feed_forward"],
        "heads": models["tower_heads"],
    }
    if cache == "cells":
        one = minimum(tiles, 1)
        fused = image_encoder_peak(patches, images=one, element_bytes=4, **shape)
        scored = image_encoder_peak(patches, images=one, element_bytes=4, fused_attention=False, **shape)
        first: ArrayLike = True
        if not is_alone(available):
            first = np.arange(available.shape[-1]) == np.argmax(available > 0, axis=-1)[..., None]
        best, high = where(first, by_device(fused), 0), where(first, by_device(scored), 0)
        return add_ranges(activation, MemoryRange(best, best, high))
    together = tiles if cache == "pages" else tiles * sequences
    size, copies = models["element_bytes"], models["tower_copies"]
    encoder = image_encoder_peak(
        patches, images=together, element_bytes=size, attention_copies=copies, **shape
    )
    peak = by_device(encoder)
    return MemoryRange(activation.low, maximum(activation.best, peak), maximum(activation.high, peak))
