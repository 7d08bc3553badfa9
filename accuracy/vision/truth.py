"""Truth made here: run timm models on this processor, eager and compiled, and set them against the prediction.

Usage: ``python -m accuracy.vision.truth [--repeats 7]``. Needs torch and timm (extra ``torch``); ``compile`` also
needs a C++ compiler. The machine may be shared: medians are taken, and the fastest run is printed beside them.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import statistics
import time
import warnings
from typing import Any

import numpy as np

from accuracy.vision.trace_timm import stand_in_for_torchvision
from willitrun import Machine, Workload, detect, estimate_speed

MODELS = ("resnet18", "resnet50", "mobilenetv3_large_100", "efficientnet_b0", "vit_small_patch16_224", "convnext_tiny",
          "regnety_016")  # fmt: skip


def run_model(name: str, execution: str, repeats: int) -> list[float]:
    """Images per second of single passes at batch 1, after warming up."""
    import timm
    import torch

    model: Any = timm.create_model(name, pretrained=False).eval()
    image = torch.randn(1, 3, *model.pretrained_cfg["input_size"][1:])
    if execution == "compile":
        model = torch.compile(model)
    rates = []
    with torch.inference_mode():
        for _ in range(3):
            model(image)
        for _ in range(repeats):
            start = time.perf_counter()
            model(image)
            rates.append(1.0 / (time.perf_counter() - start))
    return rates


def compare(machine: Machine, repeats: int) -> list[tuple[str, str, float, float, float, bool]]:
    """Model, execution, measured median and best, predicted rate, and whether the interval holds the median."""
    rows = []
    for execution in ("eager", "compile"):
        if execution == "compile" and shutil.which("g++") is None and shutil.which("clang++") is None:
            print("compile: left out, there is no C++ compiler.")
            continue
        for name in MODELS:
            rates = run_model(name, execution, repeats)
            speed = estimate_speed(
                name, machine, Workload(batch_size=1, execution=execution), runtime="pytorch:cpu"
            )
            found = speed.images_per_s
            if found is None:
                print(f"{name} {execution}: no prediction, {speed.notes[0].message}")
                continue
            median = statistics.median(rates)
            rows.append((name, execution, median, max(rates), found.best, median in found))
    return rows


def main() -> None:
    """Print a table, the median error and how many medians lie in their interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data", help="taken and ignored, so that all reports are called alike")
    options = parser.parse_args()
    missing = [name for name in ("torch", "timm") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"left out: {' and '.join(missing)} not installed (extra 'torch').")
        return
    warnings.simplefilter("ignore")
    stand_in_for_torchvision()
    machine = detect()
    host = machine.host
    print(
        f"{host.cpu}, {host.cores} cores, {', '.join(host.instruction_sets) or 'no SIMD known'}; batch 1, fp32\n"
    )
    rows = compare(machine, options.repeats)
    print(
        "| model | execution | measured images/s, median | best run | predicted | predicted / measured | inside |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, execution, median, best, predicted, inside in rows:
        share = f"{predicted / median:.2f}"
        print(
            f"| {name} | {execution} | {median:.1f} | {best:.1f} | {predicted:.1f} | {share} | {'yes' if inside else 'no'} |"
        )
    for execution in ("eager", "compile"):
        errors = [abs(row[4] / row[2] - 1.0) for row in rows if row[1] == execution]
        if errors:
            held = sum(row[5] for row in rows if row[1] == execution)
            print(
                f"\n{execution}: median error {np.median(errors):.1%}, {held} of {len(errors)} inside the interval"
            )


if __name__ == "__main__":
    main()
