"""Fit what a transcription takes beyond encoder passes and decoder steps, and score memory and speed.

Usage: ``python -m accuracy.speech --data ../shared/data`` writes ``catalogs/calibrations/speech-speed.toml``.

One page measures implementations side by side (13 minutes of audio, beam 5): Whisper large-v2 on an RTX 3070 Ti and
small on eight threads of an i7-12700K. That is enough for one factor and no interval.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from accuracy.vision.record import CalibrationRecord, digest, write_record
from willitrun import Workload, assess, load_catalog

AUDIO_S = 780.0
CPU = {"name": "i7-12700K", "host": {"ram": "32 GiB", "cores": 8}}
RUNTIMES = {"faster-whisper": "faster-whisper", "whisper.cpp": "whisper.cpp"}
FORMATS = {"fp16": "f16", "fp32": "f32", "int8": "int8"}


def load_rows(data: Path) -> pd.DataFrame:
    """Read measured seconds and megabytes of the runtimes that the catalog has, at the beams that they default to."""
    table = pd.read_csv(data / "mem_other.csv")
    table = table[table["domain"].eq("asr/whisper implementations")]
    rows: list[dict[str, Any]] = []
    for _, row in table.iterrows():
        name = str(row["model"])
        config = json.loads(row["config"])
        runtime = next((r for start, r in RUNTIMES.items() if name.startswith(start)), None)
        time = re.search(r"Time=(?:(\d+)m)?(\d+)s", str(row["time_or_speed"]))
        if runtime is None or time is None or "OpenVINO" in name:
            continue
        batch = re.search(r"batch_size=(\d+)", name)
        on_card = row["metric"] == "VRAM Usage"
        rows.append(
            {
                "model": "whisper-large-v2" if on_card else "whisper-small",
                "machine": "rtx-3070-ti" if on_card else CPU,
                "runtime": runtime,
                "quantization": FORMATS[config["Precision"]],
                "batch": int(batch[1]) if batch else 1,
                "seconds": 60 * int(time[1] or 0) + int(time[2]),
                "bytes": float(row["value"]) * 2**20,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    out = Path(__file__).resolve().parents[1] / "catalogs" / "calibrations" / "speech-speed.toml"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    known = load_catalog().calibrations
    applied = known["speech-speed"].coefficients["slowdown"] if "speech-speed" in known else 1.0
    rows = load_rows(options.data)
    ratios = []
    for _, row in rows.iterrows():
        verdict = assess(
            row["model"], row["machine"], Workload(audio_s=AUDIO_S, batch_size=row["batch"]),
            runtime=row["runtime"], quantization=row["quantization"],
        )  # fmt: skip
        if verdict.speed is None or verdict.speed.real_time_factor is None or verdict.memory is None:
            continue
        factor, total = verdict.speed.real_time_factor, verdict.memory.total_bytes
        measured = AUDIO_S / row["seconds"]
        ratios.append(applied * factor.best / measured)
        print(
            f"{row['model']} {row['runtime']} {row['quantization']} batch {row['batch']}: {factor.best:.1f}x predicted, "
            f"{measured:.1f}x measured, {'inside' if factor.low <= measured <= factor.high else 'outside'}; memory "
            f"{total.best / row['bytes'] - 1:+.0%} {'inside' if total.low <= row['bytes'] <= total.high else 'outside'}"
        )
    logs = np.log(ratios)
    slowdown = float(np.exp(np.median(logs)))
    left_out = [np.median(np.delete(logs, i)) for i in range(len(logs))]
    error = np.abs(np.expm1(left_out - logs))
    print(
        f"slowdown {slowdown:.2f}; each row left out: median error {np.median(error):.2f}, worst {error.max():.2f}"
    )
    record = CalibrationRecord(
        id="speech-speed", kind="speech-speed",
        method="median ratio of measured to predicted seconds of a transcription (one page, two machines); intervals are those of language models on an unseen class",
        data_digest=digest(options.data / "mem_other.csv"), n_rows=len(logs), n_configurations=len(logs),
        coefficients={"slowdown": slowdown}, levels={}, intervals={},
    )  # fmt: skip
    write_record(
        record, options.out,
        fitted=datetime.date.fromisoformat(os.environ.get("FIT_DATE", datetime.date.today().isoformat())),
    )  # fmt: skip


if __name__ == "__main__":
    main()
