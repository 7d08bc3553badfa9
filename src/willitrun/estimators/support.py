"""How far a case lies from the calibration data, and what that makes of evidence and interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from willitrun.catalog import Catalog
from willitrun.errors import MissingDataError
from willitrun.estimators.calibration_anchors import NO_SHIFT, DeviceAnchors, Shift, device_anchors
from willitrun.estimators.calibration_rows import AnchorKeys, configuration_of, phase_of
from willitrun.estimators.evidence import Nearest, nearest_measurement
from willitrun.estimators.requests import Request
from willitrun.estimators.workloads import ENCODER_TASKS, GRAPH_TASKS, LLM_TASKS
from willitrun.frozen import frozen
from willitrun.intervals import Interval
from willitrun.kernels.llm_levels import AXES
from willitrun.records.calibrations import Calibration
from willitrun.records.results import Evidence, Reason

__all__ = [
    "LEVELS",
    "Support",
    "classed_factors",
    "interval_factors",
    "interval_of",
    "interval_task",
    "interval_within",
    "level_factors",
    "support_code",
    "support_of",
]

WIDEST = "wide"
"""Class of spread of a program that the calibration has not seen."""

LEVELS = ("near", "unseen-model", "unseen-device", "unseen-class")


@frozen
class Support:
    """Support level, what it makes of the evidence, and the measurements near by."""

    level: str
    evidence: Evidence
    cites: tuple[str, ...]
    nearest: Nearest
    reasons: tuple[Reason, ...] = ()
    anchors: DeviceAnchors | None = None
    keys: AnchorKeys | None = None

    def shift(self, phase: str) -> Shift:
        """How measurements near by move the predictions of a phase, and how far they narrow the interval."""
        if self.anchors is None or self.keys is None:
            return NO_SHIFT
        return self.anchors.shift(phase, self.keys)

    def anchor_cites(self, phase: str) -> tuple[str, ...]:
        """Where the measurements near by come from that have a say in a phase."""
        if self.anchors is None or self.keys is None:
            return ()
        return self.anchors.cites(phase)

    def shift_images(self, shares: NDArray[np.float64]) -> Shift:
        """The same of images per second, by the shares of a pass's terms."""
        if self.anchors is None or self.keys is None:
            return NO_SHIFT
        return self.anchors.shift_by_term("images", self.keys, shares)


def support_level(
    calibration: Calibration, devices: tuple[str, ...], classes: tuple[str, ...], family: str
) -> str:
    """``near``, ``unseen-model``, ``unseen-device`` or ``unseen-class``.

    A calibration that does not list what it has seen supports nothing nearby.
    """
    seen = calibration.support
    if all(device in seen.get("devices", ()) for device in devices):
        return "near" if family in seen.get("families", ()) else "unseen-model"
    if all(name in seen.get("classes", ()) for name in classes):
        return "unseen-device"
    return "unseen-class"


def support_code(
    calibration: Calibration,
    devices: tuple[str, ...],
    classes: tuple[str, ...],
    family: str,
    *,
    derived: bool,
) -> int:
    """Support level of a family on some devices, as an index into `LEVELS`; ``derived``: no record describes one."""
    if derived:
        return LEVELS.index("unseen-class")
    return LEVELS.index(support_level(calibration, tuple(dict.fromkeys(devices)), classes, family))


def support_of(request: Request, device_ids: tuple[str, ...], calibration: str) -> Support:
    """Support of a request on the devices that it uses: looked up once for all lengths of its texts."""
    load = request.workload
    fields = _DECISIVE(load)
    return request.catalog.memo("support").get(
        (request.model, request.machine, request.quantization, request.runtime, request.profile),
        (device_ids, calibration, fields),
        lambda: _support_of(request, device_ids, calibration),
    )


#: Fields of a workload that decide which measurements are near it.
_DECISIVE = attrgetter("concurrency", "batch_size", "image_size", "precision", "execution", "layout", "mode")


def _support_of(request: Request, device_ids: tuple[str, ...], calibration: str) -> Support:
    machine = request.machine
    assert machine is not None
    catalog: Catalog = request.catalog
    record = catalog.calibrations[calibration]
    level = support_level(
        record, tuple(dict.fromkeys(device_ids)), device_classes(request, device_ids), model_family(request)
    )
    reasons = tuple(
        Reason.model_construct(
            code="unknown-device-derived",
            message=f"{device.accelerator.name} is in no catalog; its rates are derived from what the driver says.",
        )
        for device in machine.accelerators
        if device.identity == "derived"
    )
    if reasons:
        level = "unseen-class"
    anchors = keys = None
    if len(set(device_ids)) == 1 and request.model.task in LLM_TASKS | ENCODER_TASKS | GRAPH_TASKS:
        anchors = device_anchors(
            catalog, device_ids[0], len(device_ids), images=request.model.task in GRAPH_TASKS
        )
    nearest = Nearest("none")
    if anchors is not None:
        keys = configuration_of(request, device_ids[0], len(device_ids))
        nearest = _nearest(request, device_ids, anchors)
    evidence: Evidence = "estimated" if level == "unseen-class" else "calibrated"
    if nearest.level == "exact":
        evidence = "measured"
    elif nearest.level == "device-and-model":
        evidence = "measured-near"
    cites = (nearest.measurement.source_url,) if nearest.measurement is not None else ()
    found = Support(level, evidence, cites, nearest, reasons, anchors, keys)
    return replace(found, cites=tuple(dict.fromkeys((*cites, *found.anchor_cites(headline_phase(request))))))


def headline_phase(request: Request) -> str:
    """The phase of the speed that answers "how fast" for a request."""
    return phase_of(_headline_metric(request), request.workload.concurrency)


