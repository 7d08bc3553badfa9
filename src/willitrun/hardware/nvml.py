"""Raw readings through NVML (nvidia-ml-py): numbers and error names as the driver gave them, nothing judged.

Every call is made on its own: an older driver lacks some (FunctionNotFound), unified-memory parts refuse others
(NotSupported), a hot-unplugged card answers GpuIsLost. A failed reading is ``{"error": NAME}``. No serial
number, UUID or board id is ever asked for.
"""

from __future__ import annotations

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
# Less than detect() waits by default, so that a slow driver still gives what it had time for.
_PATIENCE_SECONDS = 3.5
_reading = threading.Lock()
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def read_nvml() -> dict[str, Any]:
    """Everything NVML tells about this machine's devices.

    Returns
    -------
    dict
        ``status`` is ``"ok"`` or the name of the error that stopped NVML from starting; then ``driver``, ``cuda``
        (1000 x major + 10 x minor) and ``devices``. NVML is opened here and closed before returning.

    References
    ----------
    https://docs.nvidia.com/deploy/nvml-api/
    """
    # An earlier call may still hang inside the driver; a second thread would hang beside it.
    if not _reading.acquire(blocking=False):
        return {"status": "Busy", "message": "an earlier reading of NVML has not returned"}
    try:
        return _read()
    finally:
        _reading.release()


def _read() -> dict[str, Any]:
    import pynvml

    if os.path.exists(_WSL_LIBRARY):
        _preload(_WSL_LIBRARY)
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError) as error:
        return {"status": _error_name(error), "message": str(error)}
    _deadline.set(time.monotonic() + _PATIENCE_SECONDS)
    try:
        found: dict[str, Any] = {
            "status": "ok",
            "driver": _try(pynvml.nvmlSystemGetDriverVersion),
            "cuda": _try(pynvml.nvmlSystemGetCudaDriverVersion_v2),
        }
        count = _try(pynvml.nvmlDeviceGetCount)
        if not isinstance(count, int):
            return {**found, "count": count, "devices": []}
        # A slow driver runs out of time: what says which device this is, and what of it may be used, goes first.
        handles = [
            _try(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(min(count, _MOST_DEVICES))
        ]
        lost = [handle if isinstance(handle, dict) else None for handle in handles]
        found["devices"] = [
            {"handle": gone} if gone else _essentials(pynvml, handle)
            for handle, gone in zip(handles, lost, strict=True)
        ]
        for readings, handle, gone in zip(found["devices"], handles, lost, strict=True):
            if gone is None:
                readings.update(_details(pynvml, handle, readings))
        return found
    finally:
        _deadline.set(None)
        _try(pynvml.nvmlShutdown)


def _preload(path: str) -> None:
    """WSL keeps the library outside the loader's path; once loaded, its name resolves to it."""
    try:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        # The reading that follows fails with LibraryNotFound and says so.
        return


def _essentials(nvml: Any, handle: Any) -> dict[str, Any]:
    return {
        **_handle(nvml, handle),
        "pci": _try(lambda: _pci(nvml.nvmlDeviceGetPciInfo_v3(handle))),
        "mig": _try(lambda: list(nvml.nvmlDeviceGetMigMode(handle))),
        "virtualization": _try(lambda: nvml.nvmlDeviceGetVirtualizationMode(handle)),
        "addressing_mode": _try(lambda: nvml.nvmlDeviceGetAddressingMode(handle)),
    }


def _details(nvml: Any, handle: Any, essentials: dict[str, Any]) -> dict[str, Any]:
    calls: dict[str, Callable[[], Any]] = {
        "bus_width_bits": lambda: nvml.nvmlDeviceGetMemoryBusWidth(handle),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "compute_capability": lambda: list(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        "cores": lambda: nvml.nvmlDeviceGetNumGpuCores(handle),
        "pcie_generation_max": lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
        "pcie_generation_device": lambda: nvml.nvmlDeviceGetGpuMaxPcieLinkGeneration(handle),
        "pcie_lanes_max": lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
        "pcie_generation_now": lambda: nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
        "pcie_lanes_now": lambda: nvml.nvmlDeviceGetCurrPcieLinkWidth(handle),
        "power_limit_mw": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle),
        "power_default_mw": lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle),
        "ecc": lambda: list(nvml.nvmlDeviceGetEccMode(handle)),
        "display_active": lambda: nvml.nvmlDeviceGetDisplayActive(handle),
        "chip_to_chip": lambda: nvml.nvmlDeviceGetC2cModeInfoV(handle).isC2cEnabled,
        "numa_node": lambda: nvml.nvmlDeviceGetNumaNodeId(handle),
    }
    mig = essentials["mig"]
    readings: dict[str, Any] = {}
    if isinstance(mig, list) and mig[:1] == [1]:
        # No slice, and no time to look for one, are different things.
        readings["slices"] = _slices(nvml, handle) or _try(list)
    for name, call in calls.items():
        readings[name] = _try(call)
    readings["processes"] = _processes(nvml, handle)
    readings["nvlinks"] = _nvlinks(nvml, handle)
    return readings


def _handle(nvml: Any, handle: Any) -> dict[str, Any]:
    """What a whole device and a MIG slice both answer."""
    return {
        "name": _try(nvml.nvmlDeviceGetName, handle),
        "memory_v2": _try(lambda: _memory(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))),
        "memory_v1": _try(lambda: _memory(nvml.nvmlDeviceGetMemoryInfo(handle))),
    }


def _slices(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    # GetMaxMigDeviceCount is how many there could be; the handles that exist are those that answer.
    most = _try(nvml.nvmlDeviceGetMaxMigDeviceCount, handle)
    found = []
    for index in range(min(most, _MOST_SLICES) if isinstance(most, int) else _MOST_SLICES):
        part = _try(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if isinstance(part, dict):
            continue
        readings = _handle(nvml, part)
        readings["sm_count"] = _try(
            lambda part=part: nvml.nvmlDeviceGetAttributes_v2(part).multiprocessorCount
        )
        readings["processes"] = _processes(nvml, part)
        found.append(readings)
    return found


def _processes(nvml: Any, handle: Any) -> Any:
    found: dict[int, dict[str, Any]] = {}
    for call in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        listed = _try(call, handle)
        if isinstance(listed, dict):
            if not found and call is nvml.nvmlDeviceGetComputeRunningProcesses:
                return listed
            continue
        for process in listed:
            name = _try(nvml.nvmlSystemGetProcessName, process.pid)
            used = process.usedGpuMemory
            entry = found.setdefault(process.pid, {"pid": process.pid, "used": None, "name": _program(name)})
            # A process with both kinds of context is listed twice with the same figure.
            entry["used"] = max(entry["used"] or 0, used) if isinstance(used, int) else entry["used"]
    return list(found.values())


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
        # NVML writes an eight-digit domain, sysfs a four-digit one.
        "address": address.lower()[-12:],
    }


def _memory(info: Any) -> dict[str, int]:
    found = {"total": info.total, "free": info.free, "used": info.used}
    if hasattr(info, "reserved"):
        found["reserved"] = info.reserved
    return found


def _try(call: Callable[..., Any], *arguments: Any) -> Any:
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        return {"error": "Deadline"}
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - a driver may answer anything, and one field must not cost the others
        return {"error": _error_name(error)}


def _error_name(error: BaseException) -> str:
    name = type(error).__name__
    return name.removeprefix("NVMLError_")
