from __future__ import annotations

import pytest

from coalmine.checks.query import QueryCheck
from coalmine.checks.webhook import AskedAbout, WebhookCheck
from coalmine.errors import Unsupported
from coalmine.rollout_spec import ApprovalSpec, ErrorsSpec, QuerySpec, WebhookSpec
from coalmine.settings import Environment, PrometheusSettings
from coalmine.wiring import checks

ABOUT = AskedAbout("m", "1.0.0", "20261125T000000-v1.0.0", "local")
QUERY = QuerySpec(query="up", at_least=1, name="is-up")
WEBHOOK = WebhookSpec(url="http://127.0.0.1:1/")


def test_gates_that_ask_have_somebody_to_ask_and_the_others_nobody() -> None:
    environment = Environment(prometheus=PrometheusSettings(url="http://127.0.0.1:1"))
    asked = checks(environment, [ErrorsSpec(), QUERY, WEBHOOK, ApprovalSpec()], ABOUT)
    assert {name: type(check) for name, check in asked.items()} == {
        "is-up": QueryCheck,
        "webhook": WebhookCheck,
    }


def test_a_query_where_there_is_no_prometheus_is_refused_with_the_remedy() -> None:
    with pytest.raises(Unsupported, match=r"`is-up`.*environments.local.*prometheus: \{url"):
        checks(Environment(), [QUERY], ABOUT)
    assert set(checks(Environment(), [WEBHOOK], ABOUT)) == {"webhook"}
