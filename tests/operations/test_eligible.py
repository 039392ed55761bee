"""From staging to production: what Git says of a release, and what a delivery makes of it. Real Git, and no
servers: a delivery is stopped where its rollout would be driven."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest
from typer.testing import CliRunner

from coalmine.audit.ledger import read_ledger
from coalmine.cli import app
from coalmine.durable import replace_bytes
from coalmine.errors import InputError, NotYetAdmitted
from coalmine.manifest import Manifest, Trigger, dump_manifest, manifest_path
from coalmine.operations import eligible as module
from coalmine.operations import local_environment, plan
from coalmine.operations.deliver import deliver
from coalmine.operations.eligible import Eligible, eligible
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.observing import observe
from coalmine.operations.steps import Step
from coalmine.operations.workspace import Workspace
from coalmine.rollout.foresight import Runs, foresee
from coalmine.rollout.ports import Routing
from coalmine.scaffold.repository import init
from coalmine.settings import FILE
from coalmine.slots import SlotRelease, Slots, dump_slots, parse_slots, slots_path
from tests.journals.fake_rollouts import make_manifest
from tests.operations.conftest import as_kim

MODEL, OTHER = "flight-delays", "credit-risk"
KIM = Trigger(kind="person", who="Kim <kim@example.org>", proof="claimed")
HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 27, 10, tzinfo=UTC)
AFTER = "    after: {environment: staging, held_for: 24h}\n"
FROZEN = (
    f"    freezes: [{{from: {NOW.date() - 2 * timedelta(days=1)}, to: {NOW.date()}, reason: an audit}}]\n"
)
TOMORROW = datetime.combine(NOW.date() + timedelta(days=1), datetime.min.time(), UTC)

T = TypeVar("T")


def manifest_of(version: str, model: str = MODEL, created: str = "2013-05-01T02:00:00Z") -> Manifest:
    return make_manifest(version).model_copy(update={"model": model, "created": created})


class Reached(Exception):
    """The rollout would be driven now."""


def stop_before_the_rollout(step: Step, act: Callable[[], T], /) -> T:
    if step is Step.ROLL_OUT:
        raise Reached
    return act()


@dataclass
class Shop:
    """A repository with three environments of this machine; what happened there is written with its hour."""

    workspace: Workspace

    def rules(self, production: str) -> None:
        """`production` of coalmine.yaml has these keys, in a commit."""
        self.commit("Rules", {FILE: f"environments:\n  staging: {{}}\n  production:\n{production}"})
        self.workspace = Workspace.open(self.workspace.top)

    def release(self, manifest: Manifest) -> Manifest:
        self.commit("Release", {manifest_path(manifest.model): dump_manifest(manifest)})
        self.git("tag", "--force", f"{manifest.model}@v{manifest.version}")
        return manifest

    def slots(self, environment: str, model: str = MODEL) -> Slots:
        path = self.workspace.top / slots_path(environment, model)
        empty = Slots(environment=environment, model=model)
        return parse_slots(path.read_text(), str(path)) if path.exists() else empty

    def hand_over(
        self, environment: str, manifest: Manifest, hours_ago: float = 0, model: str = MODEL
    ) -> None:
        held = SlotRelease(version=manifest.version, commit=self.head(), model_digest=manifest.digest)
        self.put(
            self.slots(environment, model).with_candidate(held), "candidate", manifest.version, hours_ago
        )

    def promote(self, environment: str, manifest: Manifest, hours_ago: float) -> None:
        self.hand_over(environment, manifest, hours_ago)
        self.put(self.slots(environment).with_promotion(), "promoted", manifest.version, hours_ago)

    def roll_back(self, environment: str, hours_ago: float) -> None:
        slots = self.slots(environment)
        assert slots.stable is not None
        assert slots.stable_release is not None
        back = slots.with_stable(slots.stable.other)
        assert back.stable_release is not None
        bad, good = slots.stable_release.version, back.stable_release.version
        self.put(back, "rolled-back", good, hours_ago, {"Rolled-Back": bad})

    def put(
        self,
        slots: Slots,
        decision: str,
        version: str,
        hours_ago: float,
        more: Mapping[str, str] | None = None,
    ) -> None:
        said = {"Model": slots.model, "Version": version, "Environment": slots.environment}
        trailers = {**said, "Decision": decision, **(more or {})}
        lines = "\n".join(f"{key}: {value}" for key, value in trailers.items())
        files = {slots_path(slots.environment, slots.model): dump_slots(slots)}
        self.commit(f"{decision}\n\n{lines}", files, hours_ago)

    def commit(self, message: str, files: Mapping[Path, str], hours_ago: float = 0) -> None:
        for path, text in files.items():
            replace_bytes(self.workspace.top / path, text.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message, at=NOW - hours_ago * HOUR)
        self.git("push", "--quiet", "origin", "main")

    def git(self, *words: str, at: datetime = NOW) -> str:
        env = {**os.environ, "GIT_COMMITTER_DATE": at.isoformat(), "GIT_AUTHOR_DATE": at.isoformat()}
        done = subprocess.run(
            ["git", *words], cwd=self.workspace.top, check=True, capture_output=True, env=env
        )
        return done.stdout.decode().strip()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def look(self, *models: str) -> Eligible:
        return eligible(self.workspace, "production", models or (MODEL,)).models[0]

    def deliver(self, version: str | None = None, **options: str | bool) -> list[str]:
        """What it told until its rollout would have been driven."""
        told: list[str] = []
        with pytest.raises(Reached):
            deliver(
                self.workspace,
                MODEL,
                "production",
                KIM,
                told.append,
                version=version,
                steps=stop_before_the_rollout,
                **options,  # type: ignore[arg-type]
            )
        return told

    def refused(self, kind: type[Exception], version: str | None = None) -> str:
        """A delivery that is, and leaves all as it was; what it says."""
        before = self.git("rev-parse", "HEAD", "origin/main"), self.git("status", "--porcelain")
        with pytest.raises(kind) as raised:
            deliver(self.workspace, MODEL, "production", KIM, print, version=version)
        assert (self.git("rev-parse", "HEAD", "origin/main"), self.git("status", "--porcelain")) == before
        assert not (self.workspace.top / ".coalmine/rollouts").exists()
        return str(raised.value)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.0.0 serves in staging and in production for long, and 1.1.0 is released."""
    top = tmp_path_factory.mktemp("stocked") / "work"
    with pytest.MonkeyPatch.context() as patch:
        as_kim(patch)
        patch.setattr(sys, "path", [*sys.path])
        init(top, examples=(MODEL, OTHER))
        made = Shop(Workspace.open(top))
        made.rules(AFTER)
        first = made.release(manifest_of("1.0.0"))
        for environment in ("staging", "production"):
            made.promote(environment, first, hours_ago=500)
        made.release(manifest_of("1.1.0"))
    return top


