"""Runtimes and frameworks that are installed, found without importing or starting any of them."""

from __future__ import annotations

import re

from willitrun.hardware.findings import Findings
from willitrun.hardware.surroundings import Surroundings
from willitrun.records.machines import SoftwareVersion

__all__ = ["probe_software"]

_PACKAGES = (
    "torch",
    "vllm",
    "transformers",
    "llama-cpp-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-llm",
    "mlx",
    "mlx-lm",
    "bitsandbytes",
    "flash-attn",
    "diffusers",
    "sglang",
    "openvino",
)
_PROGRAMS = {
    "ollama": ("ollama",),
    "llama.cpp": ("llama-server", "llama-cli"),
    "lm-studio": ("lms",),
    "vllm-command": ("vllm",),
    "nvidia-smi": ("nvidia-smi",),
}
_MAJOR = re.compile(r"(1[1-9]|2\d)\.")
_BUILD = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)\b")


def probe_software(surroundings: Surroundings) -> Findings:
    """Packages of this Python, programs on the path, and the ROCm release."""
    found = Findings()
    for name in _PACKAGES:
        version = surroundings.ask("package", name)
        if isinstance(version, str):
            detail = torch_build(version, surroundings) if name == "torch" else ""
            found.software.append(SoftwareVersion(name=name, version=version, detail=detail))
    for name, programs in _PROGRAMS.items():
        present = [program for program in programs if surroundings.ask("program", program)]
        if present:
            found.software.append(SoftwareVersion(name=name, detail=f"{present[0]} is on the path"))
    rocm = surroundings.ask("text", "/opt/rocm/.info/version")
    if isinstance(rocm, str) and rocm.strip():
        found.software.append(SoftwareVersion(name="rocm", version=rocm.strip().split("-")[0]))
    found.report("software", "ok", f"{len(found.software)} found")
    return found


def torch_build(version: str, surroundings: Surroundings) -> str:
    """What a torch wheel was built for: ``cpu``, ``cu128``, ``rocm6.3``, or empty where it cannot be told.

    The local part of the version says it. A wheel from the package index has none: on Linux that one is the CUDA
    build exactly when NVIDIA's CUDA runtime package is installed beside it.

    >>> from willitrun.hardware.surroundings import RecordedSurroundings
    >>> beside = RecordedSurroundings({"package": {"nvidia-cuda-runtime": "13.0.48"}})
    >>> torch_build("2.9.1", beside), torch_build("2.9.1+cpu", beside)
    ('cu13', 'cpu')
    """
    match = _BUILD.search(version)
    if match:
        return match[1]
    for package, build in (
        ("nvidia-cuda-runtime", "cuda"),
        ("nvidia-cuda-runtime-cu13", "cu13"),
        ("nvidia-cuda-runtime-cu12", "cu12"),
    ):
        release = surroundings.ask("package", package)
        if isinstance(release, str):
            # From CUDA 13 on the package carries the release in its version and no longer in its name.
            major = _MAJOR.match(release) if build == "cuda" else None
            return f"cu{major[1]}" if major else build
    return ""
