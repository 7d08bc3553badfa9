"""Write operator traces of video denoisers, decoders and their text encoder to ``catalogs/traces/video*.csv``.

Usage: ``python -m accuracy.vision.trace_video``; needs torch, diffusers and transformers (any CPU build).
Networks are built on the meta device from the defaults of their diffusers class, or from the values that diffusers'
conversion scripts write into ``config.json``. Each is traced at its native frames and size, at half the frames, and at
half the area: how its work grows with either is read from these.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from accuracy.vision.trace_diffusion import T5_XXL
from accuracy.vision.trace_tables import COUNTS, class_rows, counts, write_tables
from willitrun import load_catalog

MODEL_COLUMNS = (
    "arch", "part", "image_size", "frames", "frames_per_latent", "text_tokens", *COUNTS, "source", "tool",
)  # fmt: skip
DIFFUSERS = "https://github.com/huggingface/diffusers/blob/main/"
WAN = DIFFUSERS + "scripts/convert_wan_to_diffusers.py"
MODELS = DIFFUSERS + "src/diffusers/models/"
LLAVA = "https://huggingface.co/magespace/hyvideo-diffusers-dev/blob/0218e012335cd1fa0ffbea6309ece2c64f9a2e07/text_encoder/config.json"
UMT5 = "https://github.com/Wan-Video/Wan2.1/blob/main/wan/modules/t5.py"

Built = tuple[Any, tuple[Any, ...], dict[str, Any]]
Builder = Callable[[int, int, int], Built]
"""Model and inputs of one call from frames, height and width of the video [frames, pixels, pixels]."""


def latent_frames(frames: int, per_latent: int) -> int:
    """Frames of the latent: the first stands alone, each later one holds ``per_latent``."""
    return (frames - 1) // per_latent + 1


def _wan(frames: int, height: int, width: int, *, folds: int = 8, **config: Any) -> Built:
    import torch
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(**config)
    channels = config.get("in_channels", 16)
    latent = torch.empty(1, channels, latent_frames(frames, 4), height // folds, width // folds)
    return model, (), {"hidden_states": latent, "timestep": torch.empty(1), "encoder_hidden_states": torch.empty(1, 512, 4096)}  # fmt: skip


def _hunyuan(frames: int, height: int, width: int) -> Built:
    import torch
    from diffusers import HunyuanVideoTransformer3DModel

    named = {
        "hidden_states": torch.empty(1, 16, latent_frames(frames, 4), height // 8, width // 8),
        "timestep": torch.empty(1), "encoder_hidden_states": torch.empty(1, 256, 4096),
        "encoder_attention_mask": torch.ones(1, 256, dtype=torch.bool), "pooled_projections": torch.empty(1, 768),
        "guidance": torch.empty(1),
    }  # fmt: skip
    return HunyuanVideoTransformer3DModel(), (), named


def _ltx(frames: int, height: int, width: int) -> Built:
    import torch
    from diffusers import LTXVideoTransformer3DModel

    kept, high, wide = latent_frames(frames, 8), height // 32, width // 32
    named = {
        "hidden_states": torch.empty(1, kept * high * wide, 128), "encoder_hidden_states": torch.empty(1, 128, 4096),
        "timestep": torch.empty(1), "encoder_attention_mask": torch.ones(1, 128), "num_frames": kept, "height": high,
        "width": wide,
    }  # fmt: skip
    return LTXVideoTransformer3DModel(), (), named


def _cogvideo(frames: int, height: int, width: int) -> Built:
    import torch
    from diffusers import CogVideoXTransformer3DModel

    # Position tables of this class are made for one size.
    model = CogVideoXTransformer3DModel(
        sample_height=height // 8, sample_width=width // 8, sample_frames=frames
    )
    named = {
        "hidden_states": torch.empty(1, latent_frames(frames, 4), 16, height // 8, width // 8),
        "encoder_hidden_states": torch.empty(1, 226, 4096), "timestep": torch.empty(1),
    }  # fmt: skip
    return model, (), named


def _mochi(frames: int, height: int, width: int) -> Built:
    import torch
    from diffusers import MochiTransformer3DModel

    named = {
        "hidden_states": torch.empty(1, 12, latent_frames(frames, 6), height // 8, width // 8),
        "encoder_hidden_states": torch.empty(1, 256, 4096), "timestep": torch.empty(1),
        "encoder_attention_mask": torch.ones(1, 256, dtype=torch.bool),
    }  # fmt: skip
    return MochiTransformer3DModel(), (), named


def _decoder(name: str, channels: int, per_latent: int, folds: int, **config: Any) -> Builder:
    def build(frames: int, height: int, width: int) -> Built:
        import diffusers
        import torch

        class Decoder(torch.nn.Module):
            """Only what decodes, as the pipeline calls it."""

            def __init__(self) -> None:
                super().__init__()
                self.vae = getattr(diffusers, name)(**config)
                del self.vae.encoder

            def forward(self, latents: Any) -> Any:
                return self.vae.decode(latents, return_dict=False)[0]

        latent = torch.empty(1, channels, latent_frames(frames, per_latent), height // folds, width // folds)
        return Decoder(), (latent,), {}

    return build


def _umt5(tokens: int, *_: int) -> Built:
    import torch
    from transformers import UMT5Config, UMT5EncoderModel

    return (
        UMT5EncoderModel(UMT5Config(**T5_XXL, vocab_size=256384)),
        (torch.zeros(1, tokens, dtype=torch.long),),
        {},
    )


def _llama(tokens: int, *_: int) -> Built:
    import torch
    from transformers import LlamaConfig, LlamaModel
    from transformers.models.llama import modeling_llama

    # Without a mask attention is causal; making one asks for values, which the meta device has not.
    modeling_llama.create_causal_mask = lambda **_: None  # type: ignore[assignment]
    widths = load_catalog().models["llama-3-8b"].transformer
    assert widths is not None
    # LLaVA adds tokens for images to the vocabulary of the model that it is made of.
    config = LlamaConfig(
        hidden_size=widths.hidden_size, intermediate_size=widths.intermediate_size,
        num_hidden_layers=widths.num_hidden_layers, num_attention_heads=widths.num_attention_heads,
        num_key_value_heads=widths.num_key_value_heads, vocab_size=128320, attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip
    return LlamaModel(config), (torch.zeros(1, tokens, dtype=torch.long),), {}


_WAN_14B: dict[str, Any] = {}
_WAN_1B = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
_WAN_5B = {
    "in_channels": 48,
    "out_channels": 48,
    "num_attention_heads": 24,
    "ffn_dim": 14336,
    "num_layers": 30,
}
_WAN_VAE_22 = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
    "patch_size": 2, "scale_factor_spatial": 16,
    # Means and deviations of the latent: any of the right length.
    "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip

PER_LATENT = {"ltx": 8, "mochi": 6}
"""Frames that one of the latent holds [frames], by the first word of a name; 4 elsewhere."""

NETWORKS: tuple[tuple[str, str, tuple[int, int, int], str, Builder], ...] = (
    ("wan2.1-t2v-1.3b", "denoiser", (81, 480, 832), WAN, lambda *at: _wan(*at, **_WAN_1B)),
    ("wan2.1-t2v-14b", "denoiser", (81, 480, 832), WAN, lambda *at: _wan(*at, **_WAN_14B)),
    ("wan2.2-ti2v-5b", "denoiser", (121, 704, 1280), WAN, lambda *at: _wan(*at, folds=16, **_WAN_5B)),
    ("hunyuanvideo", "denoiser", (129, 720, 1280), MODELS + "transformers/transformer_hunyuan_video.py", _hunyuan),
    ("ltx-video", "denoiser", (161, 512, 704), MODELS + "transformers/transformer_ltx.py", _ltx),
    ("cogvideox-2b", "denoiser", (49, 480, 720), MODELS + "transformers/cogvideox_transformer_3d.py", _cogvideo),
    ("mochi-1", "denoiser", (85, 480, 848), MODELS + "transformers/transformer_mochi.py", _mochi),
    ("wan2.1-vae", "decoder", (81, 480, 832), MODELS + "autoencoders/autoencoder_kl_wan.py", _decoder("AutoencoderKLWan", 16, 4, 8)),
    ("wan2.2-vae", "decoder", (121, 704, 1280), WAN, _decoder("AutoencoderKLWan", 48, 4, 16, **_WAN_VAE_22)),
    ("hunyuanvideo-vae", "decoder", (129, 720, 1280), MODELS + "autoencoders/autoencoder_kl_hunyuan_video.py", _decoder("AutoencoderKLHunyuanVideo", 16, 4, 8)),
    ("ltx-vae", "decoder", (161, 512, 704), MODELS + "autoencoders/autoencoder_kl_ltx.py", _decoder("AutoencoderKLLTXVideo", 128, 8, 32)),
    ("cogvideox-vae", "decoder", (49, 480, 720), MODELS + "autoencoders/autoencoder_kl_cogvideox.py", _decoder(
        "AutoencoderKLCogVideoX", 16, 4, 8,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(128, 256, 256, 512), layers_per_block=3, norm_num_groups=32,
    )),
    ("mochi-vae", "decoder", (85, 480, 848), MODELS + "autoencoders/autoencoder_kl_mochi.py", _decoder("AutoencoderKLMochi", 12, 6, 8)),
    ("umt5-xxl-512", "text-encoder", (512, 0, 0), UMT5, _umt5),
    ("llava-llama-3-8b-256", "text-encoder", (256, 0, 0), LLAVA, _llama),
)  # fmt: skip


def sizes(frames: int, height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """The native shape, half the frames, and about half the area; one shape where there is no image."""
    yield frames, height, width
    if height:
        yield (frames // 2) // 24 * 24 + 1, height, width
        yield frames, height * 3 // 4 // 64 * 64, width * 3 // 4 // 64 * 64


def _allow_meta() -> None:
    """Let networks turn autocast off, and find what is not zero, on the meta device, which has neither."""
    import torch
    import torch.fx.experimental._config as experimental

    # Masks of causal attention: every element counts.
    experimental.meta_nonzero_assume_all_nonzero = True
    plain = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if device_type == "meta" else plain(device_type, *args, **kwargs)

    torch.autocast = autocast  # type: ignore[assignment, misc]


def main() -> None:
    """Trace every network at every shape and write the tables."""
    warnings.simplefilter("ignore")
    import diffusers
    import torch

    _allow_meta()

    from willitrun.interop.tracing import trace_module

    heads, table = [], []
    for arch, part, native, source, builder in NETWORKS:
        for frames, height, width in sizes(*native):
            with torch.device("meta"):
                model, args, named = builder(frames, height, width)
            result = trace_module(model, *args, **named)
            key = {
                "arch": arch,
                "image_size": round((height * width) ** 0.5),
                "frames": frames if height else 1,
            }
            heads.append({
                **key, "part": part,
                "frames_per_latent": PER_LATENT.get(arch.partition("-")[0], 4) if height else 1,
                "text_tokens": 0 if height else frames, **counts(result), "source": source,
                "tool": f"diffusers {diffusers.__version__}",
            })  # fmt: skip
            print(arch, frames, height, width, result.parameters, f"{result.macs * 2e-12:.3f} TFLOP", result.n_ops, f"{result.peak_elements:,}", flush=True)  # fmt: skip
            table += class_rows(result, key)
    write_tables("video", MODEL_COLUMNS, heads, table, keys=("arch", "image_size", "frames"))


if __name__ == "__main__":
    main()
