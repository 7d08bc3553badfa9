"""Sums of weights as a file's header states them."""

from __future__ import annotations

import pytest

from willitrun.estimators.weight_sums import sums_of_table
from willitrun.records.models import TensorTable, TransformerConfig

CONFIG = TransformerConfig(
    model_type="llama",
    num_hidden_layers=3,
    hidden_size=64,
    intermediate_size=128,
    num_attention_heads=4,
    vocab_size=100,
)
ROWS = (
    ("token_embd", "q4_0", 1, 6400, 3600),
    ("output", "q6_k", 1, 6400, 5250),
    ("output_norm", "f32", 1, 64, 256),
    ("ffn_down", "q4_k", 2, 16384, 9216),
    ("ffn_down", "q6_k", 1, 8192, 6720),
)


@pytest.mark.parametrize(
    ("layers", "expected", "beside"),
    [
        (((4608, 0), (4608, 0), (6720, 0)), ((4608, 0), (4608, 0), (6720, 0)), 256),
        # Names that number no layers, or others than the config has: what there is lies evenly.
        ((), ((5397, 0), (5397, 0), (5398, 0)), 0),
        (((4608, 0), (11328, 0)), ((5397, 0), (5397, 0), (5398, 0)), 0),
    ],
)
def test_layers_are_counted_as_the_header_has_them(
    layers: tuple[tuple[int, int], ...], expected: tuple[tuple[int, int], ...], beside: int
) -> None:
    table = TensorTable(rows=ROWS, tensors=6, file_bytes=26000, source="gguf", layers=layers)
    found = sums_of_table(CONFIG, table)
    assert found.layers == expected
    assert found.rest == beside
    assert found.repeating + found.rest + found.embedding + found.output_matrix == sum(row[4] for row in ROWS)
    assert found.largest_dense == 6720
