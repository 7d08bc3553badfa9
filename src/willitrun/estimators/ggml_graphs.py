"""Graphs of llama.cpp by architecture: recorded blocks, filled in with a model's widths.

A record says which tensors a layer of an architecture allocates and frees, in which order, and how wide each is in
terms of the widths of its config. `accuracy.memory.graphs` writes it with a real llama.cpp: a line that says where from,
a line for each block, an empty one, and a line for each architecture, of which the one that is asked for is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache, partial
from math import prod
from typing import Any

from willitrun.estimators.ggml_widths import graph_widths, layer_kind, rotates
from willitrun.estimators.inventory_traits import Traits, traits_of
from willitrun.kernels.ggml_shelf import GraphShelf
from willitrun.kernels.ggml_walk import Block, GraphPlan, Size, read_block, spread_inputs
from willitrun.packaged_files import read_packaged
from willitrun.records.models import TransformerConfig

__all__ = [
    "GRAPHS",
    "RECORDS",
    "ROTATED",
    "TERMS",
    "block_names",
    "graph_number",
    "graph_plan",
    "layer_kinds",
    "shape_key",
]

RECORDS = "ggml_graphs.txt"
GRAPHS = GraphShelf()
"""Plans of all models that were asked for."""

FLOAT_BYTES = 4
CARD_ALIGNMENT, HOST_ALIGNMENT = 128, 32
"""Of tensors [bytes]: ggml-cuda.cu and ggml-backend.cpp (TENSOR_ALIGNMENT)."""


@cache
def _records() -> tuple[list[str], dict[str, str]]:
    """Blocks, and what each architecture makes of them, in JSON."""
    blocks, _, graphs = read_packaged("willitrun.estimators", RECORDS).decode().partition("\n\n")
    named = (line.partition("\t") for line in graphs.splitlines())
    return blocks.splitlines()[1:], {key: record for key, _, record in named}


@cache
def _record(key: str) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(_records()[1][key])
    return found


def layer_kinds(config: TransformerConfig) -> list[str]:
    """What each layer is to the graph."""
    return [layer_kind(config, layer) for layer in range(config.num_hidden_layers)]


def block_names(kinds: Sequence[str]) -> list[str]:
    """Each layer's block: the kinds around it, its own, and those that come behind and keep their inputs alive.

    Inputs of the next layer are taken within this one, so what comes is counted behind the next.
    """
    names: list[str] = []
    coming: set[str] = set()
    around = ("", *kinds, "")
    for layer in reversed(range(len(kinds))):
        names.append(">".join((*around[layer : layer + 3], ",".join(sorted(coming)))))
        coming.update(kinds[layer + 1 : layer + 2])
    return names[::-1]


def _parts(config: TransformerConfig, kinds: Sequence[str]) -> str:
    """Kinds of layers and what else changes an architecture's graph."""
    parts = sorted(set(kinds))
    traits = traits_of(config.model_type)
    if config.n_shared_experts or config.shared_expert_intermediate_size or traits.always_shared:
        parts.append("shared-experts")
    if traits.grouped_norms and (config.num_key_value_heads or 1) > 1:
        parts.append("grouped-norms")
    if config.q_lora_rank:
        parts.append("query-rank")
    if config.index_head_dim:
        parts.append("index")
    if config.moe_latent_size:
        parts.append("latent-experts")
    if config.is_encoder_only and not traits.encoder:
        parts.append("embeds")
    return ",".join(parts)


def shape_key(config: TransformerConfig) -> str:
    """Name of a graph in the records."""
    return f"{config.model_type}:{_parts(config, layer_kinds(config))}"


@cache
def _by_traits() -> Mapping[tuple[Traits, str], str]:
    """Records by what their architecture is, for those that only have another name."""
    found: dict[tuple[Traits, str], str] = {}
    # Of several the plain one: an architecture without a loader of its own is converted to it.
    for key in sorted(_records()[1], key=lambda key: not key.startswith("llama:")):
        kind, parts = key.split(":")
        found.setdefault((traits_of(kind), parts), key)
    return found


def _find(config: TransformerConfig, kinds: Sequence[str]) -> Mapping[str, Any] | None:
    parts = _parts(config, kinds)
    key: str | None = f"{config.model_type}:{parts}"
    if key not in _records()[1]:
        key = _by_traits().get((traits_of(config.model_type), parts))
    return None if key is None else _record(key)


