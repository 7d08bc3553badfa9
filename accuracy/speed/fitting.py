"""Huber regression of log speed on log coefficients with ridge priors: damped Gauss-Newton on finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from accuracy.speed.observations import Observations
from accuracy.speed.operators import COMBINATIONS, Combination
from accuracy.speed.prediction import predict_from_columns, predict_rates, select_rows, take_rows
from willitrun.kernels.llm_inputs import LlmCoefficients
from willitrun.kernels.llm_levels import AXES, resolve

#: Prior of every coefficient: (value, width of its logarithm). Physical guesses with wide errors: an efficiency
#: of 0.8, 70 us per layer (METHOD 2), one vector operation per stored weight.
PRIORS: dict[str, tuple[float, float]] = {
    "weights": (1 / 0.85, 0.3),
    "experts": (1.2, 0.3),
    "kv": (1 / 0.7, 0.5),
    "fetch": (1 / 8, 0.5),
    "unpack": (0.05, 1.0),
    "linear": (2.0, 0.7),
    "attention": (4.0, 1.0),
    "step": (2e-4, 1.0),
    "layer": (4e-5, 0.7),
    "moe_layer": (3e-5, 0.7),
    "sequence": (5e-6, 1.0),
    "prefill_linear": (2.0, 0.7),
    "prefill_issue": (1 / 1500, 1.0),
    "prefill_power": (1e-12, 0.5),
    "prefill_attention": (3.0, 0.8),
    "prefill_layer": (8e-5, 0.8),
    # Two or three operations per element, by a small part of a unit's lanes: each token waits for the one before.
    "scan": (0.1, 0.7),
    "prefill_experts": (1.0, 0.3),
    "expert_tile": (16.0, 0.8),
    # All-reduces of large messages over NVLink alone, A100 to B200, reach 0.3 to 0.45 of the sheet.
    "link": (2.5, 0.2),
    # In a program, ranks also wait for the slowest of them.
    "hop": (1.3, 0.1),
    "host": (1 / 0.7, 0.15),
    # Two hand-overs over PCIe and the threads' barriers; few devices show it.
    "host_layer": (1.5e-4, 0.35),
    "pcie": (1 / 0.8, 0.15),
    "request": (2e-2, 0.8),
    "notice": (1.0, 0.5),
    # InferenceX starts as many requests at once as are in flight, and goes on until ten times as many have come.
    "queue": (0.1, 0.1),
    "overlap": (0.5, 0.7),
}

#: Which coefficient may differ along which axis. Only physical terms, only classes of hardware or software.
LEVEL_AXES: dict[str, tuple[str, ...]] = {
    "weights": ("stack", "vendor", "backend", "runtime", "format", "era", "engine"),
    "experts": ("stack", "backend", "runtime", "format", "vendor", "engine"),
    "kv": ("stack", "backend", "runtime", "attention", "era", "vendor", "engine"),
    "fetch": ("stack", "vendor", "runtime", "memory_class", "engine"),
    "unpack": ("stack", "format", "vendor", "backend", "runtime", "generation", "engine"),
    "linear": ("stack", "runtime", "backend", "format", "vendor"),
    "attention": ("stack", "runtime", "backend"),
    "step": ("stack", "runtime", "system"),
    "layer": ("stack", "runtime", "backend", "era", "vendor", "engine", "system"),
    "moe_layer": ("stack", "runtime", "backend", "engine", "generation"),
    "sequence": ("stack", "runtime", "era"),
    "prefill_linear": ("stack", "runtime", "backend", "format", "era", "vendor", "engine", "product"),
    "prefill_issue": (
        "stack",
        "runtime",
        "backend",
        "format",
        "era",
        "vendor",
        "generation",
        "engine",
        "product",
    ),
    "prefill_power": ("stack", "runtime", "generation", "product"),
    "prefill_attention": ("stack", "runtime", "backend", "attention", "era", "vendor", "engine"),
    "prefill_layer": ("stack", "runtime", "backend", "kind", "engine", "system"),
    "scan": ("stack", "runtime", "backend", "era"),
    "prefill_experts": ("stack", "runtime", "format"),
    "expert_tile": ("stack", "runtime", "backend", "format", "engine"),
    "request": ("stack", "runtime", "kind"),
    "notice": ("runtime",),
    "hop": (
        "stack",
        "runtime",
    ),
}

#: Prior width of an offset (natural logarithm) by axis: programs differ more than the chips they run on.
AXIS_WIDTH: dict[str, float] = {
    "stack": 0.25,
    "runtime": 0.2,
    "format": 0.15,
    "backend": 0.2,
    "engine": 0.2,
    "system": 0.2,
    "era": 0.1,
    "kind": 0.15,
    "attention": 0.15,
    "product": 0.25,
    "vendor": 0.25,
    "generation": 0.12,
    "memory_class": 0.08,
}

#: Prior width of single offsets that differ from the axis's.
OFFSET_WIDTH: dict[tuple[str, str], float] = {
    # Starting a kernel and ending it takes AMD's cards several times as long as NVIDIA's, by any back end.
    ("layer", "vendor"): 0.4,
    # What a product costs in joules follows the manufacturing process.
    ("prefill_power", "generation"): 0.4,
    # Measured alone, product by product, so that models of experts do not decide what dense ones take, and back.
    ("prefill_issue", "stack"): 0.15,
    ("prefill_linear", "stack"): 0.15,
    ("prefill_experts", "stack"): 0.1,
    ("hop", "stack"): 0.1,
    # Since 2025 engines plan a step while the one before runs; before, Python's loop over sequences stood between.
    ("sequence", "stack"): 1.0,
    ("sequence", "era"): 0.5,
    ("layer", "stack"): 1.0,
    ("moe_layer", "stack"): 1.0,
    ("hop", "runtime"): 0.1,
}

#: Prior width of single levels on every coefficient: serving engines have most of what tells them apart from others in
#: common ("stack"), and are measured on few devices.
LEVEL_WIDTH: dict[tuple[str, str], float] = {
    ("runtime", runtime): 0.15 for runtime in ("vllm", "sglang", "tensorrt-llm")
}
#: Intel's GPUs are measured under OpenVINO and one vLLM: what they show is those programs' doing as soon as the chips'.
LEVEL_WIDTH |= {("vendor", "intel"): 0.1}
#: What kernels find in a processor differs by factors, where generations of one maker's GPUs differ by percents.
LEVEL_WIDTH |= {("generation", level): 0.25 for level in ("cpu-avx", "cpu-scalar", "cpu-two-kinds")}

#: Factor on the precision of all priors, chosen by leave-one-device-out.
STRENGTH = 0.5

#: Offsets that are not expected to be zero. Serving engines feed matrix units straight from memory (FP8 and FP4 as
#: they are, asynchronous copies), so a compute unit spends far fewer cycles per weight and per byte than in ggml.
LEVEL_PRIORS: dict[tuple[str, str, str], float] = {
    ("unpack", "stack", "server"): -2.5,
    ("fetch", "stack", "server"): -1.0,
}
#: Libraries that multiply with the vendor's own matrix kernels come near the matrix peak; ggml's are bound by issue. With
#: this, large dense products of serving engines reach what NVIDIA aiconfigurator measured of them alone: 0.65 to 0.8 of
#: the peak in BF16, 0.45 to 0.6 in FP8, 0.35 to 0.45 in NVFP4 (A100, H100, B200).
#: Their formats also cost a fraction of the energy of what ggml expands first.
LEVEL_PRIORS |= {
    ("prefill_issue", "stack", "server"): -3.0,
    ("prefill_issue", "product", "library"): -2.0,
    ("prefill_issue", "runtime", "openvino"): -3.0,
    ("prefill_issue", "runtime", "transformers"): -1.5,
    ("prefill_issue", "runtime", "mlx"): -1.5,
    ("prefill_power", "stack", "server"): -3.0,
    ("prefill_power", "product", "library"): -1.5,
    ("prefill_power", "runtime", "openvino"): -1.5,
    ("prefill_power", "runtime", "transformers"): -1.5,
    ("prefill_power", "runtime", "mlx"): -1.5,
}
#: Grouped products of a serving engine's experts take some five times the time per FLOP of its dense ones (the same
#: measurements: 2.1 to 6 times, above all in FP8, with tokens spread over the experts as routers spread them).
LEVEL_PRIORS |= {("prefill_experts", "stack", "server"): 1.7}
#: Prompts of models of experts run kernel by kernel, some 35 operators a layer at 20 us (METHOD 3) over sixty layers and
#: more; those of dense ones from recorded graphs.
LEVEL_PRIORS |= {("request", "kind", "dense"): -0.4, ("request", "kind", "moe"): 1.25}
#: Vector operations per stored weight: a byte or a half is ready to multiply; four bits under one scale take a mask and a
#: shift, those of K-quants scales of scales too, and with fewer than four bits each weight lies in two arrays.
LEVEL_PRIORS |= {
    ("unpack", "format", "f16"): -0.7,
    ("unpack", "format", "bf16"): -0.7,
    ("unpack", "format", "q8"): -0.7,
    ("unpack", "format", "legacy-quant"): -0.6,
    ("unpack", "format", "kquant"): -0.4,
    ("unpack", "format", "kquant-low"): 0.6,
}
#: ggml's products of K-quants and of eight bits have paths for AVX2 and for AVX, and are plain C without either
#: (``ggml-cpu/arch/x86/quants.c``); threads on a small core keep those on large ones waiting.
LEVEL_PRIORS |= {
    ("prefill_issue", "generation", "cpu-scalar"): 1.0,
    ("unpack", "generation", "cpu-scalar"): 0.7,
    ("prefill_issue", "generation", "cpu-two-kinds"): 0.3,
}
#: A graph recorded once (CUDA graphs, Vulkan command buffers) starts sooner than threads that meet at a barrier.
LEVEL_PRIORS |= {("layer", "backend", "vulkan"): -0.3, ("layer", "backend", "cpu"): 0.7}
#: Eager PyTorch starts some 35 operators a layer at about 20 us each (METHOD 3), where ggml replays a graph.
LEVEL_PRIORS |= {("layer", "runtime", "transformers"): 2.6}
#: LocalScore's llamafile runs AMD cards with its own kernels, which take some three times the cycles per weight of
#: ggml's (RX 6000 and 7000 at a third of what llama.cpp reads on the same cards): a trait of the program, not of AMD.
LEVEL_PRIORS |= {
    ("unpack", "engine", f"{runtime}:rocm"): 1.0 for runtime in ("llamafile", "llamafile-avx512-bf16")
}
#: The best matrix products reach 51 % of an MI300X's sheet and about 80 % of an H100's (METHOD 2, published).
LEVEL_PRIORS |= {("linear", "vendor", "amd"): 0.4, ("prefill_linear", "vendor", "amd"): 0.4}

#: Huber threshold on the log ratio: beyond it a row pulls linearly.
HUBER = 0.12


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted logarithms: ``coefficients`` (mu) and ``levels`` (offsets)."""

    coefficients: dict[str, float]
    levels: dict[str, dict[str, float]]


