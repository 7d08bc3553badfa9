"""Measured image throughputs as aligned arrays: work, device rates and load of every row.

Nothing here is shipped: rows come from ``../shared/data`` and leave this module as a data frame and the
kernel's input blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.vision.devices import DeviceIndex, load_hardware
from willitrun.kernels.operator_work import OPERATOR_CLASSES, WORK_COLUMNS, OperatorWork
from willitrun.kernels.operators import PROFILES, DeviceRates, ImageLoad

TRACES = Path(__file__).resolve().parents[2] / "catalogs" / "traces"

# Host processors: cores, clock [GHz], FP32 FLOPs per clock and core, memory [GB/s]. Not sourced: written from
# memory and checked against no page. 3.5 GHz for the i7-12700H is an assumed sustained clock, not its base clock.
# Every CPU figure of the report rests on them; replace them by cited host records before trusting those figures.
CPU_RATES = {
    "Intel Core i9-10940X": (14, 3.3, 64.0, 93.9),
    "Intel Core i7-12700H": (6, 3.5, 32.0, 76.8),
}
PRECISION_BYTES = {
    "amp-fp16": (2.0, 4.0, 2.0), "amp-bf16": (2.0, 4.0, 2.0), "fp16": (2.0, 2.0, 2.0), "bf16": (2.0, 2.0, 2.0),
    "fp32": (4.0, 4.0, 4.0), "fp32-strict": (4.0, 4.0, 4.0), "tf32": (4.0, 4.0, 4.0), "int8": (1.0, 1.0, 1.0),
    "fp8": (1.0, 1.0, 1.0),
}  # fmt: skip
PUBLISHED_MISMATCH = 0.004
"""Rows whose source states another parameter count than the trace measured another graph (not re-parameterised,
or an architecture that timm has since changed); they stay out."""
SERVER, LAPTOP, BOARD, DESKTOP = "server", "laptop", "board", "desktop"


@dataclass(frozen=True)
class Observations:
    """Rows of measurements with the kernel's inputs."""

    frame: pd.DataFrame
    work: OperatorWork
    rates: DeviceRates
    load: ImageLoad

    def take(self, index: np.ndarray) -> Observations:
        """Select rows."""

        def pick(block: object) -> object:
            return type(block)(**{f.name: getattr(block, f.name)[index] for f in fields(block)})  # type: ignore[arg-type]

        return Observations(
            self.frame.iloc[index].reset_index(drop=True),
            pick(self.work),
            pick(self.rates),
            pick(self.load),  # type: ignore[arg-type]
        )


def load_traces(
    folder: Path = TRACES,
) -> tuple[pd.DataFrame, dict[tuple[str, int], np.ndarray], dict[str, str]]:
    """Read the trace tables: model rows, ``(arch, size) -> (columns, classes)`` and aliases."""
    models = pd.read_csv(folder / "timm-models.csv")
    column = {name: i for i, name in enumerate(OPERATOR_CLASSES)}
    work: dict[tuple[str, int], np.ndarray] = {}
    for path in sorted(folder.glob("timm-*.csv")):
        if path.stem in ("timm-models", "timm-aliases"):
            continue
        table = pd.read_csv(path)
        for (arch, size), rows in table.groupby(["arch", "image_size"], sort=False):
            block = np.zeros((len(WORK_COLUMNS), len(OPERATOR_CLASSES)))
            block[:, [column[c] for c in rows["class"]]] = rows[list(WORK_COLUMNS)].to_numpy(float).T
            work[(str(arch), int(size))] = block
    aliases = pd.read_csv(folder / "timm-aliases.csv")
    return models, work, dict(zip(aliases["name"], aliases["arch"], strict=True))


def _timm_rows(data: Path) -> pd.DataFrame:
    table = pd.read_csv(data / "timm_speed.csv")
    table["source"] = "timm"
    table["runtime"] = "pytorch"
    table["precision"] = table["dtype"].str.replace("_", "-")
    return table


