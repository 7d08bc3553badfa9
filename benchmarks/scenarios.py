"""Fifty scenarios that a warm call is timed on. No load is asked twice, so no answer can be a remembered one."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from willitrun import Workload, assess, describe_machine, estimate_memory, estimate_speed

CARDS = ("rtx-4090", "rtx-3060-12gb", "a100-sxm4-80gb", "rx-7900-xtx", "rtx-5090")
SMALL = ("llama-3.1-8b", "qwen3-8b", "mistral-7b", "gemma-3-4b", "llama-2-7b")
LARGE = ("llama-3.3-70b", "qwen3-32b", "llama-3.1-70b", "deepseek-v3", "qwen2.5-72b")
NETWORKS = ("resnet-50", "vit_base_patch16_224", "efficientnet_b0", "convnext_tiny", "yolov8s")
WARMING = 2
"""Passes that are not timed: every model, machine and format is met, no load of theirs that is timed."""

Call = Callable[[int, int], object]
"""Asks one scenario: number of the pass, number of the scenario."""


def language(
    ask: Callable[..., object], models: tuple[str, ...], formats: tuple[str, ...]
) -> tuple[Call, int]:
    """Models x cards x formats; each pass asks for other contexts, and for one to four sequences."""
    machines = [describe_machine(card) for card in CARDS]
    lines = list(itertools.product(models, machines, formats))

    def call(turn: int, number: int) -> object:
        model, machine, quantization = lines[number]
        load = Workload(
            context_tokens=2048 + 64 * (turn * len(lines) + number), concurrency=1 + (turn + number) % 4
        )
        return ask(model, machine, load, quantization=quantization)

    return call, len(lines)


def images(ask: Callable[..., object]) -> tuple[Call, int]:
    """Networks x cards x precisions; each pass asks for other batches."""
    machines = [describe_machine(card) for card in CARDS]
    lines = list(itertools.product(NETWORKS, machines, ("amp-fp16", "fp32")))

    def call(turn: int, number: int) -> object:
        model, machine, precision = lines[number]
        return ask(model, machine, Workload(batch_size=1 + turn * 7 + number % 7, precision=precision))

    return call, len(lines)


def time_calls(call: Call, count: int, passes: int) -> tuple[float, float]:
    """Best and median time of a call by the processor's clock [us].

    The best is the median over scenarios of each one's fastest pass, which other processes of the machine disturb
    least; the median is that of all calls.
    """
    for turn in range(WARMING):
        for number in range(count):
            call(turn, number)
    times: list[list[float]] = []
    gc.collect()
    for turn in range(WARMING, WARMING + passes):
        row = []
        for number in range(count):
            start = time.process_time()
            call(turn, number)
            row.append(time.process_time() - start)
        times.append(row)
    best = statistics.median(min(column) for column in zip(*times, strict=True))
    return 1e6 * best, 1e6 * statistics.median(itertools.chain.from_iterable(times))


def warm_figures(passes: int) -> dict[str, tuple[float, float]]:
    """Name -> best and median of every warm figure [us]."""

    def anywhere(model: str, machine: object, load: Workload, **options: Any) -> object:
        return estimate_memory(model, None, load, **options)

    def whole(model: str, machine: object, load: Workload, **options: Any) -> object:
        verdict = assess(model, machine, load, **options)
        return [vars(part) for part in (verdict, verdict.memory, verdict.speed) if part is not None]

    formats = ("q4_k_m", "iq4_xs")
    calls = {
        "warm assess, 7B to 8B [us]": language(assess, SMALL, formats),
        "warm assess, all of its words read [us]": language(whole, SMALL, formats),
        "warm assess with remedies, 32B to 671B [us]": language(assess, LARGE, ("q8_0", "q4_k_m")),
        "warm estimate_memory [us]": language(estimate_memory, SMALL, formats),
        "warm estimate_memory, no machine [us]": language(anywhere, SMALL, formats),
        "warm estimate_speed, language model [us]": language(estimate_speed, SMALL, formats),
        "warm assess, image model [us]": images(assess),
        "warm estimate_speed, image model [us]": images(estimate_speed),
    }
    return {name: time_calls(call, count, passes) for name, (call, count) in calls.items()}