def _bytes(text: str, widths: Mapping[str, int]) -> int:
    """A product of widths and of at most one factor, halves among them."""
    factors = [Fraction(part) if part[0].isdigit() else Fraction(widths[part]) for part in text.split("*")]
    return int(prod(factors, start=Fraction(FLOAT_BYTES)))


TERMS = (("", ""), ("", "*C"), ("", "*N"), ("=", ""), ("=", "*C"), ("", "*U"), ("", "*J"))
"""How the entries of a size are spelled, before and behind its widths: ``=`` where tokens do not count."""
_COLUMNS = {term: column for column, term in enumerate(TERMS)}


def _size(text: str, widths: Mapping[str, int]) -> Size:
    """Bytes of a tensor."""
    size = [0] * len(TERMS)
    for term in text.split("&"):
        product = term.removeprefix("=")
        cells = product[-2:] if product.endswith(("*C", "*N", "*U", "*J")) else ""
        column = _COLUMNS["=" if product != term else "", cells]
        product = product.removesuffix(cells)
        size[column] += _bytes(product, widths)
    return size[0], size[1], size[2], size[3], size[4], size[5], size[6]


def _texts(by_name: Mapping[str, int], kinds: Sequence[str]) -> Iterator[int]:
    """Numbers of the layers' blocks; some differ with the block before."""
    text = -1
    for name in block_names(kinds):
        found_after = by_name.get(f"{name}@{text}")
        text = by_name[name] if found_after is None else found_after
        yield text


def graph_plan(config: TransformerConfig, *, card: bool, flash: bool, rotated: str = "") -> GraphPlan | None:
    """The graph of one model on a card or on the host, or None where its architecture was not recorded.

    ``rotated`` says which of keys (``k``) and values (``v``) lie quantized in the cache: llama.cpp rotates those.

    Examples
    --------
    >>> config = TransformerConfig(model_type="llama", num_hidden_layers=32, hidden_size=4096,
    ...     intermediate_size=14336, num_attention_heads=32, num_key_value_heads=8, vocab_size=128256)
    >>> from willitrun.kernels.ggml_walk import walk_graph
    >>> plan = graph_plan(config, card=True, flash=True)
    >>> walk_graph(plan, 512, 32768) / 2**20
    258.5
    """
    kinds = layer_kinds(config)
    found = _find(config, kinds)
    if found is None:
        return None
    place = f"{'card' if card else 'host'}{int(flash)}"
    # Rotating takes little: without a record of it the plain graph is close.
    record = found.get(place + rotated if rotates(config) else place) or found.get(place)
    if not record:
        return None
    texts = _records()[0]
    first, by_name = record
    last = config.num_hidden_layers - 1
    ends = {f"{name}'": width for name, width in graph_widths(config, last).items()}
    outer = {**graph_widths(config, 0), **ends}
    numbers: dict[tuple[str, int, tuple[int, ...]], int] = {}
    blocks: list[Block] = []
    order: list[int] = []
    carried = 0
    try:
        words, layers = spread_inputs(texts[first], [texts[text] for text in _texts(by_name, kinds)])
        start = read_block(words, partial(_size, widths=outer))
        for layer, words in enumerate(layers):
            widths = graph_widths(config, layer)
            key = (words, carried, tuple(widths.values()))
            if key not in numbers:
                numbers[key] = len(blocks)
                blocks.append(read_block(words, partial(_size, widths=widths), carried))
            order.append(numbers[key])
            carried = len(blocks[order[-1]].kept)
    except KeyError:
        # Layers in an order that was not recorded, or a width that the config leaves out.
        return None
    alignment = CARD_ALIGNMENT if card else HOST_ALIGNMENT
    return GraphPlan(start, tuple(blocks), tuple(order), alignment, config.index_topk or 0)


ROTATED = ("", "k", "v", "kv")
"""Which parts of the cache are quantized, in the order of a model's numbers."""


def graph_number(config: TransformerConfig) -> int:
    """First of a model's numbers on the shelf, one for each of `ROTATED`.

    The shelf stays empty where its architecture was not recorded.
    """
    numbers = [GRAPHS.add((config, part), partial(_make, config, part)) for part in ROTATED]
    return numbers[0]


def _make(config: TransformerConfig, rotated: str, card: bool, flash: bool) -> GraphPlan | None:
    return graph_plan(config, card=card, flash=flash, rotated=rotated)
