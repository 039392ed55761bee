"""A release in front of users who never stop: through Envoy, behind the gates, there and back."""

from __future__ import annotations

from coalmine.cli import ROLLED_BACK
from coalmine.errors import InputError
from tests.scenarios.delivered import assert_promoted
from tests.scenarios.lending import LOANS
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace


def test_a_good_release_is_promoted_and_rolled_back_and_no_request_fails(serving: Workplace) -> None:
    before = serving.head()
    with asking(serving.url, serving.top / LOANS) as users:
        serving.run("deliver", MODEL, "--version", "1.1.0")
        assert_promoted(serving, before)
        assert serving.run("deliver", MODEL, "--version", "1.1.0", "--json").json["rollout"] is None

        serving.run("rollback", MODEL)
        assert serving.weights() == {"1.0.0": 100}
        users.await_requests(50)
    assert users.failures == {}
    assert {version for version, _ in users.answers} == {"1.0.0", "1.1.0"}

    assert serving.slots == {"stable": "1.0.0", "candidate": None}
    assert serving.trailers()["Rolled-Back"] == "1.1.0"
    assert serving.tags()[f"{MODEL}#local#3"] == f"Release {MODEL} 1.0.0"
    assert serving.pushed() == serving.head()
    refused = serving.run("deliver", MODEL, "--version", "1.1.0", status=InputError.exit_code)
    assert "--retry" in refused.err


def test_a_release_that_refuses_some_users_is_rolled_back_and_not_tried_again(
    serving: Workplace,
) -> None:
    before, tags = serving.head(), serving.tags()
    with asking(serving.url, serving.top / LOANS) as users:
        users.await_requests(50)
        ended = serving.run("deliver", MODEL, "--json", status=ROLLED_BACK).json
        users.await_requests(50)
    assert {(version, status) for version, status in users.failures} == {("1.2.0", 400)}
    assert users.failures["1.2.0", 400] < 0.05 * users.requests

    assert not ended["promoted"]
    assert "requests failed on the candidate" in ended["reason"]
    assert serving.weights() == {"1.0.0": 100}
    assert serving.slots == {"stable": "1.0.0", "candidate": None}
    assert serving.subjects(before) == [
        f"Put {MODEL} 1.2.0 into green of local",
        f"Reject {MODEL} 1.2.0 in local",
    ]
    assert serving.tags() == tags
    assert serving.pushed() == serving.head()
    record = serving.read_yaml(f"models/{MODEL}/rollouts/{ended['rollout']}/rollout.yaml")
    assert 0 < record["exposure"]["failures"] <= users.failures["1.2.0", 400]

    head = serving.head()
    refused = serving.run("deliver", MODEL, status=InputError.exit_code)
    assert refused.err.count("\n") == 1
    assert "--retry" in refused.err
    assert serving.head() == head