def _lab_rows(data: Path) -> pd.DataFrame:
    table = pd.read_csv(data / "vision_speed.csv", low_memory=False)
    table = table[table["qc_flag"].isna() & (table["device_kind"] == "gpu") & (table["phase"] == "infer")]
    runtime, execution = table["runtime"].fillna(""), table["compile"].fillna("")
    eager = (runtime == "pytorch") & (execution == "eager")
    engine = runtime.isin(["tensorrt", "aitemplate"])
    table = table[eager | engine].copy()
    table["precision"] = table["dtype"].str.replace("_", "-").replace({"tf32/fp32": "tf32"})
    mlperf = table["source"].str.startswith("MLPerf")
    # MLPerf's Offline scenario leaves the batch open; submissions fill the device. Latency rows are batch 1.
    offline = mlperf & table["batch_size"].isna() & table["notes"].fillna("").str.startswith("Offline")
    table.loc[offline, "batch_size"] = 256.0
    table["torch_version"] = table["runtime_version"].fillna("").str.extract(r"torch ?(\d[\d.x]*)")[0]
    # Rates of MLPerf are per accelerator already; other sources ran on one device.
    return table[table["batch_size"].notna() & (mlperf | table["n_devices"].fillna(1.0).eq(1.0))]


def peaks_of(device: pd.Series, precision: str, torch_version: str) -> tuple[float, float, float]:
    """Return peaks [FLOP/s] of convolutions, matrix products and vector code in a precision."""

    def field(*names: str) -> float:
        for name in names:
            value = device.get(name)
            if value is not None and np.isfinite(value):
                return float(value) * 1e12
        return float("nan")

    fp32 = field("fp32_tflops")
    half = field("fp16_tensor_tflops_dense_fp32acc", "bf16_tensor_tflops_dense")
    half = half if np.isfinite(half) else fp32
    tf32 = field("tf32_tensor_tflops_dense", "fp32_tflops")
    old = bool(re.match(r"1\.(?:[7-9]|1[01])\b|1\.x", torch_version))
    if precision == "fp32":
        return tf32, tf32 if old else fp32, fp32
    if precision == "tf32":
        return tf32, tf32, fp32
    if precision == "fp32-strict":
        return fp32, fp32, fp32
    if precision == "int8":
        int8 = field("int8_tops_dense", "fp16_tensor_tflops_dense_fp32acc", "fp32_tflops")
        return int8, int8, fp32
    return half, half, fp32


def device_class(device: pd.Series) -> str:
    """Name the class of an accelerator record: vendor, and for NVIDIA its form and whether it has matrix units."""
    vendor = str(device["vendor"]).lower()
    form = str(device["form"])
    if vendor != "nvidia":
        return f"{vendor}-integrated" if form in ("igpu", "unified-soc") else vendor
    if not np.isfinite(device["fp16_tensor_tflops_dense_fp32acc"]):
        return "nvidia-vector"
    if form in ("unified-soc", "sbc"):
        return "nvidia-board"
    return f"nvidia-{'laptop' if 'laptop' in form else form}"


