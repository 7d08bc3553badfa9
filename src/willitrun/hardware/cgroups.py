"""Memory and CPU limits of the control groups above this process, versions 1 and 2, nested."""

from __future__ import annotations

from willitrun.frozen import frozen
from willitrun.hardware.surroundings import Surroundings, read_number

__all__ = ["ControlGroups", "in_container", "read_control_groups"]

_MOUNT = "/sys/fs/cgroup"
# "No limit" in version 1 is the largest page-aligned 64-bit number; anything near it means none.
_NO_LIMIT = 1 << 60


@frozen
class ControlGroups:
    """The tightest limits. None: there is no limit, or none that can be read."""

    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None
    """What the group with the tightest room has used, without its reclaimable file cache."""
    cpu_quota: float | None = None
    """Cores' worth of time per second of wall clock."""
    version: int | None = None


def read_control_groups(surroundings: Surroundings) -> ControlGroups:
    """Limits along the whole ancestry: a parent may allow less than the group itself.

    References
    ----------
    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max, cpu.max)
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html (limit_in_bytes)
    """
    text = surroundings.ask("text", "/proc/self/cgroup")
    if not isinstance(text, str):
        return ControlGroups()
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and controllers == "":
            paths["unified"] = path
        for controller in controllers.split(","):
            paths.setdefault(controller, path)
    memory: list[tuple[int, int | None]] = []
    quotas: list[float] = []
    version = None
    if "memory" in paths:
        version = 1
        for folder in _ancestry(surroundings, f"{_MOUNT}/memory", paths["memory"], "memory.limit_in_bytes"):
            limit = read_number(surroundings, f"{folder}/memory.limit_in_bytes")
            used = read_number(surroundings, f"{folder}/memory.usage_in_bytes")
            cache = _statistic(surroundings, f"{folder}/memory.stat", "total_inactive_file")
            memory.append((_limit(limit), None if used is None else max(0, used - cache)))
    if "unified" in paths:
        version = version or 2
        for folder in _ancestry(surroundings, _MOUNT, paths["unified"], "memory.max"):
            limit = read_number(surroundings, f"{folder}/memory.max")
            used = read_number(surroundings, f"{folder}/memory.current")
            cache = _statistic(surroundings, f"{folder}/memory.stat", "inactive_file")
            memory.append((_limit(limit), None if used is None else max(0, used - cache)))
        for folder in _ancestry(surroundings, _MOUNT, paths["unified"], "cpu.max"):
            quotas += _quota_v2(surroundings.ask("text", f"{folder}/cpu.max"))
    if "cpu" in paths:
        for mount in (f"{_MOUNT}/cpu", f"{_MOUNT}/cpu,cpuacct"):
            for folder in _ancestry(surroundings, mount, paths["cpu"], "cpu.cfs_quota_us"):
                quota = read_number(surroundings, f"{folder}/cpu.cfs_quota_us")
                period = read_number(surroundings, f"{folder}/cpu.cfs_period_us")
                if quota and period and quota > 0 and period > 0:
                    quotas.append(quota / period)
    limited = [(limit, used) for limit, used in memory if limit < _NO_LIMIT]
    tightest = min(limited, key=lambda pair: pair[0] - (pair[1] or 0), default=None)
    return ControlGroups(
        memory_limit_bytes=min((limit for limit, _ in limited), default=None),
        memory_used_bytes=tightest[1] if tightest else None,
        cpu_quota=min(quotas, default=None),
        version=version,
    )


def in_container(surroundings: Surroundings) -> bool:
    """Whether this process runs in a container, by the marks that Docker, Podman, Kubernetes and LXC leave."""
    if (
        surroundings.ask("text", "/.dockerenv") is not None
        or surroundings.ask("text", "/run/.containerenv") is not None
    ):
        return True
    groups = surroundings.ask("text", "/proc/self/cgroup")
    words = ("docker", "kubepods", "containerd", "libpod", "lxc")
    return isinstance(groups, str) and any(word in groups for word in words)


def _ancestry(surroundings: Surroundings, mount: str, path: str, probe: str) -> list[str]:
    """Folders from the group up to the mount that hold a file.

    Inside a container the path of /proc/self/cgroup is the host's and need not exist below the mount: then the
    mount itself is the container's own group.
    """
    parts = [part for part in path.split("/") if part and part != ".."]
    folders = ["/".join([mount, *parts[:depth]]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if surroundings.ask("text", f"{folder}/{probe}") is not None]


def _limit(value: int | None) -> int:
    return _NO_LIMIT if value is None or value <= 0 else value


def _quota_v2(text: object) -> list[float]:
    words = text.split() if isinstance(text, str) else []
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def _statistic(surroundings: Surroundings, path: str, key: str) -> int:
    text = surroundings.ask("text", path)
    for line in text.splitlines() if isinstance(text, str) else ():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0
