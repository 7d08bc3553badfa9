"""Raw readings through NVML (nvidia-ml-py): numbers and error names as the driver gave them, nothing judged.

Every call is made on its own: an older driver lacks some (FunctionNotFound), unified-memory parts refuse others
(NotSupported), a hot-unplugged card answers GpuIsLost. A failed reading is ``{"error": NAME}``. No serial
number, UUID or board id is ever asked for.
"""

from __future__ import annotations

import copy
import ctypes
import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

__all__ = ["read_nvml"]

_WSL_LIBRARY = "/usr/lib/wsl/lib/libnvidia-ml.so.1"
_MOST_DEVICES = 64
_MOST_LINKS = 18
_MOST_SLICES = 8
# Less than detect() waits by default, so that a slow or hung driver still gives what it had time for.
_PATIENCE_SECONDS = 3.5
# A call that was begun in time may end a little later.
_GRACE_SECONDS = 0.3
_UNREAD = {"error": "Deadline"}
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class _Reading:
    """One reading of NVML, in a thread of its own: a call that hangs costs what comes after it, not what was read."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._done = threading.Event()
        self._process = os.getpid()
        self._until = time.monotonic() + _PATIENCE_SECONDS + _GRACE_SECONDS
        threading.Thread(target=self._work, name="willitrun-nvml", daemon=True).start()

    @property
    def ended(self) -> bool:
        # A forked process has the object without its thread.
        return self._done.is_set() or self._process != os.getpid()

    def result(self) -> dict[str, Any]:
        self._done.wait(max(0.0, self._until - time.monotonic()))
        found = self._snapshot()
        found.setdefault("status", "Hung")
        return found

    def _snapshot(self) -> dict[str, Any]:
        while True:
            try:
                return copy.deepcopy(self._found)
            except RuntimeError:
                # A reading that is only slow added a field while it was copied: what there is now is copied instead.
                continue

    def _work(self) -> None:
        try:
            _read(self._found, self._done)
        except Exception as error:  # noqa: BLE001 - nobody could catch it; the caller is told as of any other error
            self._found.update(status=_error_name(error), message=str(error))
        finally:
            self._done.set()


_lock = threading.Lock()
_current: _Reading | None = None


def read_nvml() -> dict[str, Any]:
    """Everything NVML tells about this machine's devices.

    Callers at the same time share one reading, and while one hangs in the driver no second is begun beside it.

    Returns
    -------
    dict
        ``status`` is ``"ok"``, ``"Hung"``, or the name of the error that stopped NVML from starting; then ``driver``,
        ``cuda`` (1000 x major + 10 x minor) and ``devices``. What there was no time for is ``{"error": "Deadline"}``.
        NVML is opened for the reading and closed after it.

    References
    ----------
    https://docs.nvidia.com/deploy/nvml-api/
    """
    global _current
    with _lock:
        if _current is None or _current.ended:
            _current = _Reading()
        reading = _current
    return reading.result()


def _read(found: dict[str, Any], done: threading.Event) -> None:
    """Fill in what is read, as it is read; ``done`` is set before NVML is closed, which may hang as well."""
    import pynvml

    if os.path.exists(_WSL_LIBRARY):
        _preload(_WSL_LIBRARY)
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError) as error:
        found.update(status=_error_name(error), message=str(error))
        return
    _deadline.set(time.monotonic() + _PATIENCE_SECONDS)
    try:
        found.update(status="ok", driver=_UNREAD, cuda=_UNREAD, count=_UNREAD, devices=[])
        count = found["count"] = _try(pynvml.nvmlDeviceGetCount)
        if not isinstance(count, int):
            return
        # What says which device this is, and what of it may be used, goes first: time or the driver may give out.
        devices = found["devices"] = [{"handle": _UNREAD} for _ in range(min(count, _MOST_DEVICES))]
        handles: dict[int, Any] = {}
        for index, readings in enumerate(devices):
            handle = _try(pynvml.nvmlDeviceGetHandleByIndex, index)
            if isinstance(handle, dict):
                readings["handle"] = handle
                continue
            handles[index] = handle
            readings.update(dict.fromkeys((*_ESSENTIALS, *_DETAILS, *_LISTS), _UNREAD))
            del readings["handle"]
        for index, handle in handles.items():
            _fill(devices[index], pynvml, handle, _ESSENTIALS)
        found["driver"] = _try(pynvml.nvmlSystemGetDriverVersion)
        found["cuda"] = _try(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        for index, handle in handles.items():
            _details(devices[index], pynvml, handle)
    finally:
        done.set()
        _deadline.set(None)
        _try(pynvml.nvmlShutdown)


def _preload(path: str) -> None:
    """WSL keeps the library outside the loader's path; once loaded, its name resolves to it."""
    try:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        # The reading that follows fails with LibraryNotFound and says so.
        return


