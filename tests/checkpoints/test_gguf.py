"""GGUF files: what a header says, and every way in which it can lie."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.checkpoints import describe_model
from willitrun.checkpoints.ggml_types import GGML_TYPES
from willitrun.checkpoints.gguf import LongArray, read_gguf
from willitrun.errors import (
    CheckpointError,
    CorruptCheckpointError,
    UnsupportedArchitectureError,
    UnsupportedFormatError,
)


def read(data):
    return read_gguf(io.BytesIO(data), len(data), "tiny.gguf")


def entry(key, kind, payload):
    """One metadata entry with a payload as it is."""
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + payload


def head(tensors, entries, rest=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + rest + b"\0" * 4096


def tensor(name=b"x", shape=(32,), kind=0, offset=0):
    return (
        struct.pack("<Q", len(name))
        + name
        + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        + struct.pack("<IQ", kind, offset)
    )


def test_a_file_becomes_a_model(write, store):
    model = describe_model(store("tiny.gguf", write.gguf(write.metadata, write.llama_tensors())))
    config = model.transformer
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("llama", 2, 256)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 64)
    assert (config.vocab_size, config.intermediate_size) == (320, 512)
    assert not config.tie_word_embeddings
    assert (model.name, model.quantization, model.task) == ("Tiny Llama", "q4_k_m", "text-generation")
    assert model.origin == "tiny.gguf"
    assert model.citations("transformer")[0].source == "local-file"
    rows = {(role, form): rest for role, form, *rest in model.tensors.rows}
    assert rows["attn_q", "q4_k"] == [2, 2 * 256 * 256, 2 * 256 * 144]
    assert rows["ffn_down", "q6_k"] == [2, 2 * 512 * 256, 2 * 512 * 210]
    assert rows["token_embd", "q4_k"] == [1, 320 * 256, 320 * 144]
    assert sum(row[4] for row in model.tensors.rows) < model.tensors.file_bytes
    assert model.parameters == sum(row[3] for row in model.tensors.rows)
    assert model.tensors.tensors == len(write.llama_tensors())


def more_bits(layer, layers):
    """Layers of which llama.cpp's quantizer keeps more (`use_more_bits` in llama-quant.cpp)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


@pytest.mark.parametrize(
    ("mix", "number", "size"), [("q4_k_m", 15, 4_080_263_168), ("q4_0", 2, 3_825_065_984)]
)
def test_llama_2_7b_to_the_byte(mix, number, size, write, tmp_path):
    """Tensor bytes of the published files: shapes of meta-llama/Llama-2-7b-hf, types as quantized."""
    base, width, hidden, layers, vocabulary = (
        ("q4_k" if mix == "q4_k_m" else "q4_0"),
        11_008,
        4096,
        32,
        32_000,
    )
    tensors = [
        ("token_embd.weight", (hidden, vocabulary), base),
        ("output_norm.weight", (hidden,), "f32"),
        ("output.weight", (hidden, vocabulary), "q6_k"),
    ]
    for layer in range(layers):
        better = "q6_k" if mix == "q4_k_m" and more_bits(layer, layers) else base
        tensors += [
            (f"blk.{layer}.attn_norm.weight", (hidden,), "f32"),
            (f"blk.{layer}.ffn_norm.weight", (hidden,), "f32"),
            *((f"blk.{layer}.attn_{name}.weight", (hidden, hidden), base) for name in ("q", "k", "output")),
            (f"blk.{layer}.attn_v.weight", (hidden, hidden), better),
            (f"blk.{layer}.ffn_gate.weight", (hidden, width), base),
            (f"blk.{layer}.ffn_up.weight", (hidden, width), base),
            (f"blk.{layer}.ffn_down.weight", (width, hidden), better),
        ]
    metadata = {
        **write.metadata,
        "general.file_type": number,
        "llama.block_count": layers,
        "llama.embedding_length": hidden,
        "llama.feed_forward_length": width,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 32,
    }
    header = write.gguf(metadata, tensors, data=False)
    path = tmp_path / "llama-2-7b.gguf"
    with path.open("wb") as stream:  # sparse: nothing is written behind the header
        stream.write(header)
        stream.truncate(len(header) + size)
    model = describe_model(path)
    assert sum(row[4] for row in model.tensors.rows) == size
    assert (model.quantization, model.parameters) == (mix, 6_738_415_616)
    assert not model.flags


