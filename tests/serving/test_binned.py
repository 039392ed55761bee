"""What users ask about, counted into the bins of the release's reference."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sklearn.ensemble import HistGradientBoostingClassifier

from coalmine.errors import IntegrityError
from coalmine.evaluation.reference import counting
from coalmine.serving.release import load_release
from coalmine.spec import Task
from coalmine.telemetry.answers import answers_in
from tests.serving.in_process import Client
from tests.serving.releases import Built, build, compile_release, tensors, with_reference


@pytest.fixture(scope="module")
def known(compiled: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As `compiled`, with a reference."""
    folder = tmp_path_factory.mktemp("known") / "release"
    shutil.copytree(compiled.folder, folder)
    return with_reference(replace(compiled, folder=folder))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All numbers and compiled: a request may bring its row as one tensor."""
    chance = np.random.default_rng(1)
    rows = pd.DataFrame({"a": chance.normal(size=300), "b": chance.normal(size=300)})
    model = HistGradientBoostingClassifier(max_iter=5, random_state=0)
    folder = tmp_path_factory.mktemp("numbers") / "release"
    return with_reference(
        compile_release(build(folder, model, rows, (rows["a"] > 0).to_numpy(), Task.BINARY))
    )


def binned(client: Client) -> dict[str, tuple[int, ...]]:
    return dict(answers_in(client.get("/metrics").text, binned=True).binned)


def total(client: Client) -> set[int]:
    """Of each distribution: all are of the same requests."""
    return {sum(rows) for rows in binned(client).values()}


def test_requests_are_counted_where_the_rows_of_training_lie(known: Built) -> None:
    client = Client(known)
    asked = range(300)  # more than are counted at once
    probabilities = [
        client.infer(json={"inputs": tensors(known, [row])}).json()["outputs"][1]["data"][0] for row in asked
    ]
    found = binned(client)
    assert known.reference is not None
    *features, score = known.reference.distributions
    assert found == {
        **{each.key: each.rows for each in features},  # each row of training once
        score.key: counting(score)(probabilities),
    }
    assert found["feature carrier"][-1] == 28  # missing
    assert binned(client) == found  # a look changes nothing


def test_a_row_that_comes_packed_is_counted_as_one_that_comes_by_name(numbers: Built) -> None:
    packed, named = Client(numbers), Client(numbers)
    for row in range(150):
        values = numbers.rows.iloc[row].tolist()
        message = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": values}]}
        assert packed.infer(json=message).status_code == 200
        assert named.request("POST", "/predict", json=dict(zip("ab", values, strict=True))).status_code == 200
    assert binned(packed) == binned(named)
    assert total(packed) == {150}


def test_a_request_counts_once_whatever_its_rows_and_each_of_its_places_in_turn(known: Built) -> None:
    client = Client(known)
    assert known.reference is not None
    rows = [0, 1, 2]
    for _ in range(6):
        client.infer(json={"inputs": tensors(known, rows)})
    assert total(client) == {6}
    distance = known.reference.distributions[0]
    each = Counter(counting(distance)(known.rows["distance"].iloc[rows].tolist()))
    assert Counter(count // 2 for count in binned(client)["feature distance"]) == each


@pytest.mark.parametrize(
    ("headers", "copy", "counted"),
    [
        pytest.param({}, False, 1, id="users"),
        pytest.param({}, True, 1, id="copies, which are users' requests"),
        pytest.param({"x-coalmine-slot": "green"}, False, 0, id="testers"),
    ],
)
def test_testers_are_not_counted(known: Built, headers: dict[str, str], copy: bool, counted: int) -> None:
    client = Client(known)
    asked = {"json": {"inputs": tensors(known, [3])}, "headers": headers, "copy": copy}
    assert client.infer(**asked).status_code == 200
    assert total(client) == {counted}


def test_what_is_refused_is_not_counted(known: Built) -> None:
    client = Client(known)
    bad = tensors(known, [3])
    bad[0]["data"] = ["far"]
    assert client.infer(json={"inputs": bad}).status_code == 400
    assert total(client) == {0}


def test_a_release_without_a_reference_counts_nothing_and_serves(binary: Built) -> None:
    client = Client(binary)
    assert client.infer(json={"inputs": tensors(binary, [3])}).status_code == 200
    assert binned(client) == {}


def test_it_is_loaded_with_the_release_and_refused_where_it_was_edited(known: Built, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(known.folder, folder)
    assert load_release(folder).reference == known.reference
    path = folder / "files/models/delays/reference.json"
    path.write_text(path.read_text().replace("distance", "distanse"))
    with pytest.raises(IntegrityError, match=r"reference.json is not the file that was released"):
        load_release(folder)


def test_a_column_of_any_name_is_read_back(numbers: Built) -> None:
    odd = 'a "b" \\ c\nd'
    assert numbers.reference is not None
    first, *others = numbers.reference.distributions
    reference = numbers.reference.model_copy(
        update={"distributions": (first.model_copy(update={"name": odd}), *others)}
    )
    inputs = (numbers.manifest.inputs[0].model_copy(update={"name": odd}), numbers.manifest.inputs[1])
    renamed = replace(
        numbers,
        manifest=numbers.manifest.model_copy(update={"inputs": inputs}),
        reference=reference,
    )
    text = Client(renamed).get("/metrics").text
    names = {
        sample.labels["name"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "coalmine_binned_total"
    }
    assert odd in names
    assert f"feature {odd}" in answers_in(text, binned=True).binned
