"""A deck on one machine: every row evaluated in a few array calls, and the best format of every card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.calibration_anchors import device_anchors
from willitrun.estimators.calibration_rows import phase_of
from willitrun.estimators.evaluation import Evaluated, evaluate
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.llm_evaluation import speed_tables
from willitrun.estimators.llm_machines import MachineView, machine_row, parallel
from willitrun.estimators.overheads import block_buffers, device_overhead
from willitrun.estimators.requests import Request
from willitrun.estimators.support import (
    LEVELS,
    classed_factors,
    device_classes,
    support_code,
    support_of,
)
from willitrun.frozen import frozen
from willitrun.kernels.columns import columns_of, take
from willitrun.kernels.llm_block import assess_block, cache_bytes
from willitrun.kernels.llm_ground import lay_ground
from willitrun.kernels.llm_runtime import Parallelism
from willitrun.kernels.placement import TIERS, WILL_NOT_RUN
from willitrun.kernels.scores import texts_per_s
from willitrun.planning.decks import Deck, Group
from willitrun.records.machines import Machine
from willitrun.records.results import Evidence, Tier

__all__ = ["Hand", "deal", "near_of"]

FloatArray = NDArray[np.float64]
BLOCK_ROWS = 8192
_ORDER = np.array([TIER_ORDER[name] for name in TIERS])
"""Rank of each tier code: unknown comes below everything."""
_NONE_RUNS = TIER_ORDER["will-not-run"]


@frozen
class Hand:
    """What some cards come to on one machine, each at the format chosen for it, as columns."""

    cards: NDArray[np.int64]
    requests: tuple[Request, ...]
    """As the deck holds them; the machine is that of the deal."""
    tier: tuple[Tier, ...]
    blocked_by: tuple[str, ...]
    total_bytes: tuple[int | None, ...]
    rates: dict[str, FloatArray]
    """Low, best and high estimate by name, of shape (cards, 3); NaN where the rate is unknown."""
    headline: tuple[str, ...]
    evidence: tuple[Evidence, ...]


@frozen
class _Rows:
    """One group on one machine, as columns."""

    tier: NDArray[np.int64]
    total: NDArray[np.int64]
    decode: FloatArray
    prefill: FloatArray
    texts: FloatArray
    level: NDArray[np.int64]
    device_ids: tuple[tuple[str, ...], ...]
    view: NDArray[np.int64]


def deal(deck: Deck, machine: Machine, catalog: Catalog, *, memory: str = "free") -> list[Hand]:
    """Evaluate a deck on a machine; of each card the best format of the best tier is kept.

    Agrees with `assess` row by row: the same kernels, the same rows.
    """
    played = [_play(group, machine, catalog, memory) for group in deck.groups]
    best: dict[int, tuple[int, int, int]] = {}
    for number, (group, rows) in enumerate(zip(deck.groups, played, strict=True)):
        order = _ORDER[rows.tier].tolist() if rows is not None else [-1] * len(group.card)
        for place, (card, tier) in enumerate(zip(group.card.tolist(), order, strict=True)):
            # Rows of a card come best format first: a later one has to be of a better tier. Where none runs, the
            # smallest tells what is missing at least.
            if card not in best or tier > best[card][0] or tier == best[card][0] == _NONE_RUNS:
                best[card] = (tier, number, place)
    kept: dict[int, list[int]] = {}
    for _, number, place in best.values():
        kept.setdefault(number, []).append(place)
    hands = []
    for number, places in kept.items():
        found = played[number]
        if found is None:
            requests = tuple(deck.groups[number].prepared[place].request for place in places)
            hands.append(_unknown(deck.groups[number].card[places], requests, "memory-not-modelled"))
        else:
            hands.append(_hand(deck.groups[number], found, np.array(places), machine, catalog))
    return hands + _one_by_one(deck, machine)


def _play(group: Group, machine: Machine, catalog: Catalog, memory: str) -> _Rows | None:
    first = group.prepared[0]
    try:
        views, view = _views(group, machine, memory)
    except MissingDataError:
        return None
    machines = columns_of([found.row for found in views])
    width = max(len(found.available) for found in views)
    rooms = np.zeros((len(views), width), dtype=np.int64)
    ranks = np.zeros((len(views), 4), dtype=np.int64)
    for number, found in enumerate(views):
        rooms[number, : len(found.available)] = found.available
        ranks[number] = parallel(first.request, len(found.available))
    levels = np.array([_levels(group, found.device_ids, machine, catalog) for found in views])
    n = len(group.prepared)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], FloatArray, FloatArray, FloatArray]] = []
    tables = speed_tables(catalog)
    placement = first.request.placement
    for begin in range(0, n, BLOCK_ROWS):
        rows = np.arange(begin, min(begin + BLOCK_ROWS, n))
        models, loads, on = take(group.models, rows), take(group.loads, rows), view[rows]
        row_machines = take(machines, on)
        count = len(rows)
        layers, moe = placement.gpu_layers, placement.cpu_moe_layers
        parallelism = Parallelism(
            tensor=ranks[on, 0],
            pipeline=ranks[on, 1],
            data=ranks[on, 2],
            expert_shards=ranks[on, 3],
            gpu_layers=np.full(count, -1 if layers is None else layers, dtype=np.int64),
            cpu_moe_layers=np.full(count, -1 if moe is None else moe, dtype=np.int64),
        )
        room = rooms[on]
        ground = lay_ground(first.policy, models, row_machines, parallelism, tables)
        cache = cache_bytes(ground, loads)
        moved = _moved(first.request, machine)
        overhead = device_overhead(ground, moved)
        buffers = block_buffers(ground, loads, room, cache, overhead, moved)
        block = assess_block(ground, loads, room, cache, buffers)
        speed = block.speed
        texts = texts_per_s(speed.prefill_tokens_per_s, block.load.prompt_tokens)
        parts.append(
            (
                block.layout.tier.astype(np.int64),
                block.layout.total.sum(axis=1),
                np.broadcast_to(speed.decode_tokens_per_s, (count,)),
                np.broadcast_to(speed.prefill_tokens_per_s, (count,)),
                np.broadcast_to(texts, (count,)),
            )
        )
    tier, total, decode, prefill, texts = (np.concatenate(column) for column in zip(*parts, strict=True))
    stopped = np.array([bool(code) for code in group.blocked])
    return _Rows(
        tier=np.where(stopped, WILL_NOT_RUN, tier),
        total=total,
        decode=decode,
        prefill=prefill,
        texts=texts,
        level=levels[view, group.family],
        device_ids=tuple(found.device_ids for found in views),
        view=view,
    )


def _views(group: Group, machine: Machine, memory: str) -> tuple[list[MachineView], NDArray[np.int64]]:
    """Views of the machine: one for all rows, or one per number of heads where tensor ranks divide them."""
    by_heads = len(machine.accelerators) > 1 and "tensor" in group.prepared[0].request.profile.multi_gpu
    views: list[MachineView] = []
    places: dict[int | None, int] = {}
    index = np.zeros(len(group.prepared), dtype=np.int64)
    for number, row in enumerate(group.prepared):
        transformer = row.request.model.transformer
        heads = transformer.num_attention_heads if by_heads and transformer is not None else None
        if heads not in places:
            places[heads] = len(views)
            views.append(machine_row(replace(_moved(row.request, machine), memory=memory)))  # type: ignore[arg-type]
        index[number] = places[heads]
    return views, index


def _moved(request: Request, machine: Machine) -> Request:
    return replace(request, machine=machine)


def _levels(group: Group, devices: tuple[str, ...], machine: Machine, catalog: Catalog) -> list[int]:
    """Support level of every family of a group on some devices of a machine."""
    classes = device_classes(_moved(group.prepared[0].request, machine), devices)
    derived = any(device.identity == "derived" for device in machine.accelerators)
    record = catalog.calibrations["llm-speed"]
    return [support_code(record, devices, classes, family, derived=derived) for family in group.families]


def _hand(group: Group, rows: _Rows, places: NDArray[np.int64], machine: Machine, catalog: Catalog) -> Hand:
    chosen = [group.prepared[place] for place in places.tolist()]
    requests = tuple(row.request for row in chosen)
    level = rows.level[places]
    record = catalog.calibrations["llm-speed"]
    first = group.prepared[0]
    encoder = first.model.reads_only
    evidence: list[Evidence] = [
        "estimated" if LEVELS[code] == "unseen-class" else "calibrated" for code in level.tolist()
    ]
    # Factor and narrowing of decode and of prefill: 1 without measurements near by.
    shifts = np.ones((len(places), 4))
    for number, (request, view) in enumerate(zip(requests, rows.view[places].tolist(), strict=True)):
        devices = rows.device_ids[view]
        if len(set(devices)) == 1 and device_anchors(catalog, devices[0], len(devices), images=False):
            evidence[number], shifts[number] = near_of(request, machine, devices, catalog)
    crowded = np.array([request.workload.concurrency > 1 for request in requests]) & first.policy.interference
    routed = np.array([row.model.experts > 0 for row in chosen])
    spread = {
        task: classed_factors(record, task, first.policy.codes, routed, level)
        for task in ("decode", "tpot", "prefill")
    }
    output, input_ = np.where(crowded[:, None], spread["tpot"], spread["decode"]), spread["prefill"]
    refused = rows.tier[places] == WILL_NOT_RUN
    rates = {"prefill_tokens_per_s": _bounds(rows.prefill[places], shifts[:, 2:], input_, refused)}
    if encoder:
        rates["samples_per_s"] = _bounds(rows.texts[places], shifts[:, 2:], input_, refused)
    else:
        rates["decode_tokens_per_s"] = _bounds(rows.decode[places], shifts[:, :2], output, refused)
    headline = "samples_per_s" if encoder else "decode_tokens_per_s"
    return Hand(
        cards=group.card[places],
        requests=requests,
        tier=tuple(TIERS[code] for code in rows.tier[places].tolist()),  # type: ignore[misc]
        blocked_by=tuple(group.blocked[place] for place in places.tolist()),
        total_bytes=tuple(rows.total[places].tolist()),
        rates=rates,
        headline=(headline,) * len(places),
        evidence=tuple(evidence),
    )


def near_of(
    request: Request, machine: Machine, devices: tuple[str, ...], catalog: Catalog
) -> tuple[Evidence, tuple[float, float, float, float]]:
    """Evidence and shifts of a row on a device that was measured; they follow from the catalog alone."""
    load = request.workload
    key = ("near", request.model.id, request.quantization, request.runtime, load.concurrency, devices)

    def derive() -> tuple[Evidence, tuple[float, float, float, float]]:
        support = support_of(_moved(request, machine), devices, "llm-speed")
        output = support.shift(phase_of("decode_tokens_per_s", load.concurrency))
        prefill = support.shift("prefill")
        return support.evidence, (output.factor, output.narrowing, prefill.factor, prefill.narrowing)

    return catalog.remember(key, derive)


def _bounds(
    rate: FloatArray, shift: FloatArray, spread: FloatArray, refused: NDArray[np.bool_]
) -> FloatArray:
    best = np.where(refused, np.nan, rate * shift[:, 0])
    low, high = (spread ** shift[:, 1, None]).T
    return np.stack([best * low, best, best * high], axis=1)


def _unknown(cards: NDArray[np.int64], requests: tuple[Request, ...], code: str) -> Hand:
    n = len(requests)
    tier: list[Tier] = ["unknown"] * n
    evidence: list[Evidence] = ["estimated"] * n
    return Hand(cards, requests, tuple(tier), (code,) * n, (None,) * n, {}, ("",) * n, tuple(evidence))


def _one_by_one(deck: Deck, machine: Machine) -> list[Hand]:
    """Graphs, pipelines, speech: tasks without a block of their own, evaluated as requests."""
    by_task: dict[str, list[tuple[int, Request]]] = {}
    for card, request in deck.alone:
        by_task.setdefault(request.model.task, []).append((card, _moved(request, machine)))
    hands = []
    for members in by_task.values():
        found = evaluate([request for _, request in members])
        hands.append(_packed(np.array([card for card, _ in members]), found))
    return hands


_NAMES = ("images_per_s", "seconds_per_image", "samples_per_s", "real_time_factor", "training_step_s",
          "decode_tokens_per_s", "prefill_tokens_per_s")  # fmt: skip


def _packed(cards: NDArray[np.int64], found: list[Evaluated]) -> Hand:
    """Evaluated requests as columns."""
    speeds = [one.speed_estimate() if one.tier not in ("will-not-run", "unknown") else None for one in found]
    rates: dict[str, FloatArray] = {}
    for name in _NAMES:
        values = [getattr(speed, name) if speed is not None else None for speed in speeds]
        if any(value is not None for value in values):
            gap = (np.nan,) * 3
            rates[name] = np.array([gap if v is None else (v.low, v.best, v.high) for v in values])
    heads = [speed.headline() if speed is not None else None for speed in speeds]
    totals = [one.total() for one in found]
    return Hand(
        cards=cards,
        requests=tuple(one.request for one in found),
        tier=tuple(one.tier for one in found),
        blocked_by=tuple(_blocked(one) for one in found),
        total_bytes=tuple(round(total.best) if total is not None else None for total in totals),
        rates=rates,
        headline=tuple(head[0] if head is not None else "" for head in heads),
        evidence=tuple(speed.evidence if speed is not None else "estimated" for speed in speeds),
    )


def _blocked(found: Evaluated) -> str:
    if found.tier == "unknown":
        return found.reasons[0].code
    return found.request.blockers[0].code if found.request.blockers else ""
