"""The metadata of a GGUF file that belong to its architecture."""

from __future__ import annotations

from collections.abc import Mapping

from willitrun.checkpoints.gguf import MetadataValue
from willitrun.checkpoints.json_reading import shown
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError

__all__ = ["ArchitectureMetadata"]


class ArchitectureMetadata:
    """Metadata under the prefix of its architecture."""

    def __init__(self, metadata: Mapping[str, MetadataValue], architecture: str, what: str) -> None:
        self._metadata = metadata
        self._prefix = architecture
        self.what = what

    def get(self, key: str) -> MetadataValue | None:
        """The value as stored."""
        return self._metadata.get(f"{self._prefix}.{key}")

    def number(self, key: str) -> int | float | None:
        """One number; of an array, the value that all its items share."""
        value = self.get(key)
        if isinstance(value, tuple) and value:
            if len(set(value)) > 1:
                raise UnsupportedArchitectureError(
                    f"{self.what}: {self._prefix}.{key} differs between layers: {shown(value)}."
                )
            value = value[0]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CorruptCheckpointError(f"{self.what}: {self._prefix}.{key} is {shown(value)}.")
        return value

    def per_layer(self, key: str, layers: int) -> tuple[int, ...] | None:
        """One whole number per layer, from a scalar or an array."""
        value = self.get(key)
        if value is None:
            return None
        items = value if isinstance(value, tuple) else (value,) * layers
        if len(items) < layers or not all(type(item) is int and item >= 0 for item in items):
            raise CorruptCheckpointError(f"{self.what}: {self._prefix}.{key} is {shown(value)}.")
        return tuple(item for item in items[:layers] if type(item) is int)
