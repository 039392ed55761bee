"""How a rollout ends in Git: one commit with the new roles and the evidence.

The last step of a rollout, after its users are where they stay. A second call for the same
rollout finds the commit by its trailers and only makes good what is missing of tags and push.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from coalmine.audit.attribution import to_trailer
from coalmine.audit.closing import pack_ticks, to_record
from coalmine.audit.rollout_record import (
    RECORD,
    TICKS_PACKED,
    Ending,
    closings,
    dump_record,
    record_folder,
)
from coalmine.audit.slots_history import place_of
from coalmine.audit.story import Story, read_story
from coalmine.durable import replace_bytes
from coalmine.errors import Conflict, RemoteUnavailable
from coalmine.journals.about import About
from coalmine.journals.journal import PLAN
from coalmine.registry.commits import Change, Tag, catch_up, publish
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.tags import assignment_tag, assignments
from coalmine.settings import GitSettings
from coalmine.slots import SlotRelease, Slots, dump_slots, parse_slots, slots_path


class GitRecord:
    """The Record port over Git, for the rollout whose journal lies in `folder`.

    Raises, besides what the port says:
        PushRejected: what is here and what the remote has cannot be joined.
        Conflict: the slots in Git no longer hold the candidate that is promoted.
    """

    def __init__(self, repository: Repository, folder: Path, git: GitSettings) -> None:
        self._repository = repository
        self._folder = folder
        self._git = git

    def promote(self) -> None:
        story = read_story(self._folder)
        self._close(story, Ending.PROMOTED, story.reason)

    def reject(self, reason: str) -> None:
        self._close(read_story(self._folder), Ending.REJECTED, reason)

    def _close(self, story: Story, ending: Ending, reason: str) -> None:
        closed = closing_commit(self._repository, story.about)
        if closed is None:
            self._catch_up()
        change = self._write(story, ending, reason) if closed is None else _again(closed)
        publish(self._repository, change, self._git.remote, self._git.branch)

    def _catch_up(self) -> None:
        """Somebody may have taken the candidate back in Git, which is a way to stop a rollout."""
        with suppress(RemoteUnavailable):  # then the push says so, with the commit made
            catch_up(self._repository, self._git.remote, self._git.branch)

    def _write(self, story: Story, ending: Ending, reason: str) -> Change:
        """The files of the closing commit, in the working tree, and what the commit says."""
        about = story.about
        # From Git: an earlier call that was killed may have left the working tree's file promoted.
        slots = _committed_slots(self._repository, about.environment, about.model)
        release = _candidate(slots, story)
        if release is not None:
            after = slots.with_promotion() if ending is Ending.PROMOTED else slots.with_rejection()
        elif ending is Ending.REJECTED:  # what people made of the slots meanwhile stays
            release, after = _handed_over(self._repository, story), slots
        else:
            raise _taken_back(slots, story)
        folder = record_folder(about.model, about.id)
        contents = {
            folder / RECORD: dump_record(to_record(story, ending, reason)).encode(),
            folder / "plan.json": (self._folder / PLAN).read_bytes(),
            folder / TICKS_PACKED: pack_ticks(self._folder),
            slots_path(about.environment, about.model): dump_slots(after).encode(),
        }
        for path, content in contents.items():
            (self._repository.top / path).parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(self._repository.top / path, content)
        trailers = _trailers(story, release, ending)
        if ending is Ending.PROMOTED:
            trailers["Assignment"] = self._next_assignment(story)
        return Change(
            paths=(folder, slots_path(about.environment, about.model)),
            subject=_subject(story, ending),
            body=_body(story, reason),
            trailers=trailers,
            tags=_tags(trailers, release.commit),
        )

    def _next_assignment(self, story: Story) -> str:
        about = story.about
        there = assignments(self._repository, about.model, about.environment)
        return assignment_tag(about.model, about.environment, max(there, default=0) + 1)


def closing_commit(repository: Repository, about: About) -> Commit | None:
    """The commit that ended the rollout, if it has ended."""
    place = (about.environment, about.model)
    return next((commit for commit in endings(repository, about.id) if place_of(commit) == place), None)


def endings(repository: Repository, rollout: str) -> Iterator[Commit]:
    """The closing commits of all rollouts with that id, newest first: of several models that were released
    within one second, say."""
    return closings(repository.log(trailers={"Rollout": rollout}))


def _again(closed: Commit) -> Change:
    """The change that `closed` holds already, without its files: only tags and push are made good."""
    tags = _tags(closed.trailers, closed.trailers["Release"])
    return Change(paths=(), subject=closed.subject, trailers=closed.trailers, tags=tags)


def _tags(trailers: Mapping[str, str], release_commit: str) -> tuple[Tag, ...]:
    if "Assignment" not in trailers:
        return ()
    message = f"{trailers['Model']} {trailers['Version']} in {trailers['Environment']}"
    return (Tag(trailers["Assignment"], message, release_commit),)


def _committed_slots(repository: Repository, environment: str, model: str) -> Slots:
    path = slots_path(environment, model)
    return parse_slots(repository.read(repository.head(), path).decode(), str(path))


def _candidate(slots: Slots, story: Story) -> SlotRelease | None:
    """None: the slots no longer hold the rollout's candidate."""
    release = slots.candidate_release
    return release if release is not None and release.version == story.about.candidate else None


def _handed_over(repository: Repository, story: Story) -> SlotRelease:
    """The candidate, as the commit that put it into its slot has it."""
    about = story.about
    path = slots_path(about.environment, about.model)
    for commit in repository.log((path,), {"Model": about.model, "Version": about.candidate}):
        release = _candidate(parse_slots(repository.read(commit.sha, path).decode(), str(path)), story)
        if release is not None:
            return release
    raise _taken_back(_committed_slots(repository, about.environment, about.model), story)


def _taken_back(slots: Slots, story: Story) -> Conflict:
    about, release = story.about, slots.candidate_release
    holds = "no candidate" if release is None else f"the candidate {release.version}"
    return Conflict(
        f"Rollout {about.id} cannot be recorded: {slots_path(about.environment, about.model)} holds {holds}, "
        f"not {about.candidate}. Somebody changed it while the rollout ran: look at git log -- that file."
    )


def _trailers(story: Story, release: SlotRelease, ending: Ending) -> dict[str, str]:
    about = story.about
    datasets = ", ".join(f"{name} {digest}" for name, digest in release.dataset_digests.items())
    return {
        "Model": about.model,
        "Version": about.candidate,
        "Environment": about.environment,
        **({"Dataset": datasets} if datasets else {}),
        "Digest": release.model_digest,
        "Release": release.commit,
        "Decision": ending.value,
        "Rollout": about.id,
        "Triggered-By": to_trailer(about.triggered_by),
    }


def _subject(story: Story, ending: Ending) -> str:
    about = story.about
    done = "Promote" if ending is Ending.PROMOTED else "Reject"
    return f"{done} {about.model} {about.candidate} in {about.environment}"


def _body(story: Story, reason: str) -> str:
    """Why, and at what cost, for readers of `git log`."""
    why = " ".join(reason.split()).rstrip(".") + "."
    candidate, stable = story.candidate, story.stable
    if not candidate.requests:
        return why[0].upper() + why[1:]
    return (
        f"{why[0].upper()}{why[1:]}\n\n"
        f"{candidate.failures:,} of {candidate.requests:,} requests failed on the candidate, "
        f"{stable.failures:,} of {stable.requests:,} on stable."
    )