@pytest.fixture
def shop(stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shutil.copytree(stocked, tmp_path / "work", symlinks=True)
    monkeypatch.setattr(LocalEnvironment, "up", lambda _: None)
    monkeypatch.setattr(local_environment, "image_for", lambda *_: None)
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda _: NOW))
    router = SimpleNamespace(supports=lambda: frozenset(Routing))
    monkeypatch.setattr(LocalEnvironment, "adapters", lambda *_: SimpleNamespace(router=router))
    made = Shop(Workspace.open(tmp_path / "work"))
    remote = Path(made.git("remote", "get-url", "origin"))
    if remote.is_absolute():
        made.git("remote", "set-url", "origin", str(tmp_path / "work" / remote.relative_to(stocked)))
    return made


def test_a_release_moves_on_by_digest_once_it_has_held(shop: Shop) -> None:
    said = shop.refused(InputError)
    assert "1.1.0 may not: it has not been stable in staging" in said
    assert "--version 1.1.0 --despite" in said
    manifest = manifest_of("1.1.0")

    shop.hand_over("staging", manifest, hours_ago=30)  # under way there
    assert "has not been stable" in shop.refused(InputError)
    shop.put(shop.slots("staging").with_promotion(), "promoted", "1.1.0", hours_ago=23)
    said = shop.refused(NotYetAdmitted)
    assert "The next possible time is Fri 2026-11-27 11:00:00 UTC" in said
    assert shop.look().next_time == NOW + HOUR

    shop.rules(AFTER.replace("24h", "23h"))
    assert shop.look().version == "1.1.0"
    shop.deliver()
    handed_over = shop.slots("production").candidate_release
    assert handed_over is not None
    assert (handed_over.version, handed_over.model_digest) == ("1.1.0", manifest.digest)
    assert "Despite" not in shop.git("log", "-1", "--format=%B")


def test_the_same_version_by_another_digest_has_not_held(shop: Shop) -> None:
    shop.promote("staging", manifest_of("1.1.0"), hours_ago=30)
    assert shop.look().version == "1.1.0"
    shop.release(manifest_of("1.1.0", created="2013-06-01T02:00:00Z"))  # its tag was moved
    assert "it has not been stable in staging" in shop.refused(InputError)