def weigh_rows(observations: Observations, balance: float = 0.5) -> np.ndarray:
    """Return weights: one over the root of rows per configuration, then half-way balanced by device and phase."""
    _, configuration = np.unique(observations.configuration, return_inverse=True)
    per = np.bincount(configuration, weights=observations.stands_for)
    weight = observations.stands_for / np.sqrt(per[configuration])
    group_text = np.char.add(np.char.add(observations.device, "|"), observations.phase)
    _, group = np.unique(group_text, return_inverse=True)
    total = np.bincount(group, weights=weight)
    weight = weight / total[group] ** balance
    weight = weight * np.where(observations.crowd, 0.3, 1.0)
    phases = observations.phase
    for phase in np.unique(phases):
        members = phases == phase
        weight[members] *= PHASE_WEIGHT[str(phase)] / weight[members].sum()
    return weight


#: Relative weight of the phases' total evidence.
PHASE_WEIGHT = {
    "decode": 400.0,
    "prefill": 300.0,
    "offload-decode": 25.0,
    "offload-prefill": 15.0,
    "static": 80.0,
    "tpot": 120.0,
    "ttft": 60.0,
}


class Regression:
    """One fit: parameters are the mus and the offsets of levels that occur."""

    def __init__(
        self,
        observations: Observations,
        *,
        axis_width: Mapping[str, float] = AXIS_WIDTH,
        strength: float = STRENGTH,
        level_axes: Mapping[str, tuple[str, ...]] = LEVEL_AXES,
        priors: Mapping[str, tuple[float, float]] = PRIORS,
        level_priors: Mapping[tuple[str, str, str], float] = LEVEL_PRIORS,
        balance: float = 0.5,
        huber: float = HUBER,
    ) -> None:
        self.huber = huber
        self.observations = observations
        self.names: list[tuple[str, str | None, str | None]] = []
        prior, width = [], []
        self._rows: list[np.ndarray | None] = []
        for field in fields(LlmCoefficients):
            value, spread = priors[field.name]
            self.names.append((field.name, None, None))
            prior.append(np.log(value))
            width.append(spread)
            self._rows.append(None)
        owner = observations.row
        for name, axes in level_axes.items():
            for axis in axes:
                for code, level in enumerate(AXES[axis]):
                    members = observations.codes[axis] == code
                    if not members.any():
                        continue
                    self.names.append((name, axis, level))
                    prior.append(level_priors.get((name, axis, level), 0.0))
                    wide = axis_width[axis] * (2.0 if name in _WIDE else 1.0)
                    own = LEVEL_WIDTH.get((axis, level))
                    width.append(
                        OFFSET_WIDTH.get((name, axis), wide) if own is None else own * wide / axis_width[axis]
                    )
                    keep = np.zeros(len(observations), dtype=bool)
                    keep[owner[members]] = True
                    self._rows.append(keep)
        seen = set(self.names)
        # What no row shows is as the prior has it, not as the average of what rows show.
        self.assumed = {
            key: offset
            for key, offset in level_priors.items()
            if key not in seen and key[1] in level_axes.get(key[0], ())
        }
        self.prior = np.array(prior)
        self.width = np.array(width) / np.sqrt(strength)
        self._combined, self._target = self._combine(COMBINATIONS, strength)
        self.weight = weigh_rows(observations, balance)
        self.log_actual = np.log(observations.actual)
        self._parts: dict[str, tuple[Observations, np.ndarray]] = {}
        self._columns = {field.name: i for i, field in enumerate(fields(LlmCoefficients))}

    def _combine(
        self, combinations: tuple[Combination, ...], strength: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows over the parameters that sum to a coefficient's logarithm, and what they should be, over their widths."""
        place = {key: i for i, key in enumerate(self.names)}
        rows, target = [], []
        for name, levels, value, width in combinations:
            row = np.zeros(len(self.names))
            wanted = np.log(value)
            row[place[name, None, None]] = 1.0
            for axis, level in levels:
                if (name, axis, level) in place:
                    row[place[name, axis, level]] = 1.0
                else:
                    # Axes that the coefficient does not have add nothing.
                    wanted -= self.assumed.get((name, axis, level), 0.0)
            scale = np.sqrt(strength) / width
            rows.append(row * scale)
            target.append(wanted * scale)
        return np.array(rows), np.array(target)

    def unpack(self, theta: np.ndarray) -> Fit:
        coefficients: dict[str, float] = {}
        levels: dict[str, dict[str, float]] = {}
        for (name, axis, level), value in zip(self.names, theta, strict=True):
            if axis is None or level is None:
                coefficients[name] = float(value)
            else:
                levels.setdefault(f"{name}.{axis}", {})[level] = float(value)
        for (name, axis, level), value in self.assumed.items():
            levels.setdefault(f"{name}.{axis}", {})[level] = value
        return Fit(coefficients, levels)

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        fit = self.unpack(theta)
        return self.log_actual - np.log(predict_rates(self.observations, fit.coefficients, fit.levels))

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Return d log(prediction) / d theta: one derivative per coefficient and row, spread over its levels."""
        fit = self.unpack(theta)
        observations = self.observations
        columns = resolve(fit.coefficients, fit.levels, observations.codes)
        base = np.log(predict_from_columns(observations, columns))
        step = 1e-4
        full = np.empty((len(observations), len(theta)))
        effect: dict[str, np.ndarray] = {}
        for name in self._columns:
            part, members = self._part(name)
            own = take_rows(columns, np.flatnonzero(members[observations.row]))
            moved = replace(own, **{name: getattr(own, name) * np.exp(step)})
            effect[name] = np.zeros(len(observations))
            if members.any():
                effect[name][members] = (np.log(predict_from_columns(part, moved)) - base[members]) / step
        for column, (name, axis, _) in enumerate(self.names):
            keep = self._rows[column]
            full[:, column] = (
                effect[name] if axis is None or keep is None else np.where(keep, effect[name], 0.0)
            )
        return full

    def _part(self, name: str) -> tuple[Observations, np.ndarray]:
        """The observations that a coefficient can move at all, found once."""
        if name not in self._parts:
            fit = self.unpack(self.prior)
            columns = resolve(fit.coefficients, fit.levels, self.observations.codes)
            moved = replace(columns, **{name: getattr(columns, name) * 2.0})
            still = predict_from_columns(self.observations, columns)
            members = np.abs(predict_from_columns(self.observations, moved) / still - 1.0) > 1e-7
            self._parts[name] = (select_rows(self.observations, members), members)
        return self._parts[name]

    def solve(
        self, *, iterations: int = 60, tolerance: float = 1e-5, start: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the minimiser of Huber loss plus ridge."""
        theta = self.prior.copy() if start is None else start.copy()
        damping = 1e-2
        residual = self.residuals(theta)
        loss = self._loss(residual, theta)
        for _ in range(iterations):
            jacobian = self.jacobian(theta)
            robust = (
                self.weight
                * np.minimum(1.0, self.huber / np.maximum(np.abs(residual), 1e-12))
                / self.huber**2
            )
            normal = jacobian.T @ (jacobian * robust[:, None]) + np.diag(1.0 / self.width**2)
            normal += self._combined.T @ self._combined
            gradient = jacobian.T @ (robust * residual) - (theta - self.prior) / self.width**2
            gradient -= self._combined.T @ (self._combined @ theta - self._target)
            improved = False
            for _ in range(8):
                move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
                candidate = theta + np.clip(move, -1.0, 1.0)
                new_residual = self.residuals(candidate)
                new_loss = self._loss(new_residual, candidate)
                if new_loss < loss:
                    improved = True
                    break
                damping *= 4.0
            if not improved:
                break
            gain = loss - new_loss
            theta, residual, loss = candidate, new_residual, new_loss
            damping = max(damping / 5.0, 1e-6)
            if gain < tolerance * loss:
                break
        return theta

    def _loss(self, residual: np.ndarray, theta: np.ndarray) -> float:
        size = np.abs(residual) / self.huber
        huber = np.where(size < 1.0, 0.5 * size * size, size - 0.5)
        ridge = (theta - self.prior) / self.width
        combined = self._combined @ theta - self._target
        return float(
            np.sum(self.weight * huber) + 0.5 * np.sum(ridge * ridge) + 0.5 * np.sum(combined * combined)
        )


#: Coefficients whose classes really differ by factors, not by percents: their level prior is twice as wide.
_WIDE = frozenset(
    {
        "prefill_linear",
        "prefill_issue",
        "prefill_attention",
        "prefill_layer",
        "layer",
        "unpack",
        "expert_tile",
        "prefill_experts",
        "request",
    }
)


def split_folds(groups: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Return a fold per row so that whole groups stay together and folds weigh about the same."""
    names, member = np.unique(groups, return_inverse=True)
    total = np.bincount(member, weights=weight)
    load = np.zeros(count)
    fold_of = np.zeros(len(names), dtype=np.int64)
    for name in np.argsort(-total, kind="stable"):
        fold_of[name] = int(np.argmin(load))
        load[fold_of[name]] += total[name]
    return fold_of[member]
