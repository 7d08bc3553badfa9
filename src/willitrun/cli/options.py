"""Options that several commands share, and how they become arguments of the library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from willitrun.records.models import Model
from willitrun.records.recipes import Runtime, Workload
from willitrun.units import parse_quantity

__all__ = [
    "BatchOption",
    "ConcurrencyOption",
    "ContextOption",
    "ExecutionOption",
    "HtmlOption",
    "ImageSizeOption",
    "JsonOption",
    "KvOption",
    "MachineOption",
    "MemoryOption",
    "ModelArgument",
    "OutputOption",
    "PrecisionOption",
    "PromptOption",
    "QuantOption",
    "RuntimeOption",
    "machine_argument",
    "model_argument",
    "runtime_argument",
    "workload_argument",
]

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Catalog id, Hub repository, path or https address of a checkpoint.", show_default=False
    ),
]
MachineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--on", help="Device id or name; repeat for several cards. Default: this machine.", show_default=False
    ),
]
QuantOption = Annotated[
    str | None, typer.Option("--quant", "-q", help="Weight format: q4_k_m, bf16, awq-int4, ...")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", "-c", help="Context per sequence: 8192, 32k, 128k.")
]
PromptOption = Annotated[str | None, typer.Option("--prompt", help="Prompt tokens.")]
OutputOption = Annotated[str | None, typer.Option("--output", help="Generated tokens.")]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", help="Sequences in flight.")]
BatchOption = Annotated[int | None, typer.Option("--batch", "-b", help="Images or documents per batch.")]
ImageSizeOption = Annotated[int | None, typer.Option("--image-size", help="Side of the image in pixels.")]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Denoising steps.")]
FramesOption = Annotated[int | None, typer.Option("--frames", help="Frames of a video.")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="fp32, amp-fp16, fp16, bf16, int8, ...")
]
ExecutionOption = Annotated[str | None, typer.Option("--execution", help="eager, compile, tensorrt, ...")]
RuntimeOption = Annotated[
    str | None, typer.Option("--runtime", "-r", help="llama.cpp, llama.cpp:vulkan, vllm, ...")
]
KvOption = Annotated[str | None, typer.Option("--kv", help="KV cache format: f16, q8_0, q4_0, fp8.")]
MemoryOption = Annotated[str, typer.Option("--memory", help="free (now), idle, or nameplate.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write a page of HTML, too.", dir_okay=False, show_default=False)
]


def tokens(text: str | None) -> int | None:
    """``"32k"`` is 32,768 tokens, as context lengths are counted; ``"8192"`` is itself."""
    if text is None:
        return None
    lowered = text.strip().lower()
    try:
        if lowered.endswith("k"):
            return round(float(lowered[:-1]) * 1024)
        if lowered.endswith("m"):
            return round(float(lowered[:-1]) * 1024 * 1024)
        return int(parse_quantity(lowered, "count"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number of tokens; write 8192 or 32k") from None


def model_argument(ref: str, *, image_size: int | None = None) -> str | Model:
    """A model as typed: an ONNX file becomes its graph (extra `onnx`), an address the headers of the file there."""
    if ref.lower().startswith(("http://", "https://")):
        from willitrun.interop.remote_headers import describe_remote

        return describe_remote(ref, token=os.environ.get("HF_TOKEN") if _is_hub(ref) else None)
    if not ref.lower().endswith(".onnx") or not Path(ref).is_file():
        return ref
    from willitrun.interop.onnx_graphs import model_from_onnx

    return model_from_onnx(ref, image_size=image_size)


def _is_hub(url: str) -> bool:
    return url.startswith("https://huggingface.co/")


def workload_argument(
    *,
    context: str | None = None,
    prompt: str | None = None,
    output: str | None = None,
    concurrency: int = 1,
    batch: int | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    execution: str | None = None,
    **more: Any,
) -> Workload:
    """A `Workload` from options as typed."""
    return Workload(
        context_tokens=tokens(context),
        prompt_tokens=tokens(prompt),
        output_tokens=tokens(output),
        concurrency=concurrency,
        batch_size=batch,
        image_size=image_size,
        precision=precision,
        execution=execution,
        **more,
    )


def runtime_argument(name: str | None, kv: str | None) -> str | Runtime | None:
    """A runtime string, or a `Runtime` where a KV format was chosen."""
    if kv is None:
        return name
    base, _, backend = (name or "llama.cpp").partition(":")
    return Runtime(name=base, backend=backend or None, kv_dtype_k=kv, kv_dtype_v=kv)


def machine_argument(names: list[str] | None) -> Any:
    """None (this machine), one name, or a list of cards."""
    if not names:
        return None
    flat = [part.strip() for name in names for part in name.split(",") if part.strip()]
    return flat[0] if len(flat) == 1 else flat
