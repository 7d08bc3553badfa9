"""What a dataset adds to a question: how long a pass takes, what it needs on disk."""

from __future__ import annotations

import math

from willitrun.estimators.requests import Request
from willitrun.intervals import Interval
from willitrun.kernels.input_pipeline import supply_rates
from willitrun.records.results import Reason
from willitrun.units import format_bytes, format_duration

__all__ = ["dataset_reasons", "decode_rate", "input_rates", "input_reasons"]

PIPELINE = "input-pipeline"


def input_rates(request: Request) -> tuple[float, float]:
    """Images per second that the host decodes and that its disk delivers; infinite where nobody asks for a dataset.

    Decoding is counted by the ``input-pipeline`` calibration; the disk where its rate and the size of an image
    are known.
    """
    name = request.workload.dataset
    machine = request.machine
    if name is None or machine is None or PIPELINE not in request.catalog.calibrations:
        return math.inf, math.inf
    host = machine.host
    dataset = request.catalog.resolve("dataset", name)
    per_core = request.catalog.calibrations[PIPELINE].coefficients["images_per_core_s"]
    cores = host.usable_cores or host.cores
    return supply_rates(
        math.inf if cores is None else float(cores),
        per_core,
        host.disk_read_bytes_per_s or math.inf,
        float(dataset.mean_image_bytes or 0.0),
    )


def decode_rate(request: Request) -> float:
    """Images per second that the input pipeline can deliver; infinity where nobody asks for a dataset."""
    return min(input_rates(request))


def input_reasons(request: Request, device_rate: float) -> tuple[Reason, ...]:
    """That the device waits for images, and for what: the cores that decode, or the disk.

    Parameters
    ----------
    device_rate
        Images per second that the device alone would do [1/s].
    """
    decoded, read = input_rates(request)
    slower = min(decoded, read)
    if device_rate <= slower:
        return ()
    numbers: dict[str, float | int | str] = {
        "device_images_per_s": device_rate,
        "decoded_images_per_s": decoded,
        "read_images_per_s": read if math.isfinite(read) else "unknown",
    }
    if read < decoded:
        text = f"The disk delivers {read:,.0f} images/s and the device would take {device_rate:,.0f}: it waits for the disk."
        return (Reason.model_construct(code="disk-bound", message=text, numbers=numbers),)
    machine = request.machine
    assert machine is not None
    cores = machine.host.usable_cores or machine.host.cores
    text = (
        f"{cores:g} cores decode about {decoded:,.0f} images/s and the device would take {device_rate:,.0f}: "
        "it waits for the data loader."
    )
    return (Reason.model_construct(code="input-bound", message=text, numbers=numbers),)


def dataset_reasons(request: Request, headline: tuple[str, Interval] | None) -> tuple[Reason, ...]:
    """A full pass over the dataset, its disk, and what published accuracy means in images."""
    name = request.workload.dataset
    if name is None:
        return ()
    dataset = request.catalog.resolve("dataset", name)
    training = request.workload.mode != "inference"
    usual = "train" if training else "validation"
    split = request.workload.split or (usual if usual in dataset.splits else next(iter(dataset.splits), ""))
    # Where no source states how many pictures there are, a pass has no length.
    count = dataset.splits.get(split, 0)
    found: list[Reason] = []
    if headline is not None and count:
        _, rate = headline
        found.append(
            Reason.model_construct(
                code="dataset-pass",
                message=f"{'An epoch of ' if training else ''}{count:,} images of {dataset.name} {split} {'takes' if training else 'take'} {format_duration(count / rate.best)} "
                f"({format_duration(count / rate.high)} to {format_duration(count / rate.low)}).",
                numbers={"images": count, "seconds": count / rate.best},
            )
        )
    vision = request.model.vision
    if (
        vision is not None
        and vision.top1 is not None
        and dataset.id == "imagenet-1k"
        and count
        and not training
    ):
        right = round(vision.top1 * count)
        found.append(
            Reason.model_construct(
                code="dataset-accuracy",
                message=f"Top-1 of {vision.top1:.1%} means about {right:,} of {count:,} images right.",
                numbers={"top1": vision.top1, "images_right": right},
            )
        )
    free = request.machine.host.disk_free_bytes if request.machine is not None else None
    if dataset.disk is not None and free is not None:
        fits = free >= dataset.disk
        found.append(
            Reason.model_construct(
                code="dataset-disk" if fits else "disk-too-small",
                message=f"{dataset.name} needs {format_bytes(dataset.disk)} on disk and {format_bytes(free)} are free.",
                numbers={"disk_bytes": dataset.disk, "disk_free_bytes": free},
            )
        )
    return tuple(found)
