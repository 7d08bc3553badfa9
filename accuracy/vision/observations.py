"""Measured image throughputs as aligned arrays: work, device rates and load of every row.

Nothing here is shipped: rows come from ``../shared/data`` and leave this module as a data frame and the
kernel's input blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.vision.devices import DeviceIndex, load_hardware
from accuracy.vision.trace_tables import TRACES
from willitrun import describe_machine, load_catalog
from willitrun.estimators.graph_devices import (
    device_class,
    device_levels,
    fuses_attention,
    generation_of,
    host_levels,
    processor_generation,
    software_era,
)
from willitrun.estimators.graph_rates import (
    PRECISION_BYTES,
    Scales,
    accelerator_rates,
    processor_rates,
    profile_of,
)
from willitrun.estimators.host_compute import host_flop_per_s
from willitrun.kernels.operator_work import WORK_COLUMNS, OperatorWork
from willitrun.kernels.operators import PROFILES, DeviceRates, ImageLoad

PUBLISHED_MISMATCH = 0.004
"""Rows whose source states another parameter count than the trace measured another graph (not re-parameterised,
or an architecture that timm has since changed); they stay out."""
PROCESSORS = {"Intel Core i9-10940X", "Intel Core i7-12700H"}
"""Devices of the table that are processors; their rates come from the catalog's host records."""


@dataclass(frozen=True)
class Observations:
    """Rows of measurements with the kernel's inputs."""

    frame: pd.DataFrame
    network: OperatorWork
    """Work as software of today does it, by whose shape residuals are learnt."""
    work: OperatorWork
    """Work as the row's software did it."""
    rates: DeviceRates
    load: ImageLoad

    def stated(self) -> Observations:
        """The rows with the era of their software among the levels of their hosts: as one asks who states it."""
        hosts = [a + b for a, b in zip(self.frame["hosts"], self.frame["era"], strict=True)]
        return replace(self, frame=self.frame.assign(hosts=hosts))

    def take(self, index: np.ndarray) -> Observations:
        """Select rows."""

        def pick(block: object) -> object:
            return type(block)(**{f.name: getattr(block, f.name)[index] for f in fields(block)})  # type: ignore[arg-type]

        return Observations(
            self.frame.iloc[index].reset_index(drop=True),
            pick(self.network),
            pick(self.work),
            pick(self.rates),
            pick(self.load),  # type: ignore[arg-type]
        )


Summary = dict[str, dict[str, float]]
"""Operator class -> column -> value of one trace."""


def read_summaries(path: Path) -> dict[tuple[str, int], Summary]:
    """Read a table of traces: ``(arch, size) -> class -> column -> value``."""
    found: dict[tuple[str, int], Summary] = {}
    for row in pd.read_csv(path).to_dict("records"):
        columns = {str(name): float(row[name]) for name in WORK_COLUMNS}
        found.setdefault((str(row["arch"]), int(row["image_size"])), {})[str(row["class"])] = columns
    return found


def stack_works(
    summaries: dict[tuple[str, int], Summary], keys: list[tuple[str, int]], fused: list[bool]
) -> OperatorWork:
    """Work of rows, each of a trace and with attention in one kernel or in several."""
    distinct = list(dict.fromkeys(zip(keys, fused, strict=True)))
    place = {each: number for number, each in enumerate(distinct)}
    block = OperatorWork.stack(
        [OperatorWork.from_summary(summaries[key], fused_attention=one) for key, one in distinct]
    )
    index = np.array([place[each] for each in zip(keys, fused, strict=True)])
    return OperatorWork(*(getattr(block, name)[index] for name in WORK_COLUMNS))


def load_traces(
    folder: Path = TRACES,
) -> tuple[pd.DataFrame, dict[tuple[str, int], Summary], dict[str, str]]:
    """Read the trace tables: model rows, summaries by ``(arch, size)``, and aliases."""
    models = pd.read_csv(folder / "timm-models.csv")
    work: dict[tuple[str, int], Summary] = {}
    for path in sorted(folder.glob("timm-*.csv")):
        if path.stem not in ("timm-models", "timm-aliases"):
            work |= read_summaries(path)
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
    table["torch_version"] = [
        version_of(str(stated), str(device))
        for stated, device in zip(table["runtime_version"].fillna(""), table["device"], strict=True)
    ]
    # Rates of MLPerf are per accelerator already; other sources ran on one device.
    return table[table["batch_size"].notna() & (mlperf | table["n_devices"].fillna(1.0).eq(1.0))]


def version_of(stated: str, device: str) -> str | None:
    """Version of PyTorch that a source states, by vendor where it states several.

    >>> version_of("nvidia: torch1.x ngc20.10 or older; amd: ROCm torch 2.3/2.4", "AMD Radeon 680M")
    '2.3'
    """
    parts = dict(re.findall(r"(\w+): ([^;]*)", stated))
    vendor = "amd" if device.startswith(("AMD", "Radeon")) else "nvidia"
    found = re.search(r"torch ?(\d[\d.x]*)", parts.get(vendor, stated))
    return found[1] if found else None


@dataclass(frozen=True)
class Device:
    """A device as the library answers for it: rates, names of its levels and of its host's, class, generation."""

    rates: DeviceRates
    levels: tuple[str, ...]
    hosts: tuple[str, ...]
    kind: str
    generation: str


