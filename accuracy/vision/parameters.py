"""Free parameters of the images-per-second model: names, starting values and how tightly each is held."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from accuracy.vision.observations import Observations
from willitrun.estimators.graph_devices import GENERATIONS
from willitrun.kernels.operator_work import MATMUL_KINDS
from willitrun.kernels.operators import OperatorCoefficients, resolve_coefficients

STREAMING = (
    "conv_bias",
    "bn",
    "ln",
    "gn",
    "softmax",
    "pool",
    "unfold",
    "reduction",
    "elementwise",
    "copy",
    "relayout",
    "cast",
)
DEVICE_CLASSES = (
    "nvidia-workstation", "nvidia-server", "nvidia-laptop", "nvidia-board", "nvidia-vector", "amd",
    "amd-integrated",
)  # fmt: skip
STEPS = tuple(f"since-{name}" for name in GENERATIONS[1:])
"""Levels of generations: what each adds to the one before."""
HOSTS = {"server": 2.0, "laptop": 2.0, "board": 4.0}
"""Prior of a host operation's time relative to a good desktop, by class of host (METHOD section 3)."""


HOST_SIGMA = 0.2
"""How tightly the time of a host operation on a current desktop under current software is held to METHOD's 20 us:
nearly all launch-bound rows are of PyTorch 1 or of servers."""

ERA = 0.3
"""Half of what an era of PyTorch is expected to change of it, so that who states none is told the middle."""


POWER_SIGMA = 0.1
"""How tightly FLOPs per joule are held from one generation to the next: looser, they took what a class of devices lacks
otherwise, and a card that is held out paid for it."""


ENGINE_HELD = (
    "compute.matmul", "memory.gemm", "memory.bmm", "memory.sdpa", "memory.copy", "memory.elementwise",
)  # fmt: skip
"""What engines are held to do about as well as eager code: next to all their rows are of convolutional networks, whose
one matrix product at the end would otherwise stand for those of transformers."""


@dataclass(frozen=True)
class Parameter:
    """One log-parameter: ``profile`` is None for a shared value, or a space-separated list that shares a level."""

    key: str
    profiles: str | None
    start: float
    sigma: float


def gpu_parameters() -> list[Parameter]:
    """Parameters of accelerators: shared by class, plus levels by execution."""
    free: list[Parameter] = [
        *(Parameter(f"compute.{kind}", None, math.log(0.9), 0.4) for kind in MATMUL_KINDS),
        *(Parameter(f"compute.conv_dw.{width}", None, math.log(0.4), 0.6) for width in (3, 5, 7, 9)),
        *(
            Parameter(f"memory.{kind}", None, math.log(0.8), 0.4)
            for kind in (*MATMUL_KINDS, "conv_dw", *STREAMING)
        ),
        *(Parameter(f"compute.{kind}.lo", None, 0.0, 0.3) for kind in MATMUL_KINDS),
        Parameter("saturation.conv", None, math.log(900.0), 0.7),
        Parameter("saturation.gemm", None, math.log(1500.0), 0.7),
        Parameter("cache_gain", None, math.log(1.0), 0.7),
        Parameter("flops_per_joule", None, math.log(6e11), 0.7),
        Parameter("floor_us", None, math.log(4.0), 0.25),
        Parameter("host_op_us", None, math.log(20.0) + ERA, HOST_SIGMA),
        Parameter("host_step_us", None, math.log(50.0), 0.5),
    ]
    work = (
        "compute.conv", "compute.matmul", "compute.conv_dw", "compute.conv_1x1", "compute.conv_grp",
        "compute.conv_kxk", *(f"memory.{kind}" for kind in (*MATMUL_KINDS, "conv_dw", *STREAMING)),
    )  # fmt: skip
    for profiles, sigma in (
        ("eager-nhwc train-nhwc compile-nhwc", 0.3),
        ("compile compile-nhwc", 0.3),
        ("train train-nhwc", 0.2),
        ("engine", 0.5),
    ):
        for key in work:
            held = profiles == "engine" and key in ENGINE_HELD
            free.append(Parameter(key, profiles, 0.0, 0.2 if held else sigma))
    free += [
        Parameter("leak", "compile compile-nhwc", math.log(0.3), 0.5),
        Parameter("leak", "engine", math.log(0.3), 0.5),
        Parameter("floor_us", "engine", 0.0, 0.5),
        Parameter("host_op_us", "engine", math.log(0.1), 0.7),
        Parameter("host_step_us", "engine", 0.0, 0.7),
        Parameter("host_op_us", "compile compile-nhwc", math.log(0.8), 0.5),
        Parameter("saturation.conv", "engine", math.log(3.0), 0.7),
        Parameter("saturation.gemm", "engine", math.log(2.0), 0.7),
        Parameter("flop_scale", "train train-nhwc", math.log(3.0), 0.05),
        Parameter("act_scale", "train train-nhwc", math.log(2.8), 0.3),
        Parameter("kernel_scale", "train train-nhwc", math.log(3.0), 0.3),
        Parameter("state_bytes", "train train-nhwc", math.log(40.0), 0.5),
    ]
    for name in (*DEVICE_CLASSES, "nvidia-desktop", *STEPS):
        engine = [f"{name}:engine"]
        shared = [name] if name != "nvidia-desktop" else []  # the class that the others are relative to
        for level in shared + engine:
            free += [
                Parameter("device.compute", level, 0.0, 0.15 if level in engine else 0.2),
                Parameter("device.memory", level, 0.0, 0.2),
            ]
    free += [Parameter("device.power", name, 0.0, POWER_SIGMA) for name in STEPS]
    free += [Parameter("host_scale", name, math.log(prior), 0.5) for name, prior in HOSTS.items()]
    free += [Parameter("host_scale", name, 0.0, 0.3) for name in STEPS]
    free += [Parameter("host_scale", "torch-1", ERA, 0.3), Parameter("host_scale", "torch-2", -ERA, 0.3)]
    free += [Parameter("link_share", None, math.log(0.5), 0.4)]
    return free


