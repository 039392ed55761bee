"""SIGKILL at every step, one after the other; each run goes on where the last one died.

What the last run leaves is what a run leaves that nobody killed.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import yaml

from tests.scenarios.delivered import assert_promoted
from tests.scenarios.lending import LOANS
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace, interrupt

_OPERATIONS = "coalmine.operations"
_PUSH = "coalmine.registry.upstream:Upstream.push"
_TELL = "coalmine.journals.journal:FileJournal.append_event"
_SPLIT = "coalmine.routers.envoy:EnvoyRouter.set_split"

UNTIL_TRAINING = (
    f"before {_OPERATIONS}.retrain:ingest",
    "after coalmine.datasets.ingest:ingest",  # the rows are there, and DVC does not know
    f"after {_OPERATIONS}.retrain:ingest",
    f"after {_OPERATIONS}.retrain:validate",
)
FROM_TRAINING = (
    f"after {_OPERATIONS}.retrain:train",
    f"after {_OPERATIONS}.retrain:decide_release",
    "after coalmine.registry.dvc:DvcProject.push",
    f"after {_OPERATIONS}.record:dump_considered",  # the manifest is written, the decision is not
    "before coalmine.registry.commits:_update_refs",
    f"before {_PUSH}",
    f"after {_PUSH}",
)
OF_A_DELIVERY = (
    f"before {_OPERATIONS}.deliver:hand_over",
    "after coalmine.journals.journal:begin",
    f"after {_OPERATIONS}.hand_over:replace_text",  # the slots are written, in no commit
    f"before {_PUSH}",
    "after coalmine.reconcilers.processes:ProcessesReconciler.reconcile",
    f"before {_TELL} with Stage 1 of 2",
    f"after {_TELL} with Stage 1 of 2",
    f"after {_SPLIT} with : 30",
    f"after {_TELL} with Stage 2 of 2",
    f"after {_SPLIT} with : 60",
    f"before {_TELL} with Bake:",
    f"after {_SPLIT} with : 100",
    f"after {_TELL} with Promoting:",
    "before coalmine.audit.record:publish",
    "before coalmine.registry.commits:_update_refs",
    f"before {_PUSH}",
    f"after {_PUSH}",
    f"before {_TELL} with Promoted.",
    f"before {_OPERATIONS}.deliver:page_of",
)


def test_a_retraining_killed_at_every_step_ends_as_if_it_had_not_been(
    new_work: Workplace, released: Path
) -> None:
    work, words = new_work, ("retrain", MODEL, "--data", "all")
    before = work.head()
    for point in UNTIL_TRAINING:
        work.run_killed(point, *words)
    _kill_in_the_middle_of_training(work, *words)
    _interrupt_in_the_middle_of_training(work, *words)
    for point in FROM_TRAINING:
        work.run_killed(point, *words)
    work.run(*words)

    assert work.subjects(before) == [f"Release {MODEL} 1.0.0"]
    assert work.tags() == {f"{MODEL}@v1.0.0": f"Release {MODEL} 1.0.0"}
    assert work.pushed() == work.head()
    assert work.git("status", "--short") == ""
    assert _tree(work, "HEAD") == _tree(Workplace(released), f"{MODEL}@v1.0.0")


def test_a_delivery_killed_at_every_step_ends_as_if_it_had_not_been_and_no_user_notices(
    serving: Workplace,
) -> None:
    before, words = serving.head(), ("deliver", MODEL, "--version", "1.1.0")
    with asking(serving.url, serving.top / LOANS) as users:
        for point in OF_A_DELIVERY:
            serving.run_killed(point, *words)
        serving.run(*words)
        assert_promoted(serving, before)
    assert users.failures == {}


def _kill_in_the_middle_of_training(work: Workplace, *words: str) -> None:
    process = work.start(*words)
    _await(work.top / f"models/{MODEL}/prepared/split.json")
    process.send_signal(signal.SIGKILL)
    assert work.ended(process).status == -signal.SIGKILL


def _interrupt_in_the_middle_of_training(work: Workplace, *words: str) -> None:
    """Ctrl-C, for which nobody needs a reason either."""
    before = work.head(), work.git("status", "--short")
    process = work.start(*words)
    time.sleep(2.5)
    interrupt(process)
    assert work.ended(process).status != 0
    assert work.head() == before[0]


def _await(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def _tree(work: Workplace, commit: str) -> dict[str, object]:
    """Every file of the commit, but for times, ids, and the port of one's own."""
    names = work.git("ls-tree", "-r", "--name-only", commit).split()
    tree: dict[str, object] = {name: work.git("show", f"{commit}:{name}") for name in names}
    del tree["coalmine.yaml"]
    manifest, decision = (f"models/{MODEL}/{name}.yaml" for name in ("manifest", "decision"))
    tree[manifest] = _without(tree[manifest], "code", "created")
    tree[decision] = _without(tree[decision], "decided")
    return tree


def _without(text: object, *keys: str) -> dict[str, object]:
    content = yaml.safe_load(str(text))
    for key in keys:
        del content[key]
    return dict(content)
