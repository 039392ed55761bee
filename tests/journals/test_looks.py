"""What was seen between two looks: kept whole, and by one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.errors import AlreadyRunning, IntegrityError
from coalmine.journals.looks import ClusterLooks, FileLooks, Looks
from tests.simulators.api_server import StateServer

SEEN = {"digest": "d1gest", "lives": {}}


@pytest.fixture(params=["file", "cluster"])
def again(request: pytest.FixtureRequest, tmp_path: Path):
    """The same place, as each look opens it anew."""
    server = StateServer()

    def open_again() -> Looks:
        if request.param == "file":
            return FileLooks.at_model(tmp_path, "production", "delay")
        return ClusterLooks.at_model(server.client(), "delay")

    return open_again


def test_what_one_look_wrote_the_next_one_reads(again) -> None:
    looks = again()
    assert looks.read() is None
    looks.write(SEEN)
    looks = again()
    assert looks.read() == SEEN
    looks.write({**SEEN, "digest": "another"})
    assert again().read() == {**SEEN, "digest": "another"}


def test_of_two_looks_at_once_on_a_cluster_one_counts() -> None:
    server = StateServer()
    ClusterLooks.at_model(server.client(), "delay").write(SEEN)
    first, second = (ClusterLooks.at_model(server.client(), "delay") for _ in range(2))
    first.read(), second.read()
    first.write({**SEEN, "digest": "first"})
    with pytest.raises(AlreadyRunning, match="that one counts"):
        second.write({**SEEN, "digest": "second"})
    assert ClusterLooks.at_model(server.client(), "delay").read()["digest"] == "first"


def test_a_file_that_somebody_edited_says_how_to_begin_anew(tmp_path: Path) -> None:
    looks = FileLooks.at_model(tmp_path, "production", "delay")
    looks.write(SEEN)
    (file,) = (tmp_path / ".coalmine/triggers/production").iterdir()
    file.write_text('{"digest": ')
    with pytest.raises(IntegrityError, match="Take it away"):
        looks.read()
