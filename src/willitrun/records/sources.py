"""Sources of facts, and datasets that workloads name."""

from datetime import date
from typing import Literal

from pydantic import Field

from willitrun.records.bases import Bytes, CitedRecord, Record, RecordId

__all__ = ["Dataset", "Source"]


class Source(Record):
    """A place where facts were read."""

    id: RecordId
    title: str
    publisher: str
    url: str = Field(pattern=r"^https?://[^\s]+$")
    kind: Literal[
        "vendor",
        "paper",
        "config",
        "repository",
        "documentation",
        "database",
        "encyclopedia",
        "measurement",
        "standard",
    ]
    retrieved: date
    licence: str | None = None


class Dataset(CitedRecord):
    """A dataset that workloads name: counts, classes, size on disk."""

    task: str
    splits: dict[str, int] = Field(default_factory=dict)
    classes: int | None = Field(None, gt=0)
    disk: Bytes | None = None
    mean_image_bytes: Bytes | None = None
    mean_image_pixels: int | None = None
    hours: float | None = None
    licence: str | None = None
    note: str = ""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"task", "note"}
