"""Back to the older release, with 200 users a second at the gateway: how long the bad one still answers.

1.0.0 and 1.1.0 are good; 1.2.0 refuses a fifth of the users.
"""

from __future__ import annotations

import time

import pytest

from coalmine.errors import RemoteUnavailable
from tests.cluster.shop import ROLLED_BACK, Shop
from tests.scenarios.users import Users
from tests.scenarios.workplace import MODEL

# So that no gate is quicker than the command.
PATIENT = """rollout:
  stages: [30]
  bake_s: 600
  poll_s: 2
  no_data_budget_s: 60
  gates:
    - {gate: errors, margin: 0.5, worst_ratio: 50, worst_difference: 0.5}
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_users_go_back_in_seconds_at_rest_without_git_and_in_a_rollout(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    with shop.users() as users:
        users.await_requests(200)
        with shop.delivering("1.1.0") as delivery:
            shop.await_told("Stage 1 of 2")
            shop.run("promote")
            assert shop.work.ended(delivery).status == 0
        remote = shop.work.top / ".coalmine/remotes/git.git"
        remote.rename(remote.with_name("away"))
        began = time.monotonic()
        shop.run("rollback", status=RemoteUnavailable.exit_code)
        at_rest = last_request(users, "1.1.0", began)
        remote.with_name("away").rename(remote)
        shop.run("rollback")
        assert shop.pushed_stable() == "1.0.0"

        shop.plan(PATIENT)
        with shop.delivering("1.2.0") as delivery:
            users.await_version("1.2.0")
            began = time.monotonic()
            shop.run("rollback")
            in_a_rollout = last_request(users, "1.2.0", began)
            assert shop.work.ended(delivery).status == ROLLED_BACK

        began = time.monotonic()
        shop.run("rollback", "--to", "1.1.0")
        to_neither_slot = last_request(users, "1.0.0", began)
        assert shop.pushed_stable() == "1.1.0"
    assert {version for version, _ in users.failures} <= {"1.2.0"}
    assert shop.work.run("verify", MODEL).status == 0
    with capsys.disabled():
        print(f"\n{shop.router}: from the command to the last request on the release that was left:")
        print(f"  at rest, the Git remote away: {at_rest:.1f} s; in a rollout: {in_a_rollout:.1f} s")
        print(f"  to a release of neither slot, whose pods start first: {to_neither_slot:.1f} s")


def last_request(users: Users, version: str, since: float) -> float:
    """Seconds from `since` until the last request went out that `version` answered; none comes after it."""
    users.await_requests(200)
    last = users.last_asked[version]
    users.await_requests(400)
    assert users.last_asked[version] == last
    return last - since
