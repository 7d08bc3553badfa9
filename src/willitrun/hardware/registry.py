"""Display adapters and the processor in the Windows registry, as drivers and firmware wrote them there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["read_display_adapters", "read_processor_name"]

_CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
_PROCESSOR = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
_ACTIVE = r"HARDWARE\DEVICEMAP\VIDEO"
_VALUES = (
    "DriverDesc",
    "ProviderName",
    "DriverVersion",
    "MatchingDeviceId",
    "HardwareInformation.qwMemorySize",
    "HardwareInformation.AdapterString",
)


def read_display_adapters() -> list[dict[str, Any]]:
    """One mapping per adapter the registry knows; ``active`` says whether its driver runs in this session.

    ``Win32_VideoController.AdapterRAM`` is a 32-bit number and ends at 4 GB; ``HardwareInformation.qwMemorySize`` has
    64 bits. Adapters of earlier cards stay in the registry: those that run are found through their description.

    References
    ----------
    https://learn.microsoft.com/windows-hardware/drivers/display/registering-hardware-information
    """
    winreg: Any = import_module("winreg")
    active = _active_descriptions(winreg)
    adapters = []
    for name in _subkeys(winreg, _CLASS):
        if not name.isdigit():
            continue
        values = _values(winreg, f"{_CLASS}\\{name}")
        if values:
            description = values.get("DriverDesc")
            values["active"] = description in active if active else None
            adapters.append(values)
    return adapters


def read_processor_name() -> str | None:
    """The processor's marketing name, as the firmware gives it."""
    winreg: Any = import_module("winreg")
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PROCESSOR) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip() or None
    except OSError:
        return None


def _active_descriptions(winreg: Any) -> set[str]:
    found = set()
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _ACTIVE) as key:
            targets = [winreg.EnumValue(key, i) for i in range(winreg.QueryInfoKey(key)[1])]
    except OSError:
        return set()
    for name, target, _ in targets:
        if not str(name).startswith("\\Device\\Video") or not isinstance(target, str):
            continue
        path = target.removeprefix("\\Registry\\Machine\\")
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                found.add(str(winreg.QueryValueEx(key, "DriverDesc")[0]))
        except OSError:
            continue
    return found


def _subkeys(winreg: Any, path: str) -> list[str]:
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return [winreg.EnumKey(key, i) for i in range(winreg.QueryInfoKey(key)[0])]
    except OSError:
        return []


def _values(winreg: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            for name in _VALUES:
                try:
                    value = winreg.QueryValueEx(key, name)[0]
                except OSError:
                    continue
                # Some drivers write numbers and texts as raw bytes.
                if isinstance(value, bytes):
                    number = name.endswith("MemorySize")
                    value = (
                        int.from_bytes(value[:8], "little")
                        if number
                        else value.decode("utf-16-le", "replace")
                    )
                found[name] = value.strip("\0 ") if isinstance(value, str) else value
    except OSError:
        # Windows keeps one subkey ("Properties") closed to ordinary users.
        return {}
    return found
