"""Buyer guides answered by the engine, and prompt kits turned into workloads."""

from __future__ import annotations

from datetime import date

from willitrun.catalog import Catalog, load_catalog
from willitrun.errors import InvalidWorkloadError
from willitrun.hardware.descriptions import describe_machine
from willitrun.records.guides import Guide, GuideReport, GuideRow, PromptKit
from willitrun.records.machines import Machine
from willitrun.records.recipes import Workload, WorkloadProfile
from willitrun.verdicts import assess

__all__ = ["answer_guide", "kit_workload"]

_ROOM_FOR_ANSWER = 256
"""Contexts are asked for in steps of this many tokens."""


def answer_guide(
    name: str | Guide, *, today: date | None = None, catalog: Catalog | None = None
) -> GuideReport:
    """Answer a buyer guide: every workload on every machine of it.

    Parameters
    ----------
    name
        Id of a guide of the catalog, or a record of your own.
    today
        The date that the answer carries.
    catalog
        Where guide, machines and models come from.

    Returns
    -------
    GuideReport
        With, per workload, the machine of the least memory that does it comfortably and fast enough, the fastest,
        and the one with the most work per watt of board power.

    Examples
    --------
    >>> report = answer_guide("best-gpu")
    >>> "Chat with a 7B model" in report.least
    True
    """
    catalog = catalog or load_catalog()
    guide: Guide = catalog.resolve("guide", name) if isinstance(name, str) else name
    machines = [_labelled(spec, catalog) for spec in guide.machines]
    rows: list[GuideRow] = []
    for workload in guide.workloads:
        profile = catalog.workloads[workload]
        rows += [_row(profile, machine, catalog) for machine in machines]
    # Where memory is one pool, it is the host's.
    memory = {
        machine.name: sum(d.accelerator.memory or 0 for d in machine.accelerators)
        or machine.host.ram_total_bytes
        or 0
        for machine in machines
    }
    least, fastest, frugal = {}, {}, {}
    for title in dict.fromkeys(row.workload for row in rows):
        good = [
            row
            for row in rows
            if row.workload == title and row.tier == "comfortable" and row.practical and row.speed
        ]
        if not good:
            continue
        least[title] = min(good, key=lambda row: (memory[row.machine], -_rate(row))).machine
        fastest[title] = max(good, key=_rate).machine
        powered = [row for row in good if row.tdp]
        if powered:
            frugal[title] = max(powered, key=lambda row: _rate(row) / (row.tdp or 1.0)).machine
    assumed = dict.fromkeys(text for machine in machines for text in machine.assumptions)
    return GuideReport(
        guide=guide.id,
        question=guide.question,
        day=today or date.today(),
        catalog_version=catalog.version,
        rows_=tuple(rows),
        least=least,
        fastest=fastest,
        frugal=frugal,
        assumptions=tuple(assumed),
    )


def _labelled(spec: str, catalog: Catalog) -> Machine:
    """A machine whose name tells its memory where the spec chose one: a chip is sold with several."""
    machine = describe_machine(spec, catalog=catalog)
    _, _, memory = spec.partition(":")
    return machine.model_copy(update={"name": f"{machine.name}, {memory}"}) if memory else machine


def _rate(row: GuideRow) -> float:
    """The headline as a rate: of a time, its inverse."""
    if row.speed is None:
        return 0.0
    return (
        row.speed.best
        if not row.headline.endswith("_s") or "_per_s" in row.headline
        else 1.0 / row.speed.best
    )


def _row(profile: WorkloadProfile, machine: Machine, catalog: Catalog) -> GuideRow:
    if profile.reference is None:
        raise InvalidWorkloadError(
            f"workload {profile.id!r} names no reference model.", hint="A guide needs one that does."
        )
    verdict = assess(
        profile.reference,
        machine,
        Workload(use=profile.id, **profile.fields),
        quantization=profile.reference_quantization,
        catalog=catalog,
    )
    head = verdict.speed.headline() if verdict.speed is not None and verdict.feasible else None
    watts = [device.accelerator.tdp for device in machine.accelerators]
    return GuideRow(
        workload=profile.name,
        model=verdict.inputs.model,
        quantization=verdict.inputs.quantization,
        machine=machine.name,
        accelerator=machine.accelerators[0].accelerator.id if machine.accelerators else "",
        tier=verdict.tier,
        practical=verdict.practical,
        total_bytes=verdict.memory.total_bytes.best if verdict.memory is not None else None,
        headline=head[0] if head else "",
        speed=head[1] if head else None,
        tdp=sum(filter(None, watts)) if watts and all(watts) else None,
    )


def kit_workload(name: str | PromptKit, *, tokenizer: str = "", catalog: Catalog | None = None) -> Workload:
    """The workload of a prompt kit: its longest prompt, its answer, and a context that holds both.

    Parameters
    ----------
    name
        Id of a kit of the catalog, or a record of your own.
    tokenizer
        Whose counts to take; the first that the kit lists if left out.

    Raises
    ------
    InvalidWorkloadError
        The kit was not counted with that tokenizer.

    Examples
    --------
    >>> from willitrun import assess
    >>> load = kit_workload("summarise-report")
    >>> assess("llama-3.1-8b", "rtx-3060-12gb", load, quantization="q4_k_m").feasible
    True
    """
    catalog = catalog or load_catalog()
    kit: PromptKit = catalog.resolve("prompt-kit", name) if isinstance(name, str) else name
    chosen = tokenizer or next(iter(kit.tokens))
    if chosen not in kit.tokens:
        raise InvalidWorkloadError(
            f"{kit.id} was not counted with {chosen!r}.", hint=f"Counted with: {', '.join(kit.tokens)}."
        )
    prompt = kit.longest(chosen)
    needed = prompt + kit.output_tokens
    steps = -(-needed // _ROOM_FOR_ANSWER)
    return Workload(
        context_tokens=steps * _ROOM_FOR_ANSWER,
        prompt_tokens=prompt,
        output_tokens=kit.output_tokens,
        use=kit.use,
    )
