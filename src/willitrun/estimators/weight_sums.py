"""Bytes and elements of a language model's weights: by the rules of a format, or as a file's header states them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from willitrun.catalog import Catalog
from willitrun.estimators.inventory import tensor_inventory
from willitrun.estimators.inventory_formats import weight_groups
from willitrun.frozen import frozen
from willitrun.kernels.gguf_mixes import Era
from willitrun.records.models import TensorTable, TransformerConfig
from willitrun.records.recipes import Quantization

__all__ = ["WeightSums", "publisher_factors", "sums_by_rule", "sums_of_table"]


@frozen(eq=False)
class WeightSums:
    """Bytes and elements of a model's weights, summed by where they lie and how they are read."""

    embedding: int
    output_matrix: int
    repeating: int
    experts: int
    rest: int
    dense_bytes: int
    dense_params: int
    lm_head_params: int
    expert_params: int
    vision: int
    largest_expert: int
    exact: bool
    layers: tuple[tuple[int, int], ...]
    """Bytes of each layer, and of its routed experts."""
    largest_dense: int
    stored: int = 0
    """Bytes of the file's tensors, each once."""

    def scaled(self, factor: float) -> WeightSums:
        """The same weights with every byte count multiplied: the best estimate of a publisher's mix."""
        names = (
            "embedding",
            "output_matrix",
            "rest",
            "dense_bytes",
            "largest_expert",
            "largest_dense",
        )
        layers = tuple((round(whole * factor), round(experts * factor)) for whole, experts in self.layers)
        sums = {"repeating": sum(whole for whole, _ in layers), "experts": sum(part for _, part in layers)}
        scaled = {name: round(getattr(self, name) * factor) for name in names}
        return replace(self, **scaled, **sums, layers=layers)  # type: ignore[arg-type]


def publisher_factors(quantization: Quantization, catalog: Catalog) -> tuple[float, float, float]:
    """How far a publisher's mix lies from the standard mix that it is made from: low, best, high factor."""
    if quantization.exact or "gguf" not in quantization.container:
        return 1.0, 1.0, 1.0
    intervals = catalog.calibrations["memory"].intervals
    found = intervals.get(f"gguf-size.{quantization.id}") or intervals[_mix_class(quantization.id)]
    return found["low"], found["best"], found["high"]


def _mix_class(name: str) -> str:
    """The class of publisher mixes whose sizes were learnt together."""
    if name.startswith("ud-"):
        digits = [int(char) for char in name if char.isdigit()]
        bits = digits[0] if digits else 4
        return (
            "gguf-size.ud-low" if bits <= 3 else "gguf-size.ud-middle" if bits <= 5 else "gguf-size.ud-high"
        )
    return "gguf-size.large-embedding" if name.endswith(("_l", "_xl")) else "gguf-size"


def sums_by_rule(
    config: TransformerConfig,
    quantization: Quantization,
    container: str,
    imatrix: bool | None,
    native: str,
    era: Era,
) -> WeightSums:
    """The sums as the rules of a format give them for an architecture."""
    groups = weight_groups(config, quantization, container=container, imatrix=imatrix, native=native, era=era)
    repeating, experts = sum(groups.layer_bytes), sum(groups.expert_layer_bytes)
    count = groups.parameters_by_part
    embedding = groups.bytes_of_part("embedding")
    head = groups.output_matrix_bytes
    return WeightSums(
        embedding=embedding,
        output_matrix=head,
        repeating=repeating,
        experts=experts,
        rest=groups.total_bytes - repeating - embedding - groups.bytes_of_part("output"),
        dense_bytes=groups.always_read_bytes,
        dense_params=sum(
            count.get(part, 0)
            for part in ("attention", "dense_ffn", "shared_experts", "router", "norm", "recurrent")
        ),
        lm_head_params=count.get("output", 0) or (groups.token_embd_parameters if groups.tied else 0),
        expert_params=count.get("experts", 0),
        vision=groups.bytes_of_part("vision"),
        largest_expert=groups.largest_expert_bytes,
        exact=groups.exact,
        layers=tuple(zip(groups.layer_bytes, groups.expert_layer_bytes, strict=True)),
        largest_dense=groups.largest_dense_bytes,
        stored=groups.total_bytes,
    )


# Roles of a header that stand for themselves, whatever the architecture's inventory calls its parts.
_TABLE_PARTS = {
    "token_embd": "embedding",
    "output": "output",
    "vision": "vision",
    "audio": "vision",
    "prediction": "prediction",
}


def _evenly(whole: int, experts: int, layers: int) -> tuple[tuple[int, int], ...]:
    """Amounts of all layers as amounts of each, where nobody says which layer holds what."""
    bounds = [(whole * k // layers, experts * k // layers) for k in range(layers + 1)]
    return tuple((b[0] - a[0], b[1] - a[1]) for a, b in pairwise(bounds))


def sums_of_table(config: TransformerConfig, table: TensorTable) -> WeightSums:
    """Bytes as a file's header states them: exact."""
    parts = {group.role: group.part for group in tensor_inventory(config)}
    size: dict[str, int] = {}
    count: dict[str, int] = {}
    largest = dense = tokens = token_count = 0
    for role, _, tensors, elements, length in table.rows:
        part: str = "experts" if role.endswith("_exps") else parts.get(role, "dense_ffn")
        if role in _TABLE_PARTS:
            part = _TABLE_PARTS[role]
        size[part] = size.get(part, 0) + length
        count[part] = count.get(part, 0) + elements
        if role == "token_embd":
            tokens, token_count = length, elements
        if part == "experts":
            largest = max(largest, length // max(tensors, 1))
        elif role not in _TABLE_PARTS and part != "embedding":
            dense = max(dense, length // max(tensors, 1))
    embedding, head = size.get("embedding", 0), size.get("output", 0)
    experts = size.get("experts", 0)
    aside = size.get("vision", 0) + size.get("prediction", 0)
    always = sum(size.values()) - embedding - head - aside
    layers = table.layers
    if len(layers) != config.num_hidden_layers:
        layers = _evenly(always, experts, config.num_hidden_layers)
    repeating = sum(whole for whole, _ in layers)
    return WeightSums(
        embedding=embedding,
        output_matrix=head or tokens,
        repeating=repeating,
        experts=sum(part for _, part in layers),
        # Norms and tables outside of layers lie with the output.
        rest=always - repeating,
        dense_bytes=always - experts,
        dense_params=sum(count.values())
        - sum(count.get(part, 0) for part in ("embedding", "output", "experts", "vision", "prediction")),
        lm_head_params=count.get("output", 0) or token_count,
        expert_params=count.get("experts", 0),
        vision=size.get("vision", 0),
        largest_expert=largest,
        exact=True,
        layers=layers,
        largest_dense=dense,
    )
