"""What a dataset adds to a question: how long a pass takes, what it needs on disk."""

from __future__ import annotations

import math

from willitrun.errors import InvalidWorkloadError
from willitrun.estimators.requests import Request
from willitrun.intervals import Interval
from willitrun.records.results import Reason
from willitrun.units import format_bytes, format_duration

__all__ = ["dataset_reasons", "decode_rate"]


def decode_rate(request: Request) -> float:
    """Images per second that the input pipeline can decode; infinity where nobody asks for a dataset.

    Decoding is counted where the ``input-pipeline`` calibration says what one core does.
    """
    name = request.workload.dataset
    machine = request.machine
    if name is None or machine is None or "input-pipeline" not in request.catalog.calibrations:
        return math.inf
    cores = machine.host.usable_cores or machine.host.cores
    if cores is None:
        return math.inf
    per_core = request.catalog.calibrations["input-pipeline"].coefficients["images_per_core_s"]
    return per_core * cores


def dataset_reasons(request: Request, headline: tuple[str, Interval] | None) -> tuple[Reason, ...]:
    """A full pass over the dataset, its disk, and what published accuracy means in images.

    Raises
    ------
    InvalidWorkloadError
        The dataset has no such split.
    """
    name = request.workload.dataset
    if name is None:
        return ()
    dataset = request.catalog.resolve("dataset", name)
    split = request.workload.split or (
        "validation" if "validation" in dataset.splits else next(iter(dataset.splits), "")
    )
    if request.workload.split is not None and split not in dataset.splits:
        raise InvalidWorkloadError(
            f"{dataset.name} has no split {split!r}.",
            hint=f"It has {', '.join(dataset.splits) or 'no split whose size a source states'}.",
        )
    # Where no source states how many pictures there are, a pass has no length.
    count = dataset.splits.get(split, 0)
    found: list[Reason] = []
    if headline is not None and count:
        _, rate = headline
        found.append(
            Reason(
                code="dataset-pass",
                message=f"{count:,} images of {dataset.name} {split} take {format_duration(count / rate.best)} "
                f"({format_duration(count / rate.high)} to {format_duration(count / rate.low)}).",
                numbers={"images": count, "seconds": count / rate.best},
            )
        )
    vision = request.model.vision
    if vision is not None and vision.top1 is not None and dataset.id == "imagenet-1k" and count:
        right = round(vision.top1 * count)
        found.append(
            Reason(
                code="dataset-accuracy",
                message=f"Top-1 of {vision.top1:.1%} means about {right:,} of {count:,} images right.",
                numbers={"top1": vision.top1, "images_right": right},
            )
        )
    free = request.machine.host.disk_free_bytes if request.machine is not None else None
    if dataset.disk is not None and free is not None and free < dataset.disk:
        found.append(
            Reason(
                code="disk-too-small",
                message=f"{dataset.name} needs {format_bytes(dataset.disk)} on disk and {format_bytes(free)} are free.",
                numbers={"disk_bytes": dataset.disk, "disk_free_bytes": free},
            )
        )
    return tuple(found)
