"""A repository with a long record, made by `git fast-import`: releases, rollouts, what people did by hand.

The files are those that coalmine writes, from one of each kind with other names in it. A release is three
commits: the decision, the candidate in its slot, and the closing commit with its evidence. One release in ten
is rejected, and one in fifty is followed by a person who goes back by git alone. What no question reads, such
as a rollout's ticks, is left out.
"""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from coalmine.audit.attribution import to_trailer
from coalmine.audit.rollout_record import (
    Count,
    Ending,
    EventRecord,
    RolloutRecord,
    StageRecord,
    dump_record,
    record_folder,
)
from coalmine.manifest import Trigger, dump_manifest, manifest_path
from coalmine.slots import SlotRelease, Slots, dump_slots, slots_path
from tests.journals.fake_rollouts import make_manifest

ENVIRONMENT = "production"
BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
NIGHTLY = Trigger(kind="schedule", who="nightly schedule", proof="claimed")
_A_COMMIT = timedelta(minutes=5)
_REJECTED, _BY_HAND = 10, 50  # one release in that many
_SETTINGS = f"schema_version: 1\nenvironments:\n  {ENVIRONMENT}: {{}}\n"


def make(folder: Path, releases: int, models: int) -> list[str]:
    """A bare repository at `folder`, packed as a host keeps it. Returns the models' names."""
    _git(folder.parent, "init", "-q", "--bare", "-b", "main", str(folder))
    names = [f"model-{number:04}" for number in range(models)]
    with _Import(folder) as made:
        made.commit("First commit", {Path("coalmine.yaml"): _SETTINGS}, {})
        for name in names:
            made.commit(f"A model: {name}", {Path("models") / name / "model.yaml": f"name: {name}\n"}, {})
        for number in range(releases):
            _release(made, number, names[number % models], f"1.{number // models}.0")
    _git(folder, "repack", "-adfq")
    return names


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


class _Import:
    """Commits of the branch main, one every five minutes."""

    def __init__(self, folder: Path) -> None:
        self._program = subprocess.Popen(
            ["git", "fast-import", "--quiet", "--done"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.now = BEGAN
        self.slots: dict[str, Slots] = {}
        self._commits = 0

    def __enter__(self) -> _Import:
        return self

    def __exit__(self, *_: object) -> None:
        self._say("done\n")
        self._stdin.close()
        if self._program.wait() != 0:
            raise RuntimeError("git fast-import failed")

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._program.stdin is not None
        return self._program.stdin

    def _say(self, words: str) -> None:
        self._stdin.write(words.encode())

    def commit(self, subject: str, contents: dict[Path, str], trailers: dict[str, str]) -> str:
        """Its hash."""
        self.now += _A_COMMIT
        self._commits += 1
        told = "".join(f"{key}: {value}\n" for key, value in trailers.items())
        message = f"{subject}\n\n{told}" if told else f"{subject}\n"
        self._say(
            f"commit refs/heads/main\nmark :{self._commits}\n"
            f"committer Ada <ada@example.com> {self.now.timestamp():.0f} +0000\n{_data(message)}"
        )
        for path, text in contents.items():
            self._say(f"M 100644 inline {path.as_posix()}\n{_data(text)}")
        self._say(f"\nget-mark :{self._commits}\n")
        self._stdin.flush()
        assert self._program.stdout is not None
        return self._program.stdout.readline().decode().strip()


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


def _release(made: _Import, number: int, model: str, version: str) -> None:
    """Decided, rolled out, ended; and sometimes undone by a person."""
    manifest = _MANIFEST.replace("flight-delay", model).replace("9.9.9", version)
    manifest = manifest.replace(_MD5, f"{number % 1000:032x}.dir")
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    about = {"Model": model, "Version": version}
    dataset = {"Dataset": f"flights {number % 1000:032x}.dir, weather {number // 1000:032x}.dir"}
    asked = {"Triggered-By": to_trailer(NIGHTLY)}
    commit = made.commit(
        f"Release {model} {version}",
        {manifest_path(model): manifest},
        {**about, **dataset, "Decision": "release", "Lock": "ab" * 32, **asked, "Digest": digest},
    )
    digests = {"flights": f"{number % 1000:032x}.dir", "weather": f"{number // 1000:032x}.dir"}
    release = SlotRelease(version=version, commit=commit, model_digest=digest, dataset_digests=digests)
    rollout = f"{made.now:%Y%m%dT%H%M%S}-{version}"
    path, before = slots_path(ENVIRONMENT, model), made.slots.get(model)
    slots = (before or Slots(environment=ENVIRONMENT, model=model)).with_candidate(release)
    where = {"Environment": ENVIRONMENT, "Rollout": rollout}
    made.commit(
        f"Put {model} {version} into {slots.candidate} of {ENVIRONMENT}",
        {path: dump_slots(slots)},
        {**about, **where, "Digest": digest, "Decision": "candidate", **asked},
    )
    started = made.now + timedelta(seconds=10)
    rejected = number % _REJECTED == _REJECTED - 1
    ending = Ending.REJECTED if rejected else Ending.PROMOTED
    slots = slots.with_rejection() if rejected else slots.with_promotion()
    record = _RECORD.replace("flight-delay", model).replace("9.9.9", version).replace("ROLLOUT", rollout)
    record = record.replace("outcome: promoted", f"outcome: {ending}").replace(_STARTED, f"{started:%FT%T}Z")
    made.commit(
        f"{'Reject' if rejected else 'Promote'} {model} {version} in {ENVIRONMENT}",
        {path: dump_slots(slots), record_folder(model, rollout) / "rollout.yaml": record},
        {**about, **where, **dataset, "Digest": digest, "Release": commit, "Decision": ending.value, **asked},
    )
    if (
        number % _BY_HAND == _BY_HAND // 2
        and slots.stable is not None
        and slots.stable.other in slots.releases
    ):
        slots = slots.with_stable(slots.stable.other)
        made.commit(f"Back, {model} is wrong", {path: dump_slots(slots)}, {})
    made.slots[model] = slots


_MD5 = make_manifest().dataset.md5
_MANIFEST = dump_manifest(make_manifest("9.9.9"))
_STARTED = "2000-01-01T00:00:00Z"
_AT = datetime(2000, 1, 1, tzinfo=UTC)
_GATES = {
    name: f"12 of 14,032 requests failed by {name} on the candidate, 11 of 13,991 on stable."
    for name in ("errors", "latency", "predictions")
}
_RECORD = dump_record(
    RolloutRecord(
        id="ROLLOUT",
        model="flight-delay",
        environment=ENVIRONMENT,
        candidate="9.9.9",
        stable=None,
        triggered_by=NIGHTLY,
        started=_AT,
        ended=_AT,
        outcome=Ending.PROMOTED,
        reason="every gate passed, and the bake",
        exposure=Count(requests=14_032, failures=12),
        stages=tuple(
            StageRecord(
                stage=f"Stage {number} of 3",
                weight_percent=weight,
                seconds=60.0,
                candidate=Count(requests=4_000, failures=4),
                stable=Count(requests=4_000, failures=4),
                gates=_GATES,
            )
            for number, weight in ((1, 5), (2, 25), (3, 50))
        ),
        events=tuple(
            EventRecord(at=_AT, weight_percent=weight, what=f"{weight} % of the users.")
            for weight in (0, 5, 25, 50, 100)
        ),
    )
)
