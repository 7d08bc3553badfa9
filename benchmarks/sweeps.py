"""Rows per second of sweeps on one core, by the clock and by the processor's time: ``python -m benchmarks.sweeps``.

Owed: 500,000 rows/s of image models, 2,000,000 of language models, both with tier and intervals; 1,000,000 rows of
the memory kernel in a second; 400 models ranked on a machine in 50 ms.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from willitrun import Workload, describe_machine, load_catalog, plan, scan


def measure(call: Callable[[], int], repeats: int) -> tuple[float, float]:
    """Best rows/s by wall clock and by processor time, warm."""
    call()
    wall = cpu = 0.0
    for _ in range(repeats):
        start, spent = time.perf_counter(), time.process_time()
        rows = call()
        wall = max(wall, rows / (time.perf_counter() - start))
        cpu = max(cpu, rows / (time.process_time() - spent))
    return wall, cpu


def cards(count: int) -> list[str]:
    """Accelerators whose facts are complete."""
    found = [
        record.id
        for record in load_catalog().accelerators.values()
        if record.memory and record.memory_bandwidth and record.peaks.fp32 and not record.unified_memory
    ]
    return found[:count]


LANGUAGE: dict[str, Any] = {
    "models": ["llama-3.1-8b", "qwen3-30b-a3b", "llama-3.3-70b"],
    "workloads": Workload.grid(
        contexts=[4096, 8192, 16384, 32768, 65536, 131072], concurrencies=list(range(1, 257))
    ),
    "quantizations": ["q4_k_m", "q8_0"],
}


def image_sweeps() -> dict[str, dict[str, Any]]:
    """Few networks under many loads, and many under few; detectors and classifiers alike."""
    networks = [model.id for model in load_catalog().models.values() if model.task == "image-classification"]

    def loads(batches: range) -> list[Workload]:
        precisions = ("fp32", "amp-fp16", "fp16", "int8")
        return [Workload(batch_size=batch, precision=name) for name in precisions for batch in batches]

    return {
        "images, 3 networks x 100 cards x 4 precisions x 384 batches": {
            "models": ["resnet-50", "vit_base_patch16_224", "yolov8s"],
            "machines": cards(100),
            "workloads": loads(range(1, 385)),
        },
        "images, 50 networks x 100 cards x 4 precisions x 25 batches": {
            "models": networks[:50],
            "machines": cards(100),
            "workloads": loads(range(1, 26)),
        },
        "images, 400 networks x 100 cards x 4 precisions x 4 batches": {
            "models": networks[:400],
            "machines": cards(100),
            "workloads": loads(range(8, 40, 8)),
        },
    }


def memory_rows() -> Callable[[], int]:
    """The memory kernels of a language sweep alone: caches, buffers, placement, tier."""
    from willitrun.estimators.cell_buffers import cell_buffers
    from willitrun.estimators.overheads import block_buffers
    from willitrun.kernels.llm_block import assess_block, cache_bytes
    from willitrun.planning.axes import build_axes
    from willitrun.planning.sheets import Sheet
    from willitrun.planning.sweeps import _Group, _Pair, _tiles

    catalog = load_catalog()
    axes = build_axes(
        **(LANGUAGE | {"models": ["llama-3.1-8b"], "machines": cards(100)}),
        runtimes=(None,), placements=(None,), catalog=catalog,
    )  # fmt: skip
    slots = [(number, slot) for number, unit in enumerate(axes.units) for slot in unit.slots]
    pairs = [_Pair(i, number, slot, slot.prepared) for i, (number, slot) in enumerate(slots) if slot.prepared]
    group = _Group.of(axes, Sheet(1, 1, ("",)), pairs)
    request = pairs[0].prepared.request

    def judge() -> int:
        rows = 0
        for lines, loads in _tiles(len(pairs), axes.n_workloads):
            ground, overhead = group.ground(lines)
            asked, room = group.loads(lines, loads), group.room[lines]
            cache = cache_bytes(ground, asked)
            cells = cell_buffers(ground, room, overhead.best, request)
            buffers = block_buffers(ground, asked, room, cache, overhead, request, cells)
            rows += assess_block(ground, asked, room, cache, buffers).layout.tier.size
        return rows

    return judge


def main() -> None:
    """Print a table, or JSON for comparison between commits."""
    from willitrun.planning.scans import models_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    calls: dict[str, Callable[[], int]] = {
        name: lambda axes=axes: len(plan(**axes)) for name, axes in image_sweeps().items()
    }
    language = LANGUAGE | {"machines": cards(100)}
    calls["language models, 3 x 2 formats x 100 cards x 1,536 loads"] = lambda: len(plan(**language))
    calls["memory kernels of a language model"] = memory_rows()
    card, many = describe_machine("rtx-4090"), models_of(load_catalog(), None)[:400]
    calls["models ranked on a card, 5 formats"] = lambda: len(scan(card, models=many))
    found = {name: measure(call, options.repeats) for name, call in calls.items()}
    if options.json:
        print(json.dumps({name: {"wall": wall, "cpu": cpu} for name, (wall, cpu) in found.items()}, indent=2))
        return
    print(f"{'rows/s':66} {'wall':>12} {'cpu':>12}")
    for name, (wall, cpu) in found.items():
        print(f"{name:66} {wall:12,.0f} {cpu:12,.0f}")


if __name__ == "__main__":
    main()
