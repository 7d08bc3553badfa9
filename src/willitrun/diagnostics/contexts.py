"""What shows that a program of the field speaks in a text: names of libraries and runtimes, frames of their traces.

Wordings such as "no attribute" or "permission denied" are everybody's; beside one of these they are worth an answer.
"""

from __future__ import annotations

import re

__all__ = ["COMPLAINT", "CONTEXTS", "FIELD"]

COMPLAINT = re.compile(
    r"error|exception|fail|fatal|cannot|can\'t|could not|couldn\'t|unable|assert|denied|abort|panic|critical|\[E\]| E ",
    re.IGNORECASE,
)
"""What a line that reports an error says; warnings of a program that goes on do not."""

FIELD = re.compile(
    r"\b(?:tensors?|torch|pytorch|cuda|gpus?|dtype|quantiz\w{1,8}|lora|gguf|ggml|vllm|llama\w{0,8}|qwen\w{0,8}|gemma\w{0,8}|mistral|"
    r"transformers|diffusers|onnx\w{0,8}|tensorrt|openvino|mps|rocm|nccl|nvidia|nvml|amdgpu|exllama\w{0,4}|multimodal|image tokens|bfloat16|float16|fp16|bf16|fp8|nvfp4|mxfp4|unet|vae|"
    r"logits|embeddings?|attention|attn|safetensors|ollama|whisper|comfyui|deepspeed|xformers|triton|llms?|kv cache|mlx|sglang|"
    r"num_(?:attention_)?heads|hidden_size|head_dim|input_ids|seq_?len|sm_?\d{2,3}|yolo\w{0,4}|\w{2,40}For(?:CausalLM|ConditionalGeneration))\b|"
    r"\.(?:pth?|ckpt|safetensors|gguf|onnx)\b",
    re.IGNORECASE,
)
"""Words of the field in the line itself."""

CONTEXTS = (
    # The dependency of a program that never loads a model can't be told from ours by its name alone, its path can.
    r"packages[\\/]+(?:torch|torchvision|torchaudio|transformers|diffusers|accelerate|peft|trl|vllm|"
    r"sglang|llama_cpp|bitsandbytes|xformers|flash_attn|triton|deepspeed|pytorch_lightning|lightning|"
    r"tensorflow|keras|jax|onnx|onnxruntime|openvino|optimum|sentence_transformers|tokenizers|"
    r"safetensors|huggingface_hub|datasets|ultralytics|timm|whisper|faster_whisper|whisperx|ctranslate2|"
    r"mlx|mlx_lm|mlx_vlm|mlx_whisper|auto_gptq|gptqmodel|awq|exllamav2|exllamav3|"
    r"unsloth|unsloth_zoo|llamafactory|axolotl|lm_eval|mmcv|mmdet|mmseg|mmengine|"
    r"mmpose|detectron2|fairseq|nemo|megatron|TTS|tensorrt|tensorrt_llm|torch_tensorrt|"
    r"sentencepiece|apex|gguf|kornia|basicsr|open_clip|clip|pyannote|coremltools|"
    r"paddle|lmdeploy)[\\/]",
    r"custom_nodes",
    r"(?:train|finetune|fine_tune|infer|inference|predict|generate|eval|evaluate|demo|export|quantize)\w{0,30}\.py\", line \d",
    r"autograd",
    r"loss\.backward",
    r"optimizer\.step",
    r"mmdetection",
    r"detectron2",
    r"kohya_ss",
    r"sd-scripts",
    r"LLaMA-Factory",
    r"open-webui",
    r"tritonserver",
    r"TRITONBACKEND",
    r"model_lifecycle",
    r"nvidia\.com/gpu",
    r"/dev/nvidia",
    r"pyarrow\.lib",
    r"pycocotools",
    r"whisperx",
    r"exllamav2",
    r"model_management",
    r"model_patcher",
    r"ComfyUI_windows_portable",
    r"ComfyUI Error Report",
    r"stable[-_ ]?diffusion",
    r"huggingface",
    r"safetensors",
    r"llama\.cpp",
    r"llama-cpp",
    r"llama_cpp",
    r"llama-server",
    r"llama_model",
    r"llama_context",
    r"llama_init",
    r"llama runner",
    r"load_backend",
    r"ggml-cuda",
    r"ggml_cuda",
    r"ggml_metal",
    r"GGML_ASSERT",
    r"bitsandbytes",
    r"onnxruntime",
    r"transformers",
    r"diffusers",
    r"deepspeed",
    r"flash-attn",
    r"flash_attn",
    r"FlashAttention",
    r"flash attention",
    r"flashinfer",
    r"tensorflow",
    r"tensorrt",
    r"openvino",
    r"xformers",
    r"VllmWorker",
    r"EngineCore",
    r"vllm serve",
    r"vllm\.entrypoints",
    r"sglang/srt",
    r"sglang\.srt",
    r"launch_server",
    r"torch\.cuda",
    r"torch\.nn",
    r"torch\.load",
    r"torch\.distributed",
    r"torch\.compile",
    r"torch\._inductor",
    r"torch\._dynamo",
    r"torchrun",
    r"torchvision",
    r"torchaudio",
    r"CUDA error",
    r"CUDA_VISIBLE_DEVICES",
    r"CUDA_HOME",
    r"cudaError",
    r"nvidia-smi",
    r"nvidia-container",
    r"nvidia/cuda",
    r"NVIDIA GeForce",
    r"compute capability",
    r"from_pretrained",
    r"state_dict",
    r"AutoModel",
    r"AutoTokenizer",
    r"PreTrainedModel",
    r"DataLoader",
    r"hf-to-gguf",
    r"gguf_init",
    r"ultralytics",
    r"pytorch_model",
    r"pytorch_lightning",
    r"pytorch-lightning",
    r"accelerate launch",
    r"faster-whisper",
    r"faster_whisper",
    r"whisper_init",
    r"whisper_model",
    r"ctranslate2",
    r"ollama run",
    r"ollama serve",
    r"ollama pull",
    r"LM Studio",
    r"lmstudio",
    r"LMSInternal",
    r"text-generation",
    r"oobabooga",
    r"koboldcpp",
    r"InvokeAI",
    r"hipError",
    r"HIP error",
    r"torch_dtype",
    r"Unsloth:",
    r"Megatron",
    r"model_index\.json",
    r"config_sentence",
    r"diffusion_pytorch_model",
    r"tokenizer_config",
    r"generation_config",
    r"local_rank",
    r"CUDAExecutionProvider",
)
"""Expressions, each with a run of characters to look for like a signature."""