def test_an_absent_output_matrix_means_a_tied_one(write, store):
    tensors = [row for row in write.llama_tensors() if row[0] != "output.weight"]
    assert describe_model(
        store("t.gguf", write.gguf(write.metadata, tensors))
    ).transformer.tie_word_embeddings


def test_version_2_reads_as_version_3(write):
    old = read(write.gguf(write.metadata, write.llama_tensors(), version=2))
    new = read(write.gguf(write.metadata, write.llama_tensors()))
    assert old.tensors == new.tensors
    assert old.metadata == new.metadata


def test_vocabularies_are_counted_not_kept(write):
    header = read(write.gguf(write.metadata, write.llama_tensors()))
    assert header.metadata["tokenizer.ggml.tokens"] == LongArray(8, 4)
    assert header.metadata["tokenizer.ggml.token_type"] == (1, 1, 1, 1)


def test_vocabulary_strings_that_straddle_windows_are_passed_over(write, monkeypatch):
    monkeypatch.setattr("willitrun.checkpoints.buffered.WINDOW_BYTES", 64)
    words = [f"token-{number}" * (number % 17) for number in range(500)]
    header = read(write.gguf({**write.metadata, "tokenizer.ggml.tokens": words}, write.llama_tensors()))
    assert header.metadata["tokenizer.ggml.tokens"] == LongArray(8, 500)
    assert len(header.tensors) == len(write.llama_tensors())


def test_a_file_type_that_tensors_deny_is_flagged(write, store):
    model = describe_model(
        store("t.gguf", write.gguf({**write.metadata, "general.file_type": 7}, write.llama_tensors()))
    )
    assert model.quantization == "q8_0"
    assert "most weights are q4_k" in model.flags[0]


def test_without_a_file_type_the_tensors_name_the_mix(write, store):
    metadata = write.metadata
    del metadata["general.file_type"]
    model = describe_model(store("t.gguf", write.gguf(metadata, write.llama_tensors())))
    assert model.quantization == "q4_k_m"
    assert model.flags


def test_split_files_are_summed_from_any_part(write, store):
    tensors = write.llama_tensors()
    whole = describe_model(store("whole.gguf", write.gguf(write.metadata, tensors)))
    store("m-00001-of-00002.gguf", write.gguf({**write.metadata, "split.count": 2}, tensors[:5]))
    second = store("m-00002-of-00002.gguf", write.gguf({"split.count": 2}, tensors[5:]))
    split = describe_model(second)
    assert sorted(split.tensors.rows) == sorted(whole.tensors.rows)
    assert split.transformer == whole.transformer
    assert describe_model(second.parent / "m-00001-of-00002.gguf") == split


def test_a_missing_part_is_named(write, store):
    first = store("m-00001-of-00003.gguf", write.gguf(write.metadata, write.llama_tensors()))
    with pytest.raises(CorruptCheckpointError, match="m-00002-of-00003") as caught:
        describe_model(first)
    assert caught.value.code == "missing-shard"


def test_an_unnumbered_part_is_told_apart(write, store):
    renamed = store("m.gguf", write.gguf({**write.metadata, "split.count": 3}, write.llama_tensors()))
    with pytest.raises(CorruptCheckpointError, match="one of 3 parts"):
        describe_model(renamed)


def test_unknown_architectures_fail_closed(write, store):
    metadata = {**write.metadata, "general.architecture": "llama9000"}
    with pytest.raises(UnsupportedArchitectureError, match="llama9000"):
        describe_model(store("t.gguf", write.gguf(metadata, write.llama_tensors())))


def test_projector_files_are_named(write, store):
    with pytest.raises(UnsupportedArchitectureError, match="projector"):
        describe_model(store("mmproj.gguf", write.gguf({"general.architecture": "clip"}, [])))


def with_arch(architecture, layers, /, **keys):
    return {
        "general.architecture": architecture,
        f"{architecture}.block_count": layers,
        f"{architecture}.embedding_length": 256,
        f"{architecture}.feed_forward_length": 512,
        f"{architecture}.attention.head_count": 4,
        f"{architecture}.vocab_size": 1000,
        **{f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()},
    }


