"""How much of a card a server gives to weights and cache: as told, else as its release does by itself."""

from __future__ import annotations

from willitrun.estimators.overheads import GRAPHS_IN_BUDGET, outside_budget, server_version
from willitrun.estimators.requests import Request
from willitrun.kernels.server_defaults import sglang_static_share

__all__ = ["memory_share", "room_of_share"]

_SHARE_BEFORE_GRAPHS = 0.9
"""``gpu_memory_utilization`` of vLLM before graphs came into its budget, and 0.02 more were asked for them:
https://github.com/vllm-project/vllm/pull/38284"""


def memory_share(request: Request, card_bytes: int, *, tensor: int = 1, pipeline: int = 1) -> float | None:
    """The share as told, else the server's own; None for runtimes without one.

    `RuntimeProfile.memory_share_of` says what it is a share of.
    """
    profile, told = request.profile, request.runtime.gpu_memory_utilization
    if told is not None or profile.memory_share_of is None:
        return told
    if profile.id == "sglang":
        return max(float(sglang_static_share(card_bytes, tensor=tensor, pipeline=pipeline)), 0.0)
    if profile.id == "vllm" and server_version(request) < GRAPHS_IN_BUDGET:
        return _SHARE_BEFORE_GRAPHS
    return profile.default_gpu_memory_utilization


def room_of_share(request: Request, free_bytes: int, card_bytes: int) -> int:
    """What a server may take of a card [bytes].

    A share of the whole card is a bound that holds whoever sets it. One of the memory that is free is only where it was
    asked for: what a server reserves by itself can be had, and the command line says how.
    """
    told = request.runtime.gpu_memory_utilization
    of = request.profile.memory_share_of
    if of is None or (told is None and of != "card"):
        return free_bytes
    share = memory_share(request, card_bytes)
    base = free_bytes if of == "free" else card_bytes
    return min(free_bytes, round((share or 1.0) * base) + outside_budget(request))