def load_observations(data: Path, folder: Path = TRACES) -> Observations:
    """Join measurements, traces and hardware into the kernel's inputs.

    Rows drop out when their model has no trace at that size or their device no record.
    """
    models, work, aliases = load_traces(folder)
    hardware = load_hardware(data)
    index = DeviceIndex(hardware)
    published = "param_count_m"
    keep = [published, "cost_sig", "source", "device", "precision", "layout", "compile", "runtime", "torch_version", "model", "family",
            "img_size", "batch_size", "images_per_s", "phase", "in_head", "notes"]  # fmt: skip
    rows = pd.concat([_timm_rows(data), _lab_rows(data)], ignore_index=True)
    rows = rows.reindex(columns=keep)
    rows["arch"] = [aliases.get(m.split(".")[0], m.split(".")[0]) for m in rows["model"]]
    rows["size"] = rows["img_size"].fillna(224).astype(int)
    known = [(a, s) in work for a, s in zip(rows["arch"], rows["size"], strict=True)]
    names = {d: d if d in CPU_RATES else index.find(d) for d in rows["device"].unique()}
    rows["device_id"] = rows["device"].map(names)
    device_known = rows["device_id"].notna()
    fine = rows["images_per_s"].gt(0) & rows["precision"].isin(PRECISION_BYTES)
    rows = rows[np.array(known) & device_known & fine].reset_index(drop=True)
    family = models.drop_duplicates("arch").set_index("arch")["family"]
    rows["family"] = rows["arch"].map(family)
    # Variants of equal cost are one model when models are held out.
    signature = rows.dropna(subset=["cost_sig"]).drop_duplicates("arch").set_index("arch")["cost_sig"]
    rows["signature"] = rows["arch"].map(signature).fillna(rows["arch"])
    parameters = models.set_index(["arch", "image_size"])["parameters"]
    blocks = np.stack([work[key] for key in zip(rows["arch"], rows["size"], strict=True)])
    counted = (
        np.array([parameters.loc[key] for key in zip(rows["arch"], rows["size"], strict=True)], float) / 1e6
    )
    stated = rows[published].to_numpy(float)
    gap = np.abs(stated - counted)
    same = ~(rows["source"].eq("timm").to_numpy() & (gap > 0.0051 + PUBLISHED_MISMATCH * 0.25 * counted))
    rows, blocks = rows[same].reset_index(drop=True), blocks[same]
    inputs = {name: blocks[:, i] for i, name in enumerate(WORK_COLUMNS)}

    profiles, peaks, hosts, kinds = [], [], [], []
    fixed = []
    for row in rows.itertuples():
        layout = "-nhwc" if row.layout == "nhwc" else ""
        if row.device in CPU_RATES:
            cores, clock, flops, bandwidth = CPU_RATES[row.device]
            peak = cores * clock * flops * 1e9
            profiles.append("cpu-compile" if row.compile != "eager" else "cpu")
            peaks.append((peak, peak, peak))
            fixed.append((bandwidth * 1e9, 0.0, 0.0, 0.0, 0.0))
            hosts.append(DESKTOP)
            kinds.append("cpu")
            continue
        device = hardware.loc[row.device_id]
        engine = row.runtime in ("tensorrt", "aitemplate")
        base = "train" if row.phase == "train" else "engine" if engine else (
            "compile" if row.compile in ("dynamo", "compile") else "eager")  # fmt: skip
        legacy = base == "eager" and row.source != "timm" and not str(row.torch_version).startswith("2")
        profiles.append("eager-1.x" if legacy else base + ("" if engine else layout))
        peaks.append(peaks_of(device, row.precision, str(row.torch_version)))
        fixed.append(
            (
                device["bandwidth_gb_s"] * 1e9,
                device["sm_or_cu"],
                device["boost_mhz"] * 1e6,
                device["tdp_w"],
                device["l2_mb"] * 2**20,
            )
        )
        form = str(device["form"])
        kinds.append(device_class(device))
        hosts.append(
            SERVER if form in ("server", "cloud") else LAPTOP if "laptop" in form else
            BOARD if form in ("unified-soc", "sbc") else DESKTOP
        )  # fmt: skip
    rows["profile"] = profiles
    rows["host"] = hosts
    rows["device_class"] = kinds
    rows["seconds"] = rows["batch_size"] / rows["images_per_s"]
    rows["copies"] = rows["notes"].fillna("").str.contains("H2D|data transfer|dataloader")
    peak = np.array(peaks, float)
    rest = np.nan_to_num(np.array(fixed, float))
    size = np.array([PRECISION_BYTES[p] for p in rows["precision"]])
    ones = np.ones(len(rows))
    amp = rows["precision"].str.startswith("amp").to_numpy(float)
    train = rows["phase"].eq("train").to_numpy()
    params = np.array([parameters.loc[key] for key in zip(rows["arch"], rows["size"], strict=True)], float)
    rates = DeviceRates(peak[:, 0], peak[:, 1], peak[:, 2], rest[:, 0], rest[:, 4], rest[:, 1], rest[:, 2], rest[:, 3],
                        ones.copy(), ones.copy(), ones.copy(), np.full(len(rows), np.inf))  # fmt: skip
    load = ImageLoad(
        batch=rows["batch_size"].to_numpy(float),
        profile=np.array([PROFILES.index(p) for p in profiles]),
        act_bytes=size[:, 0], wide_bytes=size[:, 1], weight_bytes=size[:, 2], autocast=amp,
        parameters=np.where(train, params, 0.0),
        input_bytes=3.0 * rows["size"].to_numpy(float) ** 2 * size[:, 1],
        decode_images_per_s=np.full(len(rows), np.inf), log_residual=np.zeros(len(rows)),
    )  # fmt: skip
    finite = np.isfinite(peak).all(1) & (rest[:, 0] > 0)
    result = Observations(rows, OperatorWork(**inputs), rates, load)
    return result.take(np.flatnonzero(finite))
