"""Published measurements."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from willitrun.records.bases import Record, RecordId

__all__ = ["Measurement"]


def _number(cell: object) -> object:
    """What a cell of a table says; what is no number is left for validation to refuse."""
    if isinstance(cell, str):
        for kind in (int, float):
            try:
                return kind(cell)
            except ValueError:
                pass
    return cell


# Not by validators of the class: shipped rows are read without building one.
_Number = BeforeValidator(_number)
_Cell = Annotated[int | None, BeforeValidator(lambda cell: None if cell == "" else _number(cell))]


class Measurement(Record):
    """One published measurement with its whole tuple."""

    id: RecordId
    model: str
    accelerator: str
    accelerator_count: Annotated[int, _Number] = Field(1, ge=1)
    task: str
    runtime: str
    runtime_version: str = ""
    backend: str = ""
    quantization: str = ""
    execution: str = ""
    precision: str = ""
    layout: str = ""
    image_size: _Cell = None
    batch_size: _Cell = None
    concurrency: _Cell = None
    prompt_tokens: _Cell = None
    cached_tokens: _Cell = None
    """Tokens in the cache before the prompt (the depth of a llama-bench test)."""
    output_tokens: _Cell = None
    context_tokens: _Cell = None
    metric: str
    """``images_per_s``, ``decode_tokens_per_s``, ``prefill_tokens_per_s``, ..."""
    value: Annotated[float, _Number] = Field(gt=0)
    unit: str
    date: str = ""
    source_url: str
    licence: str = ""
    command: str = ""
    notes: str = ""
