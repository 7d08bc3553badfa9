"""A machine, a workload and a runtime as rows of numbers for the LLM kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from willitrun.errors import MissingDataError
from willitrun.estimators.availability import Availability, available_memory
from willitrun.estimators.host_compute import core_level, host_flop_per_s
from willitrun.estimators.live_limits import live_limits
from willitrun.estimators.rates import DeviceRates, device_rates, host_bytes_per_s, pcie_bytes_per_s
from willitrun.estimators.requests import Request
from willitrun.estimators.server_budgets import room_of_share
from willitrun.estimators.topology import GroupLink, group_link, host_numbers
from willitrun.frozen import frozen
from willitrun.hardware.platforms import has_vnni
from willitrun.kernels.llm_levels import level_code
from willitrun.kernels.llm_peaks import mesh_link
from willitrun.records.accelerators import Accelerator
from willitrun.records.machines import InstalledAccelerator, Machine
from willitrun.records.models import Model
from willitrun.records.recipes import Workload
from willitrun.records.results import Reason

if TYPE_CHECKING:
    from willitrun.estimators.image_inputs import ImageInput

__all__ = ["MachineRow", "WorkloadRow", "machine_row", "ranks_divide", "select_devices", "workload_row"]


@frozen(eq=False)
class MachineRow:
    """Rates of a machine as one device group [bytes/s, FLOP/s, s] and level codes; NaN: no such path."""

    memory_bytes_per_s: float
    fp32: float
    fp16: float
    fp16_fast: float
    int8: float
    fp8: float
    fp4: float
    issue_per_s: float
    compute_w: float
    link_bytes_per_s: float
    hop_s: float
    peer_s: float
    pcie_bytes_per_s: float
    host_bytes_per_s: float
    host_flop_per_s: float
    host_available: int
    unified: bool
    devices: int
    vendor: int
    memory_class: int
    generation: int
    on_host: bool
    windows: bool
    total_memory: int
    small_steps: bool = False
    """Whether vLLM keeps its small scheduler defaults on such devices, however much memory they have."""


@frozen(eq=False)
class WorkloadRow:
    """One LLM workload."""

    context_tokens: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    concurrency: int
    draft_tokens: int
    acceptance: float
    texts: int
    image_tiles: int = 0
    image_patches: int = 0


@frozen
class MachineView:
    """A machine as one request uses it: its row, room by device, names and remarks."""

    row: MachineRow
    available: tuple[int, ...]
    names: tuple[str, ...]
    reasons: tuple[Reason, ...]
    cites: tuple[str, ...]
    device_ids: tuple[str, ...]
    free: tuple[int, ...]
    """Room by device before a runtime bounds itself [bytes]."""


def _image(model: Model, load: Workload) -> ImageInput | None:
    # Loaded for requests with pictures only.
    from willitrun.estimators.image_inputs import image_input

    return image_input(model, load)


def workload_row(model: Model, load: Workload) -> WorkloadRow:
    """The workload with image tokens added to the prompt.

    Raises
    ------
    MissingDataError
        There are images, and no source says how many tokens one takes.
    """
    image = _image(model, load) if load.images else None
    if load.images and image is None:
        raise MissingDataError(
            f"{model.name}: no source says how many tokens an image takes.",
            hint="Leave images out and count their tokens in prompt_tokens.",
        )
    prompt = (load.prompt_tokens or 1) + (load.images * image.tokens if image else 0)
    return WorkloadRow(
        context_tokens=load.context_tokens or prompt,
        prompt_tokens=prompt,
        cached_tokens=load.cached_tokens,
        output_tokens=load.output_tokens or 1,
        concurrency=load.concurrency,
        draft_tokens=load.draft_tokens or 0,
        acceptance=load.acceptance if load.acceptance is not None else 0.0,
        texts=load.batch_size or 1,
        image_tiles=load.images * image.tiles if image else 0,
        image_patches=image.patches if image else 0,
    )


def on_host(request: Request) -> bool:
    """Whether the host itself computes."""
    machine = request.machine
    assert machine is not None
    return not machine.accelerators or request.runtime.backend == "cpu" or request.placement.strategy == "cpu"


def select_devices(request: Request) -> tuple[int, ...]:
    """Indices of the accelerators that the request uses.

    Runtimes that split by layer spread over all of them; tensor-parallel runtimes take ``tp`` (all of a
    power of two where nobody says); everything else takes the roomiest one. Devices of another vendor than
    the chosen back end serves, and an iGPU beside a card, are left out. Of MIG slices a process has one.
    """
    machine = request.machine
    assert machine is not None
    devices = list(enumerate(machine.accelerators))
    vendor = _backend_vendor(request.runtime.backend)
    usable = [
        (i, device) for i, device in devices if vendor is None or device.accelerator.vendor == vendor
    ] or devices
    own_memory = [(i, device) for i, device in usable if not device.shares_host_memory]
    usable = _one_slice(own_memory or _one_a_host(usable, machine))
    modes = request.profile.multi_gpu
    placement = request.placement
    if placement.strategy == "single" or not modes:
        return (_roomiest(usable),)
    asked = (placement.tp or 1) * (placement.pp or 1) * (placement.dp or 1)
    if placement.tp or placement.pp or placement.dp:
        return tuple(i for i, _ in usable[:asked])
    if by_stages(request):
        # llama.cpp's split and accelerate's device_map="auto" take whatever there is.
        return tuple(i for i, _ in usable)
    if "tensor" in modes:
        count = 1
        while count * 2 <= len(usable) and ranks_divide(request, count * 2):
            count *= 2
        return tuple(i for i, _ in usable[:count])
    return (_roomiest(usable),)


def ranks_divide(request: Request, ranks: int) -> bool:
    """Whether tensor-parallel ranks divide the query heads, and divide the KV heads or are divided by them.

    llama.cpp cuts rows of matrices, not heads: any number of devices will do.

    References
    ----------
    https://github.com/vllm-project/vllm/blob/main/vllm/model_executor/models/llama.py (``LlamaAttention``)
    """
    config = request.model.transformer
    if ranks <= 1 or config is None or request.profile.kv_policy == "cells":
        return True
    heads = config.num_attention_heads
    if heads is not None and heads % ranks:
        return False
    kv_heads = 1 if config.kv_lora_rank else config.num_key_value_heads
    return kv_heads is None or kv_heads % ranks == 0 or ranks % kv_heads == 0


def _one_a_host(
    devices: list[tuple[int, InstalledAccelerator]], machine: Machine
) -> list[tuple[int, InstalledAccelerator]]:
    """Of devices that share their host's memory, the first of each host."""
    hosts = host_numbers(machine)
    return list({hosts[i]: (i, device) for i, device in reversed(devices)}.values())[::-1]


