"""What a shadow stage must show, and what the stages after it need not show again."""

import pytest

from coalmine.rollout.plan import Plan
from coalmine.rollout_spec import ErrorsSpec, Rollout, Shadow

GATES = (ErrorsSpec(margin=0.001),)
CANARY = Plan.of(Rollout(gates=GATES))
AFTER_SHADOW = Plan.of(Rollout(gates=GATES, shadow=Shadow()))


def margins(plan: Plan, requests_per_s: float) -> list[float]:
    return [plan.margins(stage, requests_per_s)["errors"] for stage in range(len(plan.stages))]


def test_copies_must_show_half_of_what_may_go_unseen_with_everybody_at_stake():
    assert margins(AFTER_SHADOW, 50)[0] == pytest.approx(0.125 / 50)


def test_stages_after_a_shadow_but_the_last_allow_four_times_the_harm():
    plain, after_shadow = margins(CANARY, 50), margins(AFTER_SHADOW, 50)[1:]
    assert after_shadow == pytest.approx([4 * plain[0], 4 * plain[1], plain[2]])


@pytest.mark.parametrize("plan", [CANARY, AFTER_SHADOW], ids=["canary", "after-shadow"])
def test_no_stage_asks_for_less_than_the_gates_margin_or_more_than_a_fifth(plan):
    assert set(margins(plan, 1e6)) == {0.001}
    assert max(margins(plan, 0.01)) == 0.2
    assert set(margins(plan, 0)) == {0.001}
