"""Work terms of a row by the library's own inventory, so that the fit sees what the landed code computes."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from accuracy.speed.architectures import read_quantization
from willitrun import WillItRunError, describe_model, load_catalog
from willitrun.estimators.llm_models import ModelRow, model_row
from willitrun.kernels.columns import columns_of
from willitrun.kernels.llm_block import work_of
from willitrun.kernels.llm_inputs import LlmWork

#: Catalog ids of formats that the data writes in many ways.
FORMATS = {"exl2": "exl2-4.0", "mlx4": "mlx-4bit", "mlx8": "mlx-8bit", "int4": "awq-int4"}


@lru_cache(maxsize=4096)
def quantization_of(text: str) -> str | None:
    """A quantization id of the catalog for a spelling found in the data, None where there is none."""
    catalog = load_catalog()
    lowered = text.strip().lower().replace(" ", "")
    for name in (lowered, lowered.replace("-", "_"), lowered.split("/")[0]):
        if catalog.quantizations.named(name):
            return catalog.quantizations.named(name)[0]
    found = read_quantization(text)
    if found is None:
        return None
    key, identifier = found
    for name in (FORMATS.get(key, ""), identifier):
        if name and catalog.quantizations.named(name):
            return catalog.quantizations.named(name)[0]
    return None


@lru_cache(maxsize=4096)
def _row(model: str, quantization: str, container: str) -> ModelRow | None:
    catalog = load_catalog()
    try:
        described = describe_model(model, catalog=catalog)
        return model_row(described, catalog.quantizations[quantization], container, catalog)
    except WillItRunError:
        return None


def library_work(
    model: str,
    quantization: str | None,
    container: str,
    *,
    kv_bytes_per_value: float,
    stated_bytes: float | None,
) -> dict[str, float] | None:
    """The fields of `LlmWork`, None where the library has no architecture or no rule.

    A stated file size scales layers and experts so that the file adds up, within 30 %: publishers mix types.
    """
    if quantization is None:
        return None
    row = _row(model, quantization, container)
    if row is None:
        return None
    work = work_of(columns_of([row]), kv_bytes_per_value, kv_bytes_per_value)
    found = {field.name: float(getattr(work, field.name)[0]) for field in fields(LlmWork)}
    body = found["dense_bytes"] + found["expert_bytes"]
    if stated_bytes and body > 0:
        scale = (stated_bytes - (row.total_bytes - body)) / body
        if 0.7 < scale < 1.3:
            found["dense_bytes"] *= scale
            found["expert_bytes"] *= scale
    return found
