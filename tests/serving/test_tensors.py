from __future__ import annotations

import pandas as pd
import pytest

from coalmine.evaluation import signature
from coalmine.serving.tensors import InputSchema
from tests.serving.releases import Built, tensors


@pytest.mark.parametrize("rows", [[0], [1], [0, 1, 2, 11]], ids=["nulls", "no nulls", "both"])
def test_a_request_makes_the_rows_that_training_made(rows: list[int], binary: Built) -> None:
    features = [each.name for each in binary.manifest.inputs]
    offline = signature.model_frame(binary.rows.iloc[rows], features).reset_index(drop=True)
    online = InputSchema(binary.manifest.inputs).frame(tensors(binary, rows))
    pd.testing.assert_frame_equal(online, offline)
