"""How figures of other runtimes are read."""

from __future__ import annotations

import pytest

pytest.importorskip("pandas")

from accuracy.memory.others import _format

from willitrun import describe_model, load_catalog
from willitrun.estimators.llm_models import model_row


@pytest.mark.parametrize("mix", ["q4_k_m", "q4_0", "q5_k_s"])
def test_the_size_of_layers_tells_the_mix(mix: str) -> None:
    model, catalog = describe_model("llama-3.1-70b"), load_catalog()
    layers = model_row(model, catalog.quantizations[mix], "gguf", catalog).repeating
    assert _format(model, layers * 1.002) == mix


def test_a_size_of_no_mix_tells_none() -> None:
    assert _format(describe_model("qwen2.5-7b"), 3.3 * 2**30) is None
