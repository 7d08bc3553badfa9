"""Bytes of a model's weights by part, for GGUF mixes and for formats on safetensors."""

from __future__ import annotations

from dataclasses import field
from datetime import date
from functools import lru_cache

import numpy as np

from willitrun.errors import UnsupportedFormatError
from willitrun.estimators.inventory import is_tied, tensor_inventory
from willitrun.estimators.inventory_gguf import (
    VALUE_ROLES,
    cut_vocabulary,
    mix_context,
    moved_tensors,
    stored_tensors,
)
from willitrun.frozen import frozen
from willitrun.kernels.gguf_mixes import (
    ERAS,
    IMATRIX_DEFAULT,
    IMATRIX_MIXES,
    RAISED_EMBEDDINGS,
    RAISED_PER_LAYER,
    STANDARD_MIXES,
    Era,
    tensor_format,
)
from willitrun.kernels.weights import BLOCK_LAYOUTS, FORMAT_CODES, Part, TensorGroup, bytes_of
from willitrun.records.models import TransformerConfig
from willitrun.records.recipes import Quantization

__all__ = ["WeightGroups", "era_of", "quantiser_spread", "weight_groups"]

_BLOCKS: frozenset[str] = frozenset({"attention", "dense_ffn", "experts", "shared_experts", "recurrent"})
_VERY_LOW = frozenset({"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m"})


@frozen
class WeightGroups:
    """Bytes and parameters of a model's weights, by part.

    Attributes
    ----------
    bytes_by_part, parameters_by_part
        Keys are the parts of `willitrun.kernels.weights.TensorGroup`: ``embedding``, ``output``,
        ``attention``, ``dense_ffn``, ``experts``, ``shared_experts``, ``router``, ``norm``, ``recurrent``,
        ``encoder``, ``vision``, ``prediction``. A tied matrix counts as ``embedding`` only.
    tied
        The embedding serves as the output matrix: runtimes that keep the embedding on the host hold it
        twice.
    layer_bytes
        Bytes of each layer, for placements that put layers on different devices.
    expert_layer_bytes
        The routed experts' share of ``layer_bytes``.
    largest_expert_bytes
        Largest single expert tensor, of which offloading to host memory keeps a copy.
    exact
        Whether the bytes follow from a rule; publisher mixes are ranges around them.
    """

    bytes_by_part: dict[Part, int]
    parameters_by_part: dict[Part, int]
    tied: bool
    layer_bytes: tuple[int, ...]
    expert_layer_bytes: tuple[int, ...]
    largest_expert_bytes: int
    exact: bool = True
    token_embd_bytes: int = 0
    """The token embedding alone: position tables and per-layer embeddings are no output matrix."""
    token_embd_parameters: int = 0
    largest_dense_bytes: int = 0
    """Largest tensor of a layer that is no routed expert."""
    formats: dict[str, int] = field(default_factory=dict)
    """Tensors of each stored format."""

    def bytes_of_part(self, part: Part) -> int:
        """Bytes of one part; 0 where the model has none of it."""
        return self.bytes_by_part.get(part, 0)

    @property
    def total_bytes(self) -> int:
        """Stored once: everything but the vision tower and prediction layers."""
        apart = ("vision", "prediction")
        return sum(value for part, value in self.bytes_by_part.items() if part not in apart)

    @property
    def file_bytes(self) -> int:
        """`total_bytes`, and the prediction layers that the file holds and loaders skip."""
        return self.total_bytes + self.bytes_of_part("prediction")

    @property
    def output_matrix_bytes(self) -> int:
        """The matrix that turns hidden states to logits, tied or not."""
        return self.bytes_of_part("output") or (self.token_embd_bytes if self.tied else 0)

    @property
    def always_read_bytes(self) -> int:
        """What every step reads beside the output matrix and the experts."""
        parts: tuple[Part, ...] = ("attention", "dense_ffn", "shared_experts", "router", "norm", "recurrent")
        return sum(self.bytes_of_part(part) for part in parts)


