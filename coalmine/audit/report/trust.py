"""How far the numbers hold: where the guarantee is approximate, and what was taken for granted."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from coalmine.audit.story import Story
from coalmine.rollout.plan import Plan, StageKind
from coalmine.rollout_spec import QualitySpec, gate_name

MOST_MISSING = 5  # sentences on what was not counted; a server that is down says it in many words


def trust(story: Story) -> str:
    if story.plan is None:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(story, story.plan))
    return f"<ul>{items}</ul>"


def sentences(story: Story, plan: Plan) -> Iterator[str]:
    kinds = {stage.kind for stage in story.stages}
    yield (
        "A release that is no worse than its gates allow is rolled back in error at most once in a hundred "
        "rollouts, over all gates, stages and looks."
    )
    if StageKind.USERS in kinds:
        yield (
            "Approximate: a header or cookie decides who got the candidate. These users may differ from the "
            "others in more than the release, and their requests are not independent of each other."
        )
    if plan.rollout.sticky is not None:
        yield (
            "Approximate: the share was drawn by user, and one user's requests are not independent of each "
            "other."
        )
    if StageKind.SHADOW in kinds:
        yield (
            "In the shadow stage both arms got the same requests; the candidate's answers to copies reached "
            "nobody, and are no part of the users' numbers."
        )
    if StageKind.BAKE in kinds:
        yield (
            "Approximate in the bake: stable had no traffic, so the candidate is compared with the upper "
            "limit of what stable's rate was in this rollout."
        )
    yield from _dispersion(plan)
    if any(isinstance(gate, QualitySpec) for gate in plan.gates):
        yield "Quality knows those answers alone whose true label has come."
    yield from story.missing[:MOST_MISSING]
    dry = [gate_name(gate) for gate in plan.gates if gate.dry_run]
    if dry:
        yield f"Dry run: {', '.join(dry)}. Measured and told, and without a say in anything."


def _dispersion(plan: Plan) -> Iterator[str]:
    if not plan.dispersion:
        yield (
            "Failures are taken as independent of each other: no earlier rollout shows how they come. Where "
            "they come in bursts, false alarms are more frequent than once in a hundred."
        )
        return
    for name, factor in plan.dispersion.items():
        if factor > 1:
            yield (
                f"Approximate: {name} comes in bursts, as earlier rollouts show, so its counts are divided "
                f"by {factor:.2g} before anything is concluded from them."
            )
