"""Recipes that callers write by hand: what they show of themselves."""

from __future__ import annotations

import inspect

from willitrun.records.recipes import Placement, Runtime, Workload


def test_a_recipe_shows_only_what_was_said() -> None:
    assert repr(Workload(batch_size=4, precision="fp16")) == "Workload(batch_size=4, precision='fp16')"
    assert str(Placement()) == "Placement()"
    assert repr(Runtime(name="vllm", max_num_seqs=8)) == "Runtime(name='vllm', max_num_seqs=8)"


def test_the_signature_lists_the_fields() -> None:
    for recipe in (Workload, Runtime, Placement):
        assert list(inspect.signature(recipe).parameters) == list(recipe.model_fields)
