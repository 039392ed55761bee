"""Histories as coalmine writes them, by `git fast-import`: thousands of releases in seconds, and no training.

The commits, trailers, tags and files are those of the real steps; evidence is that of a few rollouts which
the real runner drove through simulated traffic, under other names and at another time. Nothing of them is a
finding of `coalmine verify`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from coalmine.audit.closing import pack_ticks, to_record
from coalmine.audit.rollout_record import Ending, dump_record
from coalmine.audit.story import read_story
from coalmine.journals.journal import FileJournal, begin, keep_plan
from coalmine.manifest import LookupTable, ReleaseFile, dump_manifest
from coalmine.rollout.plan import Plan
from coalmine.rollout.runner import run
from coalmine.rollout_spec import ErrorsSpec, Rollout
from coalmine.slots import Slot, SlotRelease, Slots, dump_slots, slots_path
from tests.audit.simulated_rollouts import SHORT, simulate
from tests.journals.fake_rollouts import FakeRollout, make_manifest
from tests.simulators.world import ArmBehaviour, World, first_slots

WHO = "Ada <ada@example.com>"
ASKED = "Ada <ada@example.com> (person, claimed)"
DATASET, LOOKUP, ENVIRONMENT = "flights", "weather", "local"
STARTED_AT_S = 1_700_000_000
LONG_SINCE = datetime(2020, 1, 1, tzinfo=UTC)
_SIX_YEARS, _COMMITS_OF_A_RELEASE = timedelta(days=6 * 365), 3.05
_MODEL, _VERSION, _STABLE, _ROLLOUT = "the-model", "99.98.97", "96.95.94", "20010203T040506-v99.98.97"
_CODE = "c0de" * 10
_LISTING = {DATASET: "ef" * 16 + ".dir", LOOKUP: "fe" * 16 + ".dir"}
AT_ONCE = Rollout(strategy="blue-green", bake_s=10, gates=(ErrorsSpec(margin=0.02),))
FIRST_FILES = {
    ".gitignore": ".coalmine/\n",
    "coalmine.yaml": "environments:\n  local: {reconciler: processes, router: envoy, telemetry: scrape}\n",
    ".dvc/config": "[core]\n    remote = store\n['remote \"store\"']\n    url = ../../store\n",
    "pipelines/train.py": "# how a model is made\n",
}


@dataclass(frozen=True)
class Recording:
    """The evidence of one rollout, with placeholders for whose it is."""

    record: str
    plan: bytes
    ticks: bytes

    def files(self, model: str, version: str, stable: str | None, rollout: str) -> dict[str, bytes]:
        text = self.record.replace(_ROLLOUT, rollout).replace(_MODEL, model).replace(_VERSION, version)
        text = text.replace(f"stable: {_STABLE}", f"stable: {stable or 'null'}")
        return {"rollout.yaml": text.encode(), "plan.json": self.plan, "ticks.jsonl.gz": self.ticks}


@cache
def recording(kind: str) -> Recording:
    """kind: `first`, nothing served before, so a few ticks; `promoted`, through its stages; `rejected`;
    `at once`, everybody from its bake on."""
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(requests_per_s=100, seed=3)
        if kind == "first":
            rollout = begin(folder, FakeRollout().about)
            plan = keep_plan(rollout, Plan.of(SHORT))
            run(plan, first_slots(), replace(world.ports(), journal=FileJournal(rollout)), asked_by="Kim")
        else:
            if kind == "rejected":
                world.behaviour[Slot.GREEN] = ArmBehaviour(failing=0.1)
            rollout = simulate(folder, AT_ONCE if kind == "at once" else SHORT, world)
        story = read_story(rollout)
        about = story.about.model_copy(
            update={"id": _ROLLOUT, "model": _MODEL, "candidate": _VERSION, "stable": _STABLE}
        )
        trigger = about.triggered_by.model_copy(update={"kind": "person", "who": WHO})
        story = replace(story, about=about.model_copy(update={"triggered_by": trigger}))
        ending = Ending.REJECTED if kind == "rejected" else Ending.PROMOTED
        record = dump_record(to_record(story, ending, story.reason.rstrip(".")))
        return Recording(record, (rollout / "plan.json").read_bytes(), pack_ticks(rollout))
    finally:
        shutil.rmtree(folder)


@cache
def _manifest_template(with_lookup: bool) -> str:
    manifest = make_manifest(_VERSION, None)
    file = ReleaseFile(
        path=f"models/{_MODEL}/model.skops", sha256="ab" * 32, md5="cd" * 16, size_bytes=987654321
    )
    lookup = LookupTable(
        dataset=LOOKUP, md5=_LISTING[LOOKUP], key=("origin",), columns=(), missing="null", files=()
    )
    return dump_manifest(
        manifest.model_copy(
            update={
                "model": _MODEL,
                "files": (file,),
                "code": _CODE,
                "dataset": manifest.dataset.model_copy(update={"md5": _LISTING[DATASET]}),
                "lookups": (lookup,) if with_lookup else (),
            }
        )
    )


def _dumped(slots: Slots) -> str:
    """`dump_slots`, a hundred times as fast: one of the same shape, with these releases in it."""
    digests = {slot: tuple(release.dataset_digests) for slot, release in slots.releases.items()}
    text = _slots_template(slots.stable, slots.candidate, tuple(digests.items())).replace(_MODEL, slots.model)
    for slot, release in slots.releases.items():
        for name, value in _values(release).items():
            text = text.replace(f"{name}-of-{slot}", value)
    return text


@cache
def _slots_template(
    stable: Slot | None, candidate: Slot | None, held: tuple[tuple[Slot, tuple[str, ...]], ...]
) -> str:
    releases = {
        slot: SlotRelease(
            version=f"version-of-{slot}",
            commit=f"commit-of-{slot}",
            model_digest=f"digest-of-{slot}",
            dataset_digests={dataset: f"{dataset}-of-{slot}" for dataset in datasets},
        )
        for slot, datasets in held
    }
    return dump_slots(
        Slots(environment=ENVIRONMENT, model=_MODEL, stable=stable, candidate=candidate, releases=releases)
    )


def _values(release: SlotRelease) -> dict[str, str]:
    return {
        "version": release.version,
        "commit": release.commit,
        "digest": release.model_digest,
        **release.dataset_digests,
    }


class FastImport:
    """Commits on main, one after the other, of which each is known by its id at once.

    bare: as a Git host keeps it, packed, without a working tree.
    """

    def __init__(
        self, top: Path, *, bare: bool = False, since_s: int = STARTED_AT_S, every_s: int = 60
    ) -> None:
        self.top = top
        self.now_s = since_s
        self._bare, self._every_s = bare, every_s
        self._marks: dict[str, int] = {}  # what fast-import has not written yet it knows by mark alone
        kind = ["--bare"] if bare else []
        subprocess.run(["git", "init", "-q", *kind, "-b", "main", str(top)], check=True)
        self._process = subprocess.Popen(
            ["git", "fast-import", "--quiet", "--date-format=raw"],
            cwd=top,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def commit(self, message: str, files: Mapping[str, str | bytes | None], *parents: str) -> str:
        """files: None takes one away. parents: default: the commit before."""
        self.now_s += self._every_s
        mark = len(self._marks) + 1
        self._say(f"commit refs/heads/main\nmark :{mark}\ncommitter {WHO} {self.now_s} +0000\n")
        self._data(message)
        if parents:
            first, *others = (self._marks[parent] for parent in parents)
            self._say(f"from :{first}\n" + "".join(f"merge :{other}\n" for other in others))
        for path, content in files.items():
            if content is None:
                self._say(f"D {path}\n")
            else:
                self._say(f"M 100644 inline {path}\n")
                self._data(content)
        self._say(f"\nget-mark :{mark}\n")
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.flush()
        commit = stdout.readline().decode().strip()
        self._marks[commit] = mark
        return commit

    def tag(self, name: str, commit: str) -> None:
        self._say(f"tag {name}\nfrom :{self._marks[commit]}\ntagger {WHO} {self.now_s} +0000\n")
        self._data(name)

    def close(self) -> None:
        """The files of the last commit lie in the folder then, unless it is bare."""
        self._process.communicate()
        assert self._process.returncode == 0
        last = ["repack", "-adq"] if self._bare else ["reset", "-q", "--hard", "main"]
        subprocess.run(["git", *last], cwd=self.top, check=True)

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def _data(self, content: str | bytes) -> None:
        raw = content.encode() if isinstance(content, str) else content
        self._say(f"data {len(raw)}\n")
        assert self._process.stdin is not None
        self._process.stdin.write(raw + b"\n")


def told(digests: Mapping[str, str]) -> str:
    """As the trailer `Dataset` has them."""
    return ", ".join(f"{name} {md5}" for name, md5 in digests.items())


def message(subject: str, trailers: Mapping[str, str]) -> str:
    return f"{subject}\n\n" + "".join(f"{key}: {value}\n" for key, value in trailers.items())


@dataclass
class History:
    """Models that are released and rolled out. store: the DVC remote; None: no bytes are written.

    partitions: of each dataset; the models are made of the first and look up the second, where there is one.
    """

    git: FastImport
    store: Path | None = None
    code: str = ""
    slots: dict[str, Slots] = field(default_factory=dict)
    releases: dict[tuple[str, str], SlotRelease] = field(default_factory=dict)
    assigned: dict[str, int] = field(default_factory=dict)
    partitions: dict[str, list[str]] = field(default_factory=dict)
    listings: dict[str, str] = field(default_factory=dict)

    # --- people ------------------------------------------------------------------------

    def begin(self, *models: str, datasets: Sequence[str] = (DATASET,)) -> str:
        specs = {f"models/{model}/model.yaml": f"name: {model}\n" for model in models}
        for dataset in datasets:
            self._add(dataset, "2013-01")
        self.code = self.git.commit("First commit\n", {**FIRST_FILES, **specs, **self._pointers()})
        return self.code

    def write_code(self, path: str, text: str) -> str:
        self.code = self.git.commit(f"Change {path}\n", {path: text})
        return self.code

    def take_in(self, partition: str, dataset: str = DATASET) -> str:
        """New data, by a commit of a person's own."""
        self._add(dataset, partition)
        return self.git.commit(f"Data of {partition}\n", self._pointers())

    # --- coalmine ----------------------------------------------------------------------

    def release(self, model: str, version: str, *parents: str) -> str:
        lock = f"schema: '2.0'\n# {model} {version}\n"
        content = f"the bytes of {model} {version}".encode()
        md5 = self._store(content)
        text = (
            _manifest_template(len(self.listings) > 1)
            .replace(_MODEL, model)
            .replace(_VERSION, version)
            .replace(_CODE, self.code)
            .replace("ab" * 32, hashlib.sha256(content).hexdigest())
            .replace("cd" * 16, md5)
            .replace("987654321", str(len(content)))
        )
        for dataset, listing in self.listings.items():
            text = text.replace(_LISTING[dataset], listing)
        digest = hashlib.sha256(text.encode()).hexdigest()
        trailers = {**self._decided(model, version, "release", lock), "Digest": digest}
        files = {
            f"models/{model}/dvc.lock": lock,
            f"models/{model}/decision.yaml": f"version: {version}\n",
            f"models/{model}/manifest.yaml": text,
            **self._pointers(),
        }
        commit = self.git.commit(message(f"Release {model} {version}", trailers), files, *parents)
        self.git.tag(f"{model}@v{version}", commit)
        self.releases[model, version] = SlotRelease(
            version=version, commit=commit, model_digest=digest, dataset_digests=dict(self.listings)
        )
        return commit

    def keep(self, model: str, champion: str) -> str:
        lock = f"schema: '2.0'\n# against {model} {champion}\n"
        trailers = self._decided(model, champion, "keep", lock)
        files = {f"models/{model}/dvc.lock": lock, f"models/{model}/decision.yaml": "version: null\n"}
        return self.git.commit(message(f"Keep {model} {champion}", trailers), files)

    def put(self, model: str, version: str) -> str:
        """Into the slot that is not stable, for a rollout."""
        release = self.releases[model, version]
        slots = self._slots(model).with_candidate(release)
        trailers = {**self._moved(release, "candidate", model), "Rollout": self.rollout(version)}
        subject = f"Put {model} {version} into {slots.candidate} of {ENVIRONMENT}"
        return self._move(slots, message(subject, trailers))

    def close(self, model: str, kind: str = "promoted") -> str:
        """The rollout that `put` began ends. kind: as `recording` has it."""
        before = self._slots(model)
        release = before.candidate_release
        assert release is not None
        stable = before.stable_release
        rejected = kind == "rejected"
        after = before.with_rejection() if rejected else before.with_promotion()
        rollout = self.rollout(release.version)
        trailers = {
            **self._moved(release, "rejected" if rejected else "promoted", model),
            "Dataset": told(release.dataset_digests),
            "Release": release.commit,
            "Rollout": rollout,
        }
        files = recording(kind).files(model, release.version, stable and stable.version, rollout)
        evidence = {f"models/{model}/rollouts/{rollout}/{name}": text for name, text in files.items()}
        if not rejected:
            trailers["Assignment"] = self._next(model)
        done = "Reject" if rejected else "Promote"
        subject = f"{done} {model} {release.version} in {ENVIRONMENT}"
        commit = self._move(after, message(subject, trailers), evidence)
        if not rejected:
            self.git.tag(trailers["Assignment"], release.commit)
        return commit

    def roll_back(self, model: str, to: str, *, at_once: bool = False) -> tuple[str, ...]:
        """The older release into the other slot, then the roles: two commits, as where pods serve, or one."""
        before = self._slots(model)
        assert before.stable is not None
        assert before.stable_release is not None
        release = self.releases[model, to]
        slot = before.stable.other
        filled, put = before.with_release(slot, release), ()
        if not at_once:
            trailers = {
                key: value for key, value in self._moved(release, "", model).items() if key != "Decision"
            }
            put = (self._move(filled, message(f"Put {model} {to} into {slot} of {ENVIRONMENT}", trailers)),)
        trailers = {
            **self._moved(release, "rolled-back", model),
            "Rolled-Back": before.stable_release.version,
        }
        subject = f"Roll {model} back to {to} in {ENVIRONMENT}"
        done = self._move(filled.with_stable(slot), message(subject, trailers))
        self.git.tag(self._next(model), release.commit)
        return *put, done

    def rollout(self, version: str) -> str:
        return f"{datetime.fromtimestamp(STARTED_AT_S, UTC):%Y%m%dT%H%M%S}-v{version}"

    # --- pieces ------------------------------------------------------------------------

    def _decided(self, model: str, version: str, decision: str, lock: str) -> dict[str, str]:
        return {
            "Model": model,
            "Version": version,
            "Dataset": told(self.listings),
            "Decision": decision,
            "Lock": hashlib.sha256(lock.encode()).hexdigest(),
            "Triggered-By": ASKED,
        }

    def _moved(self, release: SlotRelease, decision: str, model: str) -> dict[str, str]:
        return {
            "Model": model,
            "Version": release.version,
            "Environment": ENVIRONMENT,
            "Digest": release.model_digest,
            "Decision": decision,
            "Triggered-By": ASKED,
        }

    def _slots(self, model: str) -> Slots:
        return self.slots.get(model) or Slots(environment=ENVIRONMENT, model=model)

    def _move(self, slots: Slots, text: str, files: Mapping[str, bytes] | None = None) -> str:
        self.slots[slots.model] = slots
        path = slots_path(ENVIRONMENT, slots.model).as_posix()
        return self.git.commit(text, {path: _dumped(slots), **(files or {})})

    def _next(self, model: str) -> str:
        self.assigned[model] = self.assigned.get(model, 0) + 1
        return f"{model}#{ENVIRONMENT}#{self.assigned[model]}"

    def _add(self, dataset: str, partition: str) -> None:
        partitions = self.partitions.setdefault(dataset, [])
        partitions.append(partition)
        listing = [
            {"md5": self._store(f"rows of {name}".encode()), "relpath": f"{name}.parquet"}
            for name in partitions
        ]
        self.listings[dataset] = self._store(json.dumps(listing).encode(), ".dir")

    def _pointers(self) -> dict[str, str]:
        return {
            f"data/{dataset}/partitions.dvc": f"outs:\n- md5: {listing}\n"
            f"  nfiles: {len(self.partitions[dataset])}\n  path: partitions\n"
            for dataset, listing in self.listings.items()
        }

    def _store(self, content: bytes, ending: str = "") -> str:
        """As DVC names it."""
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + ending
        if self.store is not None:
            place = self.store / "files/md5" / md5[:2] / md5[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return md5


def write_long_history(top: Path, *, models: int, releases: int, bare: bool = False) -> list[str]:
    """`releases` of `models`, one after the other, over six years. Returns the models' names.

    Each is released, put into a slot and promoted; one in ten is rejected. People take in the two datasets'
    months, edit code before one release in a hundred, and go back after one in fifty.
    """
    every_s = round(_SIX_YEARS.total_seconds() / (_COMMITS_OF_A_RELEASE * releases))
    git = FastImport(top, bare=bare, since_s=round(LONG_SINCE.timestamp()), every_s=every_s)
    history = History(git)
    names = [f"model-{number:04}" for number in range(models)]
    history.begin(*names, datasets=(DATASET, LOOKUP))
    for number in range(releases):
        round_, model = number // models, names[number % models]
        month = f"{datetime.fromtimestamp(git.now_s, UTC):%Y-%m}"
        if month != history.partitions[DATASET][-1]:
            history.take_in(month)
            history.take_in(month, LOOKUP)
        if number % 100 == 50:
            history.write_code("pipelines/train.py", f"# as release {number} is made\n")
        served = None if round_ == 0 else history.slots[model].stable_release
        history.release(model, f"1.{round_}.0")
        history.put(model, f"1.{round_}.0")
        # By round too, so that it is not always the same models that are turned away.
        match (number + round_) % 10 if served else None:
            case None:
                history.close(model, "first")
            case 9:
                history.close(model, "rejected")
            case 4:
                history.close(model, "promoted")
            case _:
                history.close(model, "at once")
        if served is not None and (number + round_) % 50 == 25:
            history.roll_back(model, served.version, at_once=True)
    git.close()
    return names
