"""Plan a fleet on two cores: minutes and peak memory. ``python -m benchmarks.fleet`` judges 120 million scenarios."""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import Any

FORMATS = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m")
CONTEXTS = (4096, 8192, 16384, 32768, 65536)


def hosts(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Made-up hosts of many kinds: cards of the catalog, one to eight of them, all with other RAM and free memory."""
    from willitrun import load_catalog

    catalog = load_catalog()
    cards = [
        record
        for record in catalog.accelerators.values()
        if record.form in ("desktop", "workstation", "server-pcie", "server-sxm")
        and record.memory
        and record.memory_bandwidth
        and record.peaks.fp32
    ]
    rng = random.Random(seed)
    found = []
    for number in range(count):
        card = rng.choice(cards)
        many = rng.choices((1, 2, 4, 8), (70, 15, 10, 5))[0]
        free = int((card.memory or 0) * rng.uniform(0.7, 1.0))
        found.append(
            {
                "name": f"host-{number:05}",
                "accelerators": [{"id": card.id, "memory_free": f"{free} B"}] * many,
                "host": {
                    "ram": f"{rng.choice((32, 64, 128, 256, 512))} GiB",
                    "os": rng.choice(("linux", "windows")),
                },
            }
        )
    return found


def judge(arguments: tuple[int, int, int, int]) -> dict[str, Any]:
    """One process's share of the hosts: every block judged and reduced as it comes."""
    from willitrun import Workload
    from willitrun.catalog import load_catalog
    from willitrun.planning.fleets import plan_blocks
    from willitrun.planning.reductions import counted, reduce_together
    from willitrun.planning.scans import models_of

    first, last, total, n_models = arguments
    models = models_of(load_catalog(), "text-generation")[:n_models]
    start = time.perf_counter()
    cpu = time.process_time()
    rows = 0

    def count(more: int) -> None:
        nonlocal rows
        rows += more

    blocks = plan_blocks(
        models=models,
        machines=hosts(total)[first:last],
        workloads=Workload.grid(contexts=CONTEXTS),
        quantizations=FORMATS,
        progress=count,
    )
    found = reduce_together(
        blocks,
        best=lambda t: t.filter(tier="comfortable").best_by(["machine"], "decode_tokens_per_s"),
        tiers=lambda t: counted(t, ["tier"]),
    )
    return {
        "rows": rows,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "tiers": dict(zip(found["tiers"]["tier"].tolist(), found["tiers"]["count"].tolist(), strict=True)),
        "hosts_with_something": len(found["best"]),
    }


def main() -> None:
    """Judge all hosts on some processes and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    cuts = [options.hosts * i // options.processes for i in range(options.processes + 1)]
    start = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        shares = [(a, b, options.hosts, options.models) for a, b in pairwise(cuts)]
        parts = list(pool.map(judge, shares))
    rows = sum(part["rows"] for part in parts)
    print(
        json.dumps(
            {
                "scenarios": rows,
                "wall_minutes": round((time.perf_counter() - start) / 60, 2),
                "cpu_minutes": round(sum(part["cpu_seconds"] for part in parts) / 60, 2),
                "scenarios_per_cpu_second": round(rows / sum(part["cpu_seconds"] for part in parts)),
                "peak_gib_all_processes": round(sum(part["peak_bytes"] for part in parts) / 2**30, 2),
                "parts": parts,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
