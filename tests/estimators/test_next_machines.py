"""Which cards one could move to: from the catalog, by price, each with more memory than the last."""

from __future__ import annotations

import pytest

from willitrun import assess, load_catalog
from willitrun.estimators.next_machines import machines_to_buy


@pytest.mark.parametrize("vendor", ["nvidia", "amd", "intel"])
def test_every_step_has_more_memory_of_its_own(vendor: str) -> None:
    steps = machines_to_buy(load_catalog(), vendor)
    assert len(steps) > 2
    sizes = [memory for memory, _ in steps]
    assert sizes == sorted(set(sizes))
    for memory, machine in steps:
        card = machine.accelerators[0].accelerator
        assert (card.vendor, card.memory) == (vendor, memory)
        assert not card.unified_memory
        assert "laptop" not in card.form


def test_a_cheaper_card_takes_its_place() -> None:
    catalog = load_catalog()
    names = [machine.accelerators[0].accelerator.id for _, machine in machines_to_buy(catalog, "nvidia")]
    assert "nvidia-geforce-rtx-4090" not in names, "a cheaper card has as much memory"
    raw = dict(catalog.accelerators.raw("nvidia-geforce-rtx-4090"))
    cheaper = catalog.with_records(
        {"accelerator": {raw["id"]: raw | {"msrp": {"value": 1.0, "unit": "USD"}}}}
    )
    changed = [machine.accelerators[0].accelerator.id for _, machine in machines_to_buy(cheaper, "nvidia")]
    assert changed[0] == "nvidia-geforce-rtx-4090"


def test_the_next_machine_keeps_the_host_and_the_vendor() -> None:
    remedies = assess("llama-3.3-70b", "rx-7900-xtx", quantization="q4_k_m").remedies
    found = [remedy for remedy in remedies if remedy.kind == "hardware"]
    assert found
    named = found[0].arguments["machine"]
    for name in [named] if isinstance(named, str) else named:
        assert load_catalog().accelerators[name].vendor == "amd"
