"""The one door through which probes look at a machine, so that every look can be recorded and replayed.

A probe never opens a file or a library itself: it asks. `LiveSurroundings` answers from this machine (or from
the files under a root), `RecordedSurroundings` from a capture. What the live one answered is kept, and that is
what a capture holds.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

__all__ = ["LiveSurroundings", "RecordedSurroundings", "Surroundings", "read_number"]

_MOST_TEXT = 1 << 20
_COMMAND_SECONDS = 3.0
_TYPES: dict[str, type] = {
    "text": str,
    "target": str,
    "access": str,
    "environment": str,
    "package": str,
    "command": str,
}


class Surroundings(Protocol):
    """Answers a question of a kind (``text``, ``names``, ``nvml``, ...) about a thing; None: there is no answer."""

    def ask(self, kind: str, thing: str = "") -> Any: ...


def read_number(surroundings: Surroundings, path: str) -> int | None:
    """The integer in a small file, decimal or ``0x`` hexadecimal; None where the file is absent or says else."""
    text = surroundings.ask("text", path)
    if not isinstance(text, str):
        return None
    try:
        return int(text.strip(), 0) if text.strip().lower().startswith("0x") else int(text.strip())
    except ValueError:
        return None


class LiveSurroundings:
    """This machine, or a tree of files that stands for one.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` are read from. With a root other than ``/`` only files answer: what this very
        machine's libraries, programs and environment say would not belong to that tree.
    """

    def __init__(self, root: str | Path = "/") -> None:
        self._root = Path(root)
        self._whole = str(root) == "/"
        self.asked: dict[str, dict[str, Any]] = {}
        """Every answer given so far: kind -> thing -> answer."""

    def ask(self, kind: str, thing: str = "") -> Any:
        answers: dict[str, Callable[[str], Any]] = {
            "text": self._text,
            "names": self._names,
            "target": self._target,
            "access": self._access,
            "system": _system,
            "environment": os.environ.get,
            "program": lambda name: shutil.which(name) is not None,
            "package": _package_version,
            "command": _output,
            "disk": self._disk,
            "memory": _memory,
            "cores": _cores,
            "affinity": _affinity,
            "nvml": _nvml,
            "registry": _registry,
            "metal": _metal,
        }
        files = kind in ("text", "names", "target", "access")
        if not self._whole and kind == "system":
            answer: Any = {"system": "linux"}
        elif not self._whole and not files:
            answer = None
        else:
            answer = answers[kind](thing)
        if answer is not None:
            self.asked.setdefault(kind, {})[thing] = answer
        return answer

    def _path(self, thing: str) -> Path:
        return Path(thing) if self._whole else self._root / thing.lstrip("/")

    def _text(self, thing: str) -> str | None:
        try:
            with open(self._path(thing), "rb") as file:
                return file.read(_MOST_TEXT).decode("utf-8", "replace")
        except OSError:
            return None

    def _names(self, thing: str) -> list[str] | None:
        try:
            return sorted(os.listdir(self._path(thing)))
        except OSError:
            return None

    def _target(self, thing: str) -> str | None:
        path = self._path(thing)
        if not path.exists():
            return None
        real = os.path.realpath(path)
        return real if self._whole else "/" + os.path.relpath(real, os.path.realpath(self._root))

    def _access(self, thing: str) -> str:
        path = self._path(thing)
        if not path.exists():
            return "absent"
        return "ok" if os.access(path, os.R_OK | os.W_OK) else "denied"

    def _disk(self, thing: str) -> int | None:
        """Free bytes on the disk of a folder that need not exist yet."""
        folder = Path(thing).expanduser()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return None


class RecordedSurroundings:
    """Answers from a capture: kind -> thing -> answer. What was not recorded does not exist."""

    def __init__(self, recorded: Mapping[str, Mapping[str, Any]]) -> None:
        self._recorded = recorded

    def ask(self, kind: str, thing: str = "") -> Any:
        answers = self._recorded.get(kind)
        if kind != "names" and isinstance(answers, Mapping) and thing in answers:
            answer = answers[thing]
            # A hand-made or damaged capture may hold anything; probes are promised the live types.
            return answer if _TYPES.get(kind) is None or isinstance(answer, _TYPES[kind]) else None
        if kind == "names":
            listed = answers.get(thing) if isinstance(answers, Mapping) else None
            if isinstance(listed, list):
                return [name for name in listed if isinstance(name, str)]
            return self._children(thing)
        if kind == "access":
            return "ok" if self._known(thing) else "absent"
        if kind == "target":
            return thing if self._known(thing) else None
        return None

    def _paths(self) -> set[str]:
        paths: set[str] = set()
        for kind in ("text", "target", "access"):
            answers = self._recorded.get(kind)
            if isinstance(answers, Mapping):
                paths.update(map(str, answers))
        return paths

    def _known(self, thing: str) -> bool:
        folder = thing.rstrip("/") + "/"
        return any(path == thing or path.startswith(folder) for path in self._paths())

    def _children(self, thing: str) -> list[str] | None:
        folder = thing.rstrip("/") + "/"
        found = {path[len(folder) :].split("/")[0] for path in self._paths() if path.startswith(folder)}
        return sorted(found) or None


def _system(_: str) -> dict[str, str]:
    names = {"linux": "linux", "darwin": "macos", "win32": "windows"}
    return {
        "system": names.get(sys.platform, sys.platform),
        "release": platform.release(),
        "machine": platform.machine(),
    }


def _package_version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _output(command: str) -> str | None:
    """What a short system program prints; only ``sysctl`` and ``ioreg`` are ever asked for."""
    words = command.split()
    if words[0] not in ("sysctl", "ioreg") or shutil.which(words[0]) is None:
        return None
    try:
        done = subprocess.run(words, capture_output=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout[:_MOST_TEXT].decode("utf-8", "replace") if done.returncode == 0 else None


def _memory(_: str) -> dict[str, int]:
    import psutil

    memory = psutil.virtual_memory()
    swap = psutil.swap_memory()
    return {"total": memory.total, "available": memory.available, "swap_total": swap.total}


def _cores(_: str) -> dict[str, int | None]:
    import psutil

    return {"physical": psutil.cpu_count(logical=False), "logical": psutil.cpu_count(logical=True)}


def _affinity(_: str) -> int | None:
    # Windows and macOS have no such call in the standard library.
    affinity = getattr(os, "sched_getaffinity", None)
    return None if affinity is None else len(affinity(0))


def _nvml(_: str) -> dict[str, Any]:
    from willitrun.hardware.nvml import read_nvml

    return read_nvml()


def _registry(thing: str) -> list[dict[str, Any]] | str | None:
    if sys.platform != "win32":
        return None
    from willitrun.hardware.registry import read_display_adapters, read_processor_name

    return read_processor_name() if thing == "processor" else read_display_adapters()


def _metal(_: str) -> dict[str, Any] | None:
    if sys.platform != "darwin":
        return None
    from willitrun.hardware.metal import read_metal

    return read_metal()
