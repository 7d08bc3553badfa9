"""How a model is run: quantizations, runtimes, workloads, placements."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from willitrun.errors import InvalidWorkloadError
from willitrun.records.bases import CitedRecord, Record

__all__ = [
    "Placement",
    "Quantization",
    "Runtime",
    "RuntimeProfile",
    "Workload",
    "WorkloadProfile",
]

Backend = Literal["cuda", "rocm", "vulkan", "metal", "sycl", "cpu", "xpu", "tpu", "openvino"]

CommandField = Literal[
    "precision",
    "execution",
    "layout",
    "backend",
    "quantization",
    "text_encoder_quantization",
    "offload",
    "vae_tiling",
    "flash_attention",
    "swa_full",
    "kv_unified",
    "kv_dtype_k",
    "enforce_eager",
]
"""Choices that a runtime may have a switch for."""


class Quantization(CitedRecord):
    """A weight format: exact block layout, and for mixes the formats that they mix."""

    kind: Literal["float", "gguf-type", "gguf-mix", "group", "float-scaled", "bitsandbytes", "exl", "mlx"]
    container: tuple[Literal["gguf", "safetensors", "pytorch", "exl2", "exl3", "mlx"], ...]
    block_weights: int | None = Field(None, gt=0)
    block_bytes: int | None = Field(None, gt=0)
    scale_bits: int | None = None
    mix_of: tuple[str, ...] = ()
    exact: bool = True
    """Whether sizes follow from a rule. Publisher mixes are intervals."""
    nominal_bits: float | None = None
    """Average bits per weight that the publisher states, for mixes without a rule."""
    unquantized_format: str = "bf16"
    """Format of the tensors that the method leaves alone."""
    quality_rank: int = 0
    """Order of preference when a smaller format is looked for; higher is closer to the original."""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"kind", "exact", "quality_rank", "unquantized_format"}


class RuntimeProfile(CitedRecord):
    """What a runtime can load and how it spends memory."""

    containers: tuple[str, ...]
    formats: tuple[str, ...] = ()
    """Quantizations it runs; empty means all of its containers'."""
    least_capability: dict[str, float] = Field(default_factory=dict)
    """Quantization -> the least compute capability of an NVIDIA card that it runs it on, whichever way it is stored."""
    backends: tuple[Backend, ...]
    vendors: tuple[str, ...] = ()
    systems: tuple[Literal["linux", "windows", "macos"], ...] = ("linux", "windows", "macos")
    tasks: tuple[str, ...]
    cpu_offload: Literal["layers", "experts", "experts-only", "components", "none"] = "none"
    """What may lie in host memory: whole layers, experts and layers, experts alone, components of a pipeline."""
    multi_gpu: tuple[Literal["layer", "tensor", "pipeline", "expert", "data"], ...] = ()
    tensor_split_lacks: tuple[str, ...] = ()
    """`TransformerSpec.model_type` of models whose tensors it doesn't split, though it splits those of others."""
    kv_policy: Literal["cells", "pages", "dynamic", "none"] = "none"
    kv_formats: tuple[str, ...] = ("f16",)
    trains: bool = False
    """Whether it trains and fine-tunes, and does not only run what was trained."""
    preallocates: bool = False
    default_gpu_memory_utilization: float | None = None
    memory_share_of: Literal["card", "free", "left"] | None = None
    """What a server's share of memory is a share of: the whole card, what is free before it loads, what weights and
    activations leave. None: it has no such option."""
    parallel_slots: int = 1
    install: str = ""
    command: str = ""
    """Template with ``{model}``, ``{context}``, ...: see `willitrun.commands`."""
    command_of: dict[str, str] = Field(default_factory=dict)
    """Task -> the template where ``command`` is not its; empty where the runtime has no line for it."""
    flags_of: dict[CommandField, dict[str, str]] = Field(default_factory=dict)
    """Field -> its value -> what ``{precision_flag}`` and its like stand for in ``command``.

    ``none`` is the value of a field that nobody set. A value that is not listed has no command line.
    """
    homepage: str = ""
    versions: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {
            "parallel_slots",
            "install",
            "command",
            "command_of",
            "flags_of",
            "homepage",
            "versions",
            "preallocates",
        }

    def command_for(self, task: str) -> str:
        """Template of a task's command line; empty if the runtime has none."""
        return self.command_of.get(task, self.command)