def _backend_vendor(backend: str | None) -> str | None:
    return {"cuda": "nvidia", "rocm": "amd", "metal": "apple", "sycl": "intel", "xpu": "intel"}.get(
        backend or ""
    )


def _one_slice(devices: list[tuple[int, InstalledAccelerator]]) -> list[tuple[int, InstalledAccelerator]]:
    """CUDA lists a single MIG slice to a process, so that slices never add up; whole cards go before them.

    References
    ----------
    https://docs.nvidia.com/datacenter/tesla/mig-user-guide/ ("CUDA Device Enumeration")
    """
    slices = [(i, device) for i, device in devices if device.mig_parent is not None]
    if not slices:
        return devices
    whole = [(i, device) for i, device in devices if device.mig_parent is None]
    roomiest = _roomiest(slices)
    return whole or [(i, device) for i, device in slices if i == roomiest]


def _roomiest(devices: list[tuple[int, InstalledAccelerator]]) -> int:
    def room(item: tuple[int, InstalledAccelerator]) -> int:
        device = item[1]
        return device.memory_free_bytes or device.memory_total_bytes or device.accelerator.memory or 0

    return max(devices, key=room)[0]


def machine_row(request: Request) -> MachineView:
    """The machine as this request uses it: derived once per machine, runtime and placement.

    Raises
    ------
    MissingDataError
        Bandwidth, compute or memory of a device that is used has no source.
    """
    # Of the model nothing counts but the devices that its heads can be divided over.
    chosen = () if on_host(request) else select_devices(request)
    return request.catalog.memo("machine-rows").get(
        (request.machine, request.runtime, request.profile, request.placement),
        (request.memory, chosen),
        lambda: _machine_row(request, chosen),
    )


