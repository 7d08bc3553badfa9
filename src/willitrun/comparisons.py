"""`compare`: contenders side by side, and why one wins, from the terms of the estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError, UnknownIdError
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.hardware.descriptions import describe_machine
from willitrun.planning.alike import at_one_format
from willitrun.records.machines import Machine
from willitrun.records.presentation import format_field
from willitrun.records.rankings import AxisDifference, Bout, Comparison, Contender
from willitrun.records.recipes import Runtime, Workload
from willitrun.records.results import Term, Verdict
from willitrun.verdicts import assess

__all__ = ["compare"]

Axis = Literal["machines", "models", "quantizations", "runtimes"]
_AXES = ("machines", "models", "quantizations", "runtimes")
# What hardware is compared by where nobody names a model: ids of workload records with a reference model.
_USUAL = ("chat-7b", "chat-32b", "chat-70b", "image-sdxl", "classification-batch-256")
_SLOWER_IS_MORE = ("seconds_per_image", "training_step_s")
_LEAST_SHARE = 0.02
"""Terms that differ by less than this share of the step are not worth a sentence."""


def compare(
    *contenders: Any,
    of: Axis = "machines",
    model: Any = None,
    machine: Any = None,
    workloads: Workload | Sequence[Workload] | None = None,
    quantization: str | None = None,
    runtime: str | Runtime | None = None,
    memory: str = "free",
    catalog: Catalog | None = None,
) -> Comparison:
    """Compare machines, models, weight formats or runtimes under the same workloads.

    Parameters
    ----------
    *contenders
        Two or more of what ``of`` says: whatever `assess` takes in that place.
    of
        ``machines``, ``models``, ``quantizations`` or ``runtimes``.
    model
        The model for all; without one, machines are compared by the usual workloads (chat with 8B, 32B and 70B,
        SDXL, image classification).
    machine
        The machine for all where machines are not what is compared; None detects this one.
    workloads
        One or several; each is a bout of its own.
    quantization, runtime, memory, catalog
        As for `assess`; where no format is named, machines and runtimes are compared at the smallest that each of them would
        take, if all of them run it.

    Returns
    -------
    Comparison
        A bout per workload: tiers, memory, speed, the winner, whether the intervals are apart (``clear``), and why:
        the terms of the step time in which the two best differ.

    Raises
    ------
    InvalidWorkloadError
        Fewer than two contenders, or nothing to run on them.

    Examples
    --------
    >>> found = compare("rtx-4090", "rtx-3090", model="llama-3.1-8b", quantization="q4_k_m")
    >>> found.bouts[0].winner
    'NVIDIA GeForce RTX 4090'
    """
    catalog = catalog or load_catalog()
    if of not in _AXES:
        raise UnknownIdError("axis of a comparison", str(of), _AXES)
    if len(contenders) < 2:
        raise InvalidWorkloadError("a comparison needs at least two contenders.")
    if of not in ("models", "machines") and model is None:
        raise InvalidWorkloadError(f"{of} are compared by running a model on them.", hint="Pass model=...")
    loads = (workloads,) if isinstance(workloads, Workload) else tuple(workloads or ())
    sides: list[Any] = list(contenders)
    if of == "machines":
        sides = [describe_machine(side, catalog=catalog) for side in contenders]
    names = tuple(_name(side, of) for side in sides)
    bouts = []
    for title, fixed in _bouts(of, model, loads, quantization, catalog):
        shared = {"machine": machine, "runtime": runtime, "memory": memory, "catalog": catalog} | fixed
        found, formats = _judged(of, names, sides, shared, catalog)
        bouts.append(_bout(title, names, sides, found, formats))
    return Comparison(of=of, names=names, bouts=tuple(bouts))


def _name(side: Any, of: str) -> str:
    if isinstance(side, Machine):
        return side.name
    if isinstance(side, Runtime):
        return f"{side.name}:{side.backend}" if side.backend else side.name
    return str(getattr(side, "id", side))


def _bouts(
    of: str, model: Any, loads: tuple[Workload, ...], quantization: str | None, catalog: Catalog
) -> list[tuple[str, dict[str, Any]]]:
    """Title and arguments that all contenders of a bout share."""
    if of == "machines" and model is None:
        return [
            (
                profile.label,
                {
                    "model": profile.reference,
                    "workload": Workload(**profile.fields, use=profile.id),
                    "quantization": profile.reference_quantization,
                },
            )
            for profile in (catalog.workloads[name] for name in _USUAL)
        ]
    found = []
    for load in loads or (Workload(),):
        said = load.model_dump(exclude_unset=True, exclude_none=True)
        title = ", ".join(f"{name} {value}" for name, value in said.items()) or "default workload"
        found.append((title, {"model": model, "workload": load, "quantization": quantization}))
    return found


def _arguments(of: str, side: Any, fixed: dict[str, Any]) -> dict[str, Any]:
    place = {"machines": "machine", "models": "model", "quantizations": "quantization", "runtimes": "runtime"}
    return fixed | {place[of]: side}


def _judged(
    of: str, names: tuple[str, ...], sides: list[Any], shared: dict[str, Any], catalog: Catalog
) -> tuple[list[Verdict], tuple[str, ...]]:
    """A verdict for each contender, and what is to be said of their weight formats."""

    def at(changed: dict[str, Any]) -> list[Verdict]:
        return [assess(**_arguments(of, side, shared | changed)) for side in sides]

    found = at({})
    if of not in ("machines", "runtimes") or shared.get("quantization") is not None:
        return found, ()
    found, common = at_one_format(found, lambda name: at({"quantization": name}), catalog)
    return found, _said_of_formats(names, found, common)


def _said_of_formats(names: tuple[str, ...], found: list[Verdict], common: str | None) -> tuple[str, ...]:
    """That a format was taken for all, or that each has its own: nobody named one."""
    if common is not None:
        return (f"Nobody named a weight format; all were judged at {common}, so that they are alike.",)
    own = [verdict.inputs.quantization for verdict in found]
    if len(set(own)) < 2:
        return ()
    each = ", ".join(f"{name} {form}" for name, form in zip(names, own, strict=True) if form)
    return (f"The weight formats differ: {each}.",)


def _bout(
    title: str, names: tuple[str, ...], sides: list[Any], found: list[Verdict], formats: tuple[str, ...]
) -> Bout:
    contenders = tuple(_contender(*parts) for parts in zip(names, sides, found, strict=True))
    order = sorted(range(len(found)), key=lambda i: _key(contenders[i]))
    first, second = contenders[order[0]], contenders[order[1]]
    decided = _key(first)[:2] != _key(second)[:2] or _key(first) < _key(second)
    won = decided and first.tier not in ("unknown", "will-not-run")
    ratio = clear = None
    if won:
        clear, ratio = _apart(first, second)
    differences = _differences(order, found)
    return Bout(
        title=title,
        contenders=contenders,
        winner=first.name if won else None,
        clear=bool(clear),
        ratio=ratio,
        why=(*_why(first, second, won, ratio, bool(clear), differences, order, found), *formats),
        differences=differences,
    )


def _contender(name: str, side: Any, verdict: Verdict) -> Contender:
    speed = verdict.speed if verdict.feasible else None
    head = speed.headline() if speed is not None else None
    memory = verdict.memory
    room = [device.available_bytes for device in memory.per_device] if memory is not None else []
    specs: dict[str, float | int | str | None] = {"quantization": verdict.inputs.quantization}
    if isinstance(side, Machine):
        for device in side.accelerators[:1]:
            record = device.accelerator
            specs |= {
                "devices": len(side.accelerators),
                "memory_bytes": device.memory_total_bytes,
                "memory_bandwidth_bytes_per_s": device.memory_bandwidth_bytes_per_s,
                "fp16_tensor_flop_per_s": record.peaks.fp16_tensor,
                "tdp_w": record.tdp,
            }
    return Contender(
        name=name,
        tier=verdict.tier,
        practical=verdict.practical,
        total_bytes=memory.total_bytes if memory is not None else None,
        available_bytes=sum(filter(None, room)) if room else None,
        headline=head[0] if head is not None else "",
        rate=head[1] if head is not None else None,
        bound=(speed.bound or "") if speed is not None else "",
        evidence=verdict.evidence,
        specs=specs,
    )


def _key(side: Contender) -> tuple[float, ...]:
    """Runs without offload, then fast enough, then faster, then the better tier."""
    order = TIER_ORDER[side.tier]
    rate = side.rate.best if side.rate is not None else 0.0
    return (
        -min(order, TIER_ORDER["tight"]),
        side.practical is not True,
        rate if side.headline in _SLOWER_IS_MORE else -rate,
        -order,
    )


def _apart(first: Contender, second: Contender) -> tuple[bool, float | None]:
    """Whether the intervals do not touch, and how much faster the first is."""
    if first.rate is None or second.rate is None or first.headline != second.headline:
        return first.tier != second.tier, None
    less = first.headline in _SLOWER_IS_MORE
    quick, slow = (second.rate, first.rate) if less else (first.rate, second.rate)
    clear = quick.low > slow.high or TIER_ORDER[first.tier] > TIER_ORDER[second.tier] + 1
    return clear, quick.best / slow.best if slow.best > 0 else None


def _differences(order: list[int], found: list[Verdict]) -> tuple[AxisDifference, ...]:
    """Terms of the step time by how much the two best differ in them, largest first."""
    tables: list[dict[str, Term]] = [
        {term.name: term for term in verdict.speed.terms} if verdict.speed is not None else {}
        for verdict in found
    ]
    first, second = tables[order[0]], tables[order[1]]
    if not first or not second:
        return ()
    step = max(sum(term.value for term in table.values()) for table in (first, second))
    names = dict.fromkeys([*first, *second])

    def seconds(table: dict[str, Term], name: str) -> float:
        return table[name].value if name in table else 0.0

    gaps = {name: abs(seconds(first, name) - seconds(second, name)) for name in names}
    kept = sorted((name for name in names if gaps[name] > _LEAST_SHARE * step), key=lambda name: -gaps[name])
    return tuple(
        AxisDifference(
            term=name,
            values=tuple(seconds(table, name) for table in tables),
            inputs=_inputs(name, tables),
        )
        for name in kept[:5]
    )


def _inputs(name: str, tables: list[dict[str, Term]]) -> dict[str, tuple[float | int | str | None, ...]]:
    keys = dict.fromkeys(key for table in tables if name in table for key in table[name].inputs)
    columns = {
        key: tuple(table[name].inputs.get(key) if name in table else None for table in tables) for key in keys
    }
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def _why(
    first: Contender,
    second: Contender,
    won: bool,
    ratio: float | None,
    clear: bool,
    differences: tuple[AxisDifference, ...],
    order: list[int],
    found: list[Verdict],
) -> tuple[str, ...]:
    if not won:
        reasons = [reason.message for verdict in found for reason in verdict.reasons[:1]]
        return ("Nobody wins.", *dict.fromkeys(reasons))
    lines = []
    if first.tier != second.tier:
        reason = next(iter(found[order[1]].reasons), None)
        lines.append(
            f"{first.name} is {first.tier}, {second.name} {second.tier}"
            + (f": {reason.message}" if reason is not None else ".")
        )
    if ratio is not None:
        doubt = "" if clear else "; the intervals overlap, so it may be the other way round"
        lines.append(f"{first.name} is {ratio:.2f} times as fast as {second.name}{doubt}.")
    for gap in differences[:3]:
        a, b = gap.values[order[0]], gap.values[order[1]]
        text = f"{gap.term}: {format_field('time_s', a)} against {format_field('time_s', b)} per step"
        for key, values in gap.inputs.items():
            mine, theirs = values[order[0]], values[order[1]]
            if isinstance(mine, int | float) and isinstance(theirs, int | float):
                said, against = format_field(key, mine), format_field(key, theirs)
                text += f" ({key} {said} against {against})" if said != against else ""
        lines.append(text + ".")
    return tuple(lines)
