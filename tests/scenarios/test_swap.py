"""Model and dataset change together, again and again, under users who never stop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.model_servers import model_servers
from tests.scenarios.numbered import answer, is_answer, version
from tests.scenarios.steady_users import asking

SWAPS = int(os.environ.get("COALMINE_SWAPS", "5"))
PER_S = 500


@pytest.mark.parametrize(
    ("model", "table", "told", "key"),
    [(6, 7, 7, 5), (7, 6, 7, 5), (7, 7, 6, 5), (7, 7, 7, 4)],
    ids=["another model", "another dataset", "another version told", "another key"],
)
def test_an_answer_that_one_release_cannot_give_is_known(model: int, table: int, told: int, key: int) -> None:
    assert is_answer(answer(7, 5), version(7), 5)
    assert not is_answer(1000 * model + table + 5 / 100, version(told), key)


@pytest.mark.slow
@pytest.mark.timeout(120 + 20 * SWAPS)
def test_no_request_fails_and_no_answer_is_of_two_releases_while_releases_change(tmp_path: Path) -> None:
    """Each release goes into the slot of the one before the last, whose server leaves by SIGTERM."""
    numbers = range(1, SWAPS + 2)
    with model_servers(tmp_path) as servers:
        servers.take(1)
        servers.promote()
        with asking(servers.stack.address, PER_S) as users:
            for number in numbers[1:]:
                servers.take(number)
                servers.promote()
                users.await_answers(100)
            counts = users.end()
    print(f"{SWAPS} swaps, {counts.asked} requests, {counts.per_s:.0f} per second: {counts.latency_ms} ms")
    assert counts.mixed == []
    assert counts.failures == {}
    assert counts.good == counts.asked
    assert set(counts.answered) == {version(number) for number in numbers}
    assert counts.per_s > 0.9 * PER_S
