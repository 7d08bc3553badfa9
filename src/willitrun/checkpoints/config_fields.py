"""Fields of a config: looked up under every name that projects use for them, checked, never guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping

from willitrun.checkpoints.json_reading import shown
from willitrun.errors import CorruptCheckpointError

__all__ = ["SYNONYMS", "ConfigFields", "missing"]

MAX_COUNT = 1 << 40
"""No width, length or count of a model comes near it."""
MAX_LAYERS = 4096

# Canonical name (the field of `TransformerConfig`) and the other spellings, in order of precedence.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "decoder_layers"),
    "hidden_size": ("n_embd", "d_model", "n_embed", "dim"),
    "intermediate_size": (
        "n_inner",
        "ffn_hidden_size",
        "block_ff_dim",
        "decoder_ffn_dim",
        "hidden_dim",
        "ffn_dim",
    ),
    "num_attention_heads": ("n_head", "n_heads", "decoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "head_dim": ("attention_head_dim", "kv_channels"),
    "vocab_size": ("padded_vocab_size",),
    "tie_word_embeddings": ("tie_embedding",),
    "max_position_embeddings": ("n_positions", "max_seq_len", "max_sequence_length", "max_target_positions"),
    "hidden_act": ("hidden_activation", "activation_function", "activation", "mlp_hidden_act"),
    "attention_bias": ("qkv_bias", "use_qkv_bias"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("moe_topk", "moe_k", "top_k_experts", "num_experts_per_token"),
    "n_shared_experts": ("num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "shared_expert_intermediate_size": ("shared_intermediate_size", "moe_shared_expert_intermediate_size"),
    "first_k_dense_replace": ("num_dense_layers", "moe_layer_start_index"),
    "moe_layer_interval": (
        "moe_layer_freq",
        "decoder_sparse_step",
        "interleave_moe_layer_step",
        "expert_layer_period",
    ),
    "num_nextn_predict_layers": ("num_mtp_layers", "mtp_num_hidden_layers"),
    "mamba_d_conv": ("conv_kernel", "conv_L_cache", "d_conv"),
    "mamba_d_state": ("ssm_state_size", "state_size", "d_state"),
    "mamba_n_groups": ("n_groups", "ngroups"),
    "mamba_num_heads": ("mamba_n_heads", "num_heads"),
    "mamba_dt_rank": ("time_step_rank",),
    "mamba_expand": ("expand",),
    "mamba_head_width": ("mamba_head_dim", "mamba_d_head"),
}


class ConfigFields:
    """A config's values under canonical names, with defaults behind them.

    Parameters
    ----------
    given
        Keys of ``config.json`` as written.
    defaults
        What the configuration class takes for keys that are not there. A key given as null is not absent.
    what
        Name of the config, for messages.
    """

    def __init__(
        self,
        given: Mapping[str, object],
        defaults: Mapping[str, object] | None = None,
        what: str = "config.json",
    ) -> None:
        self.what = what
        self._given = given
        self._defaults = defaults or {}

    def raw(self, name: str) -> object:
        """The value as written, or the default; None where there is neither."""
        for source in (self._given, self._defaults):
            for spelling in (name, *SYNONYMS.get(name, ())):
                if spelling in source:
                    return source[spelling]
        return None

    def states(self, name: str) -> bool:
        """Whether the config itself gives the field a value."""
        return any(self._given.get(spelling) is not None for spelling in (name, *SYNONYMS.get(name, ())))

    def count(self, name: str, *, least: int = 0, most: int = MAX_COUNT) -> int | None:
        """A whole number, or None where the config has none."""
        value = self.raw(name)
        if value is None:
            return None
        if (
            isinstance(value, list)
            and 0 < len(value) <= MAX_LAYERS
            and all(item == value[0] for item in value)
        ):
            # Written once per layer, and the same for all.
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise CorruptCheckpointError(
                f"{self.what}: {name} is {shown(value)}; a whole number from {least} to {most} is expected."
            )
        return value

    def positive(self, name: str, *, most: int = MAX_COUNT) -> int | None:
        """A whole number above zero; a stated zero counts as absent, as writers use it so."""
        return self.count(name, most=most) or None

    def required(self, name: str, *, most: int = MAX_COUNT) -> int:
        """A whole number above zero that the model can't be described without."""
        value = self.count(name, least=1, most=most)
        if value is None:
            raise missing(self.what, name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise CorruptCheckpointError(f"{self.what}: {name} is {shown(value)}; true or false is expected.")
        return value

    def word(self, name: str) -> str | None:
        """A short printable string; an empty one counts as absent."""
        value = self.raw(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
            raise CorruptCheckpointError(f"{self.what}: {name} is {shown(value)}; a short text is expected.")
        return value

    def ratio(self, name: str) -> float | None:
        """A finite number above zero."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise CorruptCheckpointError(f"{self.what}: {name} is {shown(value)}; a number is expected.")
        return float(value)

    def block(self, name: str) -> Mapping[str, object] | None:
        """A nested object."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise CorruptCheckpointError(f"{self.what}: {name} is {shown(value)}; an object is expected.")
        return value

    def items(self, name: str) -> tuple[object, ...] | None:
        """A list of at most a few thousand items."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > MAX_LAYERS:
            raise CorruptCheckpointError(f"{self.what}: {name} is {shown(value)}; a short list is expected.")
        return tuple(value)

    def side(self, name: str) -> int | None:
        """A size in pixels: one number, or the larger of two."""
        value = self.raw(name)
        if isinstance(value, Mapping):
            value = [value.get("height"), value.get("width")]
        if isinstance(value, list | tuple):
            if not value or len(value) > 3 or not all(type(item) is int for item in value):
                raise CorruptCheckpointError(f"{self.what}: {name} is {shown(value)}; a size is expected.")
            value = max(value[-2:])
        return ConfigFields({name: value}, what=self.what).positive(name, most=1 << 20)


def missing(what: str, name: str) -> CorruptCheckpointError:
    """The error for a config without a field that has no safe default."""
    spellings = ", ".join(SYNONYMS.get(name, ()))
    return CorruptCheckpointError(
        f"{what} does not give {name}{f' (or {spellings})' if spellings else ''}.",
        code="missing-key",
        hint="Nothing is guessed: add the key, or describe the checkpoint's own files.",
    )