def weight_groups(
    config: TransformerConfig,
    quantization: Quantization,
    *,
    container: str | None = None,
    imatrix: bool | None = None,
    era: Era = "2025",
    native: str | None = None,
) -> WeightGroups:
    """Bytes by part of a model in a quantization.

    Parameters
    ----------
    config
        The architecture.
    quantization
        The format. For a publisher's mix the bytes are those of the standard mix it is made from
        (``mix_of[0]``), with ``exact`` False.
    container
        ``gguf`` or ``safetensors``; the quantization's first container where None.
    imatrix
        Whether the GGUF was made with an importance matrix; None takes what publishers do for this mix.
    era
        Rules of the quantiser's build: see `willitrun.kernels.gguf_mixes.ERAS`.
    native
        Format that the model was published in. Experts published in MXFP4 (gpt-oss) stay MXFP4 in every GGUF
        made of it.

    Raises
    ------
    UnsupportedFormatError
        Where the format has no layout for this container.
    """
    container = container or quantization.container[0]
    name = quantization.mix_of[0] if quantization.mix_of and not quantization.exact else quantization.id
    if container == "gguf":
        mix = "mxfp4_moe" if name == "mxfp4" else name
        if mix not in STANDARD_MIXES:
            raise UnsupportedFormatError(f"{quantization.id} is not stored in GGUF by a known rule.")
        kept = native if native == "mxfp4" and config.num_experts else None
        used = mix in IMATRIX_DEFAULT if imatrix is None else imatrix
        made = used and mix in IMATRIX_MIXES
        return _gguf_groups(config, mix, made, era, quantization.exact, kept, _raised(quantization))
    if quantization.kind == "exl":
        if quantization.nominal_bits is None:
            raise UnsupportedFormatError(f"{quantization.id} does not state its bits per weight.")
        return _exl_groups(config, round(quantization.nominal_bits * 1000))
    if name not in BLOCK_LAYOUTS:
        raise UnsupportedFormatError(f"{quantization.id} has no block layout for {container}.")
    return _plain_groups(config, name, quantization.unquantized_format, quantization.kind == "mlx")


def _raised(quantization: Quantization) -> frozenset[str]:
    """What the publisher of a mix raises to Q8_0 by habit."""
    if quantization.exact:
        return frozenset()
    if quantization.id.startswith("ud-"):
        low = quantization.id.startswith(("ud-iq", "ud-q2", "ud-q3"))
        return frozenset() if low else RAISED_PER_LAYER
    return RAISED_EMBEDDINGS if quantization.id.endswith(("_l", "_xl")) else frozenset()


def era_of(released: date | None) -> Era:
    """Rules by which a file of a model made now, or at its release where that was later, was made."""
    return "2026" if released is not None and released >= date(*ERAS["2026"]) else "2025"


def quantiser_spread(
    config: TransformerConfig,
    quantization: Quantization,
    *,
    imatrix: bool | None,
    released: date | None,
    native: str | None,
) -> tuple[int, int]:
    """Least and most bytes that the quantiser gives a GGUF of this name [bytes].

    A name says neither whether an importance matrix was used nor when the file was made (at any time since the
    model's release), nor whether rows of the embedding without a token were cut; where nothing of it changes a tensor
    of this model the two are equal.
    """
    mix, usual = quantization.id, era_of(released)
    eras: list[Era] = [usual]
    if mix == "q2_k" and released is not None and released < date(*ERAS["2024"]):
        eras.append("2023")
    if released is not None and released < date(*ERAS["2025"]) and moved_tensors(config, "2025"):
        eras.append("2024")
    if usual == "2025" and moved_tensors(config, "2026"):
        eras.append("2026")
    given = (False, True) if imatrix is None and mix in IMATRIX_MIXES else (imatrix,)
    sizes = [
        weight_groups(kept, quantization, container="gguf", imatrix=used, era=era, native=native).total_bytes
        for kept in {config, cut_vocabulary(config)}
        for era in eras
        for used in given
    ]
    return min(sizes), max(sizes)


@lru_cache(maxsize=1024)
def _gguf_groups(
    config: TransformerConfig,
    mix: str,
    imatrix: bool,
    era: Era,
    exact: bool,
    native_experts: str | None,
    raised: frozenset[str],
) -> WeightGroups:
    groups = stored_tensors(config, era)
    context = mix_context(
        config, groups, era=era, imatrix=imatrix, raised=raised, native_experts=native_experts
    )
    value_roles = VALUE_ROLES if era == "2026" else {"attn_v"}
    values = _ordinals(groups, lambda role: role in value_roles)
    by_count = mix in _VERY_LOW or context.n_experts == 1
    downs = _ordinals(groups, lambda role: role.startswith("ffn_down")) if by_count else {}
    chosen: list[tuple[TensorGroup, int, str]] = []
    for group in groups:
        for layer in group.layers or (-1,):
            ordinal = values.get((group.role, layer), downs.get((group.role, layer), layer))
            chosen.append((group, layer, tensor_format(group, ordinal, mix, context)))
    return _sum(config, chosen, exact=exact)