def test_sliding_layers_follow_the_architecture(write, store):
    metadata = with_arch("gemma3", 12, attention__sliding_window=512, attention__key_length=256)
    config = describe_model(store("g.gguf", write.gguf(metadata, []))).transformer
    assert config.model_type == "gemma3_text"
    assert config.layer_types == ("sliding_attention",) * 5 + ("full_attention",)
    assert (config.sliding_window, config.head_dim) == (512, 256)


def test_a_window_that_llama_cpp_ignores_is_left_out(write, store):
    metadata = with_arch("phi3", 4, attention__sliding_window=2047)
    config = describe_model(store("p.gguf", write.gguf(metadata, []))).transformer
    assert config.sliding_window is None
    assert config.layer_types is None


def test_heads_that_differ_by_kind_of_layer(write, store):
    metadata = with_arch(
        "gemma4",
        4,
        attention__head_count_kv=[8, 8, 8, 2],
        attention__sliding_window_pattern=[True, True, True, False],
        attention__sliding_window=512,
        attention__key_length=512,
        attention__key_length_swa=256,
    )
    config = describe_model(store("g.gguf", write.gguf(metadata, []))).transformer
    assert (config.num_key_value_heads, config.num_global_key_value_heads) == (8, 2)
    assert (config.head_dim, config.global_head_dim) == (256, 512)


def test_heads_that_differ_within_a_kind_are_refused(write, store):
    metadata = with_arch("llama", 4, attention__head_count_kv=[4, 2, 4, 2])
    with pytest.raises(UnsupportedArchitectureError, match="KV heads"):
        describe_model(store("g.gguf", write.gguf(metadata, [])))


def test_hybrid_layers_are_read_off_their_tensors(write, store):
    metadata = with_arch(
        "nemotron_h",
        3,
        attention__head_count_kv=[0, 2, 0],
        ssm__conv_kernel=4,
        ssm__inner_size=512,
        ssm__state_size=128,
        ssm__group_count=8,
        ssm__time_step_rank=8,
    )
    tensors = [
        ("blk.0.ssm_in.weight", (256, 64), "f32"),
        ("blk.1.attn_q.weight", (256, 64), "f32"),
        ("blk.2.ffn_up.weight", (256, 64), "f32"),
    ]
    config = describe_model(store("n.gguf", write.gguf(metadata, tensors))).transformer
    assert config.layer_types == ("mamba", "full_attention", "mlp")
    assert (config.mamba_d_inner, config.mamba_num_heads, config.num_key_value_heads) == (512, 8, 2)


def test_latent_attention(write, store):
    metadata = with_arch(
        "deepseek2",
        4,
        attention__kv_lora_rank=512,
        attention__q_lora_rank=1536,
        attention__key_length=576,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
        rope__dimension_count=64,
        expert_count=8,
        expert_used_count=2,
        expert_feed_forward_length=128,
        leading_dense_block_count=1,
    )
    config = describe_model(store("d.gguf", write.gguf(metadata, []))).transformer
    assert config.model_type == "deepseek_v2"
    assert (config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim) == (128, 64, 128)
    assert (config.num_experts, config.first_k_dense_replace, config.head_dim) == (8, 1, None)


def test_mixture_layers_are_read_off_their_routers(write, store):
    metadata = with_arch("jamba", 6, expert_count=4, expert_used_count=2)
    mixers = [(f"blk.{layer}.ssm_in.weight", (32, 4), "f32") for layer in range(6)]
    tensors = [*mixers, *((f"blk.{layer}.ffn_gate_inp.weight", (32, 4), "f32") for layer in (1, 3, 5))]
    config = describe_model(store("j.gguf", write.gguf(metadata, tensors))).transformer
    assert (config.first_k_dense_replace, config.moe_layer_interval) == (0, 2)
    tensors = [(f"blk.{layer}.ffn_gate_inp.weight", (32, 4), "f32") for layer in (1, 2, 5)]
    with pytest.raises(UnsupportedArchitectureError, match="pattern"):
        describe_model(store("j.gguf", write.gguf(metadata, tensors)))


