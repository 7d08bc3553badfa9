"""Diffusion speed: the operator roofline on traces of denoisers, and what is fitted on top of it.

Usage: ``python -m accuracy.vision.diffusion --data ../shared/data`` writes
``catalogs/calibrations/diffusion-speed.toml``.

Seconds per image = (steps x denoiser pass at batch x guidance passes + decoder pass at batch) / batch. Passes are
the kernel's on the vision coefficients; a diffusion record adds levels by execution, attention and device class.
"""

from __future__ import annotations

import argparse
import datetime
import os
import tomllib
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from accuracy.vision.conformal import conformal_interval, folded, nested_coverage
from accuracy.vision.devices import DeviceIndex, load_hardware
from accuracy.vision.observations import Summary, read_device, read_summaries, stack_works, truly
from accuracy.vision.parameters import STEPS
from accuracy.vision.record import CalibrationRecord, digest, write_record
from accuracy.vision.trace_tables import TRACES
from willitrun.estimators.graph_rates import PRECISION_BYTES
from willitrun.kernels.llm_levels import classify_memory
from willitrun.kernels.operator_work import OperatorWork
from willitrun.kernels.operators import (
    PROFILES,
    DeviceRates,
    ImageLoad,
    OperatorCoefficients,
    predict_images,
    predict_shares,
    resolve_coefficients,
    with_saturation,
)

MODELS = {
    "sd-v1-4": ("sd-v1-5", "vae-4"), "sd-v1-5": ("sd-v1-5", "vae-4"), "sd-v1-5 img2img": ("sd-v1-5", "vae-4"),
    "sd-v1-5 inpaint": ("sd-v1-5", "vae-4"), "sd-v2": ("sd-v2-1", "vae-4"), "sd-v2-1": ("sd-v2-1", "vae-4"),
    "sd-2-1-base": ("sd-v2-1", "vae-4"), "sdxl-base": ("sdxl-base", "vae-4"),
    "sd3-medium": ("sd3-medium", "vae-16"), "sd3.5-large": ("sd3.5-large", "vae-16"),
    "flux.1-dev": ("flux.1-dev", "vae-16"), "pixart-alpha-1024": ("pixart-alpha-1024", "vae-4"),
}  # fmt: skip
EXECUTIONS = {"eager": "eager", "compile": "compile", "aot": "engine", "trt": "engine"}
CLASSES = (
    "nvidia-desktop", "nvidia-workstation", "nvidia-server", "nvidia-laptop", "nvidia-vector", "amd",
    "amd-integrated", "intel",
)  # fmt: skip
FREE: tuple[tuple[str, str, float, float], ...] = (
    ("compute", "all", 0.0, 0.3), ("memory", "all", 0.0, 0.3), ("host", "all", 0.0, 0.3),
    ("compute", "compile", 0.0, 0.2), ("memory", "compile", 0.0, 0.2),
    ("compute", "engine", 0.0, 0.3), ("memory", "engine", 0.0, 0.3),
    ("attention", "vanilla", -1.5, 0.5), ("crowd", "webui", -0.1, 0.2), ("crowd", "host", 0.4, 0.4),
    ("fixed", "webui-ms", 5.0, 0.7),
    # Products in a denoiser are larger than a classifier's: how far they fill a wide device is asked anew.
    ("saturation", "gemm", 1.0, 1.0), ("saturation", "conv", 0.0, 1.0),
    *((f"{term}", name, 0.0, 0.2) for name in (*CLASSES[1:], *STEPS) for term in ("device.compute", "device.memory")),
)  # fmt: skip


