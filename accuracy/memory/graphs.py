"""Record how llama.cpp's graph allocator walks: what a graph allocates and frees, in order, with sizes as widths.

Run ``python -m accuracy.memory.graphs`` to write ``src/willitrun/estimators/ggml_graphs.txt`` anew. Every model of
the truth run is loaded without data, and a second time with other widths, in a llama.cpp whose allocator
(ggml/src/ggml-alloc.c) prints what it does. Sizes that are linear in the batch and the cells are matched with products
of widths, which must hold for both; layers of one kind are one block. Nothing of a size is kept: the walk is done
again, by `willitrun.kernels.ggml_walk`, for the widths of whatever model is asked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.memory.llamacpp_build import LLAMA_CPP, VERSION, build_probe, build_tracer
from accuracy.memory.sparse_gguf import DIALECTS, Dialect, write_sparse
from willitrun import load_catalog
from willitrun.estimators import ggml_graphs
from willitrun.estimators.ggml_graphs import RECORDS, TERMS, block_names, layer_kinds, shape_key
from willitrun.estimators.ggml_widths import graph_widths, rotates
from willitrun.estimators.inventory_cache import kv_layout
from willitrun.estimators.inventory_traits import traits_of
from willitrun.kernels.ggml_walk import PER_LAYER, Block, GraphPlan, load_factors
from willitrun.kernels.kv_cells import cell_counts
from willitrun.records.models import TransformerConfig

__all__ = ["main"]

POINTS = ((512, 2048), (1024, 2048), (1536, 2048), (512, 4096), (1024, 4096), (1536, 3072))
"""Batches, and contexts beyond the window, that every graph is recorded at."""
FACTORS = (1, 2, 3, 4, 6, 8, 0.5)
Variant = tuple[bool, str]
"""Flash attention, and which of keys (``k``) and values (``v``) lie quantized in the cache."""
VARIANTS: tuple[Variant, ...] = ((False, ""), (True, ""), (False, "k"), (True, "k"), (True, "kv"))
_LAYER = re.compile(r"-(\d+)(?: \(.*)?$")


@dataclass(frozen=True, slots=True)
class Event:
    """One step of the allocator: tensor ``ident`` allocated with ``size`` bytes, or freed where that is None."""

    ident: int
    size: int | None
    name: str


def _events(graph: str, buffer: str) -> Iterator[Event]:
    """Steps of one graph in one buffer; tensors without elements are steps as well."""
    allocator, count = "", 0
    live: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for line in graph.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "BUFFER":
            address, name = rest.split(" ", 1)
            allocator = address if name == buffer else allocator
        elif kind == "ALLOC":
            address, offset, size, name = rest.split(" ", 3)
            if address == allocator:
                live[offset, size].append((count, name))
                yield Event(count, int(size), name)
                count += 1
        elif kind == "FREE":
            address, offset, size = rest.split(" ")
            if address == allocator:
                ident, name = live[offset, size].pop()
                yield Event(ident, None, name)


def _points(config: TransformerConfig, points: Sequence[tuple[int, int]] = POINTS) -> list[tuple[int, int]]:
    window = int(kv_layout(config).window_tokens)  # type: ignore[arg-type]
    # Fewer cells than an indexer chooses tell what it chose from what there was.
    chosen = config.index_topk or 0
    fewer = [(batch, chosen // 2) for batch in (512, 1024) if points == POINTS and chosen >= 2048]
    return [*((batch, context + window) for batch, context in points), *fewer]


def _runs(
    probe: Path, tracer: Path, path: Path, card: bool, points: Sequence[tuple[int, int]], variant: Variant
) -> list[list[Event]]:
    """The graph at every point; the first of those that a context reserves."""
    where = " devices=24 n_gpu_layers=999" if card else ""
    types = "".join(f" type_{part}=8" for part in variant[1])
    lines = [
        f"n_ctx={context} n_ubatch={batch} flash={int(variant[0])}{types}{where}\n"
        for batch, context in points
    ]
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as trace:
        environment = os.environ | {
            "GGML_NO_BACKTRACE": "1",
            "LD_PRELOAD": str(tracer),
            "GGML_ALLOC_TRACE": trace.name,
        }
        command = [str(probe), str(path)]
        done = subprocess.run(
            command, input="".join(lines), capture_output=True, text=True, env=environment, check=False
        )
        graphs = trace.read().split("RESERVE\n")[1:]
    if not graphs or done.stdout.count("\nEND 1") < len(points) or len(graphs) % len(points):
        raise RuntimeError(f"{len(graphs)} graphs of {len(points)}: {(done.stdout + done.stderr)[-600:]}")
    step = len(graphs) // len(points)
    runs = [list(_events(graph, "GPU0" if card else "CPU")) for graph in graphs[::step]]
    if len({tuple((event.ident, event.size is None) for event in run) for run in runs}) > 1:
        raise RuntimeError("The graph changes with its sizes.")
    return runs


Form = tuple[Fraction, ...]
"""Elements of four bytes for each of `TERMS`."""
_ROTATIONS = {"attn_inp_k_rot": "Rm", "attn_inp_v_rot": "T"}
"""Widths whose squares rotate keys, those of an indexer among them, and values; others may happen to make them, too."""


def _forms(config: TransformerConfig, runs: Sequence[Sequence[Event]]) -> dict[int, Form]:
    """Sizes as linear forms; exact at every point."""
    window = kv_layout(config).window_tokens
    plan = GraphPlan(Block((), (), ()), (), (), 1, config.index_topk or 0)
    rows = []
    for batch, context in _points(config):
        full, narrow, _ = (int(count) for count in cell_counts(context, window, n_ubatch=batch))
        cells = batch if _attends_batch(config) else full
        rows.append(load_factors(plan, batch, cells, narrow if window else 0, 1, min))
    matrix = np.array(rows, dtype=float)
    # Where cells follow from the batch, pairs of tokens do as well.
    unknown = {4, 5} if _attends_batch(config) else {5} if window else set()
    used = [column for column in range(len(TERMS)) if matrix[:, column].any() and column not in unknown]
    allocated = [index for index, event in enumerate(runs[0]) if event.size is not None]
    sizes = np.array([[run[index].size for index in allocated] for run in runs], dtype=float) / 4
    # Numbers of elements are multiples of a sixty-fourth: a half-precision mask of a quarter of the cells.
    terms = np.zeros((len(TERMS), len(allocated)))
    scale = matrix[:, used].max(axis=0)
    solved = np.linalg.lstsq(matrix[:, used] / scale, sizes, rcond=None)[0]
    terms[used] = np.rint(solved / scale[:, None] * 64)
    wrong = np.flatnonzero((abs(matrix @ terms / 64 - sizes) > 8).any(axis=0))
    if len(wrong):
        event = runs[0][allocated[wrong[0]]]
        raise RuntimeError(f"{event.name}: {sizes[:, wrong[0]].tolist()} is not linear.")
    return {
        runs[0][index].ident: tuple(Fraction(int(term), 64) for term in column)
        for index, column in zip(allocated, terms.T, strict=True)
    }


def _attends_batch(config: TransformerConfig) -> bool:
    layout = kv_layout(config)
    return not int(layout.full_k) + int(layout.windowed_k) + int(layout.recurrent_state)  # type: ignore[arg-type]


@cache
def _spellings(value: Fraction, named: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Products of widths that are this number, simple ones first."""
    return tuple(dict.fromkeys(_products(value, dict(named))))


