"""Measurements set against what the kernels predict for the same tuple, and against what physics allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.errors import WillItRunError
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.workloads import ENCODER_TASKS, GRAPH_TASKS, LLM_TASKS
from willitrun.frozen import frozen
from willitrun.kernels.anchors import LLM_METRICS, SLACK, llm_limits, llm_rate
from willitrun.kernels.columns import at
from willitrun.records.recipes import Runtime, Workload
from willitrun.units import format_bytes

if TYPE_CHECKING:
    from willitrun.estimators.llm_lowering import Prepared
    from willitrun.records.measurements import Measurement

__all__ = ["METRICS", "OWN", "AnchorKeys", "Comparison", "compare", "configuration_of", "phase_of"]

#: Source of a measurement that nobody published: the caller's own box.
OWN = "user"

#: Metrics that can be set against a prediction.
METRICS = (*LLM_METRICS, "images_per_s")

_AMPLE = 1 << 39
_GGML = ("llama.cpp", "ollama", "lm-studio")


@frozen
class AnchorKeys:
    """What two tuples may share: device, box (whose device it is), runtime, model family, configuration."""

    device: str
    box: str
    runtime: str
    family: str
    configuration: str


@frozen
class Comparison:
    """One measurement and its prediction.

    ``refused`` says why it may not carry a verdict; ``shares`` are those of the terms of a pass of images, in the
    order of the kernel's, and of one term where terms are not told apart.
    """

    measurement: Measurement
    keys: AnchorKeys | None
    phase: str
    log_ratio: float
    refused: str = ""
    shares: tuple[float, ...] = (1.0,)


def phase_of(metric: str, concurrency: int | None) -> str:
    """Which effects a metric takes part in: ``decode``, ``batch``, ``prefill`` or ``images``.

    Several sequences at a time are another regime than one; the time to a first token is mostly prefill.
    """
    if metric == "images_per_s":
        return "images"
    if metric in ("prefill_tokens_per_s", "time_to_first_token_s"):
        return "prefill"
    return "decode" if (concurrency or 1) == 1 else "batch"


def configuration_of(request: Request, device: str, count: int, box: str = OWN) -> AnchorKeys:
    """The keys of a request on ``count`` devices of one kind; whoever asks, asks about the own box."""
    from willitrun.estimators.support import model_family

    load = request.workload
    runtime = f"{request.profile.id}:{request.runtime.backend}"
    if request.quantization is not None:
        form = request.quantization.id
    else:
        runtime += f":{load.execution}:{load.precision}"
        form = f"{load.layout}:{load.image_size}"
    return AnchorKeys(
        f"{device} x {count}", box, runtime, model_family(request), f"{request.model.id}:{form}:{runtime}"
    )


def compare(measurements: Sequence[Measurement], catalog: Catalog) -> list[Comparison]:
    """Measurements against their predictions, in order; nothing raises for a row that cannot be compared."""
    found: list[Comparison | None] = [None] * len(measurements)
    language: list[tuple[int, Measurement, Request]] = []
    graphs: list[tuple[int, Measurement, Request]] = []
    for number, measurement in enumerate(measurements):
        try:
            request = _request(measurement, catalog)
        except WillItRunError as error:
            found[number] = _refuse(measurement, str(error))
            continue
        task = request.model.task
        if measurement.metric in LLM_METRICS and (task in LLM_TASKS or task in ENCODER_TASKS):
            language.append((number, measurement, request))
        elif measurement.metric == "images_per_s" and task in GRAPH_TASKS:
            graphs.append((number, measurement, request))
        else:
            found[number] = _refuse(measurement, f"{measurement.metric} is no speed of {task}.")
    for number, comparison in [*_compare_language(language), *_compare_graphs(graphs)]:
        found[number] = comparison
    return [comparison for comparison in found if comparison is not None]


def _keys(request: Request, measurement: Measurement) -> AnchorKeys:
    return configuration_of(
        request, measurement.accelerator, measurement.accelerator_count, measurement.source_url
    )


def _refuse(measurement: Measurement, why: str) -> Comparison:
    return Comparison(measurement, None, phase_of(measurement.metric, measurement.concurrency), 0.0, why)


def _request(row: Measurement, catalog: Catalog) -> Request:
    """The fit tuple of a measurement on a machine with these accelerators and a host that is assumed."""
    images = row.metric == "images_per_s"
    fields: dict[str, object] = {
        name: getattr(row, name)
        for name in ("prompt_tokens", "cached_tokens", "output_tokens", "context_tokens", "concurrency")
        if not images and getattr(row, name) is not None
    }
    for name in ("execution", "precision", "layout", "image_size", "batch_size"):
        if images and getattr(row, name) not in (None, ""):
            fields[name] = getattr(row, name)
    runtime = Runtime(name=row.runtime, backend=row.backend or None, version=row.runtime_version or None)
    return complete_request(
        row.model,
        _machine(row, catalog),
        Workload(**fields),
        quantization=row.quantization or None,
        runtime=runtime,
        memory="nameplate",
        catalog=catalog,
    )


def _machine(row: Measurement, catalog: Catalog) -> object:
    """Its devices in a host that is assumed; a system with unified memory has the largest that it is sold with.

    Where no source lists the sizes, the row itself says that it was enough.
    """
    devices = [row.accelerator] * row.accelerator_count
    names = catalog.os_names(row.accelerator)
    known = catalog.accelerators[names[0]] if len(names) == 1 else None
    if known is None or not known.unified_memory:
        return devices
    return {"accelerators": devices, "host": {"ram": max(known.unified_memory_options, default=_AMPLE)}}


def _compare_language(members: list[tuple[int, Measurement, Request]]) -> list[tuple[int, Comparison]]:
    from willitrun.estimators.llm_lowering import BlockKey, prepare

    results: list[tuple[int, Comparison]] = []
    groups: dict[BlockKey, list[tuple[int, Measurement, Prepared]]] = {}
    for number, measurement, request in members:
        blocked = _blocked(request, measurement)
        if blocked:
            results.append((number, _refuse(measurement, blocked)))
            continue
        try:
            row = prepare(request)
        except WillItRunError as error:
            results.append((number, _refuse(measurement, str(error))))
            continue
        groups.setdefault(row.lowered.key, []).append((number, measurement, row))
    for group in groups.values():
        results += _compare_block(group)
    return results


def _blocked(request: Request, measurement: Measurement) -> str:
    if request.blockers:
        return request.blockers[0].message
    if request.quantization_open and not measurement.quantization:
        return "nobody says its weight format: set quantization."
    return ""


def _compare_block(group: list[tuple[int, Measurement, Prepared]]) -> list[tuple[int, Comparison]]:
    from willitrun.estimators.llm_evaluation import run_block

    rows = [row for _, _, row in group]
    block = run_block(rows)
    legal = np.array([_legal_peak(row) for row in rows])
    by_memory, by_compute = llm_limits(
        block.ground.work,
        block.ground.rates,
        block.load,
        np.fmax(legal, block.ground.rates.compute_flop_per_s),
    )
    results = []
    for place, (number, measurement, row) in enumerate(group):
        metric = measurement.metric
        rate = 1.0 / measurement.value if LLM_METRICS[metric][1] else measurement.value
        predicted = _at(llm_rate(block.speed, metric), place)
        weights = row.model.repeating + row.model.output
        memory = row.machine.row.total_memory
        refused = _overweight(weights, memory)
        if not refused and (block.layout.host_layers[place] or block.layout.host_moe_layers[place]):
            refused = "it would run with layers in host memory, and nobody says how many."
        limits = (
            ("arithmetic peak", _at(llm_rate(by_compute, metric), place)),
            ("memory bandwidth", _at(llm_rate(by_memory, metric), place)),
        )
        what, limit = min(limits, key=lambda pair: pair[1])
        refused = refused or _implausible(rate, limit, what)
        if not refused and not np.isfinite(predicted):
            refused = "that many sequences do not fit, so there is no steady figure to compare with."
        if refused:
            results.append((number, _refuse(measurement, refused)))
            continue
        keys = _keys(row.request, measurement)
        phase = phase_of(metric, row.load.concurrency)
        results.append((number, Comparison(measurement, keys, phase, float(np.log(rate / predicted)))))
    return results


def _at(values: NDArray[np.float64], place: int) -> float:
    return float(values[place if len(values) > 1 else 0])


def _legal_peak(row: Prepared) -> float:
    """Highest peak that some kernel of the runtime may use: INT8 for block formats of ggml, FP16 accumulation."""
    rates = row.machine.row
    request = row.request
    assert request.quantization is not None
    peak = float(np.fmax(rates.fp16, rates.fp32))
    if request.profile.id in _GGML:
        quantized = request.quantization.id not in ("f16", "bf16", "f32")
        peak = float(np.fmax(peak, rates.fp16_fast))
        peak = float(np.fmax(peak, rates.int8)) if quantized else peak
    return peak


def _overweight(weights: int, memory: int) -> str:
    if weights <= memory:
        return ""
    return f"its weights of {format_bytes(weights)} do not fit {format_bytes(memory)} of memory."


def _implausible(rate: float, limit: float, what: str) -> str:
    """Why a rate cannot be: it needs more than the nameplate and its slack."""
    share = rate / limit
    if share <= SLACK:
        return ""
    return f"it implies {share:.2f} times the {what} of the nameplate; at most {SLACK:.1f} is possible."


def _compare_graphs(members: list[tuple[int, Measurement, Request]]) -> list[tuple[int, Comparison]]:
    from willitrun.estimators.graph_evaluation import (
        PreparedGraph,
        prepare_graph,
        run_graphs,
        term_shares,
    )

    results: list[tuple[int, Comparison]] = []
    rows: list[tuple[int, Measurement, PreparedGraph]] = []
    for number, measurement, request in members:
        if request.blockers:
            results.append((number, _refuse(measurement, request.blockers[0].message)))
            continue
        try:
            rows.append((number, measurement, prepare_graph(request)))
        except WillItRunError as error:
            results.append((number, _refuse(measurement, str(error))))
    if not rows:
        return results
    block = run_graphs([row for _, _, row in rows])
    for place, (number, measurement, row) in enumerate(rows):
        weights, room = int(at(block.weights, place)), row.view.row.total_memory
        refused = _overweight(weights, room) or _implausible(
            2.0 * row.trace.macs * measurement.value, row.fastest_peak, "arithmetic peak"
        )
        if refused:
            results.append((number, _refuse(measurement, refused)))
            continue
        keys = _keys(row.request, measurement)
        ratio = float(np.log(measurement.value / at(block.speed.images_per_s, place)))
        shares = tuple(term_shares(block.speed, place).tolist())
        results.append((number, Comparison(measurement, keys, "images", ratio, shares=shares)))
    return results
