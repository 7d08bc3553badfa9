"""Free room where runtimes keep their models."""

from __future__ import annotations

from willitrun.hardware.findings import Findings
from willitrun.hardware.readings import believed
from willitrun.hardware.surroundings import Surroundings
from willitrun.units import format_bytes

__all__ = ["probe_disk"]

# Name of the place, the environment variables that move it (first match wins, with what is appended), its default.
# huggingface_hub: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME; Ollama: OLLAMA_MODELS; LM Studio has no variable.
_PLACES: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...] = (
    (
        "hugging-face",
        (("HF_HUB_CACHE", ""), ("HF_HOME", "/hub"), ("XDG_CACHE_HOME", "/huggingface/hub")),
        "~/.cache/huggingface/hub",
    ),
    ("ollama", (("OLLAMA_MODELS", ""),), "~/.ollama/models"),
    ("lm-studio", (), "~/.lmstudio/models"),
)

# Ollama's Linux installer runs it as a service of its own user, which keeps the models there (its FAQ).
_OLLAMA_SERVICE = "/usr/share/ollama/.ollama/models"


def probe_disk(surroundings: Surroundings) -> Findings:
    """Free bytes on the disks that hold the model caches. `Host` carries that of the Hugging Face cache, where a
    download lands first; the reports carry the others.
    """
    found = Findings()
    room = []
    for place, variables, default in _PLACES:
        folder = default
        if place == "ollama" and surroundings.ask("names", _OLLAMA_SERVICE) is not None:
            folder = _OLLAMA_SERVICE
        for variable, suffix in variables:
            value = surroundings.ask("environment", variable)
            if isinstance(value, str) and value:
                folder = value + suffix
                break
        free = believed(surroundings.ask("disk", folder), 0, 1 << 60)
        if free is not None:
            room.append(free)
            found.report(f"disk.{place}", "ok", f"{format_bytes(free)} free")
    # The Hugging Face cache is where a download of this library's user lands first.
    found.host["disk_free_bytes"] = room[0] if room else None
    if not room:
        found.report("disk", "not-supported", "no free space could be read")
    return found