class WorkloadProfile(CitedRecord):
    """A named workload with the floor below which it is not practical."""

    task: str
    fields: dict[str, Any] = Field(default_factory=dict)
    floor: dict[str, float] = Field(default_factory=dict)
    """``{decode_tokens_per_s = 7}``: the slowest that people find usable."""
    label: str = ""
    """Short label of a machine that is up to it: what `chips` shows. Empty: no label."""
    reference: str = ""
    """Model by which the label is judged."""
    reference_quantization: str | None = None
    note: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"task", "fields", "note", "label", "reference", "reference_quantization"}


class _FieldsAsParameters:
    """`help()` and editors list the fields, not ``**fields``; made when asked for, as `inspect` asks the class."""

    def __get__(self, instance: object, owner: "type[Recipe]") -> Any:
        from inspect import Parameter, Signature

        if instance is not None:
            raise AttributeError("__signature__")
        parameters = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in owner.model_fields.items()
        ]
        return Signature(parameters)


# What others call a value, or where they look for it.
_SHARDED = "States that are sharded over devices are asked of the workload: Workload(mode='full-finetune', zero_stage=3) for FSDP or ZeRO-3."
_MEANT = {
    **{("strategy", word): _SHARDED for word in ("fsdp", "fsdp2", "zero", "zero1", "zero2", "zero3", "zero-1", "zero-2", "zero-3", "deepspeed")},
    **{("strategy", word): "That is 'data'." for word in ("ddp", "dp", "replica", "replicas")},
    **{("strategy", word): "That is 'tensor', or Placement(tp=2) for so many ranks." for word in ("tp", "row", "tensor-parallel")},
    **{("strategy", word): "That is 'pipeline', or Placement(pp=2) for so many stages." for word in ("pp", "pipeline-parallel")},
    **{("strategy", word): "That is 'expert', or Placement(ep=2) for so many ranks." for word in ("ep", "expert-parallel")},
    **{("mode", word): "That is 'full-finetune', 'lora' or 'qlora'." for word in ("train", "training", "finetune", "fine-tune", "sft")},
}  # fmt: skip


class Recipe(Record):
    """A record that callers write by hand: what is wrong with it is said in the library's own words."""

    __signature__ = _FieldsAsParameters()

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            from difflib import get_close_matches

            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or type(self).__name__
            known = sorted(type(self).model_fields)
            hint = _MEANT.get((name, str(first["input"]).lower()), "")
            if not hint and first["type"] in ("extra_forbidden", "literal_error"):
                foreign = first["type"] == "extra_forbidden"
                words = known if foreign else re.findall(r"'([^']+)'", first["ctx"]["expected"])
                near = get_close_matches(name if foreign else str(first["input"]), words, n=2)
                hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
                hint = hint or (f"Fields: {', '.join(known)}." if foreign else "")
            elif not hint and (short := re.fullmatch(r"(\d{1,6})\s*[kK]", str(first["input"]))):
                hint = f"Write {int(short[1]) * 1024}."
            value = "" if first["type"] == "value_error" else f" (got {first['input']!r})"
            raise InvalidWorkloadError(
                f"{type(self).__name__}.{name}: {first['msg'].removeprefix('Value error, ')}{value}.",
                hint=hint,
            ) from error

    def __repr__(self) -> str:
        """Only what was said: a workload has thirty fields, and most are None."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        fields = type(self).model_fields
        said = (f"{name}={value!r}" for name, value in given if value != fields[name].default)
        return f"{type(self).__name__}({', '.join(said)})"

    __str__ = __repr__


class Runtime(Recipe):
    """A runtime with the options that change memory or speed. ``None`` means the runtime's default."""

    name: str
    version: str | None = None
    backend: Backend | None = None
    kv_dtype_k: str | None = None
    kv_dtype_v: str | None = None
    flash_attention: bool | None = None
    n_batch: int | None = Field(None, gt=0)
    n_ubatch: int | None = Field(None, gt=0)
    n_seq_max: int | None = Field(None, gt=0)
    kv_unified: bool | None = None
    swa_full: bool | None = None
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    max_num_seqs: int | None = Field(None, gt=0)
    max_num_batched_tokens: int | None = Field(None, gt=0)
    enforce_eager: bool | None = None
    block_size: int | None = Field(None, gt=0)
    offload: Literal["none", "model", "sequential", "group"] | None = None
    vae_tiling: bool | None = None
    vae_slicing: bool | None = None
    text_encoder_quantization: str | None = None
    """Format of a diffusion pipeline's text encoders where it differs from the pipeline's own (16 bits)."""
    imatrix: bool | None = None
    mmap: bool | None = None


