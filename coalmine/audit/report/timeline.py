"""The time axis that the page's charts share: seconds since the rollout began, and its stages as bands."""

from __future__ import annotations

from coalmine.audit.charts import Band
from coalmine.audit.story import StageStory, Story
from coalmine.rollout.plan import RolloutStage


def bands(story: Story, *, named: bool = True) -> list[Band]:
    return [
        Band(
            since(story, stage.started_at_s),
            since(story, stage.ended_at_s),
            _band_name(stage) if named else "",
        )
        for stage in story.stages
    ]


def _band_name(stage: StageStory) -> str:
    return str(RolloutStage(stage.kind, stage.weight_percent))


def first_user_s(story: Story) -> float:
    """When the first users were sent to the candidate, or it got the first copies."""
    seen = [stage for stage in story.stages if stage.seen_by_users]
    return (seen or story.stages)[0].started_at_s


def since(story: Story, at_s: float) -> float:
    return at_s - (story.started_at_s or at_s)


def end(story: Story) -> float:
    return since(story, story.known_until_s or 0.0)
