"""Operator traces: what one forward pass of an architecture has to do."""

from pydantic import Field

from willitrun.records.bases import Record

__all__ = ["OperatorTrace"]


class OperatorTrace(Record):
    """Summary of a traced forward pass at batch 1, by operator class; free of dtype and batch.

    See ``catalogs/traces/README.md`` for the classes and columns.
    """

    architecture: str
    family: str = ""
    """Whose relatives the calibration may have seen: timm's module; empty for a network of one's own."""
    image_size: int = Field(ge=0)
    frames: int = Field(1, gt=0)
    """Frames of a video [frames]; 1 for an image."""
    frames_per_latent: int = Field(1, gt=0)
    """Frames that one frame of the latent holds, but for the first, which holds one [frames]."""
    parameters: int
    buffers: int = 0
    macs: float
    """Multiply-accumulates of one image."""
    operators: int
    """Kernels of an eager pass."""
    peak_elements: int
    """Largest sum of simultaneously live activation elements in eager execution, per image."""
    peak_autocast_bytes: int = 0
    """The same in bytes under half-precision autocast."""
    classes: dict[str, dict[str, float]]
    """Operator class -> column -> value."""
    tool: str
    source: str = ""
    native: bool = True
    scaled_from: int | None = None
    """Image size that was traced, where this one was scaled from it."""