_IDENTITY: dict[str, Callable[[Any, Any], Any]] = {
    # What a whole device and a MIG slice both answer.
    "name": lambda nvml, handle: nvml.nvmlDeviceGetName(handle),
    "memory_v2": lambda nvml, handle: _memory(
        nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    ),
    "memory_v1": lambda nvml, handle: _memory(nvml.nvmlDeviceGetMemoryInfo(handle)),
}
_ESSENTIALS: dict[str, Callable[[Any, Any], Any]] = {
    **_IDENTITY,
    "pci": lambda nvml, handle: _pci(nvml.nvmlDeviceGetPciInfo_v3(handle)),
    "mig": lambda nvml, handle: list(nvml.nvmlDeviceGetMigMode(handle)),
    "virtualization": lambda nvml, handle: nvml.nvmlDeviceGetVirtualizationMode(handle),
    "addressing_mode": lambda nvml, handle: nvml.nvmlDeviceGetAddressingMode(handle),
}
_DETAILS: dict[str, Callable[[Any, Any], Any]] = {
    "bus_width_bits": lambda nvml, handle: nvml.nvmlDeviceGetMemoryBusWidth(handle),
    "memory_clock_mhz": lambda nvml, handle: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM),
    "sm_clock_mhz": lambda nvml, handle: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
    "compute_capability": lambda nvml, handle: list(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
    "cores": lambda nvml, handle: nvml.nvmlDeviceGetNumGpuCores(handle),
    "pcie_generation_max": lambda nvml, handle: nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
    "pcie_generation_device": lambda nvml, handle: nvml.nvmlDeviceGetGpuMaxPcieLinkGeneration(handle),
    "pcie_lanes_max": lambda nvml, handle: nvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
    "pcie_generation_now": lambda nvml, handle: nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
    "pcie_lanes_now": lambda nvml, handle: nvml.nvmlDeviceGetCurrPcieLinkWidth(handle),
    "power_limit_mw": lambda nvml, handle: nvml.nvmlDeviceGetEnforcedPowerLimit(handle),
    "power_default_mw": lambda nvml, handle: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle),
    "ecc": lambda nvml, handle: list(nvml.nvmlDeviceGetEccMode(handle)),
    "display_active": lambda nvml, handle: nvml.nvmlDeviceGetDisplayActive(handle),
    "chip_to_chip": lambda nvml, handle: nvml.nvmlDeviceGetC2cModeInfoV(handle).isC2cEnabled,
    "numa_node": lambda nvml, handle: nvml.nvmlDeviceGetNumaNodeId(handle),
}
_LISTS = ("processes", "nvlinks")


def _fill(
    readings: dict[str, Any], nvml: Any, handle: Any, calls: dict[str, Callable[[Any, Any], Any]]
) -> None:
    for name, call in calls.items():
        readings[name] = _try(call, nvml, handle)


def _details(readings: dict[str, Any], nvml: Any, handle: Any) -> None:
    mig = readings["mig"]
    if isinstance(mig, list) and mig[:1] == [1]:
        readings["slices"] = _UNREAD
        # No slice, and no time to look for one, are different things.
        readings["slices"] = _slices(nvml, handle) or _try(list)
    _fill(readings, nvml, handle, _DETAILS)
    readings["processes"] = _processes(nvml, handle)
    readings["nvlinks"] = _nvlinks(nvml, handle)