def _products(value: Fraction, widths: Mapping[str, int]) -> Iterator[str]:
    if 0 < value <= 2:
        yield str(float(value)) if value.denominator > 1 else str(value)
    wanted = float(value)
    for count, factor in itertools.product((1, 2, 3), FACTORS):
        for names in itertools.combinations_with_replacement(widths, count):
            if prod(widths[name] for name in names) * factor == wanted:
                yield "*".join(names) if factor == 1 else f"{factor}*" + "*".join(names)
    if value.denominator == 1 and value < 64:
        yield str(value)


def _spell(forms: Sequence[Form], widths: Sequence[Mapping[str, int]], name: str) -> str:
    """One tensor's size in words that hold for every recorded width."""
    for input_name, sides in _ROTATIONS.items():
        for side in sides if input_name in name else "":
            if all(form[3] == each.get(side, 0) ** 2 for form, each in zip(forms, widths, strict=True)):
                return f"={side}*{side}"
    parts = []
    for column, (prefix, suffix) in enumerate(TERMS):
        values = [form[column] for form in forms]
        if not any(values):
            continue
        texts = [_spellings(value, tuple(each.items())) for value, each in zip(values, widths, strict=True)]
        common = [text for text in texts[0] if all(text in other for other in texts[1:])]
        if not common:
            raise RuntimeError(f"{name}: nobody is {[str(value) for value in values]} wide.")
        parts.append(prefix + common[0] + suffix)
    return "&".join(parts) or "0"


