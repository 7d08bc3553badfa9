"""The tracer against layers whose work is known by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the tracer needs the extra 'torch'")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from willitrun.interop.tracing import trace_module  # noqa: E402
from willitrun.kernels.operator_work import OPERATOR_CLASSES, SCORES, OperatorWork  # noqa: E402


class Attention(nn.Module):
    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value)


def test_convolution_counts_padding_bias_and_traffic() -> None:
    layer = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    trace = trace_module(layer, torch.empty(1, 3, 224, 224))
    conv = next(row for name, row in trace.summary.items() if name.startswith("conv_kxk"))
    assert conv["flops"] == 2 * 112 * 112 * 64 * 3 * 49
    assert conv["padded_flops"] == 2 * 112 * 112 * 64 * 8 * 49
    assert conv["act_elements"] == 3 * 224 * 224 + 64 * 112 * 112
    assert conv["weight_elements"] == 64 * 3 * 49
    assert trace.summary["conv_bias"]["kernels"] == 1
    assert trace.parameters == 64 * 3 * 49 + 64
    assert trace.input_elements == 3 * 224 * 224


def test_depthwise_is_told_by_its_width() -> None:
    layer = nn.Conv2d(96, 96, 7, padding=3, groups=96, bias=False)
    trace = trace_module(layer, torch.empty(1, 96, 56, 56))
    assert trace.summary["conv_dw.7"]["flops"] == 2 * 96 * 56 * 56 * 49


def test_attention_stays_one_operator() -> None:
    head = torch.empty(1, 12, 197, 64)
    trace = trace_module(Attention(), head, head, head)
    name = next(n for n in trace.summary if n.startswith("sdpa."))
    assert trace.summary[name]["flops"] == 4 * 12 * 197 * 197 * 64
    assert trace.n_ops == 1


def test_heads_are_joined_without_a_copy_and_scores_are_noted() -> None:
    class Joined(Attention):
        def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return super().forward(query, key, value).transpose(1, 2).reshape(1, 197, 12 * 64)

    head = torch.empty(1, 12, 197, 64)
    trace = trace_module(Joined(), head, head, head)
    assert "copy" not in trace.summary
    assert trace.summary[SCORES]["act_elements"] == 12 * 197 * 197
    fused, apart = (
        OperatorWork.from_summary(trace.summary, fused_attention=one).act_elements.sum()
        for one in (True, False)
    )
    # Written by one product and read by the other, scaled, cast, softmax, cast: each reads and writes every score.
    assert apart - fused == (2 + 2 + 2 + 2 + 2) * 12 * 197 * 197


def test_normalising_the_channels_of_planes_copies_them() -> None:
    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(32)

        def forward(self, planes: torch.Tensor) -> torch.Tensor:
            return self.norm(planes.permute(0, 2, 3, 1))

    planes = torch.empty(1, 32, 8, 8)
    trace = trace_module(Channels(), planes)
    assert trace.summary["relayout"]["act_elements"] == 2 * 32 * 64
    assert trace.summary["relayout"]["kernels"] == 1
    beside = trace_module(Channels(), planes.contiguous(memory_format=torch.channels_last))
    assert "relayout" not in beside.summary


def test_operands_that_lie_otherwise_are_read_once_more() -> None:
    class Sum(nn.Module):
        def forward(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
            return rows + columns.transpose(1, 2)

    trace = trace_module(Sum(), torch.empty(1, 16, 64), torch.empty(1, 64, 16))
    assert trace.summary["relayout"]["act_elements"] == 16 * 64
    assert trace.summary["relayout"]["kernels"] == 0


def test_root_mean_square_norm_is_one_operator() -> None:
    trace = trace_module(nn.RMSNorm(64), torch.empty(1, 10, 64))
    assert trace.n_ops == trace.summary["ln"]["kernels"] == 1


def test_attention_of_five_dimensions_is_decomposed() -> None:
    head = torch.empty(1, 4, 3, 196, 32)
    trace = trace_module(Attention(), head, head, head)
    assert any(name.startswith("bmm") for name in trace.summary)
    assert "softmax" in trace.summary


def test_autocast_casts_weights_and_keeps_norms_wide() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64))
    trace = trace_module(model, torch.empty(1, 10, 64))
    cast = trace.summary["cast"]
    assert cast["weight_elements"] == 2 * 2 * (64 * 64 + 64)
    assert (
        trace.summary["ln"]["act32_elements"] == 10 * 64
    )  # written wide; what it reads was half before the cast
    assert trace.n_ops == 3  # casts are counted in their class only


def test_in_place_operators_and_peak() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    trace = trace_module(model, torch.empty(1, 8, 16, 16))
    assert trace.summary["elementwise"]["act_elements"] == 2 * 8 * 256
    # an ideal fusion reads the convolution's output once and writes the activation once
    assert trace.summary["bn"]["fused_act_elements"] == 8 * 256
    assert trace.summary["elementwise"]["fused_act_elements"] == 8 * 256
    assert 2 * 8 * 256 <= trace.peak_elements <= 3 * 8 * 256


def test_small_network_matches_known_macs_and_makes_work() -> None:
    # AlexNet's classifier: 9216 x 4096 + 4096 x 4096 + 4096 x 1000 multiply-accumulates.
    model = nn.Sequential(
        nn.Linear(9216, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)
    )
    trace = trace_module(model, torch.empty(1, 9216))
    assert trace.macs == 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    work = trace.work()
    assert work.flops.shape == (1, len(OPERATOR_CLASSES))
    assert float(work.flops.sum()) == 2 * trace.macs


@pytest.mark.parametrize(("name", "macs"), [("resnet50", 4.089e9), ("vit_base_patch16_224", 17.56e9)])
def test_timm_models_match_published_macs(name: str, macs: float) -> None:
    # timm imports torchvision, whose compiled operators need not fit this torch: two schemas are all it takes.
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)
    timm = pytest.importorskip("timm", reason="the tracer's check values need timm")
    with torch.device("meta"):
        model = timm.create_model(name)
    trace = trace_module(model, torch.empty(1, 3, 224, 224))
    assert trace.macs == pytest.approx(macs, rel=2e-3)
