"""What a real llama.cpp allocates for a model under given options: the probe run, its output read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Allocation", "Options", "allocations"]

MIB = 2**20
Options = Mapping[str, int | str]
"""Fields of ``llama_context_params`` and ``llama_model_params``, and ``devices``: GiB of each null device."""

_WEIGHTS = re.compile(r"(\S+) model buffer size = +([\d.]+) MiB")
_CACHE = re.compile(r"(\S+) KV buffer size = +([\d.]+) MiB")
# The cache as tensors, without the padding that a device adds behind rows of quantized ones.
_TOTAL = re.compile(r"\w*kv_cache\w*: +size = +([\d.]+) MiB")
_STATE = re.compile(r"(\S+) RS buffer size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"(\S+) compute buffer size = +([\d.]+) MiB")
# Printed with four decimals when the context is freed.
_PRECISE = re.compile(r"(\S+) compute buffer size is +([\d.]+) MiB")
_OUTPUT = re.compile(r"(\S+) +output buffer size = +([\d.]+) MiB")


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bytes of one load by buffer type: ``CPU``, ``GPU0``, ``GPU_Host``, ... Printed to two or four decimals of a MiB."""

    options: Options
    weights: Mapping[str, float]
    kv_cache: Mapping[str, float]
    cache_bytes: float
    state: Mapping[str, float]
    compute: Mapping[str, float]
    output: Mapping[str, float]

    def on_devices(self, part: str) -> float:
        """Bytes of one part on all null devices, or on the CPU where there is none [bytes]."""
        buffers: Mapping[str, float] = getattr(self, part)
        device = re.compile(r"GPU\d") if self.options.get("devices") else re.compile("")
        return sum(size for name, size in buffers.items() if device.match(name))


def _sizes(pattern: re.Pattern[str], text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, size in pattern.findall(text):
        found[name] = found.get(name, 0.0) + float(size) * MIB
    return found


def allocations(probe: Path, model: Path, cases: Sequence[Options]) -> list[Allocation]:
    """Load ``model`` under every case; all of them name the same ``devices``.

    Raises
    ------
    RuntimeError
        llama.cpp could not load the model, or not in one of the cases.
    """
    lines = [" ".join(f"{key}={value}" for key, value in case.items()) for case in cases]
    command = [str(probe), str(model)]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False, timeout=600
    )
    found, weights = [], {}
    sections = done.stdout.split("\nCASE ")[1:]
    for case, section in zip(cases, sections, strict=False):
        loading, _, context = section.partition("\nCONTEXT\n")
        weights = _sizes(_WEIGHTS, loading) or weights
        if "\nEND 1" not in context:
            raise RuntimeError(f"{model.name}: no context for {dict(case)}: {section[-800:]}")
        found.append(
            Allocation(
                case,
                weights,
                _sizes(_CACHE, context),
                sum(float(size) for size in _TOTAL.findall(context)) * MIB,
                _sizes(_STATE, context),
                _sizes(_PRECISE, context) or _sizes(_COMPUTE, context),
                _sizes(_OUTPUT, context),
            )
        )
    if len(found) < len(cases):
        raise RuntimeError(f"{model.name}: loading stopped: {(done.stdout + done.stderr)[-800:]}")
    return found