def load_rows(data: Path) -> pd.DataFrame:
    """Read the rows whose model is traced, whose device is known and whose execution is one of ours."""
    table = pd.read_csv(data / "diffusion_speed.csv")
    hardware = load_hardware(data)
    index = DeviceIndex(hardware)
    table["device_id"] = table["device"].map({d: index.find(d) for d in table["device"].unique()})
    table["execution"] = table["compile"].map(EXECUTIONS)
    # A compiler of its own kernels is no torch.compile.
    own = table["runtime"].fillna("").str.contains("onediff|nexfort") & table["execution"].eq("compile")
    table.loc[own, "execution"] = "engine"
    size = table["resolution"].str.extract(r"(\d+)x")[0].astype(float)
    table["size"] = size
    table["crowd"] = table["source"].str.startswith("vladmandic")
    single = table["n_devices"].fillna(1).eq(1) & ~table["runtime"].fillna("").str.contains("ZLUDA")
    fine = table["device_id"].notna() & table["execution"].notna() & table["model"].isin(MODELS)
    table = table[fine & single & table["it_per_s"].gt(0) & size.isin([512, 768, 1024])].reset_index(
        drop=True
    )
    boards = hardware.index[hardware["form"].eq("sbc")]  # described as a host: no accelerator computes
    table = table[~table["device_id"].isin(boards)].reset_index(drop=True)
    classes = {i: read_device(i, "fp16", "eager").kind for i in table["device_id"].unique()}
    table["device_class"] = table["device_id"].map(classes).replace({"intel-integrated": "intel"})
    text = table["dtype"].fillna("?")
    table["precision"] = np.select(
        [
            text.str.startswith("fp32(tf32"),
            text.eq("fp32"),
            text.eq("bf16"),
            text.str.contains("fp32/autocast"),
        ],
        ["fp32", "fp32", "bf16", "amp-fp16"],
        "fp16",
    )
    table["steps"] = table["steps"].fillna(20.0)
    table["seconds_per_step"] = 1.0 / table["it_per_s"]
    return table


