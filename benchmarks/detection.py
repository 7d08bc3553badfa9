"""How long `detect()` takes here: the first call of a process, and warm ones. Target: under 150 ms warm without a GPU."""

from __future__ import annotations

import statistics
import time


def main() -> None:
    began = time.perf_counter()
    from willitrun import detect

    detect()
    first = time.perf_counter() - began
    spent = []
    for _ in range(20):
        began = time.perf_counter()
        machine = detect()
        spent.append(time.perf_counter() - began)
    print(f"detect(), first call with its imports: {first * 1e3:.0f} ms")
    print(
        f"detect(), warm: median {statistics.median(spent) * 1e3:.1f} ms, slowest of 20 {max(spent) * 1e3:.1f} ms"
    )
    slowest = sorted(machine.probes, key=lambda report: -report.duration_s)[:3]
    for report in slowest:
        print(f"  {report.probe}: {report.duration_s * 1e3:.1f} ms ({report.status})")


if __name__ == "__main__":
    main()
