"""Measure how many images a core decodes and crops, and write ``catalogs/calibrations/input-pipeline.toml``.

Usage: ``python -m accuracy.vision.decode [--out catalogs/calibrations/input-pipeline.toml]``

What torchvision's default loader does to an image of ImageNet's mean size: Pillow decodes the JPEG, resizes its
shorter side to 256, crops 224 pixels, and the pixels become normalised floats. Images are synthetic, with the 1/f
spectrum of photographs, compressed to ImageNet's mean bytes. Time is that of the process, so a shared machine
disturbs it little.
"""

from __future__ import annotations

import argparse
import datetime
import io
import os
import statistics
import time
from pathlib import Path

import numpy as np

from accuracy.vision.conformal import conformal_interval
from accuracy.vision.record import CalibrationRecord, write_record
from accuracy.vision.trace_tables import TRACES
from willitrun import load_catalog

WIDTH, HEIGHT = 469, 387
"""Mean size of ImageNet's images [pixels] (https://arxiv.org/abs/1409.0575)."""
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def photograph(seed: int, target_bytes: int) -> bytes:
    """Compress a picture with the spectrum of a photograph to about so many bytes."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :]
    falloff = 1.0 / np.maximum(np.hypot(rows, columns), 1.0 / WIDTH)
    planes = []
    for _ in range(3):
        noise = rng.normal(size=(HEIGHT, WIDTH // 2 + 1)) + 1j * rng.normal(size=(HEIGHT, WIDTH // 2 + 1))
        plane = np.fft.irfft2(noise * falloff, s=(HEIGHT, WIDTH))
        planes.append(128.0 + 50.0 * plane / plane.std())
    image = Image.fromarray(np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8))
    low, high = 5, 100
    while high - low > 1:
        quality = (low + high) // 2
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        low, high = (quality, high) if buffer.tell() < target_bytes else (low, quality)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=low)
    return buffer.getvalue()


def prepare(data: bytes) -> np.ndarray:
    """Decode, resize the shorter side to 256, crop 224, normalise."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return np.ascontiguousarray(((pixels / 255.0 - MEAN) / DEVIATION).transpose(2, 0, 1))


def measure(images: int = 24, repeats: int = 12) -> list[float]:
    """Images per second of one core, one figure per picture: the median over repeats."""
    size = load_catalog().datasets["imagenet-1k"].mean_image_bytes
    assert size is not None
    pictures = [photograph(seed, int(size)) for seed in range(images)]
    found: list[list[float]] = [[] for _ in pictures]
    for _ in range(repeats):
        for times, picture in zip(found, pictures, strict=True):
            start = time.process_time()
            prepare(picture)
            times.append(time.process_time() - start)
    return [1.0 / statistics.median(times) for times in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TRACES.parent / "calibrations" / "input-pipeline.toml")
    options = parser.parse_args()
    import PIL

    rates = measure()
    best = float(np.median(rates))
    low, high = conformal_interval(np.log(np.array(rates) / best), np.arange(len(rates)))
    record = CalibrationRecord(
        id="input-pipeline", kind="input-pipeline",
        method=f"Pillow {PIL.__version__}: decode, resize to 256, crop 224, normalise, on one core of the machine that fitted it (process time); synthetic pictures of ImageNet's mean size and bytes. Written by accuracy.vision.decode.",
        data_digest="none: measured by the tool", n_rows=len(rates), n_configurations=1,
        coefficients={"images_per_core_s": best},
        levels={}, intervals={"images_per_core_s/near": {"low": low, "high": high, "n": len(rates), "coverage": 0.9}},
    )  # fmt: skip
    fitted = os.environ.get("FIT_DATE", datetime.date.today().isoformat())
    write_record(record, options.out, fitted=datetime.date.fromisoformat(fitted))
    print(f"{best:.0f} images per core and second ({low:.2f} to {high:.2f} times that)")


if __name__ == "__main__":
    main()