def _headline_metric(request: Request) -> str:
    if request.quantization is None:
        return "images_per_s"
    return "prefill_tokens_per_s" if request.model.task in ENCODER_TASKS else "decode_tokens_per_s"


def device_classes(request: Request, device_ids: tuple[str, ...]) -> tuple[str, ...]:
    """``vendor/memory class`` of the devices in use, as calibrations list them."""
    from willitrun.kernels.llm_levels import classify_memory

    machine = request.machine
    assert machine is not None
    if any(device.startswith("host:") for device in device_ids):
        return ("cpu/ddr",)
    records = {device.accelerator.id: device.accelerator for device in machine.accelerators}
    return tuple(
        dict.fromkeys(
            f"{records[name].vendor}/{classify_memory(records[name].memory_type or '')}"
            for name in device_ids
        )
    )


def model_family(request: Request) -> str:
    """The family by which calibrations count models: the architecture's ``model_type``."""
    transformer = request.model.transformer
    if transformer is not None:
        return transformer.model_type
    vision = request.model.vision
    if vision is not None and vision.trace is not None:
        return vision.trace.family
    if vision is not None and vision.architecture is not None:
        return request.catalog.traces.family(vision.architecture) or vision.architecture
    return request.model.family


def _nearest(request: Request, device_ids: tuple[str, ...], anchors: DeviceAnchors) -> Nearest:
    workload = request.workload
    graph = request.quantization is None
    return nearest_measurement(
        request.catalog,
        model=request.model.id,
        accelerator=device_ids[0],
        count=len(device_ids),
        metric=_headline_metric(request),
        runtime=request.runtime.name,
        admitted=anchors.admitted,
        quantization=None if graph else request.quantization.id,  # type: ignore[union-attr]
        execution=workload.execution if graph else None,
        precision=workload.precision if graph else None,
        image_size=workload.image_size if graph else None,
        batch_size=workload.batch_size if graph else None,
        concurrency=None if graph else workload.concurrency,
    )


#: Levels whose factors stand in for those of a level: its own, the wider ones, then the narrower ones.
_WIDENING = tuple(
    ("own-device", *LEVELS) if level == 0 else (*LEVELS[level:], *reversed(LEVELS[:level]), "own-device")
    for level in range(len(LEVELS))
)


def interval_task(
    calibration: Calibration, task: str, codes: Mapping[str, NDArray[np.int64]], *, moe: bool
) -> str:
    """The task with its class of spread: programs differ in how closely their speed can be foretold.

    ``codes`` are the level codes of runtime and back end, shape (1,). A program that was not seen has the widest class.
    """
    classes = calibration.difficulty.get(task)
    if classes is None:
        return task
    program = program_name(int(codes["runtime"][0]), int(codes["backend"][0]), moe=moe)
    return f"{task}:{classes.get(program, WIDEST)}"


def program_name(runtime: int, backend: int, *, moe: bool) -> str:
    """``"<runtime>/<back end>/<dense or moe>"`` of level codes, as ``Calibration.difficulty`` lists them."""
    names = (
        AXES[axis][code] if code >= 0 else "?" for axis, code in (("runtime", runtime), ("backend", backend))
    )
    return "/".join((*names, "moe" if moe else "dense"))


def _pair(calibration: Calibration, task: str, level: int) -> tuple[float, float]:
    """Factors of a level; without an entry those of the next wider one that has it, then the next narrower."""
    for name in _WIDENING[level]:
        factors = calibration.intervals.get(f"{task}/{name}")
        if factors is not None:
            return min(factors["low"], 1.0), max(factors["high"], 1.0)
    raise MissingDataError(f"calibration {calibration.id} has no interval for {task}.")


def interval_factors(calibration: Calibration, task: str) -> NDArray[np.float64]:
    """Low and high factors of a task per support level, shape (levels, 2)."""
    return np.array([_pair(calibration, task, level) for level in range(len(LEVELS))])


def classed_factors(
    calibration: Calibration,
    task: str,
    codes: Mapping[str, NDArray[np.int64]],
    moe: NDArray[np.bool_],
    level: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Low and high factors of rows that share a program, by whether they route and by support level, shape (..., 2)."""
    either = [
        interval_factors(calibration, interval_task(calibration, task, codes, moe=routed))
        for routed in (False, True)
    ]
    found: NDArray[np.float64] = np.stack(either)[moe.astype(np.int64), level]
    return found


def interval_of(
    calibration: Calibration,
    task: str,
    level: str,
    best: float,
    *,
    inverse: bool = False,
    shift: Shift = NO_SHIFT,
) -> Interval:
    """Best estimate of a rate with the calibrated factors of its task and support level.

    ``inverse`` is for a time: the factors are those of the rate. ``shift`` is what measurements near by say:
    ``best x exp(shift)`` within ``factors ^ narrowing``.
    """
    return interval_within(level_factors(calibration, task, level), best, inverse=inverse, shift=shift)


def level_factors(calibration: Calibration, task: str, level: str) -> tuple[float, float]:
    """Low and high factors of a task at a support level."""
    return _pair(calibration, task, LEVELS.index(level))


def interval_within(
    factors: tuple[float, float], best: float, *, inverse: bool = False, shift: Shift = NO_SHIFT
) -> Interval:
    """`interval_of` where the factors are known."""
    low, high = factors
    low, high = low**shift.narrowing, high**shift.narrowing
    best = best / shift.factor if inverse else best * shift.factor
    if inverse:
        return Interval(best / high, best, best / low)
    return Interval(best * low, best, best * high)
