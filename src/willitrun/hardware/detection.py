"""`detect`: this machine, as it is now."""

from __future__ import annotations

from collections.abc import Iterable

from willitrun.hardware.probes import Probe, choose_probes, run_probes
from willitrun.records.machines import Machine

__all__ = ["detect"]


def detect(*, probes: Iterable[str | Probe] | None = None, timeout_s: float = 5.0) -> Machine:
    """Detect this machine: its accelerators, memory, processor, disk and software, and what of it is free now.

    A missing GPU is no error, and no probe can raise out of here: what could not be read is None, and
    `Machine.probes` says why. Detect once and pass the machine on.

    Parameters
    ----------
    probes
        Names of the probes to run (``"nvidia"``, ``"ram"``, ...) or `Probe` objects; None: all of them.
    timeout_s
        Longest time for all probes together [s]. One that hangs is reported as ``timeout``.

    Raises
    ------
    UnknownIdError
        No probe has the name asked for.

    Examples
    --------
    >>> machine = detect(probes=["cpu", "ram"])
    >>> machine.source, machine.host.ram_total_bytes > 0
    ('detected', True)
    """
    from willitrun.catalog import load_catalog
    from willitrun.hardware.assembly import assemble

    chosen = choose_probes(probes)
    return assemble(run_probes(chosen, timeout_s), source="detected", catalog=load_catalog())
