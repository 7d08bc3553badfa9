"""Options that several commands share, and how they become arguments of the library."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Runtime, Workload
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
    "SetOption",
    "Settings",
    "machine_argument",
    "model_argument",
    "runtime_argument",
    "settings_argument",
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
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        help="Any other field of a Workload, Runtime, Placement or host: mode=qlora, images=2, tp=4, "
        "flash_attention=true, host.ram=128GiB. Repeat for several.",
        show_default=False,
    ),
]
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
    typed = {
        "context_tokens": tokens(context),
        "prompt_tokens": tokens(prompt),
        "output_tokens": tokens(output),
        "concurrency": concurrency,
        "batch_size": batch,
        "image_size": image_size,
        "precision": precision,
        "execution": execution,
    }
    return Workload(**typed | more)


def runtime_argument(
    name: str | None, kv: str | None, suits: Callable[[], str], **more: Any
) -> str | Runtime | None:
    """A runtime string, or a `Runtime` where a KV format or another option was chosen.

    Options without a name are those of the runtime that ``suits``, which is asked only then.
    """
    options = more if kv is None else {"kv_dtype_k": kv, "kv_dtype_v": kv, **more}
    if not options:
        return name
    base, _, backend = (name or suits()).partition(":")
    return Runtime(**{"name": base, "backend": backend or None, **options})


def machine_argument(names: list[str] | None, host: Mapping[str, Any] | None = None) -> Any:
    """None (this machine), one name, a list of cards, a build as a query, or cards in a host that was described."""
    if not names:
        if host:
            raise typer.BadParameter("host.* describes a machine that --on names; this one is detected")
        return None
    if len(names) == 1 and "=" in names[0]:
        return Machine.from_query(names[0])
    flat = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if host:
        cards = [] if flat == ["cpu"] else flat
        return {"accelerators": cards, "host": dict(host)}
    return flat[0] if len(flat) == 1 else flat


class Settings(NamedTuple):
    """Fields that were set by name, by what they belong to."""

    workload: dict[str, Any]
    runtime: dict[str, Any]
    placement: dict[str, Any]
    host: dict[str, Any]


_RECIPES: dict[str, type[Workload | Runtime | Placement]] = {
    "workload": Workload,
    "runtime": Runtime,
    "placement": Placement,
}


def settings_argument(pairs: list[str] | None) -> Settings:
    """Fields as typed: ``tp=4``, ``placement.split=[3,1]``, ``host.ram=128GiB``."""
    found = Settings({}, {}, {}, {})
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        owner, dot, field = name.strip().rpartition(".")
        if not dot:
            owner = next((key for key, kind in _RECIPES.items() if field in kind.model_fields), "")
        known = owner == "host" or (owner in _RECIPES and field in _RECIPES[owner].model_fields)
        if known and not equals:
            raise typer.BadParameter(f"{pair!r} says no value; write {name.strip()}=VALUE")
        if not known:
            every = [field for kind in _RECIPES.values() for field in kind.model_fields]
            near = get_close_matches(field, every, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ", such as mode=qlora or host.ram=64GiB"
            raise typer.BadParameter(
                f"{pair!r} sets no field of a workload, runtime, placement or host{hint}"
            )
        getattr(found, owner)[field] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    """Numbers, true and false, null and lists as JSON writes them; everything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
