"""What changed between two versions of the catalogs, down to verdicts that come out otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from willitrun.catalog import Catalog
from willitrun.errors import WillItRunError
from willitrun.records.bases import Record
from willitrun.records.differences import CatalogDifference
from willitrun.records.presentation import Presented, format_interval
from willitrun.records.recipes import Workload
from willitrun.verdicts import assess

if TYPE_CHECKING:
    from willitrun.records.recipes import WorkloadProfile
    from willitrun.records.results import Verdict

__all__ = ["ChangeDigest", "VerdictChange", "digest_changes"]

MACHINES = ("rtx-3060-12gb", "rtx-4090", "apple-m4-pro-20gpu", "strix-halo", "h100-sxm5-80gb")
MOST_DEVICES = 12


class VerdictChange(Record):
    """One case that the two versions judge otherwise."""

    workload: str
    model: str
    machine: str
    old: str
    """Tier and headline speed, or the error."""
    new: str
    tier_changed: bool


class ChangeDigest(Presented):
    """The difference of two catalogs, and the verdicts that moved with it."""

    difference: CatalogDifference
    verdicts: tuple[VerdictChange, ...] = ()
    tried: int = 0
    """How many cases were judged under both."""

    def summary(self) -> str:
        return f"{self.difference.summary()}; {len(self.verdicts)} of {self.tried} verdicts differ"


def digest_changes(
    old: Catalog,
    new: Catalog,
    *,
    machines: tuple[str, ...] = MACHINES,
    verdicts: bool = True,
    least_change: float = 0.05,
) -> ChangeDigest:
    """Compare two catalogs, and judge the workloads that name a reference model under both.

    Parameters
    ----------
    old, new
        Two versions (`willitrun.catalog.open_catalog`, `willitrun.load_catalog`).
    machines
        Machines on which the workloads are tried, beside the accelerators that changed (at most 12 of them).
    verdicts
        Whether to try them at all.
    least_change
        A speed that moved by less than this share is no news.

    Examples
    --------
    >>> from willitrun import load_catalog
    >>> digest_changes(load_catalog(), load_catalog(), machines=("rtx-4090",)).verdicts
    ()
    """
    difference = old.diff(new)
    if not verdicts:
        return ChangeDigest(difference=difference)
    changed = [change.id for change in difference.of_kind("accelerator") if change.what == "changed"]
    places = tuple(dict.fromkeys((*machines, *changed[:MOST_DEVICES])))
    profiles = [profile for profile in new.workloads.values() if profile.reference]
    cases = [(profile, place) for profile in profiles for place in places]
    moved = tuple(_moved(old, new, cases, least_change))
    return ChangeDigest(difference=difference, verdicts=moved, tried=len(cases))


def _moved(
    old: Catalog, new: Catalog, cases: list[tuple[WorkloadProfile, str]], least_change: float
) -> Iterator[VerdictChange]:
    for profile, place in cases:
        before, after = _judge(profile, place, old), _judge(profile, place, new)
        tiers = tuple(found if isinstance(found, str) else found.tier for found in (before, after))
        if tiers[0] == tiers[1] and not _faster_or_slower(before, after, least_change):
            continue
        yield VerdictChange(
            workload=profile.id,
            model=profile.reference,
            machine=place,
            old=_said(before),
            new=_said(after),
            tier_changed=tiers[0] != tiers[1],
        )


def _judge(profile: WorkloadProfile, place: str, catalog: Catalog) -> Verdict | str:
    try:
        return assess(
            profile.reference,
            place,
            Workload(**profile.fields),
            quantization=profile.reference_quantization,
            memory="nameplate",
            catalog=catalog,
        )
    except WillItRunError as error:
        return type(error).__name__


def _speed(found: Verdict | str) -> float | None:
    if isinstance(found, str) or found.speed is None or not found.feasible:
        return None
    headline = found.speed.headline()
    return headline[1].best if headline is not None else None


def _faster_or_slower(before: Verdict | str, after: Verdict | str, least_change: float) -> bool:
    old, new = _speed(before), _speed(after)
    if old is None or new is None:
        return old is not new
    return abs(new - old) > least_change * old


def _said(found: Verdict | str) -> str:
    if isinstance(found, str):
        return found
    headline = found.speed.headline() if found.speed is not None and found.feasible else None
    return f"{found.tier}, {format_interval(*headline)}" if headline is not None else str(found.tier)