def cpu_parameters() -> list[Parameter]:
    """Parameters of host processors; the profiles share nothing with accelerators but the equation."""
    profiles = "cpu cpu-compile cpu-engine"
    keys = [*(f"compute.{kind}" for kind in (*MATMUL_KINDS, "conv_dw")),
            *(f"memory.{kind}" for kind in (*MATMUL_KINDS, "conv_dw", *STREAMING))]  # fmt: skip
    free = [Parameter(key, profiles, math.log(0.5), 0.6) for key in keys]
    free += [Parameter(f"compute.{kind}.lo", profiles, 0.0, 0.3) for kind in MATMUL_KINDS]
    free += [
        Parameter("floor_us", profiles, math.log(2.0), 0.7),
        Parameter("host_op_us", profiles, math.log(4.0), 0.7),
        Parameter("host_step_us", profiles, math.log(50.0), 0.7),
        Parameter("leak", "cpu-compile cpu-engine", math.log(0.3), 0.5),
    ]
    for name in ("avx512", "avx2"):
        free += [Parameter("device.compute", name, 0.0, 0.2), Parameter("device.memory", name, 0.0, 0.2)]
    return free


def unpack(free: list[Parameter], theta: np.ndarray) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Turn a vector into the calibration record's coefficients and levels."""
    shared: dict[str, float] = {}
    levels: dict[str, dict[str, float]] = {}
    for parameter, value in zip(free, theta, strict=True):
        if parameter.profiles is None:
            shared[parameter.key] = shared.get(parameter.key, 0.0) + float(value)
            continue
        for profile in parameter.profiles.split():
            level = levels.setdefault(parameter.key, {})
            level[profile] = level.get(profile, 0.0) + float(value)
    return shared, levels


def apply(
    observations: Observations, shared: dict[str, float], levels: dict[str, dict[str, float]]
) -> tuple[Observations, OperatorCoefficients]:
    """Resolve coefficients and set what they say about hosts and links on the rows."""
    table = resolve_coefficients(shared, levels)
    scales = levels.get("host_scale", {})
    host = np.exp([sum(scales.get(name, 0.0) for name in names) for names in observations.frame["hosts"]])
    link = np.where(observations.frame["copies"], 16e9 * math.exp(shared.get("link_share", 0.0)), np.inf)
    codes, names = pd.factorize(observations.frame["levels"])

    def factor(key: str) -> np.ndarray:
        level = levels.get(key, {})
        return np.exp([sum(level.get(name, 0.0) for name in among) for among in names])[codes]

    rates = replace(
        observations.rates,
        compute_scale=factor("device.compute"),
        memory_scale=factor("device.memory"),
        power_w=observations.rates.power_w * factor("device.power"),
        host_scale=host,
        link_bytes_per_s=link,
    )
    return replace(observations, rates=rates), table
