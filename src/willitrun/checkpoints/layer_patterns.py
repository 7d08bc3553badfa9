"""Which layer does what, from the dozen ways in which configs say it.

Rules per ``model_type`` as in ``configuration_<model_type>.py`` of
https://github.com/huggingface/transformers (v5.23.0), method ``__post_init__``.
"""

from __future__ import annotations

from willitrun.checkpoints.config_fields import MAX_LAYERS, ConfigFields
from willitrun.checkpoints.json_reading import shown
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError

__all__ = ["LAYER_KINDS", "layer_pattern", "shortest_period"]

LAYER_KINDS = frozenset(
    {
        "full_attention",
        "sliding_attention",
        "chunked_attention",
        "cross_attention",
        "linear_attention",
        "mamba",
        "conv",
        "mlp",
        "moe",
    }
)
_WORDS = {
    "attention": "full_attention",
    "indexed_attention": "full_attention",
    "deepseek_sparse_attention": "full_attention",
    "global": "full_attention",
    "local": "sliding_attention",
    "short_conv": "conv",
    # Attention and Mamba side by side: the architecture says so for every layer.
    "hybrid": "full_attention",
}
_LETTERS = {"M": "mamba", "E": "moe", "*": "full_attention", "-": "mlp"}
_MAMBA = frozenset({"mamba", "mamba2", "falcon_mamba"})
_MAMBA_HYBRIDS = frozenset({"jamba", "bamba", "granitemoehybrid", "nemotron_h"})
# Every n-th layer has full attention, the others slide; the key that overrides n, where there is one.
_SLIDING_PERIODS = {
    "gemma2": 2,
    "gemma3_text": 6,
    "gemma3n_text": 5,
    "gemma4_text": 6,
    "gpt_oss": 2,
    "cohere2": 4,
    "olmo3": 4,
}
# Sliding only on request, and only from layer max_window_layers on.
_OPTIONAL_WINDOW = frozenset(
    {"qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "mimo"}
)
# The window, where there is one, holds for every layer.
_UNIFORM_WINDOW = frozenset(
    {"mistral", "mixtral", "ministral", "ministral3", "phi3", "phi3_v", "phimoe", "starcoder2"}
)


def layer_pattern(model_type: str, fields: ConfigFields, layers: int) -> tuple[str, ...] | None:
    """The shortest repeating pattern of layer kinds; None where all have full attention.

    Raises
    ------
    CorruptCheckpointError
        A pattern that does not fit the number of layers.
    UnsupportedArchitectureError
        A kind of layer that is not known.
    """
    kinds = _stated(model_type, fields, layers) or _by_rule(model_type, fields, layers)
    if fields.positive("sliding_window") is None and model_type != "modernbert":
        kinds = tuple("full_attention" if kind == "sliding_attention" else kind for kind in kinds)
    pattern = shortest_period(kinds)
    return None if pattern == ("full_attention",) else pattern


def shortest_period(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest start of a sequence that, repeated, gives the whole sequence.

    >>> shortest_period(("a", "b", "a", "b", "a"))
    ('a', 'b')
    """
    # Border table of Knuth, Morris and Pratt: the longest proper start that is also an end.
    border = [0] * len(kinds)
    for at in range(1, len(kinds)):
        length = border[at - 1]
        while length and kinds[at] != kinds[length]:
            length = border[length - 1]
        border[at] = length + 1 if kinds[at] == kinds[length] else 0
    return kinds[: len(kinds) - border[-1]] if kinds else kinds


def _stated(model_type: str, fields: ConfigFields, layers: int) -> tuple[str, ...] | None:
    written = fields.items("layer_types") or fields.items("layers_block_type")
    if written is not None:
        kinds = tuple(_kind(model_type, item, fields) for item in written)
    elif (pattern := fields.raw("hybrid_override_pattern")) is not None:
        if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_LAYERS or set(pattern) - set(_LETTERS):
            raise CorruptCheckpointError(f"{fields.what}: hybrid_override_pattern is {shown(pattern)}.")
        kinds = tuple(_LETTERS[letter] for letter in pattern)
    else:
        return None
    if len(kinds) != layers:
        raise CorruptCheckpointError(
            f"{fields.what} names {len(kinds)} layer types for {layers} layers (num_hidden_layers)."
        )
    return kinds


def _kind(model_type: str, item: object, fields: ConfigFields) -> str:
    kind = _WORDS.get(item, item) if isinstance(item, str) else item
    if kind == "linear_attention" and model_type in _MAMBA_HYBRIDS:
        return "mamba"
    if not isinstance(kind, str) or kind not in LAYER_KINDS:
        raise UnsupportedArchitectureError(f"{fields.what} has layers of the unknown type {shown(item)}.")
    return kind


def _by_rule(model_type: str, fields: ConfigFields, layers: int) -> tuple[str, ...]:
    full = ("full_attention",) * layers
    if model_type in _MAMBA:
        return ("mamba",) * layers
    if model_type in _SLIDING_PERIODS:
        return _sliding(fields, layers, _SLIDING_PERIODS[model_type], last_full=model_type == "gemma4_text")
    if model_type in ("exaone4", "exaone4_0"):
        return _exaone(fields, layers)
    if model_type == "modernbert":
        period = fields.positive("global_attn_every_n_layers") or 3
        return tuple("sliding_attention" if at % period else "full_attention" for at in range(layers))
    if model_type == "llama4_text":
        period = fields.positive("no_rope_layer_interval") or 4
        rope = fields.items("no_rope_layers") or tuple((at + 1) % period != 0 for at in range(layers))
        if len(rope) != layers:
            raise CorruptCheckpointError(
                f"{fields.what} gives {len(rope)} no_rope_layers for {layers} layers."
            )
        return tuple("chunked_attention" if item else "full_attention" for item in rope)
    if model_type in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"):
        period = fields.positive("full_attention_interval") or 4
        return tuple("linear_attention" if (at + 1) % period else "full_attention" for at in range(layers))
    if model_type == "minimax":
        return tuple("linear_attention" if at % 2 else "full_attention" for at in range(layers))
    if model_type == "jamba":
        period, offset = fields.required("attn_layer_period"), fields.count("attn_layer_offset") or 0
        return tuple("full_attention" if at % period == offset else "mamba" for at in range(layers))
    if model_type == "bamba":
        attending = set(fields.items("attn_layer_indices") or ())
        return tuple("full_attention" if at in attending else "mamba" for at in range(layers))
    if model_type == "granitemoehybrid":
        return ("mamba",) * layers
    if model_type == "nemotron_h":
        raise CorruptCheckpointError(
            f"{fields.what} gives neither layers_block_type nor hybrid_override_pattern.", code="missing-key"
        )
    if model_type in ("lfm2", "lfm2_moe"):
        attending_at = fields.items("full_attn_idxs")
        if attending_at is None:
            return full
        return tuple("full_attention" if at in attending_at else "conv" for at in range(layers))
    if model_type in _OPTIONAL_WINDOW:
        if not fields.flag("use_sliding_window"):
            return full
        first = fields.count("max_window_layers") or 0
        return tuple("sliding_attention" if at >= first else "full_attention" for at in range(layers))
    if model_type in _UNIFORM_WINDOW:
        return ("sliding_attention",) * layers
    return full


def _sliding(fields: ConfigFields, layers: int, period: int, *, last_full: bool) -> tuple[str, ...]:
    period = fields.positive("sliding_window_pattern") or period
    kinds = ["full_attention" if (at + 1) % period == 0 else "sliding_attention" for at in range(layers)]
    if last_full:
        kinds[-1] = "full_attention"
    return tuple(kinds)


def _exaone(fields: ConfigFields, layers: int) -> tuple[str, ...]:
    pattern = fields.raw("sliding_window_pattern")
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"} and len(pattern) <= MAX_LAYERS:
        letters = {"L": "sliding_attention", "G": "full_attention"}
        return tuple(letters[pattern[at % len(pattern)]] for at in range(layers))
    return _sliding(fields, layers, 4, last_full=False)
