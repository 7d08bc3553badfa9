"""Write the operator traces of timm's architectures to ``catalogs/traces``.

Usage: ``python -m accuracy.vision.trace_timm [--speed ../shared/data/timm_speed.csv] [--only REGEX] [--jobs 1]``

Needs torch and timm (any CPU build). torchvision is not needed: the few names that timm imports from it are
stood in for, because no weight is loaded and no image is transformed here.
"""

from __future__ import annotations

import argparse
import csv
import enum
import importlib.machinery
import importlib.util
import multiprocessing
import re
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accuracy.vision.trace_tables import COUNTS, KEYS, TRACES, class_rows, counts, write_table
from willitrun.kernels.operator_work import WORK_COLUMNS

MODEL_COLUMNS = ("arch", "family", "image_size", "native", *COUNTS, "tool")
CLASS_COLUMNS = (*KEYS, "class", *WORK_COLUMNS)


Traced = tuple[dict[str, Any], list[dict[str, Any]]]


def torch_threads() -> None:
    """Keep torch of a worker to one thread."""
    import torch

    torch.set_num_threads(1)


def stand_in_for_torchvision() -> None:
    """Make torchvision importable without its compiled operators: declare two, or stand in for all of it.

    Its Python code registers shapes of ``nms`` and ``qnms``, whose schemas only the compiled part has.
    """
    if importlib.util.find_spec("torchvision") is not None:
        import torch

        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        return

    class Anything:
        def __init__(self, *_: object, **__: object) -> None: ...

    Interpolation = enum.Enum(
        "Interpolation",
        {
            n: n.lower()
            for n in ("NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")
        },
    )

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything

    from torch import nn

    class FrozenBatchNorm2d(nn.Module):
        """Never instantiated; timm only tests for its type."""

    def unavailable(*_: object, **__: object) -> None:
        raise RuntimeError("torchvision is not installed")

    for name in ("", ".transforms", ".transforms.functional", ".datasets", ".ops", ".ops.misc", ".models",
                 ".models.feature_extraction", ".utils"):  # fmt: skip
        module = Module("torchvision" + name)
        module.__path__ = []
        module.__spec__ = importlib.machinery.ModuleSpec("torchvision" + name, None, is_package=True)
        sys.modules["torchvision" + name] = module
        parent, _, leaf = ("torchvision" + name).rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = FrozenBatchNorm2d  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms"].InterpolationMode = Interpolation  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].InterpolationMode = Interpolation  # type: ignore[attr-defined]
    extraction = sys.modules["torchvision.models.feature_extraction"]
    extraction.create_feature_extractor = unavailable  # type: ignore[attr-defined]
    extraction.get_graph_node_names = unavailable  # type: ignore[attr-defined]


def build(name: str, size: int | None) -> tuple[Any, int]:
    """Build a timm model on the meta device at an image size, re-parameterised as it is deployed."""
    import timm
    import torch
    from timm.utils.model import reparameterize_model

    def create(device: str, **extra: Any) -> Any:
        with torch.device(device):
            return timm.create_model(name, pretrained=False, **extra).eval()

    extra: dict[str, Any] = {} if size is None else {"img_size": size}
    try:
        model = create("meta", **extra)
    except TypeError:  # this architecture takes no image size when it is built
        extra = {}
        model = create("meta")
    except RuntimeError:  # its constructor computes with values, which meta tensors lack
        model = create("cpu", **extra)
    native = int(model.pretrained_cfg.get("input_size", (3, 224, 224))[-1])
    try:
        model = reparameterize_model(model)
    except (RuntimeError, NotImplementedError):  # folding needs values
        model = reparameterize_model(create("cpu", **extra))
    return model, native


