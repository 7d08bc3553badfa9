"""Fit what a stage on another host adds to a token of llama.cpp's RPC and write ``catalogs/calibrations/network.toml``.

``python -m accuracy.speed.network --data ../shared/data``

A series is one model in one format, decoded by one source on one kind of host, layers spread over a rising number of
hosts. Each further host splits the same work once more, so that the time of a token rises by what the crossing costs:
the slope of the medians by crossings. The bytes of the activations are in it; they are a few kB a token.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import re
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np

from accuracy.vision.record import CalibrationRecord, digest, write_record

RECORD = Path("catalogs/calibrations/network.toml")
_NODES = re.compile(r"rpc_nodes=(\d+)")

Series = dict[int, list[float]]


def read_series(path: Path) -> dict[tuple[str, ...], Series]:
    """Seconds per token by crossings, of each series with more than one number of hosts."""
    found: defaultdict[tuple[str, ...], Series] = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8", newline="") as stream:
        for record in csv.DictReader(stream):
            nodes = _NODES.search(record["notes"])
            if nodes is None or record["phase"] != "decode" or record["runtime"] != "llama.cpp":
                continue
            name = tuple(
                record[key] for key in ("source_id", "hardware_id", "model_norm", "quant", "backend")
            )
            found[name][int(nodes.group(1))].append(1.0 / float(record["value_tok_s"]))
    return {name: series for name, series in found.items() if len(series) > 1}


def slope_of(series: Series) -> float:
    """Seconds per crossing: least squares through the medians."""
    crossings = sorted(series)
    medians = [statistics.median(series[count]) for count in crossings]
    return float(np.polyfit(crossings, medians, 1)[0])


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with llm_speed.csv")
    path = parser.parse_args().data / "llm_speed.csv"
    series = read_series(path)
    slopes = {name: slope_of(one) for name, one in series.items()}
    for name, slope in slopes.items():
        print(f"{1e3 * slope:6.2f} ms a crossing  {' '.join(name)}")
    hop = statistics.median(slopes.values())
    others = {
        name: statistics.median(slope for other, slope in slopes.items() if other != name) for name in slopes
    }
    errors = [abs(others[name] / slope - 1.0) for name, slope in slopes.items()]
    write_record(
        CalibrationRecord(
            id="network",
            kind="network",
            method=f"llama.cpp RPC: seconds per token and crossing, the median of the slopes of {len(slopes)} series of up "
            "to four hosts; residuals from leaving series out (accuracy.speed.network)",
            data_digest=digest(path),
            n_rows=sum(len(values) for one in series.values() for values in one.values()),
            n_configurations=len(slopes),
            coefficients={"rpc_hop_s": hop},
            levels={},
            intervals={},
            residuals=[
                {
                    "held_out": "series",
                    "task": "crossing over RPC",
                    "rows": sum(len(values) for one in series.values() for values in one.values()),
                    "configurations": len(slopes),
                    "median": round(statistics.median(errors), 3),
                    "mean": round(statistics.mean(errors), 3),
                }
            ],
            support={"devices": sorted({name[1] for name in slopes})},
        ),
        RECORD,
        fitted=datetime.datetime.now(tz=datetime.UTC).date(),
    )


if __name__ == "__main__":
    main()
