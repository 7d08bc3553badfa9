"""`describe_model`: which of its doors a reference takes, and what it says where there is none."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

import willitrun
from willitrun.checkpoints import describe_model
from willitrun.errors import AmbiguousNameError, CheckpointError, UnknownIdError


class Catalog:
    """Stands in for the catalog: one name, one ambiguity."""

    def __init__(self, model):
        self.model = model

    def resolve(self, kind, name):
        assert kind == "model"
        if name == "vendor/tiny":
            return self.model
        if name == "both":
            raise AmbiguousNameError("model", name, ("a", "b"))
        raise UnknownIdError("model", name, ("tiny",))


@pytest.fixture
def catalog(write):
    return Catalog(describe_model(write.config))


def test_a_model_passes_through(catalog):
    assert describe_model(catalog.model) is catalog.model


def test_names_are_looked_up(catalog):
    assert describe_model("vendor/tiny", catalog=catalog) is catalog.model


def test_the_default_catalog_is_used():
    found = describe_model("llama-3.1-8b")
    assert found is describe_model(found)
    assert found.transformer.num_hidden_layers == 32


def test_unknown_names_get_suggestions(catalog):
    with pytest.raises(UnknownIdError) as caught:
        describe_model("tinny", catalog=catalog)
    assert caught.value.suggestions == ("tiny",)


def test_ambiguous_names_list_candidates(catalog):
    with pytest.raises(AmbiguousNameError) as caught:
        describe_model("both", catalog=catalog)
    assert caught.value.candidates == ("a", "b")


@pytest.mark.parametrize(
    "name", ["./absent.gguf", "absent.gguf", "a/b/c", "/nowhere/config.json", "~/model.safetensors", "a\0b"]
)
def test_what_looks_like_a_path_is_told_absent(name, catalog):
    with pytest.raises(CheckpointError, match="no file or folder") as caught:
        describe_model(name, catalog=catalog)
    assert caught.value.code == "no-such-file"


def test_absent_path_objects(catalog, tmp_path):
    for path in (tmp_path / "absent", os.fsencode(tmp_path / "absent.gguf").decode()):
        with pytest.raises(CheckpointError, match="absent"):
            describe_model(path, catalog=catalog)


def test_endless_names_are_not_compared(catalog):
    with pytest.raises(UnknownIdError):
        describe_model("x" * 10**6, catalog=catalog)


@pytest.mark.parametrize("ref", [None, 7, 1.5, ["llama"], b"llama"])
def test_other_things_are_told_by_type(ref):
    with pytest.raises(
        CheckpointError, match=f"a model is .* got {type(ref).__name__}.*llama-3.1-8b"
    ) as caught:
        describe_model(ref)
    assert caught.value.code == "invalid-model"


def test_an_existing_path_wins_over_a_name(write, store, monkeypatch, catalog):
    path = store("tiny", write.gguf(write.metadata, write.llama_tensors()))
    monkeypatch.chdir(path.parent)
    assert describe_model("tiny", catalog=catalog).name == "Tiny Llama"


def test_no_folder_of_the_machine_leaks(write, store, tmp_path):
    store("config.json", write.config)
    model = describe_model(store("model.safetensors", write.safetensors(write.llama_stored())))
    assert str(tmp_path.parent) not in model.model_dump_json()


def test_odd_file_names_make_valid_ids(write, store):
    model = describe_model(store("Mödel (v2) é.gguf", write.gguf(write.metadata, write.llama_tensors())))
    assert model.id == "m-del-v2-.gguf"
    assert pickle.loads(pickle.dumps(model)) == model


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointError, match="no regular file"):
        describe_model(tmp_path / "pipe.gguf")


def test_errors_survive_pickling(store):
    with pytest.raises(CheckpointError) as caught:
        describe_model(store("t.gguf", b"GGUF"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.code) == (type(caught.value), str(caught.value), caught.value.code)


def test_a_file_says_what_each_layer_holds(write, store):
    tensors = write.llama_tensors()
    model = willitrun.describe_model(Path(store("tiny.gguf", write.gguf(write.metadata, tensors))))
    table = model.tensors
    assert len(table.layers) == model.transformer.num_hidden_layers
    outside = sum(size for role, *_, size in table.rows if role in ("token_embd", "output", "output_norm"))
    assert sum(whole for whole, _ in table.layers) == sum(row[-1] for row in table.rows) - outside


def test_a_described_file_can_be_judged(write, store):
    path = store("tiny.gguf", write.gguf(write.metadata, write.llama_tensors()))
    verdict = willitrun.assess(Path(path), "rtx-4090")
    assert verdict.feasible
    assert willitrun.explain(verdict)