def _split(runs: Sequence[Event]) -> list[tuple[int, list[Event]]]:
    """Steps by layer; -1 for what comes before the first one."""
    groups: list[tuple[int, list[Event]]] = [(-1, [])]
    for event in runs:
        found = _LAYER.search(event.name) if event.size is not None else None
        if found and not event.name.startswith(("GPU", "node_")) and int(found[1]) > groups[-1][0]:
            groups.append((int(found[1]), []))
        groups[-1][1].append(event)
    return groups


def _taken_per_layer(run: Sequence[Event]) -> dict[int, int]:
    """Equal tensors from before the layers that one layer after the other frees, and the first of each series."""
    (_, before), *after = _split(run)
    sizes = {event.ident: event.size for event in before if event.size is not None}
    freed_by = {event.ident: layer for layer, events in after for event in events if event.size is None}
    found: dict[int, int] = {}
    series: list[int] = []
    for ident in (*sizes, -1):
        last = series[-1] if series else -1
        if (
            last >= 0
            and sizes.get(ident) == sizes[last]
            and freed_by.get(ident, -1) > freed_by.get(last, -1) >= 0
        ):
            series.append(ident)
            continue
        if len(series) > 2:
            found |= dict.fromkeys(series, series[0])
        series = [ident]
    return found


def _lost(run: Sequence[Event]) -> set[int]:
    """Tensors without elements that nobody reads: they take nothing, and are never freed."""
    freed = {event.ident for event in run if event.size is None}
    return {event.ident for event in run if event.size == 0} - freed


def _renumbered(words: Sequence[str], before: Sequence[int], after: Sequence[int]) -> str:
    """Words of the part before the layers, whose frees count its tensors, without some of these."""
    numbers = {before.index(ident): number for number, ident in enumerate(after)}
    return " ".join(word if word.startswith("+") else f"-{numbers[int(word[1:])]}" for word in words)


def _record(
    configs: Sequence[TransformerConfig], recorded: Sequence[list[list[Event]]]
) -> tuple[str, dict[tuple[str, str], str]]:
    """The block before the layers, and blocks by what their layers are and, where that differs, the block before."""
    forms = [_forms(config, runs) for config, runs in zip(configs, recorded, strict=True)]
    config = configs[0]
    names = block_names(layer_kinds(config))
    shared: list[int] = []
    carried: list[int] = []
    start, previous, blocks = "", "", dict[tuple[str, str], str]()
    own, lost = _taken_per_layer(recorded[0][0]), _lost(recorded[0][0])
    for layer, events in _split([event for event in recorded[0][0] if event.ident not in lost]):
        if layer < 0:
            last = config.num_hidden_layers - 1
            widths: list[Mapping[str, int]] = [
                {**graph_widths(each, 0), **{f"{n}'": w for n, w in graph_widths(each, last).items()}}
                for each in configs
            ]
        else:
            widths = [graph_widths(each, layer) for each in configs]
        before, local, words = list(carried), list[int](), list[str]()
        for event in events:
            if event.size is not None:
                local.append(event.ident)
                if own.get(event.ident, event.ident) != event.ident:
                    continue
                text = _spell([each[event.ident] for each in forms], widths, event.name)
                words.append(f"{PER_LAYER if event.ident in own else '+'}{text}")
            elif event.ident in local:
                words.append(f"-{local.index(event.ident)}")
            elif event.ident in before:
                words.append(f"-c{before.index(event.ident)}")
            else:
                words.append(f"-g{shared.index(own.get(event.ident, event.ident))}")
            if event.size is None and event.ident in carried:
                carried.remove(event.ident)
        freed = {event.ident for event in events if event.size is None}
        if layer < 0:
            shared = [ident for ident in local if own.get(ident, ident) == ident]
            start = _renumbered(words, local, shared)
            continue
        carried += [ident for ident in local if ident not in freed]
        name, text = names[layer], " ".join(words)
        if blocks.setdefault((name, ""), text) != text and blocks.setdefault((name, previous), text) != text:
            raise RuntimeError(f"Two blocks are {name}:\n{blocks[name, previous]}\n{text}")
        previous = text
    return start, blocks


