"""Models: an architecture and what is known of it."""

from datetime import date
from typing import Literal

from pydantic import Field

from willitrun.records.bases import Bytes, CitedRecord, Record
from willitrun.records.traces import OperatorTrace

__all__ = [
    "DiffusionComponent",
    "DiffusionConfig",
    "Model",
    "SpeechConfig",
    "Task",
    "TensorTable",
    "TransformerConfig",
    "VisionConfig",
    "VisionTower",
]

Task = Literal[
    "text-generation",
    "image-text-to-text",
    "feature-extraction",
    "text-ranking",
    "automatic-speech-recognition",
    "text-to-speech",
    "image-classification",
    "image-feature-extraction",
    "object-detection",
    "image-segmentation",
    "pose-estimation",
    "oriented-detection",
    "zero-shot-image-classification",
    "text-to-image",
    "text-to-video",
    "fill-mask",
]

LayerType = Literal[
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "cross_attention",
    "linear_attention",
    "mamba",
    "rwkv",
    "conv",
    "mlp",
    "moe",
]


class VisionTower(Record):
    """The image encoder of a vision-language model, under its `config.json` names."""

    model_type: str | None = None
    hidden_size: int | None = Field(None, gt=0)
    num_hidden_layers: int | None = Field(None, gt=0)
    num_attention_heads: int | None = Field(None, gt=0)
    intermediate_size: int | None = Field(None, gt=0)
    patch_size: int | None = Field(None, gt=0)
    image_size: int | None = Field(None, gt=0)
    spatial_merge_size: int | None = Field(None, gt=0)
    """Side of the square of patches merged into one token."""
    tokens_per_image: int | None = Field(None, gt=0)
    """Tokens of one image, where that is fixed whatever the resolution."""
    parameters: int | None = Field(None, gt=0)


