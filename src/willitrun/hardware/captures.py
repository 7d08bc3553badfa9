"""Machines as plain data: raw readings that replay through the real probes, and finished machines.

A capture of readings turns a bug report into a fixture: `from_capture` runs every probe on the recorded answers.
Neither form holds serial numbers, UUIDs, host names, user names or paths below a home folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from willitrun.errors import WillItRunError
from willitrun.hardware.probes import run_probes, standard_probes
from willitrun.hardware.surroundings import LiveSurroundings, RecordedSurroundings
from willitrun.records.machines import Machine

if TYPE_CHECKING:
    from willitrun.catalog import Catalog

__all__ = ["FORMAT", "anonymous_readings", "from_capture", "record_capture", "to_capture"]

FORMAT = "willitrun-capture/1"
_KEYS = ("format", "about", "readings", "machine")
# Long hexadecimal names in control-group paths are container ids; "user-1000.slice" names an account.
_CONTAINER = re.compile(r"[0-9a-f]{12,}(?:-[0-9a-f]+)*")
_ACCOUNT = re.compile(r"\buser(?:@|-)\d+")
_BUILDER = re.compile(r"\([^()\s]+@[^()\s]+\)")
_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-fA-F-]+")
_FOLDERS = ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "OLLAMA_MODELS")
_KEPT_LINES = re.compile(r"gpu-core-count")


def to_capture(machine: Machine) -> dict[str, Any]:
    """A machine as plain data, without process names and ids.

    Examples
    --------
    >>> from willitrun.hardware.descriptions import describe_machine
    >>> capture = to_capture(describe_machine("ddr5-5600-dual"))
    >>> from_capture(capture).host.ram_total_bytes == 32 * 2**30
    True
    """
    devices = tuple(
        device.model_copy(
            update={
                "processes": tuple(
                    process.model_copy(update={"pid": None, "name": "a process"})
                    for process in device.processes
                )
            }
        )
        for device in machine.accelerators
    )
    plain = machine.model_copy(update={"accelerators": devices})
    return {"format": FORMAT, "machine": plain.model_dump(mode="json", exclude_defaults=True)}


def record_capture(*, timeout_s: float = 5.0) -> dict[str, Any]:
    """Raw readings of this machine, as `willitrun detect --capture` writes them.

    Parameters
    ----------
    timeout_s
        Longest time for all probes together [s].
    """
    around = LiveSurroundings()
    run_probes(standard_probes(surroundings=around), timeout_s)
    return {"format": FORMAT, "readings": anonymous_readings(around.asked)}


def anonymous_readings(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Answers that probes were given, without what would identify a person or an installation."""
    readings: dict[str, dict[str, Any]] = {}
    # A probe that was left behind may still be asking.
    for kind, answers in list(asked.items()):
        for thing, answer in list(answers.items()):
            clean_thing, clean_answer = _anonymous(kind, thing, answer, asked)
            if clean_answer is not None:
                readings.setdefault(kind, {})[clean_thing] = clean_answer
    return readings


def from_capture(data: Mapping[str, Any], *, catalog: Catalog | None = None) -> Machine:
    """The machine of a capture: readings are replayed through the probes, a finished machine is read.

    Raises
    ------
    WillItRunError
        The data is no capture (code ``invalid-capture``).
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise WillItRunError(f"this is no capture: 'format' must be {FORMAT!r}.", code="invalid-capture")
    for key in data:
        if key not in _KEYS:
            raise WillItRunError(
                f"a capture has no {key!r}.", code="invalid-capture", hint=f"Keys: {', '.join(_KEYS)}."
            )
    if "machine" in data:
        try:
            machine = Machine.model_validate(data["machine"])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise WillItRunError(
                f"capture.machine.{place}: {first['msg']}.", code="invalid-capture"
            ) from error
        return machine.model_copy(update={"source": "capture"})
    readings = data.get("readings")
    if not isinstance(readings, Mapping) or not all(isinstance(part, Mapping) for part in readings.values()):
        raise WillItRunError("a capture holds 'readings' or 'machine', as a mapping.", code="invalid-capture")
    from willitrun.hardware.assembly import assemble

    if catalog is None:
        from willitrun.catalog import load_catalog

        catalog = load_catalog()
    probes = standard_probes(surroundings=RecordedSurroundings(readings))
    return assemble(run_probes(probes, timeout_s=30.0), source="capture", catalog=catalog)


def _anonymous(kind: str, thing: str, answer: Any, asked: Mapping[str, Mapping[str, Any]]) -> tuple[str, Any]:
    """A question and its answer without what would identify a person or an installation."""
    if kind == "text" and isinstance(answer, str):
        if thing == "/proc/self/cgroup":
            return thing, _scrubbed(answer)
        if thing == "/proc/version":
            return thing, _BUILDER.sub("", answer)
        if thing == "/proc/cpuinfo":
            # Boards of the Raspberry Pi family print their serial number here.
            kept = [line for line in answer.splitlines() if not line.lower().startswith("serial")]
            return thing, "\n".join(kept)
        if thing.endswith(".ids"):
            return thing, None if len(answer) > 200_000 else answer
        return _scrubbed(thing), answer
    if kind == "names" and thing.endswith("/.ollama/models"):
        # That it is there counts, not what lies in it.
        return thing, []
    if kind in ("names", "access", "target"):
        return _scrubbed(thing), answer
    if kind == "environment":
        if thing in _FOLDERS:
            return thing, f"/moved/{thing.lower()}"
        return thing, _UUID.sub(r"\1-0", answer) if isinstance(answer, str) else None
    if kind == "disk":
        for name in _FOLDERS:
            folder = asked.get("environment", {}).get(name)
            if isinstance(folder, str) and folder and thing.startswith(folder):
                return f"/moved/{name.lower()}{thing.removeprefix(folder)}", answer
        return thing, answer
    if kind == "command" and thing.startswith("ioreg") and isinstance(answer, str):
        return thing, "\n".join(line.strip() for line in answer.splitlines() if _KEPT_LINES.search(line))
    if kind == "nvml" and isinstance(answer, dict):
        return thing, _without_processes(answer)
    if kind == "program" and not answer:
        return thing, None
    return thing, answer


def _scrubbed(text: str) -> str:
    return _ACCOUNT.sub("user-0", _CONTAINER.sub("container", text))


def _without_processes(readings: Any) -> Any:
    """Process names and ids are the user's; how much memory they hold is the machine's state."""
    if isinstance(readings, list):
        return [_without_processes(part) for part in readings]
    if not isinstance(readings, dict):
        return readings
    clean = {}
    for key, value in readings.items():
        if key == "processes" and isinstance(value, list):
            clean[key] = [
                {"pid": i, "name": "a process", "used": p.get("used")} for i, p in enumerate(value, 1)
            ]
        else:
            clean[key] = _without_processes(value)
    return clean
