"""Which workload fields a task has, and what they default to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from willitrun.errors import InvalidWorkloadError
from willitrun.records.models import Model
from willitrun.records.recipes import Workload
from willitrun.records.results import Reason

__all__ = [
    "ASR_TASKS",
    "BACKBONE_TASKS",
    "DIFFUSION_TASKS",
    "ENCODER_TASKS",
    "ENGINES",
    "GRAPH_TASKS",
    "LLM_TASKS",
    "PRECISION_OF_FORMAT",
    "complete_workload",
    "format_of_precision",
    "image_size_reason",
    "in_format",
    "is_language",
    "trained_context",
]

LLM_TASKS = frozenset({"text-generation", "image-text-to-text", "text-to-speech"})
ENCODER_TASKS = frozenset({"feature-extraction", "text-ranking", "fill-mask"})
ASR_TASKS = frozenset({"automatic-speech-recognition"})
DIFFUSION_TASKS = frozenset({"text-to-image", "text-to-video"})
GRAPH_TASKS = frozenset(
    {
        "image-classification",
        "image-feature-extraction",
        "object-detection",
        "image-segmentation",
        "pose-estimation",
        "oriented-detection",
        "zero-shot-image-classification",
    }
)
BACKBONE_TASKS = frozenset({"image-classification", "image-feature-extraction"})
"""One network with and without its head: whoever times the one times the other."""

ENGINES = frozenset({"tensorrt", "onnxruntime", "openvino"})
"""Runtimes that are a way of execution themselves, of the same name."""

PRECISION_OF_FORMAT = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "int8": "int8", "fp8": "fp8"}
"""Weight formats that a graph of operators computes in, and the precision that each stands for."""

_FORMAT_OF_PRECISION = {
    **{precision: name for name, precision in PRECISION_OF_FORMAT.items()},
    # These name how products are computed: weights stay in single precision.
    **dict.fromkeys(("fp32-strict", "tf32", "amp-fp16", "amp-bf16"), "f32"),
}

_COMMON = {"task", "mode", "use", "precision", "execution", "dataset", "split"}
_TRAINING = {"optimizer", "gradient_checkpointing", "lora_rank", "zero_stage", "batch_size"}
_LLM = {
    "context_tokens",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "concurrency",
    "draft_tokens",
    "acceptance",
}
_IMAGE = {"batch_size", "image_size", "layout"}
_FIELDS: tuple[tuple[frozenset[str], set[str]], ...] = (
    (LLM_TASKS, _LLM | {"images", "image_size"}),
    (ENCODER_TASKS, {"batch_size", "context_tokens", "prompt_tokens", "concurrency", "images", "image_size"}),
    (ASR_TASKS, {"batch_size", "concurrency", "audio_s", "output_tokens"}),
    (DIFFUSION_TASKS, _IMAGE | {"steps", "frames"}),
    (GRAPH_TASKS, _IMAGE),
)
_INSTEAD = {
    "batch_size": "Sequences in flight are 'concurrency'.",
    "concurrency": "Images and documents processed together are 'batch_size'.",
    "image_size": "This model takes no images.",
    "images": "This model takes no images.",
}

DEFAULT_CONTEXT_TOKENS = 8192
DEFAULT_PROMPT_TOKENS = 512
DEFAULT_OUTPUT_TOKENS = 128
SPEECH_TOKENS_PER_S = 3.25
"""Tokens that a second of speech becomes: 150 words a minute at 1.3 tokens a word, an assumption."""


def is_language(model: Model) -> bool:
    """Whether a model is judged as a language model: its task is one, and a source describes its transformer.

    Of a model that speaks, the networks may be no transformer, or unknown; its weights are judged alone.
    """
    if model.task == "text-to-speech" and model.transformer is None:
        return False
    return model.task in LLM_TASKS or model.task in ENCODER_TASKS


def trained_context(model: Model) -> int | None:
    """Longest context that the model was trained for [tokens]; None if no source says."""
    if model.transformer is None:
        return None
    return model.transformer.max_position_embeddings


_PLAIN = Workload.model_construct()


def format_of_precision(model: Model, workload: Workload | None) -> str | None:
    """Weight format that a workload's precision means for a model that is judged by its weights; else None.

    A graph of operators and a diffusion pipeline have a precision of their own beside the format, and training says
    how weights are kept by its mode.
    """
    if workload is None or workload.precision is None or workload.mode != "inference":
        return None
    by_weights = model.task in LLM_TASKS | ENCODER_TASKS | ASR_TASKS
    return _FORMAT_OF_PRECISION[workload.precision] if by_weights else None


def in_format(model: Model, workload: Workload | None, quantization: str | None) -> Workload | None:
    """The workload as a graph of operators computes it whose format is named and whose precision is not."""
    precision = PRECISION_OF_FORMAT.get(quantization or "")
    if precision is None or model.task not in GRAPH_TASKS:
        return workload
    given = workload or _PLAIN
    return given if given.precision is not None else given.model_copy(update={"precision": precision})


def complete_workload(
    model: Model, workload: Workload | None, runtime: str = ""
) -> tuple[Workload, tuple[str, ...]]:
    """Fill a workload's defaults for a model; return it with the names of the fields that were filled.

    Parameters
    ----------
    runtime
        Id of the runtime; an engine (:data:`ENGINES`) executes in its own way where nobody says how.

    Raises
    ------
    InvalidWorkloadError
        The workload is for another task, has a field that the task lacks, or contradicts itself or the runtime.
    """
    given = workload or _PLAIN
    task = given.task or model.task
    if task != model.task and not {task, model.task} <= BACKBONE_TASKS:
        raise InvalidWorkloadError(
            f"{model.name} does {model.task}, the workload is {task}.",
            hint="Leave task out, or choose another model.",
        )
    _refuse_foreign_fields(model, given)
    if runtime in ENGINES and given.execution in ("eager", "compile"):
        raise InvalidWorkloadError(
            f"{runtime} runs networks through an engine of its own, not in execution '{given.execution}'.",
            hint="Leave execution out, or choose runtime 'pytorch'.",
        )
    own_way = runtime if runtime in ENGINES else "eager"
    filled: dict[str, object] = {}

    def default(name: str, value: object) -> None:
        if getattr(given, name) is None and value is not None:
            filled[name] = value

    if given.task is None:
        filled["task"] = task
    if given.mode != "inference":
        default("batch_size", 1)
        default("optimizer", "adamw")
        # Adapters over quantized weights are set up by peft's `prepare_model_for_kbit_training`, which turns it on.
        default("gradient_checkpointing", "full" if given.mode == "qlora" else "none")
        if given.mode in ("lora", "qlora"):
            default("lora_rank", 16)
    if task in LLM_TASKS:
        _llm_defaults(model, given, filled)
    elif task in ENCODER_TASKS:
        longest = trained_context(model)
        pictures = _picture_tokens(model, given, filled)
        default("context_tokens", pictures + (given.prompt_tokens or min(512, longest or 512)))
        whole = int(given.context_tokens or filled.get("context_tokens") or 0)  # type: ignore[call-overload]
        prompt = given.prompt_tokens or max(whole - pictures, 1)
        default("prompt_tokens", prompt)
        _refuse_beyond(whole, {"images": pictures, "prompt": prompt})
        default("batch_size", 1)
    elif task in ASR_TASKS:
        default("batch_size", 1)
        window = (model.speech.window_s if model.speech is not None else None) or 30.0
        default("audio_s", window * (given.batch_size or 1))
        default("output_tokens", round(SPEECH_TOKENS_PER_S * window))
    elif task in DIFFUSION_TASKS:
        default("batch_size", 1)
        if model.diffusion is not None:
            default("image_size", model.diffusion.image_size)
            default("steps", model.diffusion.steps or 30)
            default("frames", model.diffusion.frames)
        default("precision", "bf16")
        default("execution", own_way)
    elif task in GRAPH_TASKS:
        default("batch_size", 1)
        if model.vision is not None:
            default("image_size", model.vision.image_size)
        default("precision", "fp32")
        default("execution", own_way)
        default("layout", "nchw")
    return given.model_copy(update=filled), tuple(name for name in filled if name != "task")


def _llm_defaults(model: Model, given: Workload, filled: dict[str, object]) -> None:
    longest = trained_context(model)
    prompt = given.prompt_tokens
    output = given.output_tokens
    context = given.context_tokens
    pictures = _picture_tokens(model, given, filled)
    before = given.cached_tokens + pictures
    if context is None:
        needed = before + (prompt or DEFAULT_PROMPT_TOKENS) + (output or DEFAULT_OUTPUT_TOKENS)
        context = max(min(DEFAULT_CONTEXT_TOKENS, longest or DEFAULT_CONTEXT_TOKENS), needed)
        filled["context_tokens"] = context
    room = context - before
    if output is None:
        output = max(1, min(DEFAULT_OUTPUT_TOKENS, room - (prompt or 1)))
        filled["output_tokens"] = output
    if prompt is None:
        prompt = max(1, min(DEFAULT_PROMPT_TOKENS, room - output))
        filled["prompt_tokens"] = prompt
    parts = {"cached": given.cached_tokens, "images": pictures, "prompt": prompt, "output": output}
    _refuse_beyond(context, parts)


def _refuse_beyond(context: int, parts: Mapping[str, int]) -> None:
    """Refuse a workload whose parts are longer together than the context it asks for."""
    if sum(parts.values()) > context:
        told = " + ".join(f"{name} {tokens}" for name, tokens in parts.items() if tokens or name != "images")
        raise InvalidWorkloadError(
            f"{told} tokens exceed the context of {context}.",
            hint="Raise context_tokens or shorten the prompt.",
        )


def _picture_tokens(model: Model, given: Workload, filled: dict[str, object]) -> int:
    """Tokens of the workload's images; where their size decides and nobody gives it, one is filled in."""
    tower = model.transformer.vision if model.transformer is not None else None
    if not given.images or tower is None:
        return 0
    # Loaded for requests with pictures only.
    from willitrun.estimators.image_inputs import ASSUMED_SIDE, image_input, takes_any_size

    if given.image_size is None and takes_any_size(tower):
        filled["image_size"] = ASSUMED_SIDE
    image = image_input(model, given)
    return given.images * image.tokens if image is not None else 0