class TransformerConfig(Record):
    """Architecture fields of a language model under their `config.json` names.

    Synonyms (`n_layer`, `num_local_experts`, `n_routed_experts`, ...) are normalised by
    `willitrun.checkpoints`; lengths are in tokens, widths in elements.
    """

    model_type: str
    """The text part's own ``model_type``: ``llama``, ``gemma3_text``, ``deepseek_v3``, ..."""
    num_hidden_layers: int = Field(gt=0, le=4096)
    hidden_size: int = Field(gt=0)
    intermediate_size: int | None = Field(None, gt=0)
    num_attention_heads: int | None = Field(None, gt=0)
    num_key_value_heads: int | None = Field(None, gt=0)
    head_dim: int | None = Field(None, gt=0)
    vocab_size: int = Field(gt=0)
    tie_word_embeddings: bool = False
    max_position_embeddings: int | None = Field(None, gt=0)
    rope_scaling_factor: float | None = Field(None, gt=0)
    hidden_act: str | None = None
    attention_bias: bool | None = None
    # Which layer does what. The pattern repeats until num_hidden_layers; None means all full attention.
    layer_types: tuple[LayerType, ...] | None = None
    sliding_window: int | None = Field(None, gt=0)
    attention_chunk_size: int | None = Field(None, gt=0)
    global_head_dim: int | None = Field(None, gt=0)
    """Head width of the full-attention layers where it differs from ``head_dim``."""
    num_global_key_value_heads: int | None = Field(None, gt=0)
    num_sliding_attention_heads: int | None = Field(None, gt=0)
    """Query heads of the sliding-window layers where they differ from ``num_attention_heads``."""
    layer_intermediate_sizes: tuple[int, ...] | None = None
    """Width of the dense feed-forward block layer by layer, where a search chose them; ``intermediate_size`` is the widest."""
    attention_k_eq_v: bool = False
    num_kv_shared_layers: int = Field(0, ge=0)
    """Last layers that read the cache of an earlier layer and keep none of their own."""
    hidden_size_per_layer_input: int | None = None
    vocab_size_per_layer_input: int | None = None
    use_double_wide_mlp: bool = False
    # Mixture of experts
    num_experts: int | None = Field(None, gt=0)
    num_experts_per_tok: int | None = Field(None, gt=0)
    moe_intermediate_size: int | None = Field(None, gt=0)
    n_shared_experts: int | None = Field(None, ge=0)
    shared_expert_intermediate_size: int | None = Field(None, ge=0)
    first_k_dense_replace: int = Field(0, ge=0)
    """Leading layers with a dense feed-forward block."""
    moe_layer_interval: int = Field(1, ge=1)
    """Every n-th layer (after the leading dense ones) is a mixture; 1 means all."""
    moe_latent_size: int | None = Field(None, gt=0)
    zero_expert_num: int = Field(0, ge=0)
    """Experts that hand a token back as it is and hold no weights; the router has rows for them (LongCat)."""
    vision_moe_intermediate_size: int | None = Field(None, gt=0)
    """Width of as many experts again that only tokens of images pass through (ERNIE 4.5 VL)."""
    # Multi-head latent attention
    kv_lora_rank: int | None = Field(None, gt=0)
    q_lora_rank: int | None = Field(None, gt=0)
    qk_rope_head_dim: int | None = Field(None, ge=0)
    qk_nope_head_dim: int | None = Field(None, gt=0)
    v_head_dim: int | None = Field(None, gt=0)
    index_head_dim: int | None = Field(None, gt=0)
    index_n_heads: int | None = Field(None, gt=0)
    index_topk: int | None = Field(None, gt=0)
    index_kpool: int = Field(1, ge=1)
    """Tokens whose indexer keys are pooled into one (GLM 5.3 Flash)."""
    # Attention over compressed keys
    compress_ratios: tuple[int, ...] | None = None
    """Tokens that become one cell, layer by layer; 0 for layers that see their window alone (DeepSeek V4)."""
    o_lora_rank: int | None = Field(None, gt=0)
    o_groups: int | None = Field(None, gt=0)
    num_hash_layers: int = Field(0, ge=0)
    """Leading layers that route by a table of the vocabulary."""
    hc_mult: int | None = Field(None, gt=0)
    """Residual streams that hyper-connections mix."""
    # Linear attention (gated delta net and relatives)
    linear_num_key_heads: int | None = Field(None, gt=0)
    linear_num_value_heads: int | None = Field(None, gt=0)
    linear_key_head_dim: int | None = Field(None, gt=0)
    linear_value_head_dim: int | None = Field(None, gt=0)
    linear_conv_kernel_dim: int | None = Field(None, gt=0)
    # State space
    mamba_d_conv: int | None = Field(None, gt=0)
    mamba_d_inner: int | None = Field(None, gt=0)
    mamba_d_state: int | None = Field(None, gt=0)
    mamba_n_groups: int | None = Field(None, gt=0)
    mamba_num_heads: int | None = Field(None, gt=0)
    mamba_dt_rank: int | None = Field(None, gt=0)
    # RWKV-7: ranks of the decay, the in-context learning rate, the mix with the first layer's values, and the gate
    rwkv_decay_rank: int | None = Field(None, gt=0)
    rwkv_rate_rank: int | None = Field(None, gt=0)
    rwkv_value_rank: int | None = Field(None, gt=0)
    rwkv_gate_rank: int | None = Field(None, gt=0)
    # The rest
    num_nextn_predict_layers: int = Field(0, ge=0)
    """Multi-token-prediction layers behind the last one; they hold no KV cache in plain decoding."""
    encoder_layers: int | None = Field(None, gt=0)
    """Encoder blocks of an encoder-decoder model; ``num_hidden_layers`` counts the decoder's."""
    max_source_positions: int | None = Field(None, gt=0)
    num_mel_bins: int | None = Field(None, gt=0)
    """Channels of the first of Whisper's two input convolutions."""
    is_encoder_only: bool = False
    vision: VisionTower | None = None

    def layer_type(self, layer: int) -> LayerType:
        """What layer number ``layer`` does; the pattern in ``layer_types`` repeats."""
        if not self.layer_types:
            return "full_attention"
        return self.layer_types[layer % len(self.layer_types)]


