from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coalmine.serving.feedback import Labels
from coalmine.spec import Task
from tests.serving.in_process import Client
from tests.serving.releases import Built, tensors


def served(client: Client, built: Built, request_id: str, rows: list[int]) -> dict[str, Any]:
    answer = client.infer(json={"id": request_id, "inputs": tensors(built, rows)}).json()
    return {each["name"]: each["data"] for each in answer["outputs"]}


def test_a_label_joins_its_prediction_and_costs_the_brier_loss(binary: Built) -> None:
    client = Client(binary)
    (probability,) = served(client, binary, "a", [1])["probability"]
    assert client.feedback({"id": "a", "label": True}).json() == {
        "joined": 1,
        "unknown": 0,
        "duplicate": 0,
        "late": 0,
    }
    assert client.metric("coalmine_labels_total", outcome="joined") == 1
    assert client.metric("coalmine_loss_sum") == pytest.approx((1 - probability) ** 2)
    assert client.metric("coalmine_loss_count") == 1


def test_a_second_label_for_an_id_is_counted_and_changes_nothing(binary: Built) -> None:
    client = Client(binary)
    served(client, binary, "a", [1])
    client.feedback({"id": "a", "label": True})
    loss = client.metric("coalmine_loss_sum")
    assert client.feedback({"id": "a", "label": False}).json()["duplicate"] == 1
    assert client.metric("coalmine_loss_sum") == loss


def test_labels_in_one_list_are_each_counted(binary: Built) -> None:
    client = Client(binary)
    served(client, binary, "a", [1])
    labels = [{"id": "a", "label": True}, {"id": "a", "label": True}, {"id": "never", "label": False}]
    assert client.feedback(labels).json() == {"joined": 1, "unknown": 1, "duplicate": 1, "late": 0}


def test_one_request_of_several_rows_is_one_loss(binary: Built) -> None:
    client = Client(binary)
    probabilities = np.array(served(client, binary, "a", [1, 2])["probability"])
    client.feedback({"id": "a", "label": [True, False]})
    assert client.metric("coalmine_loss_count") == 1
    assert client.metric("coalmine_loss_sum") == pytest.approx(((probabilities - [1, 0]) ** 2).mean())


def test_a_refused_request_waits_for_no_label(binary: Built) -> None:
    client = Client(binary)
    client.infer(json={"id": "a", "inputs": []})
    assert client.feedback({"id": "a", "label": True}).json()["unknown"] == 1


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"id": "a"}, 'the body must be {"id": <request id>, "label": <truth>}'),
        ([{"id": "a", "label": True}, 3], "item 1 must be"),
        ({"id": 3, "label": True}, "`id` must be the id of an answer"),
        ({"id": "a", "label": "late"}, "the label 'late' is not one of the classes False, True"),
        ({"id": "a", "label": 1}, "the label 1 is not one of the classes False, True"),
        ({"id": "a", "label": None}, "the label null is not one of the classes"),
        ({"id": "a", "label": {"x": 1}}, "the label an object is not one of the classes"),
        ({"id": "a", "label": []}, "`label` is empty"),
        ({"id": "a", "label": [True, False]}, "request a had 1 rows, but its `label` has 2"),
    ],
)
def test_one_bad_label_is_named_and_none_is_counted(message: Any, words: str, binary: Built) -> None:
    client = Client(binary)
    served(client, binary, "a", [1])
    answer = client.feedback(message)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert client.metric("coalmine_labels_total", outcome="joined") == 0


@pytest.mark.parametrize(
    ("task", "classes", "scores", "label", "loss"),
    [
        (Task.BINARY, (0, 1), [0.8], 1, 0.04),
        (Task.BINARY, ("bad", "good"), [0.8], "bad", 0.64),
        (Task.MULTICLASS, ("x", "y", "z"), [[1.0, 0.0, 0.0]], "x", 0.0),
        (Task.MULTICLASS, ("x", "y", "z"), [[1.0, 0.0, 0.0]], "z", 1.0),
        (Task.MULTICLASS, ("x", "y"), [[0.75, 0.25]], "x", 0.0625),
        (Task.REGRESSION, (), [3.0], 1.0, 0.5),
        (Task.REGRESSION, (), [-2.0], 5, 1.0),
        (Task.REGRESSION, (), [0.0], 0, 0.0),
    ],
)
def test_losses_lie_between_perfect_0_and_1(
    task: Task, classes: tuple[Any, ...], scores: list[Any], label: Any, loss: float
) -> None:
    labels = Labels(task, classes)
    (parsed,) = labels.parse({"id": "a", "label": label})
    assert labels.loss(np.array(scores), parsed.truth) == pytest.approx(loss)


@pytest.mark.parametrize("value", ["3", True, None], ids=repr)
def test_the_label_of_a_regression_is_a_number(value: Any, regression: Built) -> None:
    answer = Client(regression).feedback({"id": "a", "label": value})
    assert answer.status_code == 400
    assert "is not a number" in answer.json()["error"]


@pytest.mark.parametrize(
    "message",
    [[{}] * 10_001, {"id": "a", "label": [True] * 10_001}, [{"id": "a", "label": [True] * 101}] * 100],
    ids=["items", "rows of one item", "rows of all items"],
)
def test_more_labels_than_one_request_may_bring_are_refused(message: Any, binary: Built) -> None:
    answer = Client(binary).feedback(message)
    assert answer.status_code == 413
    assert "send at most 10000 in one request" in answer.json()["error"]
