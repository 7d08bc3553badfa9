"""Does what is installed suit the devices and the driver? Builds of PyTorch, ONNX Runtime's package, Ollama's driver."""

from __future__ import annotations

import re
from collections.abc import Iterator

from willitrun.checkups.findings import Finding
from willitrun.records.machines import InstalledAccelerator, Machine, SoftwareVersion

__all__ = ["examine_software"]

# "cu128" is CUDA 12.8, "cu13" CUDA 13 of an unknown minor version.
_BUILD = re.compile(r"cu(\d\d)(\d?)\Z")
_VENDOR = {"cu": "nvidia", "rocm": "amd", "xpu": "intel"}
_MADE_FOR = {"nvidia": "CUDA", "amd": "ROCm", "intel": "Intel GPUs"}
# Blackwell (10.0 and up) came with CUDA 12.8 (PyTorch's install page), and CUDA 13 compiles for nothing below 7.5
# (https://developer.nvidia.com/blog/navigating-gpu-architecture-support-a-guide-for-nvidia-cuda-developers).
_BLACKWELL, _FIRST_FOR_BLACKWELL = (10, 0), (12, 8)
_LEAST_OF_CUDA_13 = (7, 5)
# https://github.com/ollama/ollama/blob/main/docs/gpu.mdx: 531 for years, 550 now, 570 up to compute capability 6.2.
_OLLAMA_EVER, _OLLAMA_NOW, _OLLAMA_OLD_CARDS, _OLD_CARD = 531, 550, 570, (6, 2)


def examine_software(machine: Machine) -> Iterator[Finding]:
    """What is installed beside what it would run on."""
    installed = {entry.name: entry for entry in machine.software}
    cards = [device for device in machine.accelerators if device.accelerator.kind != "igpu"]
    nvidia = [device for device in cards if device.accelerator.vendor == "nvidia"]
    if nvidia and "onnxruntime" in installed and "onnxruntime-gpu" not in installed:
        yield Finding(
            code="onnxruntime-cpu-only",
            severity="note",
            title="ONNX Runtime",
            message="The package onnxruntime runs on the processor; onnxruntime-gpu would use the GPU of this machine.",
            see=("troubleshooting:onnxruntime-cuda-missing",),
        )
    if nvidia and "ollama" in installed:
        yield from _ollama(nvidia, installed.get("nvidia-driver"))
    torch = installed.get("torch")
    if torch is not None:
        yield from _torch(torch, cards, installed.get("cuda-driver"))


def _ollama(cards: list[InstalledAccelerator], driver: SoftwareVersion | None) -> Iterator[Finding]:
    match = re.match(r"\d{3,4}(?=\.)", (driver.version if driver else None) or "")
    if match is None:
        return
    capabilities = [known for device in cards if (known := _capability(device)) is not None]
    old = bool(capabilities) and min(capabilities) <= _OLD_CARD
    release, needed = int(match[0]), _OLLAMA_OLD_CARDS if old else _OLLAMA_NOW
    if release < needed:
        yield Finding(
            code="driver-too-old",
            severity="problem" if release < _OLLAMA_EVER else "note",
            title="NVIDIA driver",
            message=f"Ollama asks for NVIDIA driver {needed} or newer on this card; this one is {release}, with which "
            "current releases run on the processor.",
            see=("troubleshooting:driver-cuda-mismatch",),
        )


def _torch(
    torch: SoftwareVersion, cards: list[InstalledAccelerator], driver: SoftwareVersion | None
) -> Iterator[Finding]:
    vendors = {device.accelerator.vendor for device in cards} & set(_MADE_FOR)
    made_for = next(
        (vendor for prefix, vendor in _VENDOR.items() if torch.detail.startswith(prefix)), torch.detail
    )
    if torch.detail == "cpu" and vendors:
        yield Finding(
            code="torch-cpu-only",
            severity="problem",
            title="PyTorch",
            message=f"PyTorch {torch.version} is a build for the CPU: it will not use the GPU of this machine.",
            see=("troubleshooting:torch-without-cuda",),
        )
    elif made_for in _MADE_FOR and vendors and made_for not in vendors:
        others = " and ".join(
            sorted({"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}[v] for v in vendors)
        )
        yield Finding(
            code="torch-other-vendor",
            severity="problem",
            title="PyTorch",
            message=f"PyTorch {torch.version} is built for {_MADE_FOR[made_for]}, but the GPU is from {others}.",
            see=("troubleshooting:torch-without-cuda",),
        )
    build = _BUILD.fullmatch(torch.detail)
    if build is None:
        return
    if (
        driver is not None
        and driver.version is not None
        and int(driver.version.split(".")[0]) < int(build[1])
    ):
        # Inside one major version of CUDA any driver of that version runs any toolkit of it.
        yield Finding(
            code="driver-too-old",
            severity="problem",
            title="NVIDIA driver",
            message=f"PyTorch {torch.version} needs a driver for CUDA {build[1]}; this one runs CUDA {driver.version}.",
            see=("troubleshooting:driver-cuda-mismatch",),
        )
    cuda = (int(build[1]), int(build[2])) if build[2] else None
    for device in cards:
        capability = _capability(device)
        if device.accelerator.vendor != "nvidia" or capability is None:
            continue
        too_new = capability >= _BLACKWELL and cuda is not None and cuda < _FIRST_FOR_BLACKWELL
        too_old = capability < _LEAST_OF_CUDA_13 and int(build[1]) >= 13
        if too_new or too_old:
            wanted = "12.8 or newer" if too_new else "12"
            yield Finding(
                code="torch-without-device-code",
                severity="problem",
                title="PyTorch",
                message=f"PyTorch {torch.version} holds no code for {device.accelerator.name} (compute capability "
                f"{capability[0]}.{capability[1]}): it takes a build for CUDA {wanted}.",
                see=("troubleshooting:no-kernel-image",),
            )


def _capability(device: InstalledAccelerator) -> tuple[int, int] | None:
    match = re.fullmatch(
        r"(\d+)\.(\d+)", device.compute_capability or device.accelerator.compute_capability or ""
    )
    return (int(match[1]), int(match[2])) if match else None
