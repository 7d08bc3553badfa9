"""A user's own network, from Python or from an ONNX file, to a verdict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from willitrun import Workload, assess, describe_model, estimate_memory, largest_batch
from willitrun.errors import CorruptCheckpointError, InvalidWorkloadError, UnsupportedFormatError

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "own-network.md"
BLOCKS = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def page_block(words: str) -> str:
    return next(block for block in BLOCKS.findall(PAGE.read_text("utf-8")) if words in block)


def test_the_page_goes_from_module_to_verdict() -> None:
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    names: dict[str, Any] = {}
    exec(compile(page_block("model_from_module"), PAGE.name, "exec"), names)
    verdict = names["verdict"]
    assert verdict.feasible
    assert verdict.speed.images_per_s.best > 0
    # Stem 3 x 64 x 49 + 64, norm 2 x 64, head 64 x 10 + 10.
    assert names["model"].parameters == 3 * 64 * 49 + 64 + 128 + 650


def test_a_module_is_a_model_like_any_other() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    from willitrun.interop.modules import model_from_module

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU())
    model = model_from_module(net, torch.empty(1, 3, 64, 64), name="My net")
    assert describe_model(model) is model
    assert model.id == "my-net"
    assert model.vision.macs == 64 * 64 * 32 * 27
    small, large = (
        estimate_memory(model, "rtx-3060-12gb", Workload(batch_size=n)).activation_bytes.best for n in (1, 8)
    )
    assert large == 8 * small
    assert largest_batch(model, "rtx-3060-12gb") > 1000
    quarter = estimate_memory(model, "rtx-3060-12gb", Workload(image_size=32)).activation_bytes.best
    assert quarter == small / 4
    trained = assess(model, "rtx-3060-12gb", Workload(mode="full-finetune", batch_size=8))
    assert trained.speed.samples_per_s.best > 0


def test_a_batch_or_no_image_is_refused_with_a_remedy() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    from willitrun.interop.modules import model_from_module

    with pytest.raises(InvalidWorkloadError, match="batch of 4"):
        model_from_module(torch.nn.ReLU(), torch.empty(4, 3, 8, 8))
    with pytest.raises(InvalidWorkloadError, match="no input is an image"):
        model_from_module(torch.nn.ReLU(), torch.empty(1, 8))


def classifier(path: Path, *, open_size: bool = False, residual: bool = False) -> Path:
    """A convolution with bias and ReLU, pooled, and a linear head, written without torch."""
    onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    side: Any = "side" if open_size else 32
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["logits"], transB=1),
    ]
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in (("w", (64, 3, 3, 3)), ("b", (64,)), ("v", (10, 64)))
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_the_page_goes_from_onnx_file_to_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(page_block("model_from_onnx"), PAGE.name, "exec"), names)
    assert names["verdict"].feasible
    assert names["verdict"].speed.images_per_s.best > 0


def test_onnx_counts_by_hand(tmp_path: Path) -> None:
    from willitrun.interop.onnx_graphs import trace_onnx

    trace = trace_onnx(classifier(tmp_path / "net.onnx"))
    assert trace.macs == 32 * 32 * 64 * 27 + 64 * 10
    assert trace.parameters == 64 * 27 + 64 + 640
    assert trace.image_size == 32
    # Convolution, its bias, ReLU, pooling, head; flattening is a view.
    assert trace.operators == 5
    # ReLU reads one map and writes another, both alive at once.
    assert trace.peak_elements == 2 * 32 * 32 * 64
    # ReLU is merged into the bias: its read and the bias' write go.
    assert trace.classes["elementwise"]["fused_act_elements"] == 32 * 32 * 64


def test_an_open_size_is_asked_for(tmp_path: Path) -> None:
    from willitrun.interop.onnx_graphs import trace_onnx

    path = classifier(tmp_path / "net.onnx", open_size=True)
    with pytest.raises(UnsupportedFormatError, match="image_size"):
        trace_onnx(path)
    assert trace_onnx(path, image_size=64).macs == 64 * 64 * 64 * 27 + 640


def test_attention_is_put_together_and_shape_arithmetic_evaluated(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from willitrun.interop.onnx_graphs import trace_onnx

    # The batch is read off the input and put into a shape, as exporters do.
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["q"]),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "k"], ["a"]),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Softmax", ["b"], ["c"], axis=-1),
        helper.make_node("MatMul", ["c", "q"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([4, 196, 32], np.int64), "rest"),
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 196, 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    path = tmp_path / "attention.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    trace = trace_onnx(path)
    name = next(kind for kind in trace.classes if kind.startswith("sdpa"))
    assert trace.classes[name]["flops"] == 4 * 4 * 196 * 196 * 32
    assert "softmax" not in trace.classes


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08" * 40])
def test_what_is_no_onnx_model_is_refused(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    from willitrun.interop.onnx_graphs import trace_onnx

    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r"net\.onnx"):
        trace_onnx(path)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    from onnx import TensorProto, helper

    from willitrun.interop.onnx_graphs import trace_onnx

    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "then",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)],
        "branch",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, [1]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3])],
    )
    path = tmp_path / "branch.onnx"
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(UnsupportedFormatError, match="control flow"):
        trace_onnx(path)


def test_the_command_line_takes_an_onnx_file(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from willitrun.cli.app import app

    path = classifier(tmp_path / "net.onnx")
    result = CliRunner().invoke(
        app, ["assess", str(path), "--on", "rtx-3060-12gb", "--batch", "64", "--json"]
    )
    assert result.exit_code == 0
    assert '"images_per_s"' in result.output
