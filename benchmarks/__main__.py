"""Import cost, first verdicts, warm verdicts, look-ups and sweep rows per second, each beside its target.

    python -m benchmarks [--json] [--quick]

Cold figures are those of a fresh process whose bytecode lies in a cache of its own, as an installed package's does.
Warm figures are of calls whose load was never asked before. A target is met where the best of the repeats meets it:
what else the machine does only adds to a time. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

COLD = {
    "bare interpreter [ms]": "pass",
    "import willitrun [ms]": "import willitrun",
    "import numpy, pydantic [ms]": "import numpy, pydantic",
    "one alias look-up [ms]": "from willitrun import load_catalog; load_catalog().resolve('accelerator', 'rtx-4090')",
    "whole catalog [ms]": "from willitrun import load_catalog\nfrom willitrun.catalog.layout import KINDS\n"
    "c = load_catalog()\nfor kind in KINDS: [c.table(kind)[i] for i in c.table(kind)]",
    "first assess, LLM [ms]": "from willitrun import assess; assess('llama-3.1-8b', 'rtx-4090', quantization='q4_k_m')",
    "first assess, ResNet-50 [ms]": "from willitrun import assess; assess('resnet-50', 'rtx-3060-12gb')",
}
BARE, THIRD_PARTY = "bare interpreter [ms]", "import numpy, pydantic [ms]"
MEMORY_CODE = (
    "import numpy, pydantic, resource\nof = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = of()\n"
    "{}\nprint((of() - before) / 1024)"
)
PASSES, QUICK_PASSES = 12, 3


@dataclass(frozen=True)
class Figure:
    """One timing: the best and the median of its repeats, and what is owed."""

    name: str
    best: float
    median: float
    target: float | None = None
    less: float = 0.0
    """What the target leaves out, such as the import of other packages."""
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the best meets the target; None without one."""
        if self.target is None:
            return None
        return self.best >= self.target if self.at_least else self.best - self.less < self.target

    def line(self) -> str:
        """The figure as a line of the table."""
        owed = ""
        if self.target is not None:
            beyond = f" beyond {self.less:,.0f}" if self.less else ""
            owed = f"{'>=' if self.at_least else '<'} {self.target:,.0f}{beyond}"
        return (
            f"{self.name:46} {self.best:13,.1f} {self.median:13,.1f}   {owed:22} "
            f"{ {None: '', True: 'met', False: 'MISSED'}[self.met] }"
        )


def run(code: str, cache: str) -> str:
    """Run code in a fresh interpreter that keeps its bytecode in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout


def cold_figures(repeats: int, cache: str) -> list[Figure]:
    """Wall time of fresh interpreters, and time of the processor [ms]; the first of each fills the cache.

    On a machine that others use the wall clock tells how busy they are; of the two the processor's time says what
    a start costs.
    """
    found: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    for code in COLD.values():
        run(code, cache)
    # Taken in turns, so that a busy spell of the machine spoils one of each and not all of one.
    for _ in range(repeats):
        for name, code in COLD.items():
            start, used = time.perf_counter(), _children_s()
            run(code, cache)
            found.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
            busy.setdefault(name, []).append(1e3 * (_children_s() - used))
    figures = [
        figure
        for times_of, label in ((found, "[ms]"), (busy, "[ms of processor]"))
        for figure in _beside_targets(times_of, label)
    ]
    held = [float(run(MEMORY_CODE.format(COLD["whole catalog [ms]"]), cache)) for _ in range(3)]
    return [*figures, Figure("whole catalog, memory [MiB]", min(held), statistics.median(held), 60e6 / 2**20)]


def _children_s() -> float:
    """Time of the processor that finished child processes took [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _beside_targets(times_of: dict[str, list[float]], label: str) -> list[Figure]:
    best = {name: min(times) for name, times in times_of.items()}
    targets = {
        "import willitrun [ms]": (2 * best[BARE], 0.0),
        "one alias look-up [ms]": (60.0, best[THIRD_PARTY]),
        "whole catalog [ms]": (600.0, best[THIRD_PARTY]),
        "first assess, LLM [ms]": (400.0, 0.0),
        "first assess, ResNet-50 [ms]": (400.0, 0.0),
    }
    return [
        Figure(
            name.replace("[ms]", label), best[name], statistics.median(times), *targets.get(name, (None, 0.0))
        )
        for name, times in times_of.items()
    ]


WARM_TARGETS = {
    "warm assess, 7B to 8B [us]": 1000.0,
    "warm assess with remedies, 32B to 671B [us]": 1000.0,
    "warm estimate_memory [us]": 200.0,
    "warm estimate_memory, no machine [us]": 200.0,
    "warm estimate_speed, language model [us]": 300.0,
    "warm assess, image model [us]": 1000.0,
    "warm estimate_speed, image model [us]": 500.0,
}


def sweep_figure(repeats: int) -> Figure:
    """Rows per second of LLM sweeps with tier and intervals, by the processor's clock of one core."""
    from benchmarks.sweeps import LANGUAGE, cards
    from willitrun import plan

    arguments = LANGUAGE | {"machines": cards(100)}
    plan(**arguments)
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        rows = len(plan(**arguments))
        rates.append(rows / (time.process_time() - start))
    return Figure("LLM sweep [rows/s]", max(rates), statistics.median(rates), 2e6, at_least=True)


def main() -> None:
    """Print a table, or JSON for comparison between commits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", action="store_true", help="figures with targets, for comparison between commits"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats, no sweep")
    options = parser.parse_args()
    repeats, passes = (3, QUICK_PASSES) if options.quick else (7, PASSES)
    with tempfile.TemporaryDirectory() as cache:
        figures = cold_figures(repeats, cache)

    from benchmarks.scenarios import warm_figures

    figures += [
        Figure(name, best, median, WARM_TARGETS.get(name))
        for name, (best, median) in warm_figures(passes).items()
    ]
    if not options.quick:
        figures.append(sweep_figure(3))
    if options.json:
        print(json.dumps([asdict(figure) | {"met": figure.met} for figure in figures], indent=2))
        return
    print(f"{'':46} {'best':>13} {'median':>13}   {'owed':22}")
    for figure in figures:
        print(figure.line())


if __name__ == "__main__":
    main()
