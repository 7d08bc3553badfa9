"""The numbers behind the terms of a decode step: what `explain` fills into their equations.

Equations are written with the names of these inputs, so that a reader can put the values in place and get the
term. Nothing is computed here: every number is a column that the kernel read or wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from willitrun.kernels.columns import at

if TYPE_CHECKING:
    from willitrun.estimators.llm_evaluation import EvaluatedLlm

__all__ = ["DECODE_EQUATIONS", "decode_inputs"]

Inputs = dict[str, float | int | str]

DECODE_EQUATIONS = {
    "dense-weights": "dense_bytes / ranks x k_weights / memory_bytes_per_s, its share of the smooth maximum",
    "lm-head": "lm_head_bytes / ranks x k_weights / memory_bytes_per_s, its share of the smooth maximum",
    "expert-weights": "expert_bytes x share of experts hit / expert_shards x k_weights x k_experts / memory_bytes_per_s, "
    "its share of the smooth maximum",
    "kv-cache": "sequences x depth_tokens x kv_bytes_per_token / ranks x k_kv / memory_bytes_per_s (chosen_kv_bytes_per_token "
    "of it for chosen_tokens at most, where an indexer chooses), its share of the smooth maximum",
    "recurrent-state": "sequences x state_bytes x k_kv / memory_bytes_per_s, its share of the smooth maximum",
    "load-issue": "read_bytes x k_fetch / unit_cycles_per_s, its share of the smooth maximum",
    "unpacking": "weights touched x k_unpack / unit_cycles_per_s, its share of the smooth maximum",
    "linear-compute": "2 x sequences x active weights / ranks x k_linear / compute_flop_per_s, "
    "its share of the smooth maximum",
    "attention-compute": "4 x sequences x attention_width x depth_tokens / ranks x k_attention / attention_flop_per_s, "
    "its share of the smooth maximum",
    "host-weights": "bytes in host memory x k_host / host_bytes_per_s",
    "host-crossings": "k_host_layer x moe_layers x share of experts on the host",
    "collectives": "2 all-reduces per layer: k_hop x (link_latency_s + link_peer_s x (ranks - 2)) + "
    "k_link x bytes x 2 (ranks - 1) / ranks / link_bytes_per_s",
    "step-launch": "o_step_s",
    "layer-launch": "o_layer_s x layers, each counted by the kernels it starts",
    "moe-launch": "o_moe_layer_s x moe_layers",
    "sequence-bookkeeping": "o_sequence_s x sequences",
}
"""How each addend of a decode step follows from its inputs."""

# Term -> (name shown, block part, field); the parts are the kernel's own columns.
_SOURCES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "dense-weights": (
        ("dense_bytes", "work", "dense_bytes"),
        ("ranks", "load", "tensor"),
        ("k_weights", "coefficients", "weights"),
        ("memory_bytes_per_s", "rates", "memory_bytes_per_s"),
        ("sequences", "speed", "effective_concurrency"),
    ),
    "lm-head": (
        ("lm_head_bytes", "work", "lm_head_bytes"),
        ("ranks", "load", "tensor"),
        ("k_weights", "coefficients", "weights"),
        ("memory_bytes_per_s", "rates", "memory_bytes_per_s"),
    ),
    "expert-weights": (
        ("expert_bytes", "work", "expert_bytes"),
        ("n_experts", "work", "n_experts"),
        ("n_experts_used", "work", "n_experts_used"),
        ("expert_shards", "load", "expert_shards"),
        ("k_experts", "coefficients", "experts"),
    ),
    "kv-cache": (
        ("depth_tokens", "load", "context_tokens"),
        ("kv_bytes_per_token", "work", "kv_bytes_per_token"),
        ("windowed_kv_bytes_per_token", "work", "windowed_kv_bytes_per_token"),
        ("chosen_kv_bytes_per_token", "work", "selected_kv_bytes_per_token"),
        ("chosen_tokens", "work", "selected_tokens"),
        ("k_kv", "coefficients", "kv"),
    ),
    "recurrent-state": (("state_bytes", "work", "state_bytes"), ("k_kv", "coefficients", "kv")),
    "load-issue": (
        ("read_bytes", "speed", "step_read_bytes"),
        ("k_fetch", "coefficients", "fetch"),
        ("unit_cycles_per_s", "rates", "issue_per_s"),
    ),
    "unpacking": (
        ("dense_weights", "work", "dense_params"),
        ("expert_weights", "work", "expert_params"),
        ("k_unpack", "coefficients", "unpack"),
        ("unit_cycles_per_s", "rates", "issue_per_s"),
    ),
    "linear-compute": (
        ("flop", "speed", "step_flop"),
        ("k_linear", "coefficients", "linear"),
        ("compute_flop_per_s", "rates", "compute_flop_per_s"),
    ),
    "attention-compute": (
        ("attention_width", "work", "attention_width"),
        ("depth_tokens", "load", "context_tokens"),
        ("k_attention", "coefficients", "attention"),
        ("attention_flop_per_s", "rates", "attention_flop_per_s"),
    ),
    "host-weights": (
        ("host_dense_fraction", "load", "host_dense_fraction"),
        ("host_expert_fraction", "load", "host_expert_fraction"),
        ("k_host", "coefficients", "host"),
        ("host_bytes_per_s", "rates", "host_bytes_per_s"),
    ),
    "host-crossings": (
        ("k_host_layer", "coefficients", "host_layer"),
        ("moe_layers", "work", "n_moe_layers"),
        ("host_expert_fraction", "load", "host_expert_fraction"),
    ),
    "collectives": (
        ("ranks", "load", "tensor"),
        ("layers", "work", "n_layers"),
        ("link_bytes_per_s", "rates", "link_bytes_per_s"),
        ("link_latency_s", "rates", "link_latency_s"),
        ("link_peer_s", "rates", "link_peer_s"),
        ("k_hop", "coefficients", "hop"),
        ("k_link", "coefficients", "link"),
    ),
    "step-launch": (("o_step_s", "coefficients", "step"),),
    "layer-launch": (
        ("o_layer_s", "coefficients", "layer"),
        ("layers", "work", "n_launched"),
    ),
    "moe-launch": (("o_moe_layer_s", "coefficients", "moe_layer"), ("moe_layers", "work", "n_moe_layers")),
    "sequence-bookkeeping": (
        ("o_sequence_s", "coefficients", "sequence"),
        ("sequences", "speed", "effective_concurrency"),
    ),
}


def decode_inputs(found: EvaluatedLlm) -> Callable[[str], Inputs]:
    """What gives the inputs of the decode terms of one row."""
    block, place = found.block, found.place
    parts = {
        "work": block.ground.work,
        "rates": block.ground.rates,
        "coefficients": block.ground.coefficients,
        "load": block.load,
        "speed": block.speed,
    }

    def inputs(term: str) -> Inputs:
        shown_inputs: Inputs = {
            shown: float(at(getattr(parts[part], field), place))
            for shown, part, field in _SOURCES.get(term, ())
        }
        if not shown_inputs.get("chosen_kv_bytes_per_token", 1.0):
            # No indexer: the other half of the equation would only puzzle.
            del shown_inputs["chosen_kv_bytes_per_token"], shown_inputs["chosen_tokens"]
        return shown_inputs

    return inputs
