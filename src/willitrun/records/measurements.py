"""Published measurements."""

from typing import Any

from pydantic import Field, field_validator

from willitrun.records.bases import Record, RecordId

__all__ = ["Measurement"]


class Measurement(Record):
    """One published measurement with its whole tuple."""

    id: RecordId
    model: str
    accelerator: str
    accelerator_count: int = Field(1, ge=1)
    task: str
    runtime: str
    runtime_version: str = ""
    backend: str = ""
    quantization: str = ""
    execution: str = ""
    precision: str = ""
    layout: str = ""
    image_size: int | None = None
    batch_size: int | None = None
    concurrency: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Tokens in the cache before the prompt (the depth of a llama-bench test)."""
    output_tokens: int | None = None
    context_tokens: int | None = None
    metric: str
    """``images_per_s``, ``decode_tokens_per_s``, ``prefill_tokens_per_s``, ..."""
    value: float = Field(gt=0)
    unit: str
    date: str = ""
    source_url: str
    licence: str = ""
    command: str = ""
    notes: str = ""

    @field_validator(
        "image_size",
        "batch_size",
        "concurrency",
        "prompt_tokens",
        "cached_tokens",
        "output_tokens",
        "context_tokens",
        mode="before",
    )
    @classmethod
    def _empty_is_unknown(cls, value: Any) -> Any:
        return None if value == "" else value