def trace(name: str, size: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trace one architecture; returns the model row and the class rows."""
    import timm
    import torch

    from willitrun.interop.tracing import trace_module

    model, native = build(name, size)
    size = size or native
    result = trace_module(model, torch.empty(1, 3, size, size, device="meta"))
    key = {"arch": name, "image_size": size}
    family = timm.models._registry._model_to_module[name]
    head = {
        **key,
        "family": family,
        "native": int(size == native),
        **counts(result),
        "tool": f"timm {timm.__version__}",
    }
    return head, class_rows(result, key)


def trace_sizes(job: tuple[str, tuple[int, ...], bool]) -> tuple[list[Traced], list[tuple[str, str, str]]]:
    """Trace one architecture at its native size and at others; returns what was traced and what failed."""
    warnings.simplefilter("ignore")
    stand_in_for_torchvision()
    name, sizes, more = job
    traced: list[Traced] = []
    skipped: list[tuple[str, str, str]] = []
    todo: list[int | None] = [None, *sizes]
    done: set[int] = set()
    while todo:
        size = todo.pop(0)
        if size in done or size == 0:
            continue
        try:
            head, rows = trace(name, size)
        except Exception as error:  # noqa: BLE001 - whatever fails to trace is listed, not shipped
            skipped.append((name, str(size), f"{type(error).__name__}: {error}"[:160].replace("\n", " ")))
            continue
        done.add(head["image_size"])
        traced.append((head, rows))
        if size is None and more:
            native = head["image_size"]
            # 32 suits convolution pyramids and patches of 8, 16 and 32; 56 suits patches of 14.
            step = 56 if "patch14" in name else 32
            todo += [native * part // 4 // step * step for part in (3, 6)]
    return traced, skipped


def wanted_sizes(speed: Iterable[Path]) -> dict[str, set[int]]:
    """Sizes at which measurements exist, by architecture (names before any dot)."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for path in speed:
        if not path.is_file():
            continue
        with path.open(newline="") as handle:
            for row in csv.DictReader(handle):
                if row.get("img_size"):
                    sizes[row["model"].split(".")[0]].add(int(float(row["img_size"])))
    return sizes


def resolve(name: str) -> str | None:
    """Current name of an architecture that timm has renamed, or None."""
    import timm
    from timm.models._registry import _deprecated_models

    if timm.is_model(name) and name not in _deprecated_models:
        return name
    target = _deprecated_models.get(name)
    if target:
        return str(target).split(".")[0]
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=Path, nargs="*", default=[])
    parser.add_argument("--only", default=".*")
    parser.add_argument("--extra-sizes", action="store_true", help="also 0.75x and 1.5x of the native size")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=TRACES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    stand_in_for_torchvision()
    import timm

    names = {n for n in timm.list_models() if re.fullmatch(options.only, n)}
    measured = wanted_sizes(options.speed)
    aliases = {old: new for old in measured if (new := resolve(old)) and new != old}
    wanted: dict[str, set[int]] = {name: set() for name in names}
    for old, sizes in measured.items():
        arch = aliases.get(old, old)
        if arch in wanted:
            wanted[arch] |= sizes
    heads: dict[str, list[dict[str, Any]]] = defaultdict(list)
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    skipped: list[tuple[str, str, str]] = []
    jobs = [(name, tuple(sorted(wanted[name])), options.extra_sizes) for name in sorted(wanted)]
    with multiprocessing.get_context("spawn").Pool(options.jobs, torch_threads, maxtasksperchild=200) as pool:
        for count, (traced, failed) in enumerate(pool.imap(trace_sizes, jobs)):
            skipped += failed
            for head, rows in traced:
                heads[head["family"]].append(head)
                tables[head["family"]].extend(rows)
            if count % 50 == 0:
                print(count, len(jobs), len(skipped), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(
        options.out / "timm-models.csv",
        MODEL_COLUMNS,
        (head for family in sorted(heads) for head in heads[family]),
    )
    for family, rows in sorted(tables.items()):
        write_table(options.out / f"timm-{family.replace('_', '-')}.csv", CLASS_COLUMNS, rows)
    pairs = [{"name": old, "arch": new} for old, new in sorted(aliases.items())]
    write_table(options.out / "timm-aliases.csv", ("name", "arch"), pairs)
    for entry in skipped:
        print("skipped", *entry)


if __name__ == "__main__":
    main()
