"""From what is known of a model's traffic to a forecast, and to words that say where it is thin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coalmine.audit.closing import to_record
from coalmine.audit.rollout_record import Ending, dump_record, record_folder
from coalmine.audit.story import read_story
from coalmine.cli import app
from coalmine.cli.forecast import in_words
from coalmine.errors import InputError, NotFound
from coalmine.operations import plan as module
from coalmine.operations.plan import Forecast, plan
from coalmine.operations.workspace import Workspace
from coalmine.rollout.foresight import Runs, foresee
from coalmine.rollout_spec import Rollout
from coalmine.scaffold.repository import init
from tests.audit.simulated_rollouts import EVERYTHING, SHORT, simulate
from tests.journals.fake_rollouts import FakeRollout
from tests.simulators.world import World

MODEL = "credit-risk"


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OTHERWISE_RUNS", Runs(good=20, bad=5))
    quick = Runs(good=30, bad=10)
    monkeypatch.setattr(module, "foresee", lambda p, u, seed, runs=quick: foresee(p, u, seed, runs))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    init(tmp_path / "work")
    return Workspace.open(tmp_path / "work")


def foreseen(workspace: Workspace, **known: float) -> Forecast:
    return plan(workspace, MODEL, "local", lambda _: None, **known)


def record(workspace: Workspace, spec: Rollout, requests_per_s: float, elsewhere: Path) -> None:
    """As a closing commit leaves it in the working tree."""
    fake = FakeRollout(model=MODEL)
    folder = simulate(elsewhere, spec, World(requests_per_s=requests_per_s), fake)
    story = read_story(folder)
    path = workspace.top / record_folder(MODEL, story.about.id) / "rollout.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(dump_record(to_record(story, Ending.PROMOTED, "so")))


def test_without_any_traffic_known_it_says_how_to_give_it(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"--requests-per-s 20 --error-rate 0\.005"):
        foreseen(workspace)
    with pytest.raises(NotFound, match="no environment `moon`"):
        plan(workspace, MODEL, "moon", lambda _: None)


def test_what_is_given_is_taken(workspace: Workspace) -> None:
    forecast = foreseen(workspace, requests_per_s=400.0, error_rate=0.002)
    assert forecast.source == "as given"
    assert forecast.foreseen.users.requests_per_s == 400.0
    assert not forecast.widened
    assert forecast.otherwise == ()
    text = "\n".join(in_words(forecast))
    assert "THIN" not in text
    assert "400 requests per second, 0.20% of them fail (as given)." in text


@pytest.mark.parametrize("spec", [SHORT, EVERYTHING], ids=["stages", "copies do not count"])
def test_the_newest_rollouts_records_tell_the_traffic(
    workspace: Workspace, tmp_path: Path, spec: object
) -> None:
    record(workspace, spec, 80.0, tmp_path / "elsewhere")
    forecast = foreseen(workspace)
    assert forecast.source == "as the newest rollout recorded it in Git"
    assert forecast.foreseen.users.requests_per_s == pytest.approx(80, rel=0.15)
    assert "error rate as given" in foreseen(workspace, error_rate=0.01).source


def test_thin_traffic_is_said_plainly_with_what_each_remedy_would_bring(workspace: Workspace) -> None:
    model = workspace.top / "models" / MODEL / "model.yaml"
    text = model.read_text(encoding="utf-8")
    model.write_text(f"{text}\nrollout: {{hold_budget_s: 120, bake_s: 10}}\n", encoding="utf-8")
    forecast = foreseen(workspace, requests_per_s=0.5, error_rate=0.01)
    assert forecast.foreseen.too_thin
    said = "\n".join(in_words(forecast))
    assert "TRAFFIC IS TOO THIN: " in said
    assert "TRAFFIC IS THIN: the last stage of errors can rule out 20.00%, not the 0.25%" in said
    assert {other.change.partition(":")[0] for other in forecast.otherwise} >= {"hold_budget_s", "shadow"}


def test_a_forecast_is_json_even_where_nothing_is_ever_promoted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.top)
    words = ["plan", MODEL, "--requests-per-s", "0.001", "--error-rate", "0.01", "--json"]
    output = CliRunner().invoke(app, words).stdout

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads(output, parse_constant=refuse)
    assert content["foreseen"]["median_s"] is None
    assert content["foreseen"]["promoted"] == 0