class Placement(Recipe):
    """What lies where. ``None`` means that the runtime decides."""

    strategy: Literal["single", "layer", "tensor", "expert", "pipeline", "data", "cpu"] | None = None
    gpu_layers: int | None = Field(None, ge=0)
    cpu_moe_layers: int | None = Field(None, ge=0)
    split: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = None
    """Parts of the layers of each device, in their order."""
    tp: int | None = Field(None, ge=1)
    pp: int | None = Field(None, ge=1)
    ep: int | None = Field(None, ge=1)
    dp: int | None = Field(None, ge=1)


class Workload(Recipe):
    """What is asked of the model. A field that the task does not have is an error when it is judged."""

    task: str | None = None
    context_tokens: int | None = Field(None, gt=0, le=2**40)
    prompt_tokens: int | None = Field(None, gt=0, le=2**40)
    cached_tokens: int = Field(0, ge=0, le=2**40)
    output_tokens: int | None = Field(None, gt=0, le=2**40)
    concurrency: int = Field(1, gt=0, le=2**24)
    batch_size: int | None = Field(None, gt=0, le=2**24)
    image_size: int | None = Field(None, gt=0, le=2**16)
    images: int = Field(0, ge=0, le=2**20)
    steps: int | None = Field(None, gt=0, le=10_000)
    frames: int | None = Field(None, gt=0, le=100_000)
    audio_s: float | None = Field(None, gt=0)
    dataset: str | None = None
    split: str | None = None
    execution: Literal["eager", "compile", "tensorrt", "onnxruntime", "openvino", "coreml"] | None = None
    precision: (
        Literal["fp32", "fp32-strict", "tf32", "amp-fp16", "amp-bf16", "fp16", "bf16", "int8", "fp8"] | None
    ) = None
    layout: Literal["nchw", "nhwc"] | None = None
    mode: Literal["inference", "full-finetune", "lora", "qlora"] = "inference"
    optimizer: Literal["adamw", "adamw-8bit", "adafactor", "sgd", "muon"] | None = None
    gradient_checkpointing: Literal["none", "selective", "full"] | None = None
    lora_rank: int | None = Field(None, gt=0)
    zero_stage: Literal[0, 1, 2, 3] | None = None
    draft_tokens: int | None = Field(None, ge=0)
    acceptance: float | None = Field(None, ge=0, le=1)
    use: str | None = None
    """A workload record whose floor decides what is practical: ``chat``, ``coding-agent``, ..."""

    @model_validator(mode="after")
    def _stays_countable(self) -> Self:
        # Byte counts are int64: 2^40 cached tokens of up to 4 MiB each are the most that can be counted.
        if (self.context_tokens or 0) * self.concurrency > 2**40:
            raise ValueError("context_tokens x concurrency exceeds 2^40 tokens")
        return self

    @classmethod
    def grid(
        cls,
        *,
        contexts: Sequence[int | None] = (None,),
        concurrencies: Sequence[int] = (1,),
        batches: Sequence[int | None] = (None,),
        **fields: Any,
    ) -> "tuple[Workload, ...]":
        """Workloads for a sweep: every combination of the axes, other fields alike.

        >>> len(Workload.grid(contexts=[8192, 32768], concurrencies=[1, 4, 16]))
        6
        """
        return tuple(
            cls(context_tokens=context, concurrency=concurrency, batch_size=batch, **fields)
            for context in contexts
            for concurrency in concurrencies
            for batch in batches
        )
