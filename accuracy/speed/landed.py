"""Score the landed library through its public door: ``estimate_speed`` against single-device measurements.

``python -m accuracy.speed.landed --data ../shared/data`` resolves every row's model, device, format and runtime as
a user would write them, so that what is lost on the way (names that lead nowhere, formats without a rule) counts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.measurements import without_measurements
from accuracy.speed.library_work import quantization_of
from willitrun import Runtime, WillItRunError, Workload, estimate_speed, load_catalog

RUNTIMES = {
    "llamafile/localscore": "llamafile",
    "llama.cpp": "llama.cpp",
    "ollama": "ollama",
    "vllm": "vllm",
    "mlx": "mlx",
    "exllamav2": "exllamav2",
    "tensorrt-llm": "tensorrt-llm",
    "sglang": "sglang",
    "transformers": "transformers",
}


def score(data: Path, *, limit: int | None = None) -> pd.DataFrame:
    """Predicted and measured rate of every row that can be asked; the rest is counted by reason."""
    table = pd.read_csv(data / "llm_speed.csv", low_memory=False)
    table = table[
        (table["core_subset"] == 1) & table["qc_flag"].isna() & table["phase"].isin(["decode", "prefill"])
    ]
    table = table[table["model_norm"].notna() & table["hardware_id"].notna()]
    lost: Counter[str] = Counter()
    rows = []
    # The catalogued measurements are drawn from the same studies: they stay hidden, or rows would predict themselves.
    catalog = without_measurements(load_catalog())
    for record in table.itertuples():
        quantization = quantization_of(str(record.quant))
        runtime = RUNTIMES.get(str(record.runtime).lower())
        if quantization is None or runtime is None:
            lost["format" if quantization is None else "runtime"] += 1
            continue
        depth = 0 if pd.isna(record.context_depth) else int(record.context_depth)
        prompt = 512 if pd.isna(record.prompt_tokens) else max(int(record.prompt_tokens), 1)
        output = 128 if pd.isna(record.gen_tokens) or record.gen_tokens < 1 else int(record.gen_tokens)
        if record.phase == "decode":
            load = Workload(cached_tokens=depth, prompt_tokens=1, output_tokens=output)
        else:
            load = Workload(cached_tokens=depth, prompt_tokens=prompt, output_tokens=1)
        backend = str(record.backend).lower() if isinstance(record.backend, str) else None
        try:
            speed = estimate_speed(
                record.model_norm,
                record.hardware_id,
                load,
                quantization=quantization,
                runtime=Runtime(name=runtime, backend=backend if backend in ("cuda", "rocm", "vulkan", "metal", "sycl", "cpu") else None),
                placement="single",
                catalog=catalog,
            )  # fmt: skip
        except WillItRunError as error:
            lost[type(error).__name__ + ": " + str(error)[:70]] += 1
            continue
        found = speed.decode_tokens_per_s if record.phase == "decode" else speed.prefill_tokens_per_s
        if found is None:
            lost["no speed: " + (speed.notes[0].code if speed.notes else "")] += 1
            continue
        rows.append(
            {
                "phase": record.phase,
                "device": record.hardware_id,
                "model": record.model_norm,
                "quantization": quantization,
                "measured": record.value_tok_s,
                "predicted": found.best,
                "inside": found.low <= record.value_tok_s <= found.high,
                "support": speed.support,
            }
        )
        if limit is not None and len(rows) >= limit:
            break
    for reason, count in lost.most_common(40):
        print(f"{count:6} not asked: {reason}")
    return pd.DataFrame(rows)


def main() -> None:
    """Print medians by phase, and by device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    found = score(options.data)
    found["error"] = (found["predicted"] / found["measured"] - 1).abs()
    found["log"] = np.log(found["predicted"] / found["measured"])
    for phase, part in found.groupby("phase"):
        # One vote per configuration: repeated rows of one box are not evidence.
        cells = part.groupby(["device", "model", "quantization"]).agg(
            error=("error", "median"), log=("log", "median"), inside=("inside", "mean")
        )
        print(
            f"{phase}: {len(part)} rows, {len(cells)} configurations, median {cells['error'].median():.1%}, "
            f"mean {cells['error'].mean():.1%}, within 20 % {(cells['error'] < 0.2).mean():.0%}, "
            f"bias {np.exp(cells['log'].median()) - 1:+.1%}, inside the interval {cells['inside'].mean():.0%}"
        )
        by_device = cells.groupby("device")["log"].agg(["median", "size"])
        worst = by_device[by_device["size"] >= 3].sort_values("median")
        for name, row in pd.concat([worst.head(6), worst.tail(6)]).iterrows():
            print(f"    {name:44} {np.exp(row['median']) - 1:+7.0%}  n={row['size']:.0f}")


if __name__ == "__main__":
    main()
