from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.serving.audience import Audience
from coalmine.serving.telemetry import Telemetry
from coalmine.slots import Slot
from coalmine.spec import Task
from coalmine.telemetry.answers import ServersAnswers, answers_in
from tests.telemetry.told import Told, telling

LABELS = '{model_name="m",model_version="1.0.0",slot="blue"}'


def metrics(rows: int = 4, low: int = 3, labels: int = 2, loss: object = 0.25, started: str = "") -> str:
    return (
        f'coalmine_score_bucket{{le="0.5",slot="blue"}} {low}.0\n'
        f'coalmine_score_bucket{{le="+Inf",slot="blue"}} {rows}.0\n'
        f"coalmine_loss_count{LABELS} {labels}.0\ncoalmine_loss_sum{LABELS} {loss}\n{started}"
    )


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


def test_the_model_servers_own_exposition_is_read() -> None:
    server = Telemetry({"model_name": "m", "slot": "blue"}, "d1gest", Task.BINARY, 1764100000.5, lambda: 0)
    server.predicted(Audience.USERS, {"probability": [0.02, 0.5, 0.97]})
    server.lost(0.25)
    server.lost(1.0)
    answers = answers_in(server.exposition().decode())
    assert dict(answers.scores)[0.5] == 2
    assert answers.scores[-1] == (math.inf, 3)
    assert (answers.labels, answers.loss) == (2, 1.25)
    assert answers.epoch == "1764100000.5"


def bins(*places: str, name: str = "temp") -> str:
    """Counters of so many bins, each of which has counted its place."""
    series = f'coalmine_binned_total{{slot="blue",of="feature",name="{name}",bin='
    return "".join(f'{series}"{place}"}} {place}\n' for place in places)


def test_bins_are_read_in_their_order_where_they_are_asked_for() -> None:
    text = metrics() + bins(*(str(place) for place in reversed(range(12)))) + bins("0", name="shop")
    assert answers_in(text, binned=True).binned == {"feature temp": tuple(range(12)), "feature shop": (0,)}
    assert answers_in(text).binned == {}


@pytest.mark.parametrize("places", [("0", "2"), ("1", "2"), ("0", "01")], ids=str)
def test_bins_of_which_some_are_lost_are_no_measurement(places: tuple[str, ...]) -> None:
    with pytest.raises(TelemetryUnavailable, match="the bins of the feature temp are not all there"):
        answers_in(metrics() + bins(*places), binned=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "no coalmine_loss", id="empty"),
        pytest.param("<html>hello</html>", "line that is none", id="another server"),
        pytest.param(metrics(loss="NaN"), "no measurement", id="NaN"),
        pytest.param(metrics(rows=2, low=3), "no histogram", id="not cumulative"),
        pytest.param(metrics() + metrics().replace("blue", "green"), "several|2 series", id="two models"),
        pytest.param(
            metrics() + 'coalmine_score_bucket{le="0.5",slot="green"} 1.0\n',
            "several series",
            id="two histograms",
        ),
        pytest.param("coalmine_loss_count 1\ncoalmine_loss_sum 1\n", "no histogram", id="no scores"),
    ],
)
def test_what_cannot_be_trusted_is_not_taken_for_answers(text: str, said: str) -> None:
    with pytest.raises(TelemetryUnavailable, match=said):
        answers_in(text)


def test_the_epoch_is_the_servers_start() -> None:
    started = f"coalmine_started_seconds{LABELS} 1.7641e+09\n"
    assert answers_in(metrics(started=started)).epoch == "1764100000.0"


def test_a_server_that_does_not_say_when_it_started_is_known_to_be_another_by_counting_less(
    told: Told,
) -> None:
    servers = ServersAnswers("m", {Slot.BLUE: told.port})
    epochs = []
    for rows in (4, 6, 5, 9):
        told.answers["/metrics"] = metrics(rows=rows)
        epochs.append(servers.read(Slot.BLUE).epoch)
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]


def test_a_server_that_answers_an_error_is_not_measured(told: Told) -> None:
    with pytest.raises(TelemetryUnavailable, match=r"m-blue.*404"):
        ServersAnswers("m", {Slot.BLUE: told.port}).read(Slot.BLUE)