def _machine_row(request: Request, chosen: tuple[int, ...]) -> MachineView:
    machine = request.machine
    assert machine is not None
    host_bandwidth = _host_bandwidth(machine)
    host_flops = host_flop_per_s(machine.host, request.catalog)
    if not math.isfinite(host_flops):
        host_flops = math.inf
    windows = machine.host.system == "windows"
    if on_host(request):
        room = available_memory(machine, request.memory, request.catalog, on_host=True)
        level = core_level(machine.host, request.catalog)
        row = _host_row(machine, room, host_bandwidth, host_flops, windows, level)
        return MachineView(
            row,
            room.devices,
            room.names,
            room.reasons,
            (),
            (f"host:{machine.host.cpu or 'cpu'}",),
            room.devices,
        )
    used = machine.model_copy(update={"accelerators": tuple(machine.accelerators[i] for i in chosen)})
    room = available_memory(used, request.memory, request.catalog)
    rated = [device_rates(device, machine) for device in used.accelerators]
    rates = [rate for rate, _ in rated]
    link = group_link(
        machine,
        chosen,
        [
            (
                mesh_link(rate.link_bytes_per_s, device.accelerator.link_count, len(chosen)),
                rate.hop_s,
                rate.peer_s,
            )
            for rate, device in zip(rates, used.accelerators, strict=True)
        ],
        tensor=parallel(request, len(rates))[0] > 1,
        rpc_hop_s=_rpc_hop_s(request),
    )
    reasons = (
        *room.reasons,
        *_left_out(request, len(chosen)),
        *(reason for _, found in rated for reason in found),
        *link.reasons,
        # Four cards in the same slot say it once.
        *{found.message: found for device in used.accelerators for found in live_limits(device)}.values(),
    )
    row = _device_row(request, used, room, rates, link, host_bandwidth, host_flops, windows)
    available = room.devices
    if request.profile.memory_share_of is not None:
        available = tuple(
            room_of_share(request, free, device.memory_total_bytes or device.accelerator.memory or free)
            for device, free in zip(used.accelerators, available, strict=True)
        )
    return MachineView(
        row,
        available,
        room.names,
        reasons,
        tuple(dict.fromkeys(cite for rate in rates for cite in rate.cites)),
        tuple(device.accelerator.id for device in used.accelerators),
        room.devices,
    )


def _left_out(request: Request, used: int) -> tuple[Reason, ...]:
    """Devices of the machine that this request does not use, and why."""
    machine = request.machine
    assert machine is not None
    have = len(machine.accelerators)
    if used >= have:
        return ()
    placement, modes = request.placement, request.profile.multi_gpu
    if placement.strategy == "single" or placement.tp or placement.pp or placement.dp:
        why = "the placement asks for no more"
    elif not modes:
        why = f"{request.profile.name} computes on one"
    elif "layer" not in modes and "tensor" in modes:
        why = f"{request.profile.name} splits tensors over a power of two that divides the attention heads"
    else:
        why = "the others have another maker, share their host's memory, or are slices of a card"
    return (
        Reason(
            code="devices-left-out",
            message=f"{used} of {have} devices {'is' if used == 1 else 'are'} used: {why}.",
            numbers={"devices": used, "devices_present": have},
        ),
    )


def _rpc_hop_s(request: Request) -> float | None:
    """What reaching another host costs a runtime that splits layers over hosts; None for the others [s]."""
    if "layer" not in request.profile.multi_gpu:
        return None
    return request.catalog.calibrations["network"].coefficients["rpc_hop_s"]


def _host_bandwidth(machine: Machine) -> float:
    try:
        return host_bytes_per_s(machine)
    except MissingDataError:
        if machine.accelerators:
            return math.nan
        raise


