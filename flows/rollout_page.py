"""The rollout as it goes, in the Prefect UI: one artifact of the flow run, kept up to date.

Read from the rollout's journal, so it disturbs nothing; when Prefect does not take it, the rollout
goes on without.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
from prefect import get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from coalmine.audit.report import sentence
from coalmine.audit.story import Story, Tally, read_story
from coalmine.errors import Unavailable
from coalmine.journals import journal
from coalmine.operations.environments import open_environment
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.workspace import Workspace

UPDATE_EVERY_S = 2.0


@contextmanager
def rollout_page(workspace: Workspace, environment: str, model: str) -> Iterator[None]:
    """Show the rollouts of `model` that run during the block."""
    page = _Page(open_environment(workspace, environment), model)
    ended = threading.Event()

    def keep_up_to_date() -> None:
        with get_client(sync_client=True) as client:
            while not ended.wait(UPDATE_EVERY_S):
                page.update(client)
            page.update(client)

    thread = threading.Thread(target=keep_up_to_date, name="rollout page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Page:
    def __init__(self, serving: ServingEnvironment, model: str) -> None:
        self._rollouts, self._model = serving.rollouts, model
        self._key = f"rollout-{model}-{serving.name}"
        # Known to the flow's own thread only.
        self._flow_run, self._logger = UUID(runtime.flow_run.id), get_run_logger()
        self._old = {folder for folder in self._folders() if not journal.is_running(folder)}
        self._artifacts: dict[Path, UUID] = {}
        self._shown: dict[Path, str] = {}

    def update(self, client: SyncPrefectClient) -> None:
        try:
            for folder in self._folders():
                if folder not in self._old:
                    self._show(folder, client)
        except httpx.HTTPError as error:
            self._logger.warning("The rollout's page in Prefect is not up to date: %r", error)

    def _folders(self) -> list[Path]:
        with suppress(Unavailable):  # what is here is shown meanwhile
            self._rollouts.refresh(self._model)
        return self._rollouts.folders(self._model)

    def _show(self, folder: Path, client: SyncPrefectClient) -> None:
        text = markdown(read_story(folder), folder / "report.html")
        if text == self._shown.get(folder):
            return
        if folder in self._artifacts:
            client.update_artifact(self._artifacts[folder], ArtifactUpdate(data=text))
        else:
            new = ArtifactCreate(
                key=self._key,
                type="markdown",
                description=f"Rollout {folder.name}",
                data=text,
                flow_run_id=self._flow_run,
            )
            self._artifacts[folder] = client.create_artifact(new).id
        self._shown[folder] = text


def markdown(story: Story, report: Path) -> str:
    about = story.about
    lines = [f"# {about.model} {about.candidate} in {about.environment}: {story.course.value}", ""]
    lines += [sentence(story)]
    if story.stages:
        lines += ["", "| | users | seconds | failed on candidate | failed on stable |"]
        lines += ["|---|---:|---:|---:|---:|"]
        lines += [
            f"| {stage.label} | {stage.weight_percent} % | {stage.seconds:.0f} "
            f"| {_failed(stage.candidate)} | {_failed(stage.stable)} |"
            for stage in story.stages
        ]
        lines += ["", *(f"- {gate.gate}: {gate.sentence}" for gate in story.stages[-1].gates)]
    lines += ["", "| UTC | users | what happened |", "|---|---:|---|"]
    for event in story.events:
        at = datetime.fromtimestamp(event.at_s, UTC)
        lines.append(f"| {at:%H:%M:%S} | {event.weight_percent} % | {event.sentence} |")
    if report.exists():
        lines += ["", f"The whole story, with its charts: [{report.name}]({report.as_uri()}) (`{report}`)"]
    return "\n".join(lines)


def _failed(tally: Tally) -> str:
    return f"{tally.failures:,} of {tally.requests:,}"
