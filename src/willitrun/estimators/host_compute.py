"""What the cores of a host compute, from what its records and its instruction sets tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from willitrun.hardware.processors import processor_of
from willitrun.kernels.host_peaks import flop_per_cycle, host_peak, usable_share
from willitrun.records.accelerators import HostPlatform
from willitrun.records.machines import Host

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["SUSTAINED_CLOCK_HZ", "core_level", "host_flop_per_s"]

SUSTAINED_CLOCK_HZ = 3e9
"""Clock that all cores are taken to sustain with wide vectors [Hz]: an assumption and no fact, since neither a system
nor a sheet tells it. It stands for the middle of what was measured (2.1 to 4.0 GHz, source peakperf); the scales of
the calibrations, which were fitted with it, absorb its mean."""

_EFFICIENCY = "core-x86-efficiency"
# Record of the vector units of a core by its instruction sets, widest first.
_VECTOR_UNITS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"avx2", "fma", "avx512"}), "core-avx2"),
    (frozenset({"neon", "asimd"}), "core-asimd"),
    (frozenset({"avx"}), "core-avx"),
    (frozenset({"rv64"}), "core-scalar-fma"),
)


def host_flop_per_s(host: Host, catalog: Catalog) -> float:
    """FP32 peak of the cores that a process may use [FLOP/s]; NaN where their number is unknown.

    Equation: usable cores x FP32 results per core and clock x clock.

    512-bit vectors count as 256-bit ones unless a record says more: many parts have one unit, clock it down, or are a
    virtual machine's hardware threads that share it.

    Parameters
    ----------
    host
        CPU, cores and instruction sets.
    catalog
        Holds the processors, and the vector units of kinds of cores (``catalogs/hosts/vector-units.toml``).
    """
    share = 1.0
    if host.cores is not None and host.usable_cores is not None:
        share = usable_share(host.cores, host.usable_cores)
    if host.fp32_flop_per_s is not None:
        return host_peak(1.0, share, 1.0, host.fp32_flop_per_s)
    if host.cores is None:
        return math.nan
    per_cycle = _results_per_cycle(host, processor_of(host.cpu, catalog), catalog)
    return host_peak(float(host.cores), share, per_cycle, SUSTAINED_CLOCK_HZ)


def core_level(host: Host, catalog: Catalog) -> str:
    """Level of the axis ``generation`` that a processor stands at: what programs' kernels find in its cores.

    ggml's products of quantized weights are written for AVX2 and for AVX, and are plain C where x86 has neither, as on
    RISC-V. Where cores are of two kinds, Linux lets llama.cpp start threads on the larger ones only; Windows does not,
    and the system moves threads of programs without a window to the smaller ones.

    References
    ----------
    llama.cpp, ``ggml/src/ggml-cpu/arch/x86/quants.c`` (``ggml_vec_dot_q4_K_q8_K``), ``common/common.cpp``
    (``common_cpu_get_num_math``); as in llama-cpp-python 0.3.36
    """
    names = {name.lower() for name in host.instruction_sets}
    if names and not names & {"avx2", "fma", "avx512", "neon", "asimd"}:
        return "cpu-avx" if "avx" in names else "cpu-scalar"
    record = processor_of(host.cpu, catalog)
    two_kinds = record is not None and record.efficiency_cores is not None
    return "cpu-two-kinds" if two_kinds and host.system == "windows" else "cpu-simd"


def _results_per_cycle(host: Host, record: HostPlatform | None, catalog: Catalog) -> float:
    """FP32 results of a core per clock, by its record, else by its instruction sets."""
    own = record.fp32_flop_per_cycle if record is not None else None
    large = float(own or _of_instruction_sets(host, catalog))
    if record is None or record.cores is None or record.efficiency_cores is None:
        return large
    small = record.efficiency_fp32_flop_per_cycle or catalog.hosts[_EFFICIENCY].fp32_flop_per_cycle or large
    return flop_per_cycle(large, small, record.efficiency_cores / record.cores)


def _of_instruction_sets(host: Host, catalog: Catalog) -> int:
    names = {name.lower() for name in host.instruction_sets}
    unit = next((unit for sets, unit in _VECTOR_UNITS if names & sets), "core-sse" if names else "core-avx2")
    return catalog.hosts[unit].fp32_flop_per_cycle or 0
