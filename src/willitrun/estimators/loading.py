"""How long a model takes to load from a disk whose rate is known."""

from __future__ import annotations

from willitrun.estimators.evaluation import Evaluated
from willitrun.estimators.rates import host_link_bytes_per_s
from willitrun.intervals import Interval
from willitrun.kernels.loading import load_seconds
from willitrun.records.machines import Machine
from willitrun.records.results import MemoryEstimate

__all__ = ["load_time"]

# What a program may need beyond read and copy: llama.cpp took 33.677 s to load Gemma 3 to an A100 through a mapped file,
# whose pages come one fault at a time, and 14.3 s with reads of its own (https://github.com/ggml-org/llama.cpp/pull/14399).
MAPPED_FILE = 33.677 / 14.3
LEVEL = 0.9


def load_time(found: Evaluated) -> Interval | None:
    """Seconds from files on a disk to weights on the devices [s]; None where nobody knows the disk's rate.

    The ends are two ways in which loaders work, and no calibrated interval. The low end hides the copies behind the reads, the best estimate does one after the other, and the high end is that
    of a mapped file. A file that is still in the host's memory loads faster than this, one from a network slower: logs
    of vLLM, which name no disk, run from 0.012 to 20 GB/s. Ranks that are processes of their own, of tensor or data
    parallelism, copy at the same time.
    """
    machine = found.request.machine
    rate = machine.host.disk_read_bytes_per_s if machine is not None else None
    memory = found.memory_estimate() if rate is not None else None
    if machine is None or rate is None or memory is None or found.tier == "will-not-run":
        return None
    copied, link = _copies(found, machine, memory)
    low, _ = load_seconds(memory.disk_bytes.low, rate, copied, link)
    _, best = load_seconds(memory.disk_bytes.best, rate, copied, link)
    _, high = load_seconds(memory.disk_bytes.high, rate, copied, link)
    return Interval(low, best, high * MAPPED_FILE, LEVEL)


def _copies(found: Evaluated, machine: Machine, memory: MemoryEstimate) -> tuple[float, float]:
    """Bytes that cross the slowest link one after the other, and its rate [B/s]."""
    cards = [device for device in machine.accelerators if not device.shares_host_memory]
    if not cards or found.request.runtime.backend == "cpu":
        return 0.0, 1.0
    weights = sum(device.weights_bytes for device in memory.per_device)
    ranks = (found.placement.tp or 1) * (found.placement.dp or 1)
    return weights / ranks, min(host_link_bytes_per_s(card, machine) for card in cards)
