"""The probes of a machine, and how they are run: all at once, each on its own, none for longer than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from willitrun.errors import UnknownIdError
from willitrun.frozen import frozen
from willitrun.hardware.amd import probe_amd
from willitrun.hardware.apple import probe_apple
from willitrun.hardware.cpu import probe_cpu
from willitrun.hardware.disk import probe_disk
from willitrun.hardware.findings import Findings
from willitrun.hardware.intel import probe_intel
from willitrun.hardware.nvidia import probe_nvidia
from willitrun.hardware.ram import probe_ram
from willitrun.hardware.software import probe_software
from willitrun.hardware.surroundings import LiveSurroundings, Surroundings
from willitrun.hardware.windows import probe_windows
from willitrun.records.machines import ProbeReport

__all__ = ["Probe", "choose_probes", "run_probes", "standard_probes"]


@frozen
class Probe:
    """One way to look at a machine. It may raise and it may hang; `run_probes` bears both."""

    name: str
    look: Callable[[Surroundings], Findings]
    surroundings: Surroundings


_STANDARD: dict[str, Callable[[Surroundings], Findings]] = {
    "nvidia": probe_nvidia,
    "amd": probe_amd,
    "intel": probe_intel,
    "apple": probe_apple,
    "windows": probe_windows,
    "cpu": probe_cpu,
    "ram": probe_ram,
    "disk": probe_disk,
    "software": probe_software,
}


def standard_probes(*, root: str | Path = "/", surroundings: Surroundings | None = None) -> tuple[Probe, ...]:
    """All probes, on this machine, on a tree of files, or on a capture.

    Parameters
    ----------
    root
        Folder below which ``proc`` and ``sys`` lie; only files answer when it is not ``/``.
    surroundings
        Where to look instead, for example `RecordedSurroundings`.
    """
    around = LiveSurroundings(root) if surroundings is None else surroundings
    return tuple(Probe(name, look, around) for name, look in _STANDARD.items())


def choose_probes(probes: Iterable[str | Probe] | None) -> tuple[Probe, ...]:
    """Probes by name or as they are; None: all of them.

    Raises
    ------
    UnknownIdError
        No probe has that name.
    """
    standard = {probe.name: probe for probe in standard_probes()}
    if probes is None:
        return tuple(standard.values())
    chosen = []
    for probe in (probes,) if isinstance(probes, str) else probes:
        if isinstance(probe, Probe):
            chosen.append(probe)
        elif probe in standard:
            chosen.append(standard[probe])
        else:
            raise UnknownIdError("probe", str(probe), tuple(standard))
    return tuple(chosen)


def run_probes(probes: Iterable[Probe], timeout_s: float) -> list[Findings]:
    """What each probe found, in their order, after at most ``timeout_s`` seconds for all of them together.

    A probe that raises is reported as ``failed``; one that does not return is reported as ``timeout`` and left behind
    in its daemon thread. Neither costs the others.
    """
    started = time.monotonic()
    running = [(probe, *_start(probe)) for probe in probes]
    results = []
    for probe, thread, box in running:
        thread.join(max(0.0, started + timeout_s - time.monotonic()))
        if box:
            results.append(box[0])
            continue
        late = Findings()
        see = ("troubleshooting:gpu-not-detected",) if probe.name == "nvidia" else ()
        late.reports.append(
            ProbeReport(
                probe=probe.name,
                status="timeout",
                reason=f"no answer within {timeout_s:g} s: a driver call hangs",
                duration_s=time.monotonic() - started,
                see=see,
            )
        )
        results.append(late)
    return results


def _start(probe: Probe) -> tuple[threading.Thread, list[Findings]]:
    box: list[Findings] = []

    def work() -> None:
        began = time.monotonic()
        try:
            found = probe.look(probe.surroundings)
        except Exception as error:  # noqa: BLE001 - a probe must never take detect() down with it
            found = Findings()
            found.report(probe.name, "failed", f"{type(error).__name__}: {error}")
        spent = time.monotonic() - began
        found.reports = [
            report if report.duration_s else report.model_copy(update={"duration_s": spent})
            for report in found.reports
        ]
        box.append(found)

    thread = threading.Thread(target=work, name=f"willitrun-{probe.name}", daemon=True)
    thread.start()
    return thread, box
