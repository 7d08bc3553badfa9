"""safetensors files and the folders around them."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willitrun.checkpoints import describe_model
from willitrun.checkpoints.safetensors import read_safetensors
from willitrun.checkpoints.tensor_tables import stored_role
from willitrun.errors import CheckpointError, CorruptCheckpointError, UnsupportedFormatError


def read(data):
    return read_safetensors(io.BytesIO(data), len(data), "tiny.safetensors")


def framed(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def one(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"x": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def test_a_file_with_its_config(write, store):
    store("config.json", write.config)
    model = describe_model(store("model.safetensors", write.safetensors(write.llama_stored())))
    rows = {(role, form): rest for role, form, *rest in model.tensors.rows}
    assert rows["attn_q", "bf16"] == [2, 2 * 64 * 64, 2 * 64 * 64 * 2]
    assert rows["output", "bf16"] == [1, 6400, 12800]
    assert rows["output_norm", "bf16"] == [1, 64, 128]
    assert model.parameters == sum(row[3] for row in model.tensors.rows) == 86_848
    assert (model.quantization, model.tensors.source) == ("bf16", "safetensors")


def test_parameters_agree_with_the_inventory(write, store):
    from willitrun.estimators.inventory import parameters

    store("config.json", write.config)
    model = describe_model(store("model.safetensors", write.safetensors(write.llama_stored())))
    assert parameters(model.transformer) == model.parameters


def test_a_tied_matrix_stored_twice_is_noted(write, store):
    store("config.json", {**write.config, "tie_word_embeddings": True})
    model = describe_model(store("model.safetensors", write.safetensors(write.llama_stored())))
    assert "second time" in model.parameters_note


def test_stored_format_prevails_over_the_stated_one(write, store):
    store("config.json", {**write.config, "torch_dtype": "float32"})
    model = describe_model(store("model.safetensors", write.safetensors(write.llama_stored())))
    assert model.quantization == "bf16"
    assert "most weights are bf16" in model.flags[0]


def test_shards_are_summed_through_the_index(write, store, tmp_path):
    store("config.json", write.config)
    tensors = write.llama_stored()
    first, second = dict(list(tensors.items())[:7]), dict(list(tensors.items())[7:])
    store("model-00001-of-00002.safetensors", write.safetensors(first))
    store("model-00002-of-00002.safetensors", write.safetensors(second))
    names = dict.fromkeys(first, "model-00001-of-00002.safetensors")
    names |= dict.fromkeys(second, "model-00002-of-00002.safetensors")
    index = store("model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": names})
    by_folder = describe_model(tmp_path)
    assert by_folder.parameters == 86_848
    assert by_folder.name == tmp_path.name
    assert describe_model(index).tensors == by_folder.tensors
    shard = describe_model(tmp_path / "model-00002-of-00002.safetensors")
    assert shard.tensors.tensors == by_folder.tensors.tensors


def test_a_missing_shard_is_named(write, store):
    store("config.json", write.config)
    index = store("model.safetensors.index.json", {"weight_map": {"x": "model-00001-of-00009.safetensors"}})
    with pytest.raises(CorruptCheckpointError, match="model-00001-of-00009"):
        describe_model(index)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "..",
        "",
        ".safetensors",
        7,
        None,
        "C:x.safetensors",
        "x.bin",
        "a\0.safetensors",
        "x.safetensors/",
        "\ud800.safetensors",
    ],
)
def test_no_path_inside_an_index_is_followed(name, write, store):
    store("config.json", write.config)
    index = store("model.safetensors.index.json", {"weight_map": {"x": name}})
    with pytest.raises(CorruptCheckpointError, match="no plain"):
        describe_model(index)


def test_folder_without_index_takes_the_model_and_leaves_adapters(write, store, tmp_path):
    store("config.json", write.config)
    data = write.safetensors(write.llama_stored())
    store("model-00001-of-00001.safetensors", data)
    store("consolidated.safetensors", data)
    store("adapter_model.safetensors", data)
    assert describe_model(tmp_path).parameters == 86_848


def test_sentence_transformers_serve_embeddings(write, store, tmp_path):
    store("config.json", write.config)
    store("modules.json", "[]")
    assert describe_model(tmp_path).task == "feature-extraction"


def test_folders_that_are_something_else(write, store, tmp_path):
    with pytest.raises(UnsupportedFormatError, match="neither"):
        describe_model(tmp_path)
    store("a.gguf", b"")
    store("b.gguf", b"")
    with pytest.raises(CheckpointError, match="2 GGUF models"):
        describe_model(tmp_path)
    store("model_index.json", "{}")
    with pytest.raises(UnsupportedFormatError, match="diffusion"):
        describe_model(tmp_path)


def test_weights_without_a_config_are_not_guessed(write, store):
    with pytest.raises(UnsupportedFormatError, match=r"no config\.json"):
        describe_model(store("model.safetensors", write.safetensors(write.llama_stored())))


def test_packed_weights_are_no_parameters(write, store):
    store("config.json", {**write.config, "quantization_config": {"quant_method": "awq", "bits": 4}})
    tensors = {
        "model.layers.0.self_attn.q_proj.qweight": ("I32", (64, 8)),
        "model.layers.0.self_attn.q_proj.scales": ("F16", (1, 64)),
        "model.layers.0.self_attn.q_proj.qzeros": ("I32", (1, 8)),
    }
    model = describe_model(store("model.safetensors", write.safetensors(tensors)))
    assert model.quantization == "awq-int4"
    assert model.parameters is None
    assert "packed" in model.parameters_note
    assert {row[:3] for row in model.tensors.rows} == {("attn_q", "i32", 2), ("attn_q", "f16", 1)}


def test_a_stored_tower_is_counted(write, store):
    tower = {
        "model_type": "siglip_vision_model",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "intermediate_size": 16,
    }
    store(
        "config.json",
        {"model_type": "llava", "text_config": write.config, "vision_config": tower | {"patch_size": 2}},
    )
    tensors = write.llama_stored() | {"vision_tower.encoder.layers.0.mlp.fc1.weight": ("BF16", (16, 8))}
    model = describe_model(store("model.safetensors", write.safetensors(tensors)))
    assert model.transformer.vision.parameters == 128
    assert model.parameters_note == ""
    assert ("vision", "bf16", 1, 128, 256) in model.tensors.rows


def test_pickles_are_never_opened(store):
    with pytest.raises(UnsupportedFormatError, match="pickled"):
        describe_model(store("pytorch_model.bin", b"\x80\x02}q\x00."))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.embed_tokens.weight", "token_embd"),
        ("lm_head.weight", "output"),
        ("model.norm.weight", "output_norm"),
        ("model.language_model.layers.3.mlp.gate_proj.weight", "ffn_gate"),
        ("model.layers.3.mlp.experts.gate_up_proj", "ffn_gate_up_exps"),
        ("model.layers.3.mlp.experts.gate_up_proj_blocks", "ffn_gate_up_exps"),
        ("model.layers.3.mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias"),
        ("model.layers.3.mlp.down_proj.weight.absmax", "ffn_down"),
        ("model.layers.3.mlp.down_proj.weight.quant_state.bitsandbytes__nf4", "ffn_down"),
        ("model.layers.3.block_sparse_moe.experts.5.w2.weight", "ffn_down_exps"),
        ("model.layers.3.mlp.gate.weight", "ffn_gate_inp"),
        ("model.layers.3.mlp.shared_experts.up_proj.weight_scale_inv", "ffn_up_shexp"),
        ("model.layers.61.mlp.gate.weight", "prediction"),
        ("mtp.layers.0.mlp.gate.weight", "prediction"),
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias", "vision"),
        ("transformer.h.0.attn.c_attn.bias", "attn_qkv.bias"),
        ("bert.encoder.layer.0.attention.self.query.weight", "attn_q"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "ffn_up"),
        ("something.else", "something.else"),
        ("", "unnamed"),
    ],
)
def test_roles(name, role):
    assert stored_role(name, 61) == role


HOSTILE = {
    "empty": b"",
    "8 bytes": b"\0" * 8,
    "header of 2^63": struct.pack("<Q", 2**63) + b"{}",
    "header beyond the file": struct.pack("<Q", 100) + b"{}",
    "not JSON": framed(b"{nonsense}"),
    "an array": framed(b"[1]"),
    "not UTF-8": framed(b'{"\xff\xfe": 1}'),
    "deep": framed(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "deep arrays": framed(b'{"a":' + b"[" * 200_000),
    "100 levels": framed(b'{"a":' * 100 + b"1" + b"}" * 100),
    "crowded": framed(b'{"a":[' + b"[]," * 400_000 + b"[]]}"),
    "a long text": framed(b'{"a":"' + b"x" * (2 << 20) + b'"}'),
    "a long list": framed(b'{"a":[' + b"1," * 400_000 + b"1]}"),
    "duplicate keys": framed(b'{"x":1,"x":2}'),
    "NaN": framed(b'{"x":NaN}'),
    "Infinity": framed(b'{"x":-Infinity}'),
    "1e999": framed(b'{"x":1e999}'),
    "long integer": framed(b'{"x":' + b"9" * 100_000 + b"}"),
    "tensor without fields": framed({"x": {}}),
    "tensor of the wrong kind": framed({"x": 5}),
    "negative shape": framed(one(shape=(-2,)), b"\0" * 8),
    "true as size": framed(one(shape=(True,), offsets=(0, 4)), b"\0" * 8),
    "2^63 extent": framed(one(shape=(2**63,)), b"\0" * 8),
    "product beyond 2^63": framed(one(shape=(2**40, 2**40)), b"\0" * 8),
    "20 dimensions": framed(one(shape=(1,) * 20)),
    "reversed offsets": framed(one(offsets=(8, 0)), b"\0" * 8),
    "one offset": framed(one(offsets=(0,)), b"\0" * 8),
    "size mismatch": framed(one(shape=(3,)), b"\0" * 8),
    "unknown dtype": framed(one(dtype="F128"), b"\0" * 8),
    "dtype of the wrong kind": framed(one(dtype=["F32"]), b"\0" * 8),
    "truncated data": framed(one(), b"\0" * 4),
    "overlap": framed(one() | {"y": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"\0" * 12),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_end_quickly_and_small(name):
    data = HOSTILE[name]
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises((CorruptCheckpointError, UnsupportedFormatError)):
            read(data)
        seconds = time.perf_counter() - started
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Ten times the promise, for a loaded machine under a tracer.
    assert seconds < 1.0
    assert peak < 16 << 20


@given(data=st.data())
def test_mutated_files_only_raise_checkpoint_errors(data, write):
    raw = bytearray(write.safetensors(write.llama_stored(), data=False))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.one_of(st.sampled_from(b'0123456789{}[]",:-.eE\\\xff\0'), st.integers(0, 255)))
    # The data part is claimed, not there: a stream of the right size stands in for it.
    stream = io.BytesIO(bytes(raw))
    try:
        header = read_safetensors(stream, len(raw) + 86_848 * 2, "fuzz")
    except CheckpointError:
        return
    assert sum(tensor.size_bytes for tensor in header.tensors) <= 86_848 * 2