def test_a_release_waits_for_nobody_while_the_rules_refuse_it(shop: Shop) -> None:
    def waiting() -> str | None:
        environment = LocalEnvironment(shop.workspace, "production")
        (seen,) = observe(shop.workspace, environment, [MODEL]).models
        return None if seen.recorded.waiting is None else seen.recorded.waiting[0]

    assert waiting() is None
    shop.promote("staging", manifest_of("1.1.0"), hours_ago=30)
    assert waiting() == "1.1.0"


def test_the_newest_that_may_go_goes_and_it_is_said_why_no_newer_one_does(shop: Shop) -> None:
    shop.promote("staging", manifest_of("1.1.0"), hours_ago=60)
    shop.promote("staging", shop.release(manifest_of("1.2.0")), hours_ago=30)  # 1.1.0 had held when it came
    shop.promote("staging", shop.release(manifest_of("1.3.0")), hours_ago=20)  # 1.2.0 had not
    shop.promote("staging", shop.release(manifest_of("1.4.0")), hours_ago=2)  # nor had 1.3.0
    found = shop.look()
    assert found.version == "1.1.0"
    assert [each.version for each in found.refused] == ["1.4.0", "1.3.0", "1.2.0"]
    assert found.next_time == NOW + 22 * HOUR
    (told, *_) = shop.deliver()
    assert "1.1.0 may go now. 1.4.0 may not: it is stable in staging since" in told
    assert "1.2.0 may not: it held in staging for 10 h of 24 h, and was superseded there" in told
    candidate = shop.slots("production").candidate_release
    assert candidate is not None
    assert candidate.version == "1.1.0"


def test_what_was_rolled_back_in_staging_stays_out_and_begins_anew_when_it_is_stable_again(
    shop: Shop,
) -> None:
    manifest = manifest_of("1.1.0")
    shop.promote("staging", manifest, hours_ago=60)
    assert shop.look().version == "1.1.0"
    shop.roll_back("staging", hours_ago=30)
    assert "it was taken away from staging" in shop.refused(InputError, "1.1.0")
    shop.promote("staging", manifest, hours_ago=10)
    assert shop.look().next_time == NOW + 14 * HOUR


def test_what_was_turned_away_in_production_is_not_tried_again_by_itself(shop: Shop) -> None:
    manifest = manifest_of("1.1.0")
    shop.promote("staging", manifest, hours_ago=60)
    shop.promote("production", manifest, hours_ago=20)
    shop.roll_back("production", hours_ago=10)
    assert "it was turned away in production" in shop.look().refused[0].reason
    assert "--retry" in shop.refused(InputError)
    assert "--retry" in shop.refused(InputError, "1.1.0")
    shop.deliver(retry=True)


def test_a_freeze_refuses_beginnings_alone(shop: Shop) -> None:
    shop.rules(FROZEN)
    said = shop.refused(NotYetAdmitted)
    assert "there is a freeze" in said
    assert "an audit" in said
    assert "Sat 2026-11-28 00:00:00 UTC" in said
    shop.hand_over("production", manifest_of("1.1.0"), hours_ago=1)
    shop.release(manifest_of("1.2.0"))
    assert shop.look().note == "the rollout of 1.1.0 is under way"
    told = shop.deliver()  # 1.2.0 may not supersede it, and it goes on
    assert any("1.2.0 may not: there is a freeze" in each for each in told)
    assert any("began elsewhere" in each for each in told)
    shop.deliver("1.1.0")


def test_an_edit_that_is_in_no_commit_lifts_no_freeze(shop: Shop) -> None:
    shop.rules(FROZEN)
    (shop.workspace.top / FILE).write_text("environments:\n  staging: {}\n  production: {}\n")
    shop.workspace = Workspace.open(shop.workspace.top)
    assert "there is a freeze" in shop.refused(NotYetAdmitted)