class Problem:
    """Rows of measurements and the passes that they are made of."""

    def __init__(self, data: Path, vision: Path, folder: Path = TRACES) -> None:
        record = tomllib.loads(vision.read_text(encoding="utf-8"))
        self.table: OperatorCoefficients = resolve_coefficients(record["coefficients"], record["levels"])
        self.rows = load_rows(data)
        traces = read_summaries(folder / "diffusion.csv")
        self.denoiser = self._work(traces, 0)
        self.decoder = self._work(traces, 1)
        old = self.rows["runtime"].fillna("").str.contains(r"torch 1\.")
        devices = [
            read_device(d, truly(p, "1.11" if o else "2.1"), "eager")
            for d, p, o in zip(self.rows["device_id"], self.rows["precision"], old, strict=True)
        ]
        self.rates = DeviceRates(
            **{
                f.name: np.concatenate([getattr(d.rates, f.name) for d in devices])
                for f in fields(DeviceRates)
            }
        )
        self.levels = [
            tuple("intel" if name == "intel-integrated" else name for name in device.levels)
            for device in devices
        ]
        count = len(self.rows)
        size = np.array([PRECISION_BYTES[p] for p in self.rows["precision"]], float)
        guidance = np.where(self.rows["cfg"].eq(True) & ~self.rows["model"].str.startswith("flux"), 2.0, 1.0)
        self.batch = self.rows["batch"].fillna(1.0).to_numpy(float)
        self.load = ImageLoad(
            batch=self.batch * guidance,
            profile=np.array([PROFILES.index(e) for e in self.rows["execution"]]),
            act_bytes=size[:, 0], wide_bytes=size[:, 1], weight_bytes=np.minimum(size[:, 0], size[:, 2]),
            autocast=self.rows["precision"].str.startswith("amp").to_numpy(float), parameters=np.zeros(count),
            input_bytes=np.zeros(count), decode_images_per_s=np.full(count, np.inf), log_residual=np.zeros(count),
        )  # fmt: skip
        self.usable = self.rates.bandwidth_bytes_per_s > 0

    def _work(self, traces: dict[tuple[str, int], Summary], part: int) -> OperatorWork:
        keys = [(MODELS[m][part], int(s)) for m, s in zip(self.rows["model"], self.rows["size"], strict=True)]
        return stack_works(traces, keys, [True] * len(keys))

    def _scales(self, theta: np.ndarray) -> DeviceRates:
        """Rates of the rows at levels: what every level adds is in :meth:`_reach`."""
        reach = self._reach
        compute, memory, host = (np.exp(reach[term] @ theta) for term in ("compute", "memory", "host"))
        return replace(self.rates, compute_scale=compute, memory_scale=memory, host_scale=host)

    def _table(self, theta: np.ndarray) -> OperatorCoefficients:
        """Coefficients of the vision fit, with the saturation that denoisers reach."""
        level = {
            name: value for (key, name, _, _), value in zip(FREE, theta, strict=True) if key == "saturation"
        }
        return with_saturation(self.table, level)

    @cached_property
    def _reach(self) -> dict[str, np.ndarray]:
        """How much of each level is in the logarithm of a scale: matrices (rows, levels)."""
        execution = self.rows["execution"].to_numpy()
        crowd = self.rows["crowd"].to_numpy(float)
        vanilla = self.rows["attention"].fillna("").eq("vanilla").to_numpy(float)
        found = {term: np.zeros((len(self.rows), len(FREE))) for term in ("compute", "memory", "host")}
        for column, (key, name, _, _) in enumerate(FREE):
            term = key.removeprefix("device.")
            if key.startswith("device."):
                found[term][:, column] = [name in names for names in self.levels]
            elif term in found:
                found[term][:, column] = 1.0 if name == "all" else execution == name
        level = {(key, name): column for column, (key, name, _, _) in enumerate(FREE)}
        found["memory"][:, level["attention", "vanilla"]] = 0.25 * vanilla
        found["host"][:, level["crowd", "host"]] = crowd
        for term in ("compute", "memory"):
            found[term][:, level["crowd", "webui"]] = crowd
        return found

    def _passes(self) -> list[tuple[OperatorWork, ImageLoad, np.ndarray]]:
        """Passes that a step is made of, and the share of each that falls on one step."""
        end = np.where(self.rows["e2e"], 1.0 / self.rows["steps"].to_numpy(float), 0.0)
        return [
            (self.denoiser, self.load, np.ones(len(self.rows))),
            (self.decoder, replace(self.load, batch=self.batch), end),
        ]

    def _fixed(self, theta: np.ndarray) -> np.ndarray:
        """Seconds per step of what is not a pass: the web interface's share of an image."""
        column = [(key, name) for key, name, _, _ in FREE].index(("fixed", "webui-ms"))
        fixed = self.rows["crowd"].to_numpy(float) * np.exp(theta[column]) * 1e-3
        return np.asarray(np.where(self.rows["e2e"], fixed / self.rows["steps"].to_numpy(float), 0.0))

    def seconds_per_step(self, theta: np.ndarray) -> np.ndarray:
        """Predict seconds per step of the whole batch, decoder included where the source includes it."""
        rates, table = self._scales(theta), self._table(theta)
        passes = (
            predict_images(work, rates, load, table).seconds * share for work, load, share in self._passes()
        )
        return np.asarray(sum(passes) + self._fixed(theta))

    def slopes(self, theta: np.ndarray) -> np.ndarray:
        """``d ln seconds / d level`` of rows, (rows, levels)."""
        rates, table, reach = self._scales(theta), self._table(theta), self._reach
        found = np.zeros((len(self.rows), len(FREE)))
        for work, load, share in self._passes():
            parts = predict_shares(work, rates, load, table)
            found -= (parts.compute.sum(0) * share)[:, None] * reach["compute"]
            found -= (parts.memory.sum(0) * share)[:, None] * reach["memory"]
            found += (parts.host * share)[:, None] * reach["host"]
        found[:, [(key, name) for key, name, _, _ in FREE].index(("fixed", "webui-ms"))] += self._fixed(theta)
        seconds = self.seconds_per_step(theta)
        found /= seconds[:, None]
        for column, (key, _, _, _) in enumerate(FREE):
            if key == "saturation":
                moved = self.seconds_per_step(theta + 1e-4 * np.eye(len(FREE))[column])
                found[:, column] = np.log(moved / seconds) / 1e-4
        return found

    def weights(self) -> np.ndarray:
        """Weight a row by how many the device has, and crowd rows, which spread 1.5-1.8x on one card, a fifth."""
        size = self.rows.groupby(["source", "device_id"])["it_per_s"].transform("size").to_numpy(float)
        return size**-0.25 * np.where(self.rows["crowd"], 0.2, 1.0)

    def solve(self, inside: np.ndarray) -> np.ndarray:
        """Fit levels on the marked rows."""
        prior = np.array([start for _, _, start, _ in FREE])
        sigma = np.array([s for *_, s in FREE])
        root = np.sqrt(self.weights())
        target = np.log(self.rows["seconds_per_step"].to_numpy(float))
        use = inside & self.usable

        def residual(theta: np.ndarray) -> np.ndarray:
            error = (np.log(self.seconds_per_step(theta)) - target) * root
            return np.concatenate([np.where(use, error, 0.0), 0.15 * (theta - prior) / sigma])

        def jacobian(theta: np.ndarray) -> np.ndarray:
            known = np.where(use[:, None], self.slopes(theta) * root[:, None], 0.0)
            return np.concatenate([known, np.diag(0.15 / sigma)])

        found = least_squares(residual, prior, jac=jacobian, loss="soft_l1", f_scale=0.2, max_nfev=60)
        return np.asarray(found.x)


FAMILIES = {
    "sd-v1": "Stable Diffusion", "sd-v2": "Stable Diffusion", "sd-2": "Stable Diffusion", "sdxl": "Stable Diffusion",
    "sd3-": "Stable Diffusion 3", "sd3.5": "Stable Diffusion 3.5", "flux": "FLUX.1", "pixart": "PixArt",
}  # fmt: skip
"""Family of a model of the table, as the catalog names it, by how its name starts."""


