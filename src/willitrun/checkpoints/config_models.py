"""From the keys of a ``config.json`` to a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from willitrun.checkpoints.config_fields import ConfigFields, missing
from willitrun.checkpoints.quantization_names import stored_dtype, stored_quantization
from willitrun.checkpoints.text_configs import class_defaults, is_known, read_text_config
from willitrun.checkpoints.vision_configs import is_vision, read_vision_config
from willitrun.errors import CorruptCheckpointError, UnsupportedArchitectureError
from willitrun.records.bases import Citation
from willitrun.records.models import Model, SpeechConfig, Task, TransformerConfig

__all__ = ["local_facts", "model_from_config", "record_id"]

_NESTED = ("text_config", "llm_config", "language_config")
_WHISPER_WINDOW_S = 30.0
"""Seconds of audio of one pass: 1,500 encoder positions of two 10 ms frames (`WhisperFeatureExtractor`)."""


def record_id(name: str) -> str:
    """A catalog-style id for a name out of a file.

    >>> record_id("My Model (v2).gguf")
    'my-model-v2-.gguf'
    """
    slug = re.sub(r"[^a-z0-9._+-]+", "-", name.lower()).strip("-._+")[:120]
    return slug or "local-model"


def local_facts(name: str) -> dict[str, Any]:
    """What every model that was read from a local file says about itself."""
    printable = "".join(char if char.isprintable() else "?" for char in name)[:200]
    return {
        "id": record_id(printable),
        "name": printable or "local model",
        "origin": printable,
        "cite": {"*": (Citation(source="local-file", basis="measured", at=printable),)},
    }


def model_from_config(
    config: Mapping[str, object], name: str, *, what: str = "config.json", embeds: bool = False
) -> Model:
    """The model that a config describes.

    Parameters
    ----------
    config
        Keys of ``config.json``.
    name
        What to call the model: the file or folder it came from.
    what
        Name of the config, for messages.
    embeds
        Whether files beside it say that it serves embeddings.

    Raises
    ------
    UnsupportedArchitectureError
        An architecture that is not known.
    UnsupportedFormatError
        A quantization method that is not known.
    CorruptCheckpointError
        A needed key is missing, or a value is out of range.
    """
    fields = ConfigFields(config, what=what)
    facts = local_facts(name)
    if is_vision(config):
        vision = read_vision_config(config, what)
        family = str(config.get("model_type") or vision.architecture).partition("_")[0]
        # Classifiers are published in f32 where nothing else is said.
        facts |= _format(config, what) or {"quantization": "f32"}
        task: Task = "image-classification" if vision.num_classes else "image-feature-extraction"
        return Model(**facts, family=family[:60], task=task, vision=vision)
    model_type = fields.word("model_type")
    if model_type is None:
        raise missing(what, "model_type")
    if model_type == "whisper":
        return _whisper(config, facts, what)
    nested = next((key for key in _NESTED if isinstance(config.get(key), Mapping)), None)
    if nested is None:
        transformer = read_text_config(config, model_type, what)
        facts |= _format(config, what) or _assumed(what)
        return Model(
            **facts, family=model_type, task=_task(fields, transformer, embeds), transformer=transformer
        )
    part = fields.block(nested) or {}
    inner = f"{what}: {nested}"
    text_type = ConfigFields(part, what=inner).word("model_type") or model_type
    if not is_known(text_type):
        raise UnsupportedArchitectureError(f"{inner}: the architecture {text_type!r} is not known.")
    transformer = read_text_config(part, text_type, inner, outer=config)
    facts |= _format(config, what, part) or _assumed(what)
    sees = config.get("vision_config") is not None
    if transformer.vision is not None and transformer.vision.parameters:
        facts["parameters_note"] = "the vision tower is counted by its shape, without the projector"
    return Model(
        **facts,
        family=model_type,
        task="image-text-to-text" if sees else _task(fields, transformer, embeds),
        transformer=transformer,
    )


def _format(
    config: Mapping[str, object], what: str, part: Mapping[str, object] | None = None
) -> dict[str, Any] | None:
    """Quantization, and flags for doubts about it: the whole config's word, then that of its text part."""
    named = stored_quantization(config, what) or (stored_quantization(part, what) if part else None)
    if named is not None:
        return {"quantization": named[0], "flags": (named[1],) if named[1] else ()}
    dtype = stored_dtype(config) or (stored_dtype(part) if part else None)
    return {"quantization": dtype} if dtype else None


def _assumed(what: str) -> dict[str, Any]:
    return {"quantization": "bf16", "flags": (f"quantization: {what} gives no dtype; bf16 assumed",)}


def _task(fields: ConfigFields, config: TransformerConfig, embeds: bool) -> Task:
    names = fields.items("architectures") or ()
    first = names[0] if names and isinstance(names[0], str) else ""
    if embeds:
        return "feature-extraction"
    if first.endswith("ForSequenceClassification"):
        labels = fields.raw("id2label")
        single = fields.raw("num_labels") == 1 or (isinstance(labels, Mapping) and len(labels) == 1)
        return "text-ranking" if single else "feature-extraction"
    if config.is_encoder_only:
        return "fill-mask" if first.endswith("ForMaskedLM") else "feature-extraction"
    # Only the bare body is stored: hidden states are what it is for.
    return "feature-extraction" if re.fullmatch(r"\w+(?<!LMHead)Model", first) else "text-generation"


def _whisper(config: Mapping[str, object], facts: dict[str, Any], what: str) -> Model:
    fields = ConfigFields(config, class_defaults()["whisper"], what)
    for name in ("hidden_size", "num_hidden_layers", "encoder_layers"):
        if not fields.states(name):
            raise missing(what, name)
    facts |= _format(config, what) or _assumed(what)
    hidden, positions = fields.required("hidden_size"), fields.required("max_source_positions")
    encoder = fields.required("encoder_layers", most=4096)
    heads = fields.required("num_attention_heads", most=1 << 20)
    if hidden % heads:
        raise CorruptCheckpointError(f"{what}: {heads} attention heads do not divide a width of {hidden}.")
    # num_hidden_layers is how transformers names the encoder's depth here; the decoder's has its own key.
    decoder = fields.positive("decoder_layers", most=4096) or encoder
    transformer = TransformerConfig(
        model_type="whisper",
        num_hidden_layers=decoder,
        hidden_size=hidden,
        intermediate_size=fields.required("decoder_ffn_dim"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        vocab_size=fields.required("vocab_size"),
        tie_word_embeddings=True,
        max_position_embeddings=fields.required("max_position_embeddings"),
        encoder_layers=encoder,
        max_source_positions=positions,
        num_mel_bins=fields.positive("num_mel_bins"),
    )
    speech = SpeechConfig(
        num_mel_bins=fields.positive("num_mel_bins"),
        window_s=_WHISPER_WINDOW_S * positions / 1500,
        encoder_layers=encoder,
        encoder_hidden_size=hidden,
        encoder_ffn_dim=fields.positive("encoder_ffn_dim"),
        encoder_positions=positions,
        decoder_ffn_dim=fields.positive("decoder_ffn_dim"),
    )
    return Model(
        **facts, family="whisper", task="automatic-speech-recognition", transformer=transformer, speech=speech
    )