def test_a_stated_period_overrides_the_architecture(write, store):
    metadata = with_arch(
        "gemma3",
        8,
        attention__sliding_window=512,
        attention__sliding_window_pattern=4,
        attention__key_length=64,
    )
    config = describe_model(store("g.gguf", write.gguf(metadata, []))).transformer
    assert config.layer_types == ("sliding_attention",) * 3 + ("full_attention",)


def test_models_that_read_both_ways_cache_nothing(write, store):
    metadata = with_arch("qwen2", 2, attention__causal=False, pooling_type=1)
    model = describe_model(store("e.gguf", write.gguf(metadata, [])))
    assert model.transformer.is_encoder_only
    assert model.task == "feature-extraction"


def test_widths_that_differ_between_layers_are_refused(write, store):
    metadata = with_arch("qwen3moe", 3, expert_count=4, expert_used_count=[2, 2, 4])
    with pytest.raises(UnsupportedArchitectureError, match="differs between layers"):
        describe_model(store("p.gguf", write.gguf(metadata, [])))


def test_prediction_blocks_are_no_layers(write, store):
    metadata = with_arch("glm4moe", 3, nextn_predict_layers=1)
    tensors = [(f"blk.{layer}.attn_q.weight", (256, 64), "f32") for layer in range(3)]
    model = describe_model(store("g.gguf", write.gguf(metadata, tensors)))
    assert (model.transformer.num_hidden_layers, model.transformer.num_nextn_predict_layers) == (2, 1)
    assert {row[0]: row[2] for row in model.tensors.rows} == {"attn_q": 2, "prediction": 1}


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"PK\x03\x04", "PyTorch"),
        (b"tjgg\x01\x00", "GGJT"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<!DOCTYPE html>", "web page"),
        (b"nonsense" * 8, "starts with"),
    ],
)
def test_other_files_are_recognised(start, kind):
    with pytest.raises(UnsupportedFormatError, match=kind):
        read(start + b"\0" * 64)


@pytest.mark.parametrize(
    ("version", "told"), [(1, "version 1"), (4, "version 4"), (0x03000000, "big-endian")]
)
def test_other_versions_are_refused(version, told):
    with pytest.raises(UnsupportedFormatError, match=told):
        read(head(0, 0, version=version))


