"""What a request takes where nobody chose: weight format, runtime, back end."""

from __future__ import annotations

from typing import Any

from willitrun.catalog import Catalog
from willitrun.estimators.workloads import (
    ASR_TASKS,
    DIFFUSION_TASKS,
    ENCODER_TASKS,
    GRAPH_TASKS,
    LLM_TASKS,
)
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Quantization, Runtime, RuntimeProfile

__all__ = ["BACKENDS", "GGUF_LADDER", "default_backend", "default_quantization", "default_runtime", "drives"]

GGUF_LADDER = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k")
"""Formats tried from best to smallest when nobody chose one."""

BACKENDS: dict[str, tuple[str, ...]] = {
    "nvidia": ("cuda", "vulkan"),
    "amd": ("rocm", "vulkan"),
    "intel": ("sycl", "xpu", "openvino", "vulkan"),
    "apple": ("metal",),
    "google": ("tpu",),
    "qualcomm": ("vulkan",),
}
"""Back ends that drive a vendor's devices, the usual one first."""

_SERVER_FORMS = ("cloud", "server", "server-oam", "server-pcie", "server-sxm")


def default_quantization(model: Model, runtime: Runtime | None, catalog: Catalog) -> tuple[str | None, bool]:
    """The checkpoint's own format; else, for GGUF-capable runtimes, open: the best that is comfortable."""
    if model.task in GRAPH_TASKS:
        return None, False
    own = model.quantization
    if model.origin or own not in ("bf16", "f16", "f32"):
        return own, False
    if model.task not in LLM_TASKS or model.task == "text-to-speech":
        # No runtime of GGUF files is recorded to speak.
        return own, False
    if runtime is not None and "gguf" not in catalog.resolve("runtime", runtime.name).containers:
        return own, False
    if model.transformer is None:
        return own, False
    return GGUF_LADDER[0], True


def default_runtime(
    model: Model, quantization: Quantization | None, machine: Machine | None, catalog: Catalog
) -> str:
    """What suits format and machine."""
    if model.task in GRAPH_TASKS:
        return "pytorch"
    if model.task in DIFFUSION_TASKS:
        return "diffusers"
    if model.task in ASR_TASKS or model.task in ENCODER_TASKS or model.task == "text-to-speech":
        if quantization is not None and quantization.container == ("gguf",):
            return "whisper.cpp" if model.task in ASR_TASKS else "llama.cpp"
        return "transformers"
    if quantization is None:
        return "transformers"
    holds_gguf = model.repository.lower().endswith("gguf")
    if "gguf" in quantization.container and (holds_gguf or quantization.kind in ("gguf-type", "gguf-mix")):
        return "llama.cpp"
    if quantization.kind == "mlx":
        return "mlx"
    if quantization.kind == "exl":
        return "exllamav3" if "exl3" in quantization.container else "exllamav2"
    if quantization.kind == "bitsandbytes":
        return "transformers"
    devices = [device.accelerator for device in machine.accelerators] if machine else []
    if "gguf" in quantization.container and not any(device.form in _SERVER_FORMS for device in devices):
        # Both worlds load the format (MXFP4): people's own machines run llama.cpp, which can also offload.
        return "llama.cpp"
    return "vllm" if {device.vendor for device in devices} & {"nvidia", "amd"} else "transformers"


def default_backend(profile: RuntimeProfile, machine: Machine | None) -> Any:
    """The back end of a runtime on a machine: of an accelerator that it drives, else of the processor.

    Who names an accelerator of a server means it: its host is no answer.
    """
    if machine is None:
        return profile.backends[0]
    devices = [device.accelerator for device in machine.accelerators]
    for device in devices:
        for backend in BACKENDS.get(device.vendor, ()) if drives(profile, device.vendor) else ():
            if backend in profile.backends:
                if backend == "rocm" and machine.host.system == "windows" and "vulkan" in profile.backends:
                    return "vulkan"
                return backend
    beside = all(device.form not in _SERVER_FORMS for device in devices)
    return "cpu" if "cpu" in profile.backends and beside else profile.backends[0]


def drives(profile: RuntimeProfile, vendor: str) -> bool:
    """Whether a runtime computes on devices of a vendor."""
    return not profile.vendors or vendor in profile.vendors
