"""`coalmine verify` as people and programs call it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from coalmine.cli import app
from tests.audit.verify.conftest import Shop

runner = CliRunner()


@pytest.fixture
def here(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(shop.top)
    return shop


def test_what_holds_is_one_sentence_and_status_0(here: Shop) -> None:
    ended = runner.invoke(app, ["verify", "delays", "-e", "local", "--data", "--pinned", here.head])
    assert ended.exit_code == 0
    assert ended.output == (
        "Checked 4 releases, 8 changes of slots, 3 rollouts and 6 objects: they hold. "
        "Not checked: other models and environments.\n"
    )


def test_each_finding_is_a_line_and_the_status_is_that_of_an_integrity_error(here: Shop) -> None:
    here.git("tag", "-d", "delays@v1.0.0", "credit#local#1")
    ended = runner.invoke(app, ["verify"])
    assert ended.exit_code == 6
    lines = ended.output.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["tag missing", "tag missing"]
    assert "tag delays@v1.0.0" in lines[0]
    assert "git fetch URL tag 'delays@v1.0.0'" in lines[0]
    assert lines[2].startswith("Checked 5 releases, 10 changes of slots, 4 rollouts: 2 findings.")


def test_a_program_reads_the_same(here: Shop) -> None:
    here.git("tag", "-d", "delays@v1.0.0")
    ended = runner.invoke(app, ["verify", "--json"])
    assert ended.exit_code == 6
    said = json.loads(ended.output)
    assert (said["releases"], said["deliveries"], said["rollouts"]) == (5, 10, 4)
    (finding,) = said["findings"]
    assert (finding["kind"], finding["where"]["tag"]) == ("tag missing", "delays@v1.0.0")
    assert {"expected", "seen", "remedy"} < finding.keys()
