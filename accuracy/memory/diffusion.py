"""Diffusion pipelines: activations per pixel, and peaks against published ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from willitrun.kernels.activations import diffusion_peak

__all__ = ["Stage", "fit", "score"]

GIB = 2**30
MEGAPIXEL = 1024 * 1024

# Components of FLUX.1-dev in bf16, as its rows in the table give them [bytes].
ENCODERS = int(9.52e9 + 246e6)
DENOISER = int(23.80e9)
VAE = int(168e6)
# Fusing the attention's projections keeps a copy of them: 19 blocks of two streams and 38 of one, width 3072.
FUSED = (2 * 19 + 38) * 3 * 3072**2 * 2
# Converting a layer while loading holds it twice more; the largest are the modulations of the two streams.
CONVERTED = 2 * 3072 * (6 * 3072) * 2

Moment = tuple[int, int]
"""Weights and live bytes of a moment: what stays and what comes and goes."""


@dataclass(frozen=True)
class Stage:
    """One measured pipeline and the moments that may be its peak [bytes]."""

    row: str
    name: str
    measured_bytes: float
    moments: tuple[Moment, ...]
    group: str

    def predicted_bytes(self, factor: float) -> float:
        """Peak where live bytes are ``factor`` times the predicted ones."""
        return max(weights + factor * live for weights, live in self.moments)

    @property
    def live_ratio(self) -> float:
        """Measured over predicted live bytes in the moment that peaks: weights are exact."""
        weights, live = max(self.moments, key=sum)
        return (self.measured_bytes - weights) / live


def _pairs(path: Path) -> Iterator[tuple[dict[str, Any], float, float, str]]:
    """Weights and peak of each FLUX configuration whose weights were measured too [GiB]."""
    table = pd.read_csv(path)
    table = table[table.domain == "diffusion/diffusers-torchao"]
    loaded: dict[str, tuple[dict[str, Any], float]] = {}
    for _, row in table.iterrows():
        if row.metric == "model_memory":
            loaded[row.config] = (json.loads(row.config), float(row.value))
    for _, row in table.iterrows():
        if row.metric == "inference_memory" and row.config in loaded:
            config, weights = loaded[row.config]
            yield config, weights, float(row.value), row.row_id


def fit(path: Path) -> dict[str, float]:
    """Bytes per pixel of the VAE from runs that differ in batch only; the denoiser's from its widths."""
    plain: dict[str, list[tuple[int, float]]] = {}
    for config, weights, peak, _ in _pairs(path):
        batch = int(config["batch_size"])
        if batch >= 8 and str(config.get("compile_vae")) == "False":
            plain.setdefault(str(config["quantization"]), []).append((batch, peak - weights))
    slopes = []
    for points in plain.values():
        batches = {batch for batch, _ in points}
        if len(batches) > 1:
            slopes.append(np.polyfit([batch for batch, _ in points], [live for _, live in points], 1)[0])
    per_pixel = float(np.median(slopes)) * GIB / MEGAPIXEL
    # Four hidden-width copies of the image tokens (one per 16 x 16 pixels, width 3072, 16 bits), doubled for
    # the feed-forward width: far below the VAE at full resolution.
    return {
        "diffusion.vae_bytes_per_pixel": per_pixel,
        "diffusion.denoiser_bytes_per_pixel": 12 * 3072 * 2 * 2 / 256,
        "diffusion.encoder_activation_bytes": 0.15 * GIB,
    }


def score(path: Path, coefficients: dict[str, float]) -> Iterator[Stage]:
    """Score pipelines with known components and sizes."""
    for config, weights, peak, row in _pairs(path):
        moments = [_moment(int(weights * GIB), int(config["batch_size"]), coefficients)]
        if str(config["quantization"]) != "None":
            # Quantizing on the fly starts from 16-bit weights: that moment can be the peak.
            fused = FUSED if str(config["fuse"]) == "True" else 0
            moments.append((ENCODERS + DENOISER + VAE + fused, CONVERTED))
        yield Stage(row, f"FLUX.1-dev {config['quantization']}", peak * GIB, tuple(moments), "torchao")
    table = pd.read_csv(path)
    backends = table[table.domain == "diffusion/diffusers quant backends"]
    loaded = {
        row.config: float(row.value) for _, row in backends.iterrows() if row.metric == "Memory after loading"
    }
    for _, row in backends.iterrows():
        if row.metric.startswith("Peak") and row.config in loaded:
            moment = _moment(int(loaded[row.config] * GIB), 1, coefficients)
            yield Stage(row.row_id, f"FLUX.1-dev {row.config}", float(row.value) * GIB, (moment,), "backends")


def _moment(weights: int, batch: int, coefficients: dict[str, float]) -> Moment:
    """The stage that peaks where all ``weights`` stay on the device."""
    peak = diffusion_peak(
        ENCODERS,
        weights - ENCODERS - VAE,
        VAE,
        pixels=MEGAPIXEL,
        batch=batch,
        guidance=False,
        encoder_activation_bytes=int(coefficients["diffusion.encoder_activation_bytes"]),
        denoiser_bytes_per_pixel=coefficients["diffusion.denoiser_bytes_per_pixel"],
        vae_bytes_per_pixel=coefficients["diffusion.vae_bytes_per_pixel"],
    ).peak.item()
    return weights, int(peak) - weights