def _slices(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    # GetMaxMigDeviceCount is how many there could be; the handles that exist are those that answer.
    most = _try(nvml.nvmlDeviceGetMaxMigDeviceCount, handle)
    found = []
    for index in range(min(most, _MOST_SLICES) if isinstance(most, int) else _MOST_SLICES):
        part = _try(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if isinstance(part, dict):
            continue
        readings: dict[str, Any] = {}
        _fill(readings, nvml, part, _IDENTITY)
        readings["sm_count"] = _try(
            lambda part=part: nvml.nvmlDeviceGetAttributes_v2(part).multiprocessorCount
        )
        readings["processes"] = _processes(nvml, part)
        found.append(readings)
    return found


def _processes(nvml: Any, handle: Any) -> Any:
    found: dict[int, dict[str, Any]] = {}
    compute = _listed(nvml, "Compute", handle)
    if isinstance(compute, dict):
        return compute
    graphics = _listed(nvml, "Graphics", handle)
    for process in [*compute, *(graphics if isinstance(graphics, list) else [])]:
        name = _try(nvml.nvmlSystemGetProcessName, process.pid)
        used = process.usedGpuMemory
        entry = found.setdefault(process.pid, {"pid": process.pid, "used": None, "name": _program(name)})
        # A process with both kinds of context is listed twice with the same figure.
        entry["used"] = max(entry["used"] or 0, used) if isinstance(used, int) else entry["used"]
    return list(found.values())


def _listed(nvml: Any, kind: str, handle: Any) -> Any:
    """Running processes of a kind; drivers before 510 know only the second version of the call."""
    for version in ("v3", "v2"):
        listed = _try(getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_{version}"), handle)
        if listed != {"error": "FunctionNotFound"}:
            break
    return listed


def _program(name: Any) -> str:
    """The program alone: its folder may hold a user's name, its arguments anything."""
    if not isinstance(name, str) or not name.strip():
        return ""
    return name.split()[0].replace("\\", "/").rsplit("/", 1)[-1]


def _nvlinks(nvml: Any, handle: Any) -> list[str]:
    peers = []
    for link in range(_MOST_LINKS):
        state = _try(nvml.nvmlDeviceGetNvLinkState, handle, link)
        if isinstance(state, dict):
            break
        if state != nvml.NVML_FEATURE_ENABLED:
            continue
        kind = _try(nvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)
        if kind == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            peers.append("switch")
            continue
        remote = _try(lambda link=link: _pci(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link)))
        peers.append(remote.get("address") or "unknown")
    return peers


def _pci(info: Any) -> dict[str, Any]:
    address = info.busId
    address = address.decode("ascii", "replace") if isinstance(address, bytes) else str(address)
    return {
        "id": f"{info.pciDeviceId & 0xFFFF:04x}:{info.pciDeviceId >> 16 & 0xFFFF:04x}",
        "address": _sysfs_address(address),
    }


def _sysfs_address(address: str) -> str:
    """NVML writes the domain with eight digits, sysfs with at least four.

    >>> _sysfs_address("00000000:01:00.0"), _sysfs_address("00010000:0A:00.0")
    ('0000:01:00.0', '10000:0a:00.0')
    """
    domain, _, rest = address.lower().partition(":")
    return f"{domain.lstrip('0').zfill(4)}:{rest}"


def _memory(info: Any) -> dict[str, int]:
    found = {"total": info.total, "free": info.free, "used": info.used}
    if hasattr(info, "reserved"):
        found["reserved"] = info.reserved
    return found


def _try(call: Callable[..., Any], *arguments: Any) -> Any:
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        return dict(_UNREAD)
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - a driver may answer anything, and one field must not cost the others
        return {"error": _error_name(error)}


def _error_name(error: BaseException) -> str:
    name = type(error).__name__
    return name.removeprefix("NVMLError_")
