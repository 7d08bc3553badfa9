"""Custom builds: links, hosts, what of their memory a model gets, and that a card more never makes a plan worse."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from willitrun import (
    Machine,
    UnknownIdError,
    Workload,
    assess,
    describe_machine,
    effective_memory,
    load_catalog,
)
from willitrun.cli.app import app
from willitrun.estimators.inverse import TIER_ORDER
from willitrun.estimators.requests import complete_request
from willitrun.estimators.topology import PCIE_HOP_S, group_link, host_numbers
from willitrun.planning.builds import best_of_subsets, subsets

CARDS = ["rtx-3060-12gb", "rtx-3090", "rtx-4090", "nvidia-geforce-gtx-1080-ti", "rx-7900-xtx"]
BUILDS = st.lists(st.sampled_from(CARDS), min_size=1, max_size=4)


def speed(spec: object, **more: object) -> float:
    found = assess("llama-3.1-8b", spec, quantization="q4_k_m", **more).speed  # type: ignore[arg-type]
    assert found is not None
    assert found.decode_tokens_per_s is not None
    return found.decode_tokens_per_s.best


def test_a_link_has_a_name_or_a_bandwidth() -> None:
    two = {"accelerators": ["rtx-3090"] * 2}
    (named,) = describe_machine(two | {"links": "10gbe"}).links
    assert named.kind == "ethernet"
    assert named.bandwidth_bytes_per_s == 1.25e9
    (stated,) = describe_machine(two | {"links": {"kind": "10gbe", "bandwidth": "1.1 GB/s"}}).links
    assert stated.bandwidth_bytes_per_s == 1.1e9
    with pytest.raises(UnknownIdError) as caught:
        describe_machine(two | {"links": "10gbee"})
    assert caught.value.suggestions


def test_a_network_costs_time_and_is_named() -> None:
    one_host = speed(["rtx-3090"] * 2)
    slow, fast = (speed({"accelerators": ["rtx-3090"] * 2, "links": link}) for link in ("1gbe", "100gbe"))
    assert slow < fast < one_host
    verdict = assess(
        "llama-3.1-8b", {"accelerators": ["rtx-3090"] * 2, "links": "1gbe"}, quantization="q4_k_m"
    )
    assert "over-network" in [reason.code for reason in verdict.reasons]
    assert "--rpc HOST1:50052" in verdict.commands[0]
    assert "--rpc" not in assess("llama-3.1-8b", ["rtx-3090"] * 2, quantization="q4_k_m").commands[0]
    assert assess(
        "llama-3.3-70b", {"accelerators": ["rtx-3090"] * 2, "links": "1gbe"}, quantization="q4_k_m"
    ).feasible


def test_an_ethernet_link_names_the_first_card_of_each_host() -> None:
    cards = ["rtx-3090"] * 4
    two = describe_machine({"accelerators": cards, "links": [{"kind": "10gbe", "devices": [0, 2]}]})
    four = describe_machine({"accelerators": cards, "links": "10gbe"})
    assert host_numbers(two) == (0, 0, 1, 1)
    assert host_numbers(four) == (0, 1, 2, 3)
    assert host_numbers(describe_machine(cards)) == (0, 0, 0, 0)
    assert speed(cards) > speed(two) > speed(four)


def test_pairs_of_nvlink_do_not_make_a_ring() -> None:
    pairs = [{"kind": "nvlink", "devices": [0, 1], "bandwidth": "56 GB/s"}, {"kind": "nvlink", "devices": [2, 3], "bandwidth": "56 GB/s"}]  # fmt: skip
    machine = describe_machine({"accelerators": ["rtx-3090"] * 4, "links": pairs})
    own = [(16e9, 6e-6, 3.5e-6)] * 4
    assert group_link(machine, (0, 1), own[:2], tensor=True).bytes_per_s == 56e9
    assert group_link(machine, (0, 1, 2, 3), own, tensor=True).bytes_per_s == 16e9
    between = group_link(machine, (0, 1, 2, 3), own, tensor=False).bytes_per_s
    assert 16e9 < between < 56e9


def test_a_crossing_by_rpc_costs_what_the_calibration_says() -> None:
    machine = describe_machine({"accelerators": ["rtx-3090"] * 2, "links": "10gbe"})
    own = [(16e9, 6e-6, 3.5e-6)] * 2
    hop_s = load_catalog().calibrations["network"].coefficients["rpc_hop_s"]
    assert group_link(machine, (0, 1), own, tensor=False, rpc_hop_s=hop_s).hop_s == hop_s
    assert group_link(machine, (0, 1), own, tensor=False).hop_s == PCIE_HOP_S
    verdict = assess("llama-3.1-8b", machine, quantization="q4_k_m")
    told = {reason.code: reason.message for reason in verdict.reasons}
    assert f"{1e3 * hop_s:.2g} ms" in told["over-network"]


def test_an_external_card_is_as_far_as_its_cable() -> None:
    load = Workload(context_tokens=4096)
    asked = {"quantization": "q4_k_m", "workload": load}
    inside = assess("qwen3-30b-a3b", {"accelerators": ["rtx-3060-12gb"]}, **asked).speed  # type: ignore[arg-type]
    outside = assess(
        "qwen3-30b-a3b", {"accelerators": ["rtx-3060-12gb"], "links": "thunderbolt-3"}, **asked
    ).speed  # type: ignore[arg-type]
    assert inside is not None
    assert outside is not None
    assert outside.prefill_tokens_per_s.best < inside.prefill_tokens_per_s.best  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "spec",
    [
        {"accelerators": ["rtx-3090"] * 4, "links": [{"kind": "10gbe", "devices": [0, 2]}]},
        {"accelerators": ["rtx-4090", "rtx-3060-12gb"], "links": [{"kind": "thunderbolt-4", "devices": [1]}]},
        {"accelerators": ["a100-sxm4-80gb"] * 2, "links": "nvlink"},
    ],
    ids=str,
)
def test_links_travel_with_the_build(spec: dict[str, object]) -> None:
    machine = describe_machine(spec)
    again = Machine.from_query(machine.to_query())
    assert again.links == machine.links
    assert speed(again) == speed(machine)


@settings(max_examples=25, deadline=None)
@given(BUILDS, st.sampled_from(["llama.cpp", "vllm"]), st.booleans())
def test_installed_less_deductions_is_effective(cards: list[str], runtime: str, windows: bool) -> None:
    spec = {"accelerators": cards, "host": {"os": "windows" if windows else "linux"}}
    found = effective_memory(
        spec, runtime=runtime, quantization="q4_k_m" if runtime == "llama.cpp" else "awq-int4"
    )
    lost = sum(one.bytes for one in found.deductions if one.device != "host")
    assert found.installed_bytes - lost == found.effective_bytes
    assert found.effective_bytes == sum(device.effective_bytes for device in found.devices)
    assert found.effective_bytes < found.installed_bytes
    assert found.largest_device_bytes <= max(device.installed_bytes for device in found.devices)
    assert found.pooled == (sum(device.effective_bytes > 0 for device in found.devices) == 1)


def test_unified_memory_counts_once() -> None:
    found = effective_memory("m3-max-40gpu:64 GiB")
    assert found.installed_bytes == 64 << 30
    assert found.pooled
    assert found.host_bytes == 0
    two = effective_memory({"accelerators": ["strix-halo:128 GiB"] * 2, "links": "5gbe"})
    assert two.installed_bytes == 256 << 30
    assert not two.pooled
    host = effective_memory("cpu")
    assert host.split == "host"


def test_subsets_keep_the_network() -> None:
    spec = {"accelerators": ["rtx-3090", "rtx-3060-12gb", "rtx-4090"], "links": "10gbe"}
    assert all(
        len(set(host_numbers(one))) == len(one.accelerators) for one in subsets(describe_machine(spec))
    )
    spec["links"] = [{"kind": "10gbe", "devices": [0, 2]}]
    found = {tuple(d.accelerator.name for d in one.accelerators): host_numbers(one) for one in subsets(describe_machine(spec))}  # fmt: skip
    assert found["NVIDIA GeForce RTX 3060 12GB", "NVIDIA GeForce RTX 4090"] == (0, 1)
    assert found["NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3060 12GB"] == (0, 0)


MODELS = ["llama-3.1-8b", "qwen3-32b", "llama-3.3-70b"]


@settings(max_examples=20, deadline=None)
@given(BUILDS, st.sampled_from(CARDS), st.sampled_from(MODELS), st.sampled_from(["llama.cpp", "vllm"]))
def test_a_card_more_never_loses_feasibility(cards: list[str], more: str, model: str, runtime: str) -> None:
    def best(chosen: list[str]) -> int:
        request = complete_request(
            model, chosen, Workload(context_tokens=8192),
            quantization="q4_k_m" if runtime == "llama.cpp" else "awq-int4", runtime=runtime, catalog=load_catalog(),
        )  # fmt: skip
        return TIER_ORDER[best_of_subsets([request], key=lambda one: TIER_ORDER[one.tier]).tier]

    assert best([*cards, more]) >= best(cards)


def test_on_the_command_line() -> None:
    run = CliRunner().invoke(
        app, ["build", "--on", "rtx-3090,rtx-3060-12gb", "--link", "10gbe:0,1", "--ram", "64 GiB", "--json"]
    )
    assert run.exit_code == 0, run.output
    found = json.loads(run.output)
    assert [device["host"] for device in found["devices"]] == [0, 1]
    shared = Machine.from_query(found["query"])
    assert shared.host.ram_total_bytes == 64 << 30
    assert "link=ethernet" in found["query"]
    wrong = CliRunner().invoke(app, ["build", "--on", "rtx-3090", "--link", "10gbe:x"])
    assert wrong.exit_code == 2
    assert "<table>" in effective_memory("rtx-3090")._repr_html_()