def _shortened(config: TransformerConfig, dialect: Dialect) -> TransformerConfig:
    """The same graph with fewer layers: those before the pattern repeats, and some periods with the same end.

    Loaders that tell models apart by their number of layers get them all.
    """
    unturned = traits_of(config.model_type).no_positions_interval
    period = max(len(config.layer_types or ()), config.moe_layer_interval, unturned)
    least = config.first_k_dense_replace + max(3 * period, 6)
    layers = least + (config.num_hidden_layers - least) % period
    counted = dialect.architecture in ("exaone4", "gemma3n") or (
        config.kv_lora_rank and not config.q_lora_rank
    )
    if counted or config.num_kv_shared_layers or layers >= config.num_hidden_layers:
        return config
    return config.model_copy(update={"num_hidden_layers": layers})


def _others(config: TransformerConfig) -> Iterator[TransformerConfig]:
    """The same architecture with other widths; llama.cpp refuses what an architecture can't be."""
    heads = config.num_attention_heads
    change: dict[str, int | tuple[int, ...]] = {}
    if config.intermediate_size:
        change["intermediate_size"] = config.intermediate_size + 1216
    if config.layer_intermediate_sizes:
        change["layer_intermediate_sizes"] = tuple(size + 256 for size in config.layer_intermediate_sizes)
    if config.moe_intermediate_size:
        change["moe_intermediate_size"] = config.moe_intermediate_size + 352
    wide = {"hidden_size": config.hidden_size + (768 if config.hidden_size % 768 == 0 else 512)}
    if heads and not config.kv_lora_rank and config.head_dim is None:
        wide["head_dim"] = config.hidden_size // heads
    pairs = config.num_key_value_heads or 0
    more = {"num_attention_heads": heads + pairs} if heads and pairs else {}
    more["vocab_size"] = config.vocab_size + 1216
    if config.index_head_dim and config.index_n_heads:
        more |= {"index_n_heads": config.index_n_heads + 16}
    if config.moe_latent_size:
        more["moe_latent_size"] = config.moe_latent_size + 256
    if config.linear_num_value_heads and config.linear_num_key_heads:
        more["linear_num_value_heads"] = config.linear_num_value_heads + config.linear_num_key_heads
    used = {"num_experts_per_tok": config.num_experts_per_tok + 1} if config.num_experts_per_tok else {}
    for first, second in itertools.product(
        (used, {}), (change | wide | more, change | wide, wide, more, change)
    ):
        if first | second:
            yield config.model_copy(update=first | second)