def image_size_reason(workload: Workload, filled: tuple[str, ...]) -> Reason | None:
    """That the size of a vision-language model's images was assumed."""
    if not workload.images or "image_size" not in filled:
        return None
    side = workload.image_size
    return Reason.model_construct(
        code="assumed-image-size",
        message=f"Nobody gave the images' size; {side} x {side} pixels are assumed.",
        numbers={"image_size": side or 0, "images": workload.images},
    )


@cache
def _allowed_fields(task: str, training: bool, sees: bool) -> frozenset[str]:
    """Fields of a workload that a task has; language models and embedders take images where they have a tower for them."""
    allowed = set(_COMMON)
    for tasks, fields in _FIELDS:
        if task in tasks:
            allowed |= fields
    if training:
        allowed |= _TRAINING
    if task in LLM_TASKS | ENCODER_TASKS and not sees:
        allowed -= {"images", "image_size"}
    return frozenset(allowed)


@cache
def _field_defaults() -> dict[str, object]:
    """Defaults of a workload's fields: pydantic looks them up anew each time, and a sweep asks for thousands."""
    return {name: field.default for name, field in Workload.model_fields.items()}


def _refuse_foreign_fields(model: Model, given: Workload) -> None:
    sees = model.transformer is not None and model.transformer.vision is not None
    for name in given.model_fields_set - _allowed_fields(model.task, given.mode != "inference", sees):
        if getattr(given, name) not in (None, _field_defaults()[name]):
            pictures = name == "images" and model.task in GRAPH_TASKS | DIFFUSION_TASKS
            raise InvalidWorkloadError(
                f"{model.name} does {model.task}, which has no {name!r}.",
                hint=_INSTEAD["concurrency" if pictures else name]
                if name in _INSTEAD
                else f"Leave {name} out.",
            )


def context_reason(model: Model, workload: Workload) -> Reason | None:
    """A context above the trained maximum is a verdict with a reason, not an error."""
    longest = trained_context(model)
    asked = workload.context_tokens
    if longest is None or asked is None or asked <= longest:
        return None
    return Reason.model_construct(
        code="context-above-trained-maximum",
        message=f"{model.name} was trained for {longest:,} tokens; {asked:,} are asked for.",
        numbers={"context_tokens": asked, "max_position_embeddings": longest},
    )