class SpeechConfig(Record):
    """What an ASR model adds to its transformer: the audio window."""

    num_mel_bins: int | None = Field(None, gt=0)
    window_s: float | None = Field(None, gt=0)
    """Seconds of audio of one encoder pass."""
    encoder_layers: int | None = Field(None, gt=0)
    encoder_hidden_size: int | None = Field(None, gt=0)
    encoder_ffn_dim: int | None = Field(None, gt=0)
    encoder_positions: int | None = Field(None, gt=0)
    decoder_ffn_dim: int | None = Field(None, gt=0)


class VisionConfig(Record):
    """A classifier, detector or segmenter as a graph of operators."""

    architecture: str | None = None
    """timm (or other) architecture name: the key of its operator trace."""
    trace: OperatorTrace | None = None
    """The operator trace itself, of a network that no catalog has."""
    image_size: int = Field(gt=0)
    num_classes: int | None = Field(None, gt=0)
    macs: float | None = Field(None, gt=0)
    """Multiply-accumulates of one image at ``image_size``."""
    activations: float | None = Field(None, gt=0)
    """Activation elements written by convolutions and matmuls, per image."""
    operators: int | None = Field(None, gt=0)
    """Kernels launched per forward pass."""
    top1: float | None = Field(None, ge=0, le=1)
    """Published top-1 accuracy on ImageNet-1k [1]."""


class DiffusionComponent(Record):
    """One network of a diffusion pipeline."""

    role: Literal["text-encoder", "denoiser", "vae"]
    name: str
    parameters: int = Field(gt=0)
    flops_per_call: float | None = Field(None, gt=0)
    """Work of one call at the pipeline's native resolution [FLOP]."""
    operators: int | None = Field(None, gt=0)
    precision: Literal["fp32"] | None = None
    """What the publisher's pipeline keeps this network in, where that is not the precision of the others."""


class DiffusionConfig(Record):
    """A diffusion pipeline by components."""

    image_size: int = Field(gt=0)
    components: tuple[DiffusionComponent, ...]
    steps: int | None = Field(None, gt=0)
    guidance: bool = True
    """Whether classifier-free guidance doubles the denoiser's batch by default."""
    frames: int | None = Field(None, gt=0)


class TensorTable(Record):
    """Tensors read from a checkpoint header: bytes by role, exact.

    Each row is ``(role, format, count, elements, bytes)``.
    """

    rows: tuple[tuple[str, str, int, int, Bytes], ...]
    tensors: int
    file_bytes: int
    source: Literal["gguf", "safetensors"]
    layers: tuple[tuple[Bytes, Bytes], ...] = ()
    """Of each layer, and of its routed experts; empty where the tensors' names number no layers."""


class Model(CitedRecord):
    """What a model is: task, sizes, architecture, and where that was read."""

    family: str
    task: Task
    parameters: int | None = Field(None, gt=0)
    """As published or stored [elements]."""
    active_parameters: int | None = Field(None, gt=0)
    """Parameters that one token passes through, as published; None for dense models."""
    licence: str | None = None
    released: date | None = None
    quantization: str = "bf16"
    """Format of the checkpoint that the name stands for."""
    repository: str = ""
    """Repository by which the model was asked for; empty where it was by another name. Records have none."""
    transformer: TransformerConfig | None = None
    speech: SpeechConfig | None = None
    vision: VisionConfig | None = None
    diffusion: DiffusionConfig | None = None
    tensors: TensorTable | None = None
    parameters_note: str = ""
    """Why stored and computed parameter counts differ, where they do."""
    origin: str = ""
    """Where a model that is not in the catalog came from: a path, ``config.json``."""

    @classmethod
    def _labels(cls) -> set[str]:
        return {"family", "task", "repository", "parameters_note", "origin"}