def _host_row(
    machine: Machine, room: Availability, bandwidth: float, flops: float, windows: bool, level: str
) -> MachineRow:
    return MachineRow(
        memory_bytes_per_s=bandwidth,
        fp32=flops,
        fp16=math.nan,
        fp16_fast=math.nan,
        # One instruction multiplies and adds what takes AVX2 two: about twice the rate on bytes.
        int8=2.0 * flops
        if math.isfinite(flops) and has_vnni(machine.host.cpu, machine.host.instruction_sets)
        else math.nan,
        fp8=math.nan,
        fp4=math.nan,
        issue_per_s=flops / 256.0,
        compute_w=math.inf,
        link_bytes_per_s=bandwidth,
        hop_s=0.0,
        peer_s=0.0,
        pcie_bytes_per_s=bandwidth,
        host_bytes_per_s=bandwidth,
        host_flop_per_s=math.inf,
        host_available=room.host,
        unified=True,
        devices=1,
        vendor=level_code("vendor", "cpu"),
        memory_class=level_code("memory_class", "ddr"),
        generation=level_code("generation", level),
        on_host=True,
        windows=windows,
        total_memory=machine.host.ram_total_bytes or room.host,
    )


def _device_row(
    request: Request,
    machine: Machine,
    room: Availability,
    rates: list[DeviceRates],
    link: GroupLink,
    host_bandwidth: float,
    host_flops: float,
    windows: bool,
) -> MachineRow:
    first = rates[0]
    tensor = parallel(request, len(rates))[0] > 1

    def group(name: str) -> float:
        """One figure for several cards: the slowest where they work side by side, the weighted harmonic
        mean where layers run one after the other."""
        values = [float(getattr(rate, name)) for rate in rates]
        if len(set(values)) == 1 or any(map(math.isnan, values)):
            return values[0] if len(set(values)) == 1 else math.nan
        if tensor:
            return min(values)
        weights = room.devices
        return sum(weights) / sum(weight / value for weight, value in zip(weights, values, strict=True))

    return MachineRow(
        memory_bytes_per_s=group("memory_bytes_per_s"),
        fp32=group("fp32"),
        fp16=group("fp16"),
        fp16_fast=group("fp16_fast"),
        int8=group("int8"),
        fp8=group("fp8"),
        fp4=group("fp4"),
        issue_per_s=group("issue_per_s"),
        compute_w=group("compute_w"),
        link_bytes_per_s=link.bytes_per_s,
        hop_s=link.hop_s,
        peer_s=link.peer_s,
        pcie_bytes_per_s=min(rate.pcie_bytes_per_s for rate in rates),
        host_bytes_per_s=host_bandwidth if math.isfinite(host_bandwidth) else pcie_bytes_per_s(None, None),
        host_flop_per_s=host_flops,
        host_available=room.host,
        unified=room.unified,
        devices=len(rates),
        vendor=level_code("vendor", first.vendor),
        memory_class=level_code("memory_class", first.memory_class),
        generation=level_code("generation", first.generation),
        on_host=False,
        windows=windows,
        total_memory=sum(
            device.memory_total_bytes or device.accelerator.memory or available
            for device, available in zip(machine.accelerators, room.devices, strict=True)
        ),
        small_steps=all(_keeps_small_steps(device.accelerator) for device in machine.accelerators),
    )


def _keeps_small_steps(accelerator: Accelerator) -> bool:
    """The A100, by its name, and GB10, by its compute capability (``EngineArgs.get_batch_defaults`` of vLLM 0.33.0)."""
    return "a100" in accelerator.name.lower() or accelerator.compute_capability == "12.1"


def by_stages(request: Request) -> bool:
    """Whether layers, and not matrices, are divided over the devices: as asked, else as the runtime does by itself."""
    modes, strategy = request.profile.multi_gpu, request.placement.strategy
    if strategy in ("layer", "pipeline"):
        return "layer" in modes or "pipeline" in modes
    return "layer" in modes and strategy != "tensor"


def parallel(request: Request, devices: int) -> tuple[int, int, int, int]:
    """Tensor ranks, pipeline stages, data groups and expert shards for the devices in use."""
    placement = request.placement
    if placement.tp or placement.pp or placement.dp:
        tensor = placement.tp or 1
        return tensor, placement.pp or 1, placement.dp or 1, placement.ep or tensor
    if devices == 1:
        return 1, 1, 1, 1
    if by_stages(request):
        return 1, devices, 1, 1
    return devices, 1, 1, devices