def _ordinals(groups: tuple[TensorGroup, ...], belongs: object) -> dict[tuple[str, int], int]:
    """Number of each tensor in the order in which the quantiser meets them: by layer, then by name."""
    assert callable(belongs)
    met = sorted((layer, group.role) for group in groups if belongs(group.role) for layer in group.layers)
    return {(role, layer): number for number, (layer, role) in enumerate(met)}


@lru_cache(maxsize=1024)
def _plain_groups(config: TransformerConfig, name: str, rest: str, everything: bool) -> WeightGroups:
    floats = name in ("f32", "f16", "bf16")
    only_experts = name == "mxfp4" and bool(config.num_experts)
    # Published NVFP4 checkpoints of mixtures leave attention in bfloat16 (`exclude_modules` of nvidia/GLM-4.7-NVFP4; the
    # sizes of nvidia/Gemma-4-26B-A4B-NVFP4 and Qwen3-Next-80B-A3B-Thinking-NVFP4), as those of latent attention do: the
    # card of nvidia/DeepSeek-R1-0528-FP4-v2 says that this second version quantizes the output projection besides, and
    # loaders' logs of the first agree. Linear attention stays too, and all of Gemma 4's
    # (https://huggingface.co/CISCai/gemma-4-31B-it-NVFP4-turbo-GGUF says what nvidia/Gemma-4-31B-IT-NVFP4 quantizes).
    kept = frozenset[str]()
    if name == "nvfp4":
        whole = config.num_experts or config.kv_lora_rank or config.model_type == "gemma4_text"
        kept = frozenset({"attention", "recurrent"} if whole else {"recurrent"})
    chosen: list[tuple[TensorGroup, int, str]] = []
    for group in tensor_inventory(config):
        quantized = group.matrix and (
            group.part == "experts" if only_experts else group.part in _BLOCKS or everything
        )
        if group.part in kept or (everything and group.part in ("vision", "router")):
            quantized = False
        if group.role in ("ssm_conv1d", "shortconv_conv", "position_embd", "token_types"):
            quantized = False
        layout = BLOCK_LAYOUTS[name]
        if layout.whole_blocks and group.width % layout.block_weights:
            quantized = False
        chosen += [(group, layer, name if floats or quantized else rest) for layer in group.layers or (-1,)]
    return _sum(config, chosen, exact=True)


def _sum(
    config: TransformerConfig, chosen: list[tuple[TensorGroup, int, str]], *, exact: bool
) -> WeightGroups:
    sizes = bytes_of(
        np.array([group.elements_each for group, _, _ in chosen], dtype=np.int64),
        np.array([group.width for group, _, _ in chosen], dtype=np.int64),
        np.array([FORMAT_CODES[name] for _, _, name in chosen], dtype=np.int64),
    ).tolist()
    return _pack(config, chosen, sizes, exact=exact)


def _pack(
    config: TransformerConfig,
    chosen: list[tuple[TensorGroup, int, str]],
    sizes: list[int],
    *,
    exact: bool,
) -> WeightGroups:
    parts: dict[Part, int] = {}
    counts: dict[Part, int] = {}
    formats: dict[str, int] = {}
    layers = [0] * config.num_hidden_layers
    experts = [0] * config.num_hidden_layers
    largest = dense = embedding = embedding_count = 0
    for (group, layer, name), size in zip(chosen, sizes, strict=True):
        parts[group.part] = parts.get(group.part, 0) + size
        counts[group.part] = counts.get(group.part, 0) + group.elements_each
        formats[name] = formats.get(name, 0) + 1
        if group.role == "token_embd":
            embedding, embedding_count = size, group.elements_each
        if 0 <= layer < len(layers) and group.part not in ("encoder", "prediction"):
            layers[layer] += size
            if group.part == "experts":
                experts[layer] += size
                largest = max(largest, size)
            else:
                dense = max(dense, size)
    return WeightGroups(
        parts,
        counts,
        is_tied(config),
        tuple(layers),
        tuple(experts),
        largest,
        exact,
        embedding,
        embedding_count,
        dense,
        formats,
    )


@lru_cache(maxsize=256)
def _exl_groups(config: TransformerConfig, millibits: int) -> WeightGroups:
    """EXL2 / EXL3: linear layers at the stated average, output matrix at 6 bits, the rest fp16."""
    chosen: list[tuple[TensorGroup, int, str]] = []
    sizes: list[int] = []
    for group in tensor_inventory(config):
        linear = group.matrix and group.part in _BLOCKS
        for layer in group.layers or (-1,):
            bits = millibits if linear else 6000 if group.part == "output" and group.matrix else 16000
            chosen.append((group, layer, "exl" if linear else "f16"))
            sizes.append(-(-group.elements_each * bits // 8000))
    return _pack(config, chosen, sizes, exact=False)
