"""A runtime with its options, as the policy that the LLM kernels read."""

from __future__ import annotations

import math

import numpy as np

from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.requests import Request
from willitrun.hardware.platforms import has_avx512_bf16
from willitrun.kernels.kv_cells import cells_policy
from willitrun.kernels.kv_layouts import KV_FORMATS
from willitrun.kernels.llm_levels import build_number, classify_era, expands_before_products, level_code
from willitrun.kernels.llm_runtime import RuntimePolicy
from willitrun.kernels.placement import OFFLOAD_EXPERTS, OFFLOAD_EXPERTS_ONLY, OFFLOAD_LAYERS, OFFLOAD_NONE

__all__ = ["container_of", "runtime_policy"]

# Runtimes that are another one under the bonnet.
ENGINES = {
    "ollama": "llama.cpp",
    "lm-studio": "llama.cpp",
    "exllamav2": "exllama",
    "exllamav3": "exllama",
    "mlc-llm": "mlc",
    "transformers": "transformers",
    "pytorch": "pytorch",
    "faster-whisper": "pytorch",
    "whisper.cpp": "llama.cpp",
}
# Engines that batch continuously on kernels they share.
SERVERS = ("vllm", "sglang", "tensorrt-llm")
# Physical batch of a prefill where nobody sets it: n_ubatch of llama.cpp, max_num_batched_tokens of servers.
_MICROBATCH = {
    "llama.cpp": 512,
    "llamafile": 512,
    "mlx": 2048,
    "vllm": 8192,
    "sglang": 8192,
    "tensorrt-llm": 8192,
    "exllama": 2048,
}
OUTPUT_FIRST = 8000
"""First build of llama.cpp known, by load logs, to place the output before any layer (pull request 18148, opened on
17 December 2025), so that ``-ngl 1`` holds it."""
_OFFLOAD = {
    "none": OFFLOAD_NONE,
    "layers": OFFLOAD_LAYERS,
    "experts": OFFLOAD_EXPERTS,
    "experts-only": OFFLOAD_EXPERTS_ONLY,
    "components": OFFLOAD_NONE,
}


def container_of(request: Request) -> str:
    """The container that the runtime reads this format from."""
    assert request.quantization is not None
    if request.model.tensors is not None:
        return request.model.tensors.source
    for container in request.quantization.container:
        if container in request.profile.containers:
            return "gguf" if container == "gguf" else "safetensors"
    return "gguf" if "gguf" in request.quantization.container else "safetensors"


def runtime_policy(request: Request, shares: tuple[float, ...] | None = None) -> RuntimePolicy:
    """Cache, batch and level codes of the request's runtime, and parts of the devices as told.

    Raises
    ------
    InvalidWorkloadError
        A cache format that the runtime does not have.
    """
    runtime, profile = request.runtime, request.profile
    engine = ENGINES.get(profile.id, profile.id)
    if engine == "llamafile" and runtime.backend != "cpu" and _knows_bf16(request):
        engine = "llamafile-avx512-bf16"
    kind_k, kind_v = runtime.kv_dtype_k or "f16", runtime.kv_dtype_v or "f16"
    for kind in (kind_k, kind_v):
        if kind not in KV_FORMATS or kind not in (*profile.kv_formats, "f16", "bf16"):
            raise InvalidWorkloadError(
                f"{profile.name} has no KV cache of {kind}.", hint=f"It has {', '.join(profile.kv_formats)}."
            )
    flash = runtime.flash_attention
    build = None
    if engine == "llama.cpp":
        build = build_number(runtime.version or "")
    slots = runtime.n_seq_max or profile.parallel_slots
    block_elements, element_bytes = KV_FORMATS[kind_k]
    return RuntimePolicy(
        cache=profile.kv_policy,
        kind_k=kind_k,
        kind_v=kind_v,
        element_bytes=element_bytes,
        block_elements=block_elements,
        n_ubatch=runtime.n_ubatch or 512,
        microbatch_tokens=runtime.n_ubatch
        or runtime.max_num_batched_tokens
        or _MICROBATCH.get(engine, 2**30),
        block_tokens=runtime.block_size or 16,
        unified=runtime.kv_unified if runtime.kv_unified is not None else True,
        swa_full=bool(runtime.swa_full),
        cells=cells_policy(build, flash_attention=flash is not False),
        offload=_OFFLOAD[profile.cpu_offload],
        max_sequences=float(runtime.max_num_seqs) if runtime.max_num_seqs else math.inf,
        interference=profile.kv_policy == "pages",
        static_cache=False,
        slots=slots,
        output_last=build is not None and build < OUTPUT_FIRST,
        shares=shares,
        serves=engine in ("vllm", "sglang", "tensorrt-llm"),
        codes={
            axis: np.array([level_code(axis, name)])
            for axis, name in (
                ("runtime", engine),
                ("stack", "server" if engine in SERVERS else None),
                ("backend", runtime.backend),
                ("engine", f"{engine}:{runtime.backend}"),
                ("system", request.machine.host.system if request.machine is not None else None),
                ("era", _era(runtime.version)),
                ("product", "library" if _expands(runtime.version) else None),
                ("attention", None if flash is None else "flash" if flash else "plain"),
            )
        },
    )


def _knows_bf16(request: Request) -> bool:
    """Whether the host's processor is known to have AVX512-BF16."""
    host = request.machine.host if request.machine is not None else None
    return host is not None and has_avx512_bf16(host.cpu, host.instruction_sets)


def _expands(version: str | None) -> bool:
    """Whether a version is known to be of the time when ggml expanded weights for a library."""
    return version is not None and expands_before_products(version)


def _era(version: str | None) -> str | None:
    """Software era of a version string; None, which adds nothing, where nobody says or it cannot be read."""
    return None if version is None else classify_era(version)