@lru_cache(maxsize=1024)
def read_device(device: str, precision: str, profile: str) -> Device:
    """Describe a device of the tables through the library, at no calibrated scale."""
    plain = Scales(1.0, 1.0, 1.0)
    if device in PROCESSORS:
        host = describe_machine({"host": {"cpu": device}}).host
        bandwidth = host.memory_bandwidth_bytes_per_s
        assert bandwidth is not None
        generation = processor_generation(host)
        rates = processor_rates(host_flop_per_s(host, load_catalog()), bandwidth, plain)
        return Device(rates, (generation,), (), "cpu", generation)
    machine = describe_machine(device)
    installed = machine.accelerators[0]
    accelerator = installed.accelerator
    return Device(
        accelerator_rates(installed, machine, precision, plain),
        device_levels(accelerator, profile),
        host_levels(machine),
        device_class(accelerator),
        generation_of(accelerator),
    )


@lru_cache(maxsize=1024)
def era_of(device: str, version: str | None) -> tuple[str, ...]:
    """Level of the software's era, where the library tells eras apart."""
    return software_era(version, describe_machine(device).accelerators[0].accelerator)


OLD_SOFTWARE = {
    "NVIDIA/DeepLearningExamples",
    "NVIDIA-AI-IOT/torch2trt",
    "microsoft/Cream EfficientViT",
    "microsoft/Swin-Transformer",
    "facebookincubator/AITemplate",
}
"""Sources that state no version, and whose measurements are older than PyTorch 2 (March 2023)."""


def stated_version(source: str, torch_version: object, execution: str) -> str | None:
    """Version of PyTorch of an eager run, as a source states it or as its age tells."""
    if execution not in ("eager", "train"):
        return None
    if isinstance(torch_version, str) and torch_version:
        return torch_version
    return "1.x" if source in OLD_SOFTWARE else None


def truly(precision: str, torch_version: str) -> str:
    """What ``fp32`` meant: before PyTorch 1.12 matrix products ran in TF32 as well."""
    old = precision == "fp32" and re.match(r"1\.(?:[7-9]|1[01])\b|1\.x", torch_version)
    return "tf32" if old else precision


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
    names = {d: d if d in PROCESSORS else index.find(d) for d in rows["device"].unique()}
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
    counted = (
        np.array([parameters.loc[key] for key in zip(rows["arch"], rows["size"], strict=True)], float) / 1e6
    )
    stated = rows[published].to_numpy(float)
    gap = np.abs(stated - counted)
    same = ~(rows["source"].eq("timm").to_numpy() & (gap > 0.0051 + PUBLISHED_MISMATCH * 0.25 * counted))
    rows = rows[same].reset_index(drop=True)

    profiles, devices = [], []
    for row in rows.itertuples():
        engine = row.runtime in ("tensorrt", "aitemplate")
        execution = "tensorrt" if engine else "compile" if row.compile in ("dynamo", "compile") else "eager"
        profile = profile_of(execution, str(row.layout), host=row.device in PROCESSORS)
        if row.phase == "train":
            profile = profile.replace("eager", "train")
        profiles.append(profile)
        precision = truly(str(row.precision), str(row.torch_version))
        devices.append(read_device(str(row.device_id), precision, profile))
    rows["profile"] = profiles
    rows["parameters"] = [int(parameters.loc[key]) for key in zip(rows["arch"], rows["size"], strict=True)]
    rows["hosts"] = [device.hosts for device in devices]
    versions = [
        stated_version(str(source), version, profile.partition("-")[0])
        for source, version, profile in zip(rows["source"], rows["torch_version"], profiles, strict=True)
    ]
    rows["era"] = [
        () if device in PROCESSORS else era_of(str(device), version)
        for device, version in zip(rows["device_id"], versions, strict=True)
    ]
    rows["device_class"] = [device.kind for device in devices]
    rows["levels"] = [device.levels for device in devices]
    rows["generation"] = [device.generation for device in devices]
    rows["seconds"] = rows["batch_size"] / rows["images_per_s"]
    rows["copies"] = rows["notes"].fillna("").str.contains("H2D|data transfer|dataloader")
    keys = list(zip(rows["arch"], rows["size"], strict=True))
    fused = [fuses_attention(version) for version in versions]
    size = np.array([PRECISION_BYTES[p] for p in rows["precision"]], float)
    amp = rows["precision"].str.startswith("amp").to_numpy(float)
    train = rows["phase"].eq("train").to_numpy()
    params = np.array([parameters.loc[key] for key in zip(rows["arch"], rows["size"], strict=True)], float)
    rates = DeviceRates(
        **{
            field.name: np.concatenate([getattr(device.rates, field.name) for device in devices])
            for field in fields(DeviceRates)
        }
    )
    load = ImageLoad(
        batch=rows["batch_size"].to_numpy(float),
        profile=np.array([PROFILES.index(p) for p in profiles]),
        act_bytes=size[:, 0], wide_bytes=size[:, 1], weight_bytes=np.minimum(size[:, 0], size[:, 2]), autocast=amp,
        parameters=np.where(train, params, 0.0),
        # An engine takes its images in single precision, whatever it computes in, unless it is built otherwise.
        input_bytes=3.0
        * rows["size"].to_numpy(float) ** 2
        * np.where(rows["profile"].eq("engine"), 4.0, size[:, 1]),
        decode_images_per_s=np.full(len(rows), np.inf), log_residual=np.zeros(len(rows)),
    )  # fmt: skip
    network = stack_works(work, keys, [True] * len(keys))
    return Observations(rows, network, stack_works(work, keys, fused), rates, load)