def seen(rows: pd.DataFrame, data: Path) -> dict[str, list[str]]:
    """Return what the fit has seen: devices of laboratories, families, and memory classes of all devices."""
    hardware = load_hardware(data)
    laboratories = rows[~rows["crowd"]]
    families = {
        family
        for model in rows["model"].unique()
        for start, family in FAMILIES.items()
        if str(model).startswith(start)
    }
    classes = {
        f"{str(hardware.loc[name, 'vendor']).lower()}/{classify_memory(str(hardware.loc[name, 'mem_type']))}"
        for name in rows["device_id"].unique()
        if (rows["device_id"] == name).sum() >= 3
    }
    return {
        "devices": sorted(laboratories["device_id"].unique()),
        "families": sorted(families),
        "classes": sorted(classes),
    }


def tier_errors(problem: Problem, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Return log errors of rows by tier: of a fit on everything, without their device, and without their device's class."""
    rows = problem.rows
    devices = rows["device_id"].map(lambda name: sum(map(ord, name)) % 6).to_numpy()
    return {
        "own-device": _log_errors(problem, theta),
        "unseen-device": _held_out(problem, devices),
        "unseen-class": _held_out(problem, rows["device_class"].to_numpy()),
    }


def _log_errors(problem: Problem, theta: np.ndarray) -> np.ndarray:
    return np.asarray(
        np.log(problem.seconds_per_step(theta) / problem.rows["seconds_per_step"].to_numpy(float))
    )


def _held_out(problem: Problem, fold: np.ndarray) -> np.ndarray:
    held = np.full(len(problem.rows), np.nan)
    for group in np.unique(fold):
        rows = fold == group
        held[rows] = _log_errors(problem, problem.solve(~rows))[rows]
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vision", type=Path, default=TRACES.parent / "calibrations" / "vision-speed.toml")
    parser.add_argument("--out", type=Path, default=TRACES.parent / "calibrations" / "diffusion-speed.toml")
    options = parser.parse_args()
    problem = Problem(options.data, options.vision)
    theta = problem.solve(np.ones(len(problem.rows), bool))
    rows = problem.rows.assign(**tier_errors(problem, theta))[problem.usable]
    intervals: dict[str, dict[str, float]] = {}
    for crowd, label in ((False, "lab"), (True, "crowd")):
        part = rows[rows["crowd"].eq(crowd)]
        for tier in ("own-device", "unseen-device", "unseen-class"):
            drawn = part.groupby(["device_id", "device_class", "model", "size", "execution"])[tier]
            one = drawn.median().reset_index()
            # Groups that are left out together are what an interval has to hold on.
            groups = one["device_class"].to_numpy() if tier == "unseen-class" else folded(one["device_id"])
            errors = one[tier].to_numpy()
            low, high = conformal_interval(errors, groups)
            covered = nested_coverage(errors, groups)
            intervals[f"{label}/{tier}"] = {"low": low, "high": high, "n": len(one), "coverage": covered}
    for (crowd, kind), part in rows.groupby(["crowd", "device_class"]):
        error = np.abs(np.expm1(part["unseen-device"]))
        print(
            "crowd" if crowd else "lab",
            kind,
            len(part),
            f"unseen device {error.median():.3f} / {error.mean():.3f}",
        )
    levels: dict[str, dict[str, float]] = {}
    for (key, name, _, _), value in zip(FREE, theta, strict=True):
        levels.setdefault(key, {})[name] = float(value)
    record = CalibrationRecord(
        id="diffusion-speed", kind="diffusion-speed",
        method="operator roofline on denoiser and decoder traces with the vision coefficients; levels by execution, attention, source kind and device class; soft-L1 on log time with priors",
        data_digest=digest(options.data / "diffusion_speed.csv", options.data / "hardware.csv"),
        n_rows=len(rows), n_configurations=int(rows.groupby(["device_id", "model", "size", "execution", "batch"]).ngroups),
        coefficients={}, levels=levels, intervals=intervals, support=seen(rows, options.data),
    )  # fmt: skip
    write_record(
        record, options.out,
        fitted=datetime.date.fromisoformat(os.environ.get("FIT_DATE", datetime.date.today().isoformat())),
    )  # fmt: skip
    print(f"{len(rows)} rows -> {options.out.name}")


if __name__ == "__main__":
    main()
