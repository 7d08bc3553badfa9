"""How the devices of a machine reach each other and their host: direct links, slots, cables, a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from willitrun.frozen import frozen
from willitrun.records.machines import InstalledAccelerator, Link, Machine
from willitrun.records.results import Reason
from willitrun.units import format_rate

__all__ = ["GroupLink", "cable_bytes_per_s", "group_link", "host_numbers"]

DIRECT = ("nvlink", "infinity-fabric", "c2c")
CABLES = ("thunderbolt", "usb4", "oculink")
"""What leads from a host to a device outside of its case."""

# Latency of an all-reduce of small messages [s] between two devices, and what each further one adds: over links between
# accelerators, and through the host. Medians of what NVIDIA aiconfigurator measured with the kernels of vLLM, SGLang and
# TensorRT-LLM inside CUDA graphs, up to 64 KiB: 4.3, 4.7 and 5.2 us over 2, 4 and 8 devices on A100, H100, H200, B200 and
# B300 boards, 5.9, 14.1 and 26.7 us on L40S and RTX PRO 6000 in PCIe slots (its systems/data, custom_allreduce_perf.txt,
# https://github.com/ai-dynamo/aiconfigurator). The calibration's `hop` scales both.
DIRECT_HOP_S, PCIE_HOP_S = 4.3e-6, 5.9e-6
DIRECT_PEER_S, PCIE_PEER_S = 0.15e-6, 3.5e-6


@frozen
class GroupLink:
    """What devices that work together have between them: one direction [bytes/s], latency between two [s], and what each
    further one adds to that of an all-reduce [s]."""

    bytes_per_s: float
    hop_s: float
    peer_s: float
    reasons: tuple[Reason, ...] = ()


def host_numbers(machine: Machine) -> tuple[int, ...]:
    """Which host each device is in. An Ethernet link names one device of every host, the first; none: all of them.

    >>> from willitrun.hardware.descriptions import describe_machine
    >>> four = describe_machine({"accelerators": ["rtx-3090"] * 4, "links": [{"kind": "10gbe", "devices": [0, 2]}]})
    >>> host_numbers(four)
    (0, 0, 1, 1)
    """
    count = len(machine.accelerators)
    first: set[int] = set()
    for link in machine.links:
        if link.kind == "ethernet" and len(link.devices) != 1:
            first |= set(link.devices) or set(range(count))
    return tuple(max(sum(start <= i for start in first) - 1, 0) for i in range(count))


def cable_bytes_per_s(device: InstalledAccelerator, machine: Machine) -> tuple[float | None, bool]:
    """Bandwidth of the link from the host to a device where one is stated, and whether it comes on top of the slot."""
    for link in machine.links:
        alone = len(link.devices) == 1 and machine.accelerators[link.devices[0]] is device
        everywhere = not link.devices and link.kind in CABLES
        if alone or everywhere:
            return link.bandwidth_bytes_per_s, link.kind == "c2c"
    return None, False


def group_link(
    machine: Machine,
    chosen: Sequence[int],
    own: Sequence[tuple[float, float, float]],
    *,
    tensor: bool,
    rpc_hop_s: float | None = None,
) -> GroupLink:
    """The link that counts for a group of devices.

    Parameters
    ----------
    machine
        All devices and links.
    chosen
        Indices of the devices of the group, in the order of their stages.
    own
        Of each of them, bandwidth and latency to its neighbours and what more of them add where no link says otherwise
        [bytes/s, s, s].
    tensor
        All talk at once in a ring, so that the slowest pair decides; else one stage follows the other and the
        hops add up, of which this is the mean.
    rpc_hop_s
        What a stage on another host adds to a token beside its bytes where the runtime reaches it by remote
        procedure calls [s]: the ``network`` calibration. None for runtimes that talk otherwise.
    """
    if len(chosen) == 1:
        return GroupLink(*own[0])
    hosts = host_numbers(machine)
    follow = list(range(1, len(chosen)))
    pairs = [(place - 1, place) for place in follow] + ([(len(chosen) - 1, 0)] if tensor else [])
    rates, hops, peers = [], [], []
    for a, b in pairs:
        i, j = chosen[a], chosen[b]
        link = _between(machine.links, i, j, network=hosts[i] != hosts[j])
        if link is None:
            rates.append(min(own[a][0], own[b][0]))
            hops.append(max(own[a][1], own[b][1]))
            peers.append(max(own[a][2], own[b][2]))
        else:
            rates.append(link.bandwidth_bytes_per_s)
            far = PCIE_HOP_S if rpc_hop_s is None else rpc_hop_s
            hops.append(
                DIRECT_HOP_S if link.kind in DIRECT else far if link.kind == "ethernet" else PCIE_HOP_S
            )
            peers.append(DIRECT_PEER_S if link.kind in DIRECT else PCIE_PEER_S)
    reasons = _over_network([hosts[i] for i in chosen], min(rates), rpc_hop_s)
    if tensor:
        return GroupLink(min(rates), max(hops), max(peers), reasons)
    return GroupLink(
        len(rates) / math.fsum(1.0 / rate for rate in rates), math.fsum(hops) / len(hops), max(peers), reasons
    )


def _between(links: Sequence[Link], i: int, j: int, *, network: bool) -> Link | None:
    """The fastest link between two devices; between hosts it is the network, whatever else is named."""
    found = [
        link
        for link in links
        if len(link.devices) != 1
        and link.kind not in CABLES
        and (link.kind == "ethernet") == network
        and (network or not link.devices or {i, j} <= set(link.devices))
    ]
    return max(found, key=lambda link: link.bandwidth_bytes_per_s, default=None)


def _over_network(hosts: Sequence[int], rate: float, rpc_hop_s: float | None) -> tuple[Reason, ...]:
    crossings = sum(a != b for a, b in pairwise(hosts))
    if not crossings:
        return ()
    cost = (
        "only its bandwidth is counted, not what the runtime's protocol adds"
        if rpc_hop_s is None
        else f"each crossing is taken at {rpc_hop_s * 1e3:.2g} ms a token beside its bytes, as hosts on such networks measured"
    )
    return (
        Reason.model_construct(
            code="over-network",
            message=f"Stages on {crossings + 1} hosts talk over a network of {format_rate(rate, 'B/s')}: {cost}. Measure before you buy.",
            numbers={"hosts": crossings + 1, "network_bytes_per_s": rate},
        ),
    )
