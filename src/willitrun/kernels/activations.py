"""Activation peaks outside llama.cpp and vLLM: eager PyTorch, vision graphs, diffusion stages [bytes]."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import as_bool, maximum, where
from willitrun.kernels.weights import as_int64

__all__ = [
    "KEPT_GROUPS",
    "TILE_PIXELS",
    "DiffusionPeaks",
    "diffusion_peak",
    "eager_transformer_peak",
    "encoder_peak",
    "image_encoder_peak",
    "kept_elements",
    "vision_peak",
]

Int64Array = NDArray[np.int64]

TILE_PIXELS = 512 * 512
"""Pixels of one tile of a tiled VAE [pixels]."""

KEPT_GROUPS: dict[str, tuple[str, ...]] = {
    "conv": ("conv_kxk", "conv_1x1", "conv_grp", "conv_dw"),
    "gemm": ("gemm",),
    "attention": ("bmm", "sdpa", "sdpa_mask", "softmax"),
    "norm": ("bn", "ln", "gn"),
    "elementwise": ("elementwise",),
    "rest": ("pool", "unfold", "reduction", "copy"),
}
"""Operator kinds that keep a like share of what they read and write for the backward pass."""


def eager_transformer_peak(
    tokens: ArrayLike,
    *,
    sequences: ArrayLike,
    vocabulary: ArrayLike,
    hidden: ArrayLike,
    feed_forward: ArrayLike,
    heads: ArrayLike,
    gated: ArrayLike = True,
    experts_used: ArrayLike = 1,
    element_bytes: ArrayLike = 2,
    fused_attention: ArrayLike = True,
    all_logits: ArrayLike = False,
    float_logits: ArrayLike = True,
) -> Int64Array:
    """Peak of one eager forward pass over a prompt [bytes].

    The largest of three stages: feed-forward ``s b (3 F + 4 E)`` (gate, up and their product; the layer's input,
    the residual, the normed input and the output), ``s b (2 F + 3 E)`` where it is not gated, and ``2 k E`` more
    where each token goes through k experts; attention ``s b 6 E`` plus, unfused, two score matrices
    ``2 b H s^2`` (one of them float32), and logits ``V b`` rows (``s b`` rows before transformers 4.45), copied
    to float32 where the version does that. Counted in PyTorch on ten architectures (``make truth-torch``).

    Parameters
    ----------
    tokens, sequences
        Prompt tokens per sequence, and sequences.
    vocabulary, hidden, feed_forward, heads
        Widths of the model.
    gated
        Whether the feed-forward block has a gate.
    experts_used
        Experts that one token passes through; ``feed_forward`` is the sum of their widths.
    element_bytes
        Bytes of an activation element.
    fused_attention
        SDPA or flash attention: no score matrix.
    all_logits
        Logits for every position (a plain forward call), not for the last one only (generate).
    float_logits
        Whether logits are also held in float32.

    Examples
    --------
    >>> eager_transformer_peak(256, sequences=1, vocabulary=32000, hidden=4096, feed_forward=11008,
    ...     heads=32, all_logits=True).item() // 2**20
    48
    """
    length, batch = as_int64(tokens), as_int64(sequences)
    width, size = as_int64(hidden), as_int64(element_bytes)
    rows = length * batch
    gate = as_bool(gated)
    used = as_int64(experts_used)
    copies = where(gate, 4, 3) + where(used > 1, 2 * used, 0)
    feed = rows * (where(gate, 3, 2) * as_int64(feed_forward) + copies * width) * size
    scores = batch * as_int64(heads) * length * length * (size + 4)
    attention = rows * 6 * width * size + where(as_bool(fused_attention), 0, scores)
    kept = where(as_bool(all_logits), rows, batch)
    per_logit = size + where(as_bool(float_logits), 4, 0)
    logits = kept * as_int64(vocabulary) * per_logit + rows * width * size
    return as_int64(maximum(maximum(feed, attention), logits))


def encoder_peak(
    tokens: ArrayLike,
    *,
    batch: ArrayLike,
    hidden: ArrayLike,
    feed_forward: ArrayLike,
    heads: ArrayLike,
    element_bytes: ArrayLike = 2,
    fused_attention: ArrayLike = True,
) -> Int64Array:
    """Peak of an encoder over a batch [bytes]: audio encoders.

    Like `eager_transformer_peak` without a gate and without logits.

    Examples
    --------
    >>> encoder_peak(512, batch=32, hidden=1024, feed_forward=4096, heads=16).item() // 2**20
    352
    """
    return eager_transformer_peak(
        tokens,
        sequences=batch,
        vocabulary=0,
        hidden=hidden,
        feed_forward=feed_forward,
        heads=heads,
        gated=False,
        element_bytes=element_bytes,
        fused_attention=fused_attention,
    )


def image_encoder_peak(
    patches: ArrayLike,
    *,
    images: ArrayLike,
    hidden: ArrayLike,
    held_width: ArrayLike,
    heads: ArrayLike,
    attention_copies: ArrayLike = 6,
    element_bytes: ArrayLike = 2,
    fused_attention: ArrayLike = True,
) -> Int64Array:
    """Peak of the image encoder of a vision-language model [bytes].

    ``n p b max(W + 4 E, a E)`` for n images of p patches, plus ``n H p^2 (b + 4)`` of scores where attention is
    not fused.

    Parameters
    ----------
    patches, images
        Patches of one image (or tile), and images (tiles) at once.
    hidden, held_width, heads
        Width of the encoder, elements of its feed-forward block that live at once for one patch, and heads.
    attention_copies
        Hidden widths that live at once for one patch while attention runs.
    element_bytes
        Bytes of an activation element.
    fused_attention
        SDPA or flash attention: no score matrix.

    Examples
    --------
    >>> image_encoder_peak(5476, images=2, hidden=1280, held_width=10240, heads=16).item() // 2**20
    320
    """
    each, count = as_int64(patches), as_int64(images)
    width, size = as_int64(hidden), as_int64(element_bytes)
    rows = each * count
    block = rows * maximum(as_int64(held_width) + 4 * width, as_int64(attention_copies) * width) * size
    scores = count * as_int64(heads) * each * each * (size + 4)
    # A number stays a number: an array of length nothing would pass for a column of devices.
    return as_int64(block + where(fused_attention, 0, scores))


def vision_peak(
    live_elements: ArrayLike,
    *,
    batch: ArrayLike,
    element_bytes: ArrayLike,
    workspace_bytes: ArrayLike = 0,
    input_elements: ArrayLike = 0,
) -> Int64Array:
    """Peak live activations of a vision graph under eager execution [bytes].

    ``batch x (largest sum of simultaneously live elements + input) x element size + workspace``.

    Parameters
    ----------
    live_elements
        Largest sum of live elements over the operators of one image, from its trace.
    batch
        Images at once.
    element_bytes
        2 under fp16, bf16 and autocast, 4 under fp32.
    workspace_bytes
        cuDNN and cuBLAS workspaces.
    input_elements
        Elements of one input image.
    """
    per_image = as_int64(live_elements) + as_int64(input_elements)
    total = as_int64(batch) * per_image * as_int64(element_bytes) + as_int64(workspace_bytes)
    return np.asarray(total, dtype=np.int64)


def kept_elements(classes: Mapping[str, Mapping[str, float]], shares: Mapping[str, float]) -> float:
    """Elements of one image that a graph keeps for its backward pass.

    ``sum over groups of share x elements read and written``: a convolution keeps its input, a norm too, an
    activation its output unless it works in place, an addition nothing.

    Parameters
    ----------
    classes
        Operator class -> column -> value, as traces have it.
    shares
        Kept share of the traffic by group of `KEPT_GROUPS` (calibrated).

    Examples
    --------
    >>> kept_elements({"bn": {"act_elements": 200.0}, "gemm.hi": {"act_elements": 50.0}}, {"norm": 0.5})
    100.0
    """
    total = 0.0
    for group, share in shares.items():
        kinds = KEPT_GROUPS[group]
        total += share * sum(
            row["act_elements"] for name, row in classes.items() if name.partition(".")[0] in kinds
        )
    return total


@frozen
class DiffusionPeaks:
    """Peak of a pipeline on the accelerator by stage, and what host memory holds [bytes]."""

    encode: Int64Array
    denoise: Int64Array
    decode: Int64Array
    host: Int64Array

    @property
    def peak(self) -> Int64Array:
        """The largest stage."""
        return np.maximum(np.maximum(self.encode, self.denoise), self.decode)


def diffusion_peak(
    encoder_bytes: ArrayLike,
    denoiser_bytes: ArrayLike,
    vae_bytes: ArrayLike,
    *,
    pixels: ArrayLike,
    batch: ArrayLike,
    guidance: ArrayLike,
    encoder_activation_bytes: ArrayLike,
    denoiser_bytes_per_pixel: ArrayLike,
    vae_bytes_per_pixel: ArrayLike,
    largest_layer_bytes: ArrayLike = 0,
    largest_denoiser_bytes: ArrayLike | None = None,
    offload: str = "none",
    tiling: ArrayLike = False,
    slicing: ArrayLike = False,
    tile_pixels: ArrayLike = TILE_PIXELS,
) -> DiffusionPeaks:
    """Peak of a diffusion pipeline under an offload mode [bytes].

    A stage holds the components that the mode keeps on the accelerator, and its own activations:
    all components (``none``), one at a time (``model``), one layer at a time (``sequential``), or two groups
    of layers of the denoiser (``group``). Tiling decodes one tile at a time, slicing one image at a time.

    Parameters
    ----------
    encoder_bytes, denoiser_bytes, vae_bytes
        Weights of the text encoders, of the denoiser (quantized or not) and of the VAE [bytes].
    pixels
        Pixels of one image (of all frames of one video).
    batch
        Images at once; classifier-free guidance doubles the denoiser's batch where ``guidance``.
    encoder_activation_bytes
        Activations of text encoding.
    denoiser_bytes_per_pixel, vae_bytes_per_pixel
        Live activations per output pixel (calibrated by family).
    largest_layer_bytes
        Largest layer of the denoiser, for sequential and group offload.
    largest_denoiser_bytes
        Where several denoisers take turns, the largest of them: model offload keeps one on the accelerator.
    offload
        ``none``, ``model``, ``sequential`` or ``group``.

    References
    ----------
    https://huggingface.co/docs/diffusers/optimization/memory
    """
    encoder, denoiser, vae = as_int64(encoder_bytes), as_int64(denoiser_bytes), as_int64(vae_bytes)
    layer = as_int64(largest_layer_bytes)
    images = as_int64(batch)
    area = as_int64(pixels)
    passes = images * np.where(np.asarray(guidance, dtype=bool), 2, 1)
    denoise_live = np.rint(passes * area * np.asarray(denoiser_bytes_per_pixel, dtype=np.float64))
    decoded = np.where(np.asarray(tiling, dtype=bool), np.minimum(area, as_int64(tile_pixels)), area)
    at_once = np.where(np.asarray(slicing, dtype=bool) | np.asarray(tiling, dtype=bool), 1, images)
    decode_live = np.rint(at_once * decoded * np.asarray(vae_bytes_per_pixel, dtype=np.float64))
    every = encoder + denoiser + vae
    match offload:
        case "none":
            held = (every, every, every)
            host = np.zeros_like(every)
        case "model":
            held = (
                encoder,
                denoiser if largest_denoiser_bytes is None else as_int64(largest_denoiser_bytes),
                vae,
            )
            host = every
        case "sequential":
            held = (layer, layer, np.minimum(layer, vae))
            host = every
        case "group":
            held = (np.minimum(encoder, 2 * layer), 2 * layer, vae)
            host = every
        case _:
            raise ValueError(f"unknown offload mode {offload!r}: none, model, sequential or group")
    return DiffusionPeaks(
        encode=np.asarray(held[0] + as_int64(encoder_activation_bytes), dtype=np.int64),
        denoise=np.asarray(held[1] + denoise_live.astype(np.int64), dtype=np.int64),
        decode=np.asarray(held[2] + decode_live.astype(np.int64), dtype=np.int64),
        host=np.asarray(host, dtype=np.int64),
    )
