"""The learnt residual: it repeats its rows and vanishes away from data."""

from __future__ import annotations

import numpy as np

from willitrun.kernels.operator_residuals import FEATURES, resolve_residuals, work_features
from willitrun.kernels.operator_work import OperatorWork

CONVNET = OperatorWork.from_summary(
    {
        "conv_kxk.hi": {"kernels": 20, "flops": 4e9, "padded_flops": 4e9, "act_elements": 1e7},
        "bn": {"kernels": 20, "act_elements": 2e7},
    }
)
TRANSFORMER = OperatorWork.from_summary(
    {
        "gemm.hi": {"kernels": 48, "flops": 3e10, "padded_flops": 3e10, "act_elements": 3e7},
        "ln": {"kernels": 25, "act_elements": 8e6},
    }
)


def table() -> object:
    return resolve_residuals(
        [
            {"kind": "points", "length": 0.8, "features": work_features(CONVNET).tolist()},
            {"kind": "weights", "execution": "eager", "values": [0.1]},
            {"kind": "families", "execution": "eager", "log_ratios": {"resnet": 0.05}},
        ]
    )


def test_features_have_one_row_per_model_and_shares_of_one() -> None:
    features = work_features(OperatorWork.stack([CONVNET, TRANSFORMER]))
    assert features.shape == (2, len(FEATURES))
    shares = (features[:, : len(FEATURES) - 3] / 3.0) ** 2
    np.testing.assert_allclose(shares.sum(1), 1.0)


def test_residual_is_full_at_its_point_and_vanishes_far_away() -> None:
    near = table().log_ratio(work_features(CONVNET), ["resnet"], "eager")  # type: ignore[attr-defined]
    far = table().log_ratio(work_features(TRANSFORMER), ["unknown"], "eager")  # type: ignore[attr-defined]
    np.testing.assert_allclose(near, 0.15)
    assert abs(float(far[0])) < 1e-3


def test_executions_without_data_have_none() -> None:
    assert float(table().log_ratio(work_features(CONVNET), ["resnet"], "engine")[0]) == 0.0  # type: ignore[attr-defined]
