"""Published weights of models."""

from pydantic import Field

from willitrun.records.bases import Bytes, CitedRecord, RecordId

__all__ = ["Checkpoint"]


class Checkpoint(CitedRecord):
    """Published weights of a model: a Hub repository, a timm or torchvision name."""

    model: RecordId
    repository: str | None = None
    revision: str | None = None
    licence: str | None = None
    quantization: str | None = None
    parameters: int | None = Field(None, gt=0)
    """Elements stored, which may count tied heads twice and prediction heads that never run."""
    file_bytes: Bytes | None = None
    top1: float | None = Field(None, ge=0, le=1)

    @classmethod
    def _labels(cls) -> set[str]:
        return {"model", "repository"}