def _load(
    probe: Path,
    tracer: Path,
    config: TransformerConfig,
    dialect: Dialect,
    card: bool,
    variants: Sequence[Variant] = VARIANTS,
    points: Sequence[tuple[int, int]] = POINTS,
) -> dict[Variant, list[list[Event]]]:
    """Graphs of every variant that llama.cpp takes."""
    found: dict[Variant, list[list[Event]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_sparse(path, config, dialect)
        for variant in variants:
            if variant[1] and not rotates(config):
                continue
            try:
                found[variant] = _runs(probe, tracer, path, card, _points(config, points), variant)
            except RuntimeError as error:
                print(f"{dialect.model} card={card} {variant}: {error}", file=sys.stderr, flush=True)
    return found


def _configs(
    probe: Path, tracer: Path, config: TransformerConfig, dialect: Dialect
) -> list[TransformerConfig]:
    """The config and, where llama.cpp takes one, another of the same graph."""

    def shape(one: TransformerConfig) -> list[tuple[int, bool]]:
        plain = (True, "")
        run = _load(probe, tracer, one, dialect, True, [plain], POINTS[:1]).get(plain, [[]])[0]
        return [(event.ident, event.size is None) for event in run]

    expected = shape(config)
    for other in _others(config):
        try:
            if rotates(other) == rotates(config) and shape(other) == expected:
                return [config, other]
        except (RuntimeError, ValueError):
            continue
    return [config]


def main() -> int:
    """Write the records of every model of the truth run, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="record these again; all where none is named")
    parser.add_argument("--out", type=Path, default=Path(ggml_graphs.__file__).with_name(RECORDS))
    arguments = parser.parse_args()
    probe = build_probe()
    tracer = build_tracer()
    blocks, graphs = _read(arguments.out) if arguments.models else ({}, {})
    for model in arguments.models or sorted(DIALECTS):
        dialect = DIALECTS[model]
        found_config = load_catalog().models[model].transformer
        assert found_config is not None
        config = _shortened(dialect.apply(found_config), dialect)
        configs = _configs(probe, tracer, config, dialect)
        found: dict[str, tuple[int, dict[str, int]]] = {}
        loaded = {
            card: [_load(probe, tracer, each, dialect, card) for each in configs] for card in (False, True)
        }
        for card, variant in itertools.product((False, True), VARIANTS):
            if any(variant not in runs for runs in loaded[card]):
                continue
            flash, rotated = variant
            try:
                start, parts = _record(configs, [runs[variant] for runs in loaded[card]])
            except RuntimeError as error:
                print(f"{model} card={card} {variant}: {error}", file=sys.stderr, flush=True)
                continue
            for text in parts.values():
                blocks.setdefault(text, len(blocks))
            number = {
                name + (f"@{blocks[before]}" if before else ""): blocks[text]
                for (name, before), text in parts.items()
            }
            place = "card" if card else "host"
            found[f"{place}{int(flash)}{rotated}"] = blocks.setdefault(start, len(blocks)), number
        known_shape = graphs.setdefault(shape_key(config), {})
        for variant, (first, number) in found.items():
            # Models of one architecture with other patterns of layers add their blocks.
            before = known_shape.get(variant, (first, {}))
            if any(before[1].get(name, block) != block for name, block in number.items()):
                print(f"{model} {variant}: other blocks than before", file=sys.stderr, flush=True)
            known_shape[variant] = [first, {**before[1], **number}]
        print(f"{model}: {shape_key(config)} {len(found)} graphs, {len(configs)} widths", flush=True)
        _write(arguments.out, blocks, graphs)
    return 0


def _read(path: Path) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    blocks, _, graphs = path.read_text(encoding="utf-8").partition("\n\n")
    named = (line.split("\t") for line in graphs.splitlines())
    numbers = {text: number for number, text in enumerate(blocks.splitlines()[1:])}
    return numbers, {key: json.loads(record) for key, record in named}


def _write(path: Path, blocks: Mapping[str, int], graphs: Mapping[str, Any]) -> None:
    source = (
        f"Graphs as llama.cpp {LLAMA_CPP} (of llama-cpp-python {VERSION}) allocates them; "
        "https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-alloc.c, recorded by accuracy.memory.graphs"
    )
    lines = [f"{key}\t{json.dumps(graphs[key], separators=(',', ':'))}" for key in sorted(graphs)]
    path.write_text("\n".join([source, *blocks, "", *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