HOSTILE = {
    "empty": b"",
    "magic only": b"GGUF",
    "2^63 tensors": head(2**63, 0),
    "2^64-1 entries": head(0, 2**64 - 1),
    "more tensors than bytes": head(65_000, 0),
    "key of 2^62 bytes": head(0, 1, struct.pack("<Q", 2**62)),
    "key not UTF-8": head(0, 1, entry(b"\xff\xfe", 4, b"\0\0\0\0")),
    "unknown value type": head(0, 1, entry(b"a", 99, b"")),
    "string of 2^63 bytes": head(0, 1, entry(b"a", 8, struct.pack("<Q", 2**63))),
    "string not UTF-8": head(0, 1, entry(b"a", 8, struct.pack("<Q", 2) + b"\xff\xff")),
    "array of 2^63 strings": head(0, 1, entry(b"a", 9, struct.pack("<IQ", 8, 2**63))),
    "string in array of 2^63 bytes": head(0, 1, entry(b"a", 9, struct.pack("<IQQ", 8, 1, 2**63))),
    "array of 2^61 doubles": head(0, 1, entry(b"a", 9, struct.pack("<IQ", 12, 2**61))),
    "array of arrays": head(0, 1, entry(b"a", 9, struct.pack("<IQ", 9, 4))),
    "duplicate key": head(0, 2, entry(b"a", 4, b"\0" * 4) * 2),
    "alignment 0": head(0, 1, entry(b"general.alignment", 4, struct.pack("<I", 0))),
    "alignment 3": head(0, 1, entry(b"general.alignment", 4, struct.pack("<I", 3))),
    "alignment of the wrong type": head(0, 1, entry(b"general.alignment", 8, struct.pack("<Q", 1) + b"x")),
    "5 dimensions": head(1, 0, tensor(shape=(2,) * 5)),
    "zero extent": head(1, 0, tensor(shape=(0, 4))),
    "2^63 elements": head(1, 0, tensor(shape=(2**32, 2**31))),
    "2^64 product": head(1, 0, tensor(shape=(2**63, 2**63, 2**63))),
    "name too long": head(1, 0, struct.pack("<Q", 2**40)),
    "half a block": head(1, 0, tensor(shape=(100,), kind=12)),
    "beyond the end": head(1, 0, tensor(shape=(4096, 4096), kind=0)),
    "offset of 2^63": head(1, 0, tensor(offset=2**63)),
    "unaligned": head(1, 0, tensor(offset=4)),
    "overlapping": head(2, 0, tensor(b"x", (64,), 0, 0) + tensor(b"y", (64,), 0, 32)),
    "same name twice": head(2, 0, tensor(b"x", (8,), 0, 0) + tensor(b"x", (8,), 0, 32)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_end_quickly_and_small(name, store):
    path = store("hostile.gguf", HOSTILE[name])
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises((CorruptCheckpointError, UnsupportedFormatError)):
            describe_model(path)
        seconds = time.perf_counter() - started
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Ten times the promise, for a loaded machine under a tracer.
    assert seconds < 1.0
    assert peak < 16 << 20


def test_unknown_tensor_types_are_named():
    with pytest.raises(UnsupportedFormatError, match="ggml type 4000"):
        read(head(1, 0, tensor(kind=4000)))


def test_every_truncation_is_an_error(write):
    whole = write.gguf(write.metadata, write.llama_tensors())
    for length in [*range(0, len(whole) - 32, 97), len(whole) - 4096]:
        with pytest.raises((CorruptCheckpointError, UnsupportedFormatError)):
            read(whole[:length])


def test_a_million_strings_are_not_looked_at():
    data = head(0, 1, entry(b"a", 9, struct.pack("<IQ", 8, 2**21) + b"\0" * (8 << 21)))
    with pytest.raises(CorruptCheckpointError, match="at most"):
        read(data)


def test_many_arrays_share_one_budget(write):
    many = {f"x.{number}": ["a"] * 1000 for number in range(1100)}
    with pytest.raises(CorruptCheckpointError, match="at most"):
        read(write.gguf(many, []))
    kept = read(write.gguf({f"x.{number}": [1] * 4000 for number in range(40)}, [])).metadata
    assert sum(isinstance(value, tuple) for value in kept.values()) == 16
    assert kept["x.39"] == LongArray(5, 4000)


@given(data=st.data())
def test_mutated_files_only_raise_checkpoint_errors(data, write, tmp_path_factory):
    raw = bytearray(write.gguf(write.metadata, write.llama_tensors()))
    header = len(raw) - len(raw) % 4096
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(header, 2200) - 1))
        raw[at] = data.draw(st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255)))
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.gguf"
    path.write_bytes(bytes(raw))
    try:
        model = describe_model(path)
    except CheckpointError:
        return
    assert model.tensors.file_bytes == len(raw)


def test_block_sizes_agree_with_the_kernels():
    from willitrun.kernels.weights import BLOCK_LAYOUTS

    for kind in GGML_TYPES.values():
        # NVFP4 packs differently in GGUF (64 weights per block) and elsewhere.
        if kind.name in BLOCK_LAYOUTS and kind.name != "nvfp4":
            layout = BLOCK_LAYOUTS[kind.name]
            assert (layout.block_weights, layout.block_bytes) == (kind.block_elements, kind.block_bytes)


@pytest.mark.parametrize(("layers", "blocked"), [(2, False), (1, True), (4, False)])
def test_tensors_that_are_not_those_of_the_architecture_are_a_reason(write, store, layers, blocked):
    """Metadata of two layers: a file of one is refused; blocks behind the last are prediction heads, which run apart."""
    from willitrun import assess

    model = describe_model(store("tiny.gguf", write.gguf(write.metadata, write.llama_tensors(layers))))
    verdict = assess(model, "rtx-4090", runtime="llama.cpp")
    codes = [reason.code for reason in verdict.reasons]
    assert (codes[0] == "checkpoint-contradicts-architecture") is blocked
    assert (verdict.tier == "will-not-run") is blocked
