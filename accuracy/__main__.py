"""``python -m accuracy``: every report for which there is data. Fits are separate tools and never run here."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

REPORTS = (
    "accuracy.memory.report",
    "accuracy.memory.loads",
    "accuracy.memory.landed",
    "accuracy.memory.others",
    "accuracy.speed.report",
    "accuracy.speed.landed",
    "accuracy.vision.report",
    "accuracy.vision.landed",
    "accuracy.vision.diffusion_landed",
)


def main() -> None:
    """Score catalogued measurements, and the collected data where it lies beside the checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    print("# Catalogued measurements\n")
    importlib.import_module("accuracy.measurements").main()
    print("\n# accuracy.vision.truth\n")
    sys.argv = ["accuracy.vision.truth"]
    importlib.import_module("accuracy.vision.truth").main()
    if not options.data.is_dir():
        print(f"\n{options.data} is absent: only catalogued measurements were scored.")
        return
    for name in REPORTS:
        print(f"\n# {name}\n")
        sys.argv = [name, "--data", str(options.data)]
        importlib.import_module(name).main()


if __name__ == "__main__":
    main()
