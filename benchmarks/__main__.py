"""Import cost, first verdict, warm verdicts, look-ups and sweep rows per second."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

COLD = {
    "bare interpreter [ms]": "pass",
    "import willitrun [ms]": "import willitrun",
    "import numpy, pydantic [ms]": "import numpy, pydantic",
    "one alias look-up [ms]": "from willitrun import load_catalog; load_catalog().resolve('accelerator', 'rtx-4090')",
    "whole catalog [ms]": "from willitrun import load_catalog\nfrom willitrun.catalog.layout import KINDS\n"
    "c = load_catalog()\nfor kind in KINDS: [c.table(kind)[i] for i in c.table(kind)]",
    "first assess [ms]": "from willitrun import assess; assess('llama-3.1-8b', 'rtx-4090', quantization='q4_k_m')",
    "first assess, ResNet-50 [ms]": "from willitrun import assess; assess('resnet-50', 'rtx-3060-12gb')",
}


def cold(code: str, repeats: int) -> float:
    """Best wall time of a fresh interpreter [ms]."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def warm(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Median time of a call after warming up [us]."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def sweep_rows_per_s() -> dict[str, float]:
    """Rows per second of LLM sweeps with tier and intervals, on one core."""
    from willitrun import Workload, load_catalog, plan

    catalog = load_catalog()
    machines = [
        record.id
        for record in catalog.accelerators.values()
        if record.memory and record.memory_bandwidth and record.peaks.fp32 and not record.unified_memory
    ][:100]
    workloads = Workload.grid(
        contexts=[4096, 8192, 16384, 32768, 65536, 131072], concurrencies=list(range(1, 257))
    )
    models = ["llama-3.1-8b", "qwen3-30b-a3b", "llama-3.3-70b"]
    arguments = {
        "models": models,
        "machines": machines,
        "workloads": workloads,
        "quantizations": ["q4_k_m", "q8_0"],
    }
    plan(**arguments)  # type: ignore[arg-type]
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        table = plan(**arguments)  # type: ignore[arg-type]
        best = max(best, len(table) / (time.perf_counter() - start))
    return {"LLM sweep [rows/s]": best}


def main() -> None:
    """Print a table, or JSON for comparison between commits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, float] = {name: cold(code, options.repeats) for name, code in COLD.items()}

    from willitrun import (
        Workload,
        assess,
        describe_machine,
        estimate_memory,
        estimate_speed,
        load_catalog,
        scan,
    )
    from willitrun.planning.scans import models_of

    card = describe_machine("rtx-4090")
    eight = {"quantization": "q4_k_m"}
    found["warm assess, comfortable [us]"] = warm(lambda: assess("llama-3.1-8b", card, **eight))  # type: ignore[arg-type]
    found["warm assess with remedies [us]"] = warm(lambda: assess("llama-3.3-70b", card, **eight))  # type: ignore[arg-type]
    found["warm assess, ResNet-50 [us]"] = warm(lambda: assess("resnet-50", card))
    found["warm estimate_memory [us]"] = warm(
        lambda: estimate_memory("llama-3.1-8b", card, Workload(context_tokens=8192), **eight)  # type: ignore[arg-type]
    )
    found["warm estimate_speed [us]"] = warm(lambda: estimate_speed("llama-3.1-8b", card, **eight))  # type: ignore[arg-type]
    many = models_of(load_catalog(), None)[:400]
    found["warm scan of 400 models, 5 formats [us]"] = warm(lambda: scan(card, models=many))
    found |= sweep_rows_per_s()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:36} {value:14,.1f}")


if __name__ == "__main__":
    main()
