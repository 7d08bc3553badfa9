"""What kind of device and host a graph of operators runs on: names of the levels that a calibration tells apart."""

from __future__ import annotations

from willitrun.estimators.llm_machines import MachineView
from willitrun.estimators.requests import Request
from willitrun.kernels.llm_levels import classify_generation
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import Host, InstalledAccelerator, Machine

__all__ = [
    "ERA_TOLD",
    "GENERATIONS",
    "device_class",
    "device_generation",
    "device_levels",
    "fuses_attention",
    "generation_of",
    "host_class",
    "host_levels",
    "processor_generation",
    "software_era",
    "used_accelerator",
]


GENERATIONS = ("pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell")
"""Generations of NVIDIA, from old to new."""


_SIMD = ("avx512", "avx2", "neon")


ERA_TOLD = GENERATIONS.index("turing")
"""Generation since which hosts were measured under both eras of PyTorch. What is known of older cards is of PyTorch 1."""


def used_accelerator(request: Request, view: MachineView) -> InstalledAccelerator:
    """The accelerator that the request runs on."""
    machine = request.machine
    assert machine is not None
    return next(d for d in machine.accelerators if d.accelerator.id == view.device_ids[0])


def host_class(machine: Machine) -> str:
    """Class of the host by the device's form: one host operation takes longer on servers and laptops."""
    if not machine.accelerators:
        return "desktop"
    form = machine.accelerators[0].accelerator.form
    if form.startswith(("server", "cloud")):
        return "server"
    if form.startswith("laptop"):
        return "laptop"
    return "board" if form in ("unified-soc", "sbc") else "desktop"


def generation_of(accelerator: Accelerator) -> str:
    """Generation of a device, empty where no table has it."""
    named = accelerator.compute_capability or accelerator.gfx_target or accelerator.architecture or ""
    found = classify_generation(accelerator.vendor, named)
    found = found or classify_generation(accelerator.vendor, accelerator.architecture or "") or ""
    # Networks of operators were measured on one kind of Blackwell.
    return "blackwell" if found == "blackwell-rtx" else found


def processor_generation(host: Host) -> str:
    """What tells processors apart: the widest vector instructions, empty where unknown."""
    known = {name.lower() for name in host.instruction_sets}
    return next((name for name in _SIMD if any(one.startswith(name) for one in known)), "")


def device_generation(request: Request, view: MachineView) -> str:
    """Generation of the device that the request runs on, by which residuals are learnt."""
    if view.row.on_host:
        assert request.machine is not None
        return processor_generation(request.machine.host)
    return generation_of(used_accelerator(request, view).accelerator)


def _steps(accelerator: Accelerator) -> tuple[str, ...]:
    """Levels of a device's generation: a step from each generation to the next, so that one without data takes
    after the one before it."""
    generation = generation_of(accelerator)
    if generation not in GENERATIONS:
        return ()
    return tuple(f"since-{name}" for name in GENERATIONS[1 : GENERATIONS.index(generation) + 1])


def _major(version: str | None) -> int | None:
    found = (version or "").partition(".")[0]
    return int(found) if found.isdigit() else None


def fuses_attention(version: str | None) -> bool:
    """Whether a version of PyTorch computes attention in one kernel, as it does since 2.0; so does one that nobody states
    (https://github.com/huggingface/diffusers/blob/001d4da0eb5809c779120c51f74ef73d6078b08c/src/diffusers/models/attention_processor.py).

    >>> fuses_attention("1.13.1"), fuses_attention("2.4"), fuses_attention(None)
    (False, True, True)
    """
    major = _major(version)
    return major is None or major >= 2


def software_era(version: str | None, accelerator: Accelerator) -> tuple[str, ...]:
    """Level of the era of PyTorch, whose first needed more of the host's time per operation; empty where nobody
    states it: then the middle of both eras is meant.

    >>> from willitrun import load_catalog
    >>> card = load_catalog().accelerators["nvidia-geforce-rtx-3090"]
    >>> software_era("1.13.1", card), software_era("2.4", card), software_era(None, card)
    (('torch-1',), ('torch-2',), ())
    """
    generation = generation_of(accelerator)
    major = _major(version)
    if generation not in GENERATIONS or GENERATIONS.index(generation) < ERA_TOLD or major is None:
        return ()
    return ("torch-1",) if major < 2 else ("torch-2",)


def host_levels(machine: Machine, version: str | None = None) -> tuple[str, ...]:
    """Names of the levels that the time of a host operation is summed over.

    The class of the host, and the generation of its accelerator: an older card sits beside an older processor
    and older software. ``version`` is that of PyTorch, where it is stated.
    """
    if not machine.accelerators:
        return (host_class(machine),)
    accelerator = machine.accelerators[0].accelerator
    return (host_class(machine), *_steps(accelerator), *software_era(version, accelerator))


def device_class(accelerator: Accelerator) -> str:
    """Class of a device by which its shares of peak and bandwidth are calibrated.

    The vendor; for NVIDIA its form, and whether it has matrix units at all.
    """
    form = accelerator.form
    if accelerator.vendor != "nvidia":
        return f"{accelerator.vendor}-integrated" if form in ("igpu", "unified-soc") else accelerator.vendor
    if accelerator.peaks.fp16_tensor is None:
        return "nvidia-vector"
    if form in ("unified-soc", "sbc"):
        return "nvidia-board"
    kind = (
        "laptop" if form.startswith("laptop") else "server" if form.startswith(("server", "cloud")) else form
    )
    return f"nvidia-{kind}"


def device_levels(accelerator: Accelerator, profile: str) -> tuple[str, ...]:
    """Names of the levels that a device's shares of peak and bandwidth are summed over, for a profile.

    Its class and its generation, and both once more for ahead-of-time compilers, whose kernels are others.
    """
    names = (device_class(accelerator), *_steps(accelerator))
    return names + tuple(f"{name}:engine" for name in names) if profile == "engine" else names
