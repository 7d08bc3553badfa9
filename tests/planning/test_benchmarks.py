"""Benchmarks reach into the library: they still run, whatever they find."""

from __future__ import annotations

from benchmarks import scenarios, sweeps


def test_the_memory_kernels_of_a_sweep_run() -> None:
    assert sweeps.memory_rows()() > 100_000


def test_a_scenario_of_each_kind_runs() -> None:
    for ask, models in ((scenarios.assess, scenarios.SMALL), (scenarios.estimate_memory, scenarios.LARGE)):
        call, count = scenarios.language(ask, models[:1], ("q4_k_m",))
        assert count == len(scenarios.CARDS)
        assert call(0, count - 1) is not None
