"""From reason codes to the catalog entries that matter for this very verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from willitrun.catalog import Catalog
from willitrun.estimators.requests import Request
from willitrun.records.results import Link, Reason

__all__ = ["verdict_links"]

MOST_LINKS = 8

# What a bound means for the reader is a reason like any other.
_BOUND_CODES = {
    "memory-bandwidth": "memory-bandwidth-bound",
    "compute": "compute-bound",
    "launch": "launch-bound",
    "interconnect": "interconnect-bound",
    "host-memory": "host-memory-bound",
    "input": "input-bound",
    "disk": "disk-bound",
}
# Assumptions matter, but never before what decides the verdict.
_LAST = ("assumed-host", "assumed-runtime", "assumed-quantization", "assumed-context", "assumed-image-size")
_TERMS_OF_TASKS = {"image-classification": ("imagenet", "images-per-second", "batch-size", "throughput")}
"""Terms that belong into a verdict of a task even where its reasons' own links would fill it."""


def bound_code(bound: str) -> str:
    """The reason code of a bound."""
    return _BOUND_CODES[bound]


def verdict_links(
    request: Request, reasons: Sequence[Reason]
) -> tuple[dict[str, tuple[str, ...]], tuple[Link, ...]]:
    """References per reason code, and the links of the verdict, the binding constraint's first.

    Returns
    -------
    tuple
        Reason code -> refs (``glossary:...``, ``troubleshooting:...``), and at most eight links.
    """
    codes = dict.fromkeys(reason.code for reason in reasons)
    ordered = [code for code in codes if code not in _LAST] + [code for code in codes if code in _LAST]
    see: dict[str, tuple[str, ...]] = {}
    links: dict[str, Link] = {}
    for code in ordered:
        see[code], found = links_of_code(request, code)
        for link in found:
            links.setdefault(link.ref, link)
    catalog = request.catalog
    terms = _task_terms(request)
    for name in terms:
        ref = f"glossary:{name}"
        if name in catalog.glossary:
            title = _title(catalog, ref)
            why = f"what {request.model.name} is {'trained and judged on' if name == terms[0] else 'measured by'}"
            link = Link.model_construct(ref=ref, title=title, why=why)
            links.setdefault(ref, link)
    kept = list(links.values())
    tail = [link for link in kept if link.ref in {f"glossary:{name}" for name in terms}]
    if len(kept) > MOST_LINKS and tail:
        # The first failure and the first term of every reason come before its second ones.
        firsts = {ref for refs in see.values() for ref in _first_of_kinds(refs)}
        rest = sorted((link for link in kept if link not in tail), key=lambda link: link.ref not in firsts)
        kept = rest[: MOST_LINKS - len(tail)] + tail
    kept = kept[:MOST_LINKS]
    return see, tuple(kept)


def _first_of_kinds(refs: Sequence[str]) -> set[str]:
    kinds: dict[str, str] = {}
    for ref in refs:
        kinds.setdefault(ref.partition(":")[0], ref)
    return set(kinds.values())


def _task_terms(request: Request) -> tuple[str, ...]:
    usual = _TERMS_OF_TASKS.get(request.model.task, ())
    dataset = request.workload.dataset
    if dataset is None or dataset.startswith("imagenet"):
        return usual
    return (dataset, *usual[1:])


def links_of_code(request: Request, code: str) -> tuple[tuple[str, ...], tuple[Link, ...]]:
    """References of a reason code for a task, a runtime and a machine, and a link for each."""
    return request.catalog.memo("links").get(
        (request.machine, request.runtime), (request.model.task, code), lambda: _links(request, code)
    )


def _links(request: Request, code: str) -> tuple[tuple[str, ...], tuple[Link, ...]]:
    refs = _references(request, code)
    return (
        tuple(dict.fromkeys(ref for ref, _ in refs)),
        tuple(
            Link.model_construct(ref=ref, title=_title(request.catalog, ref), why=why) for ref, why in refs
        ),
    )


def _references(request: Request, code: str) -> list[tuple[str, str]]:
    catalog = request.catalog
    task = request.model.task
    found: list[tuple[str, str]] = []
    # First what the code means to everybody, then what it means for this task.
    rows = [catalog.reasons.stated(name) for name in catalog.reasons.grouped(code)]
    for row in sorted(rows, key=lambda row: task in row.get("tasks", ())):
        if (row.get("tasks") and task not in row["tasks"]) or not _computes(row, request):
            continue
        title = row["title"]
        for name in row.get("troubleshooting", ()):
            if name in catalog.troubleshooting and _applies(catalog.troubleshooting.stated(name), request):
                found.append((f"troubleshooting:{name}", title))
        for name in row.get("glossary", ()):
            if name in catalog.glossary and _computes(catalog.glossary.stated(name), request):
                found.append((f"glossary:{name}", title))
    return found


def _computes(entry: Mapping[str, Any], request: Request) -> bool:
    """Whether an entry or a row, as written, is for what a request computes on."""
    machine, wanted = request.machine, entry.get("computes_on")
    if wanted is None or machine is None:
        return True
    on_cards = bool(machine.accelerators) and request.runtime.backend != "cpu"
    return bool(wanted == ("accelerator" if on_cards else "processor"))


def _applies(entry: Mapping[str, Any], request: Request) -> bool:
    """Whether a troubleshooting entry, as written, is for a task, a runtime and a machine."""
    if entry.get("tasks") and request.model.task not in entry["tasks"]:
        return False
    if entry.get("runtimes") and request.runtime.name not in entry["runtimes"]:
        return False
    if not _computes(entry, request):
        return False
    machine = request.machine
    if machine is None:
        return True
    vendors = {device.accelerator.vendor for device in machine.accelerators}
    if entry.get("vendors") and vendors and not vendors & set(entry["vendors"]):
        return False
    systems = entry.get("systems")
    return not (systems and machine.host.system and machine.host.system not in systems)


def _title(catalog: Catalog, ref: str) -> str:
    kind, _, name = ref.partition(":")
    return str(catalog.table(kind).stated(name)["name"])
