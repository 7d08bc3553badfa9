"""All models of a catalog, lowered once: what a scan evaluates on any machine in a few array calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.errors import (
    InvalidWorkloadError,
    MissingDataError,
    UnsupportedArchitectureError,
    UnsupportedFormatError,
)
from willitrun.estimators.defaults import GGUF_LADDER
from willitrun.estimators.llm_lowering import BlockKey, Prepared, prepare
from willitrun.estimators.llm_machines import MachineView, machine_row
from willitrun.estimators.requests import Request, complete_request
from willitrun.estimators.support import model_family
from willitrun.estimators.workloads import is_language
from willitrun.frozen import frozen
from willitrun.kernels.columns import Columns, columns_of
from willitrun.records.machines import Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Placement, Runtime, Workload
from willitrun.verdicts import workload_profile

__all__ = ["DECK_LADDER", "Deck", "Group", "build_deck", "deck_for"]

DECK_LADDER = GGUF_LADDER[: GGUF_LADDER.index("iq4_xs") + 1]
"""Formats of a deck where nobody names any: below four bits a smaller model at four is the usual choice."""
_GAPS = (MissingDataError, UnsupportedArchitectureError, UnsupportedFormatError)


@frozen
class Group:
    """Cards that share a runtime policy: one array call evaluates them all."""

    prepared: tuple[Prepared, ...]
    card: NDArray[np.int64]
    """Number of the card (model) that each row belongs to."""
    models: Columns
    loads: Columns
    families: tuple[str, ...]
    family: NDArray[np.int64]
    blocked: tuple[str, ...]
    """Reason code per row of what stands in the way whatever memory says; empty if nothing does."""


@frozen
class Deck:
    """Models with the formats to choose from; ``alone`` are judged one by one."""

    cards: tuple[Model, ...]
    floors: tuple[dict[str, float], ...]
    """Rates below which a card is not practical, by name."""
    groups: tuple[Group, ...]
    alone: tuple[tuple[int, Request], ...]
    gaps: tuple[tuple[int, Request], ...]
    """Rows of which a fact is missing."""


def deck_for(
    machine: Machine,
    models: Sequence[Any],
    workload: Workload,
    *,
    quantizations: tuple[str, ...],
    runtime: str | Runtime | None,
    placement: str | Placement | None,
    catalog: Catalog,
) -> Deck:
    """The deck of a catalog for machines of a kind, built once and remembered.

    Which runtime and back end suit a model depends on the vendors and the system of a machine, not on its size.
    """
    vendors = tuple(dict.fromkeys(device.accelerator.vendor for device in machine.accelerators))
    many = len(machine.accelerators) > 1

    def derive() -> Deck:
        return build_deck(
            machine,
            models,
            workload,
            quantizations=quantizations,
            runtime=runtime,
            placement=placement,
            catalog=catalog,
        )

    if not all(isinstance(model, str) for model in models):
        # Models that are not of the catalog may change under the same name.
        return derive()
    key = (
        "deck",
        tuple(models),
        workload,
        quantizations,
        runtime,
        placement,
        vendors,
        machine.host.system,
        many,
    )
    return catalog.remember(key, derive)


def build_deck(
    machine: Machine,
    models: Iterable[Any],
    workload: Workload,
    *,
    quantizations: tuple[str, ...],
    runtime: str | Runtime | None,
    placement: str | Placement | None,
    catalog: Catalog,
) -> Deck:
    """Describe every model, open its formats, and stack what shares a runtime policy."""
    cards: list[Model] = []
    floors: list[dict[str, float]] = []
    rows: dict[BlockKey, list[tuple[int, Prepared]]] = {}
    alone: list[tuple[int, Request]] = []
    gaps: list[tuple[int, Request]] = []
    # A deck outlives the machine that it was built with: its view serves all rows, and is replaced when it is dealt.
    views: dict[tuple[object, ...], MachineView] = {}
    for reference in models:
        try:
            # The runtime that suits a model depends on the format: each is completed on its own.
            asked = [
                complete_request(
                    reference,
                    machine,
                    workload,
                    quantization=name,
                    runtime=runtime,
                    placement=placement,
                    catalog=catalog,
                )
                for name in quantizations or (None,)
            ]
        except InvalidWorkloadError:
            # A field that this model's task does not have: the model is not asked.
            continue
        request = asked[0]
        number = len(cards)
        cards.append(request.model)
        profile = workload_profile(request)
        floors.append(dict(profile.floor) if profile is not None else {})
        if request.workload.mode != "inference" or not is_language(request.model):
            alone.append((number, request))
            continue
        for chosen in (one for first in asked for one in _formats(first)):
            try:
                place = (chosen.profile.id, chosen.runtime, _heads(chosen))
                if place not in views:
                    views[place] = machine_row(chosen)
                lowered = prepare(chosen, view=views[place])
            except _GAPS:
                gaps.append((number, chosen))
                continue
            rows.setdefault(lowered.lowered.key, []).append((number, lowered))
    return Deck(
        tuple(cards),
        tuple(floors),
        tuple(_group(found) for found in rows.values()),
        tuple(alone),
        tuple(gaps),
    )


def _heads(request: Request) -> int | None:
    transformer = request.model.transformer
    return transformer.num_attention_heads if transformer is not None else None


def _formats(request: Request) -> list[Request]:
    """The request, or one per format of the ladder where the format is open."""
    if not request.quantization_open:
        return [request]
    table = request.catalog.quantizations
    return [request.with_quantization(table[name]).rechecked() for name in DECK_LADDER]


def _group(rows: list[tuple[int, Prepared]]) -> Group:
    prepared = tuple(row for _, row in rows)
    names = [model_family(row.request) for row in prepared]
    families = tuple(dict.fromkeys(names))
    place = {name: code for code, name in enumerate(families)}
    return Group(
        prepared=prepared,
        card=np.array([number for number, _ in rows], dtype=np.int64),
        models=columns_of([row.model for row in prepared]),
        loads=columns_of([row.load for row in prepared]),
        families=families,
        family=np.array([place[name] for name in names], dtype=np.int64),
        blocked=tuple(_blocked(row.request) for row in prepared),
    )


def _blocked(request: Request) -> str:
    """What stands in the way; a context that is too long only where nothing else does."""
    codes = [reason.code for reason in request.blockers]
    return min(codes, key=lambda code: code == "context-above-trained-maximum", default="")