def test_what_serves_already_is_refused_by_no_rule(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.rules(AFTER + FROZEN)
    monkeypatch.setattr("coalmine.operations.deliver.restore", lambda *_: None)
    assert (
        deliver(shop.workspace, MODEL, "production", KIM, print, version="1.0.0").reason
        == "it serves already"
    )


def test_a_days_releases_are_rollouts_begun_of_all_models(shop: Shop) -> None:
    shop.rules("    releases_per_day: 1\n")
    other = shop.release(manifest_of("1.0.0", OTHER))
    shop.hand_over("staging", other, model=OTHER)
    shop.hand_over("production", other, hours_ago=25, model=OTHER)
    assert shop.look().version == "1.1.0"
    shop.hand_over("production", other, model=OTHER)
    assert "1 of 1 releases a day have begun on 2026-11-27 (UTC)" in shop.refused(NotYetAdmitted)
    shop.rules("    releases_per_day: 2\n")
    shop.deliver()


def test_where_the_day_has_room_for_one_the_first_of_several_models_gets_it(shop: Shop) -> None:
    shop.rules("    releases_per_day: 1\n")
    shop.release(manifest_of("1.0.0", OTHER))
    found = eligible(shop.workspace, "production").models
    assert [(each.model, each.version) for each in found] == [(OTHER, "1.0.0"), (MODEL, None)]
    assert found[1].next_time == TOMORROW


def test_a_place_that_is_taken_meanwhile_is_not_taken_twice(shop: Shop) -> None:
    shop.rules("    releases_per_day: 1\n")
    other = shop.release(manifest_of("1.0.0", OTHER))

    def meanwhile(step: Step, act: Callable[[], T], /) -> T:
        assert step is Step.HAND_OVER
        shop.hand_over("production", other, model=OTHER)
        return act()

    with pytest.raises(NotYetAdmitted, match="1 of 1"):
        deliver(shop.workspace, MODEL, "production", KIM, print, steps=meanwhile)
    assert shop.slots("production").candidate is None


def test_an_emergency_goes_despite_the_rules_and_the_record_says_who_and_why(shop: Shop) -> None:
    shop.rules(AFTER + FROZEN)
    shop.deliver(despite="scores are wrong\nfor everybody")
    said = shop.git("log", "-1", "--format=%B")
    assert "Despite: scores are wrong for everybody" in said
    assert "Triggered-By: Kim <kim@example.org> (person, claimed)" in said
    assert "refused it: it has not been stable in staging; there is a freeze" in said
    (deed,) = [each for each in read_ledger(shop.workspace.repository).deeds if each.commit == shop.head()]
    assert deed.sentence.endswith("of production despite its rules: scores are wrong for everybody")


def test_a_blank_is_no_reason(shop: Shop) -> None:
    with pytest.raises(InputError, match="has not been stable in staging"):
        deliver(shop.workspace, MODEL, "production", KIM, print, version="1.1.0", despite=" \n")


def test_a_reason_that_no_rule_asks_for_is_not_recorded(shop: Shop) -> None:
    shop.rules("    releases_per_day: 5\n")
    shop.deliver(despite="nobody asked")
    assert "espite" not in shop.git("log", "-1", "--format=%B")


def test_a_clone_that_lacks_what_happened_elsewhere_catches_up_before_it_is_asked(
    shop: Shop, tmp_path: Path
) -> None:
    shop.promote("staging", manifest_of("1.1.0"), hours_ago=60)
    behind = tmp_path / "behind"
    shop.git("clone", "--quiet", shop.git("remote", "get-url", "origin"), str(behind))
    shop.git("push", "--quiet", "--tags", "origin")
    shop.roll_back("staging", hours_ago=1)
    with pytest.raises(InputError, match="taken away from staging"):
        deliver(Workspace.open(behind), MODEL, "production", KIM, print, version="1.1.0")


def test_a_model_that_cannot_be_looked_at_keeps_no_other_from_it(shop: Shop) -> None:
    shop.rules("    releases_per_day: 5\n")
    path = shop.workspace.top / slots_path("production", OTHER)
    shop.commit("By hand", {path.relative_to(shop.workspace.top): "no: slots"})
    found = {each.model: each for each in eligible(shop.workspace, "production").models}
    assert "cannot be read" in found[OTHER].note
    assert found[MODEL].version == "1.1.0"


def test_people_are_told_in_the_command_in_status_and_in_plan(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop.workspace.top)
    shop.promote("staging", manifest_of("1.1.0"), hours_ago=20)
    waits = "nothing may go now. 1.1.0 may not: it is stable in staging since Thu 2026-11-26 14:00:00 UTC"
    when = "The next possible time is Fri 2026-11-27 14:00:00 UTC"
    lines = run("eligible", "-e", "production").splitlines()
    assert lines[0] == f"{OTHER}: no release is newer than what serves"
    assert lines[1].startswith(f"{MODEL}: {waits}")
    assert lines[1].endswith(when)
    assert json.loads(run("eligible", MODEL, "-e", "production", "--json"))[0]["version"] is None
    assert f"  next: {waits}" in run("status", "-e", "production")
    assert "  next: " not in run("status", "-e", "staging")
    traffic = ("--requests-per-s", "50", "--error-rate", "0.01")
    monkeypatch.setattr(plan, "foresee", partial(foresee, runs=Runs(good=4, bad=4)))
    assert f"To production: {waits}" in run("plan", MODEL, "-e", "production", *traffic)

    refused = CliRunner().invoke(app, ["deliver", MODEL, "-e", "production"])
    assert isinstance(refused.exception, NotYetAdmitted)
    assert refused.exception.exit_code == 4


def run(*words: str) -> str:
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    return ended.output
