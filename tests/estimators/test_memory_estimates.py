"""Memory without a machine: counted where nothing is offloaded, and derived once."""

from __future__ import annotations

from willitrun import estimate_memory, load_catalog


def test_asking_again_without_a_machine_derives_nothing_anew() -> None:
    catalog = load_catalog()
    first = estimate_memory("llama-3.1-8b", quantization="q4_k_m")
    kept = len(catalog.memo("lowered"))
    assert estimate_memory("llama-3.1-8b", quantization="q4_k_m") == first
    assert len(catalog.memo("lowered")) == kept
