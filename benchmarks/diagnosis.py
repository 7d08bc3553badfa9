"""How long `diagnose()` takes for a log of 200 MB, and what memory it adds. Target: under 5 s and under 100 MB in all."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

MEGABYTES = 200
FAILURE = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.70 GiB.\n"


def write_log(path: Path) -> None:
    """An ordinary log full of words that signatures use, with one failure at its end."""
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < MEGABYTES * 1_000_000:
            written += file.write(
                f"2026-11-24 18:00:00,000 INFO worker-{number % 7} step={number:>9} loss={number % 97 / 31:.4f} "
                f"memory allocated {number % 240 / 10} GiB failed 0 error 0 of {number * 7919 % 100003} tokens CUDA graph ok\n"
            )
            number += 1
        file.write(FAILURE)


def peak_mb() -> float:
    """Most memory that this process has held [MB]; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    from willitrun import diagnose

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        write_log(log)
        diagnose("warm up")
        before, start = peak_mb(), time.perf_counter()
        found = diagnose(log)
        spent = time.perf_counter() - start
    print(f"diagnose(), {MEGABYTES} MB: {spent:.2f} s, {peak_mb():.0f} MB in all ({before:.0f} MB before)")
    print(f"  found: {', '.join(diagnosis.entry for diagnosis in found)}")


if __name__ == "__main__":
    main()
