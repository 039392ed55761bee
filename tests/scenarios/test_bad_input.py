"""Bad input: the exit code that says what to do, one clear message, and nothing half-done."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from coalmine.errors import InputError, MachineUnready, PushRejected
from coalmine.reconcilers.process_files import ProcessFolder
from tests.scenarios.lending import LINEAR, MODEL_YAML
from tests.scenarios.workplace import DATASET, MODEL, Workplace

RETRAIN, DELIVER = ("retrain", MODEL), ("deliver", MODEL)


@dataclass(frozen=True)
class Case:
    """says: what the message must name: the fault, and how to mend it."""

    words: tuple[str, ...]
    says: tuple[str, ...]
    arrange: Callable[[Workplace], object] = lambda _: None


def key(path: str, old: str, new: str) -> Callable[[Workplace], object]:
    return lambda work: work.edit(path, old, new)


CASES = {
    "a dirty tree": Case(
        RETRAIN,
        ("pipelines/train.py", "git commit"),
        lambda work: (work.top / "pipelines/train.py").write_text("# mine\n"),
    ),
    "a detached HEAD": Case(
        RETRAIN, ("detached HEAD", "git switch main"), lambda work: work.git("checkout", "--quiet", "HEAD^")
    ),
    "a delivery with a detached HEAD": Case(
        DELIVER, ("detached HEAD", "git switch main"), lambda work: work.git("checkout", "--quiet", "HEAD^")
    ),
    "another branch": Case(
        DELIVER, ("branch idea", "git switch main"), lambda work: work.git("switch", "--quiet", "-c", "idea")
    ),
    "a retraining on another branch": Case(
        RETRAIN, ("branch idea", "git switch main"), lambda work: work.git("switch", "--quiet", "-c", "idea")
    ),
    "no remote": Case(
        RETRAIN, ("no Git remote `origin`", "git remote add"), lambda work: work.git("remote", "rm", "origin")
    ),
    "a delivery without a remote": Case(
        DELIVER, ("no Git remote `origin`", "git remote add"), lambda work: work.git("remote", "rm", "origin")
    ),
    "an unknown model": Case(("retrain", "late-payments"), ("late-payments", f"There are: {MODEL}")),
    "a delivery of an unknown model": Case(("deliver", "x"), ("models/x", f"There are: {MODEL}")),
    "an unknown model to abort": Case(("abort", "x"), ("models/x", f"There are: {MODEL}")),
    "an unknown model in the audit": Case(("audit", "x"), ("no model x", f"There are: {MODEL}")),
    "an unknown dataset": Case(("ingest", "loan"), ("data/loan", f"There are: {DATASET}")),
    "an unknown partition": Case(("ingest", DATASET, "2013-01"), ("2013-01",)),
    "an unknown environment": Case(
        (*DELIVER, "-e", "production"), ("no environment `production`", "There are: local")
    ),
    "a status of an unknown environment": Case(
        ("status", "-e", "production"), ("no environment `production`", "There are: local")
    ),
    "an unknown version": Case((*DELIVER, "--version", "9.9.9"), ("no release 9.9.9", "1.0.0, 1.1.0, 1.2.0")),
    "nothing to roll back": Case(("rollback", MODEL), ("serves nobody",)),
    "nothing to pause": Case(("pause", MODEL), (f"No rollout of {MODEL} is under way",)),
    "an unknown key in model.yaml": Case(
        RETRAIN,
        (MODEL_YAML, "unknown key `owners`", "did you mean `owner`"),
        key(MODEL_YAML, "owner:", "owners:"),
    ),
    "an unknown key deep in model.yaml": Case(
        DELIVER,
        (MODEL_YAML, "rollout.bake_z", "did you mean `bake_s`"),
        key(MODEL_YAML, "bake_s:", "bake_z:"),
    ),
    "an unknown key in dataset.yaml": Case(
        RETRAIN,
        (f"data/{DATASET}/dataset.yaml", "licens", "did you mean `licence`"),
        key(f"data/{DATASET}/dataset.yaml", "licence:", "licens:"),
    ),
    "an unknown key in coalmine.yaml": Case(
        ("status",),
        ("coalmine.yaml", "environments.local.adress", "did you mean `address`"),
        key("coalmine.yaml", "address:", "adress:"),
    ),
    "data that was not pulled": Case(
        RETRAIN,
        (f"data/{DATASET}/partitions", "dvc pull"),
        lambda work: shutil.rmtree(work.top / f"data/{DATASET}/partitions"),
    ),
    "no YAML": Case(("status",), ("coalmine.yaml is not YAML",), key("coalmine.yaml", "git:", "git: {")),
    "no feature of that name": Case(
        RETRAIN,
        ("`incomes`", "income"),
        lambda work: (work.edit(MODEL_YAML, "  - income\n", "  - incomes\n"), work.commit("A typing error")),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_people_get_wrong_is_refused(work: Workplace, case: Case) -> None:
    case.arrange(work)
    before = state(work)
    said = work.run(*case.words, status=InputError.exit_code).err
    assert said.startswith("coalmine: ")
    assert all(words in said for words in case.says), said
    assert state(work) == before


def test_a_stage_that_fails_leaves_what_dvc_leaves_and_no_release(work: Workplace) -> None:
    work.edit(MODEL_YAML, "LogisticRegression", "LogisticRegresion")
    work.commit("A typing error")
    head, tags = work.head(), work.git("tag")
    said = work.run(*RETRAIN, status=InputError.exit_code).err
    assert "sklearn.linear_model.LogisticRegresion" in said
    assert work.git("status", "--short") == f" M models/{MODEL}/dvc.lock"  # the stages before went well
    assert (work.head(), work.git("tag")) == (head, tags)


def test_outside_a_repository_it_says_how_to_make_one(work: Workplace, tmp_path: Path) -> None:
    said = work.run("status", status=InputError.exit_code, cwd=tmp_path).err
    assert "coalmine init DIR" in said
    assert said.count("\n") == 1


def test_a_port_in_use_starts_nothing_and_hands_nothing_over(work: Workplace) -> None:
    host, _, port = work.address.rpartition(":")
    before = state(work)
    with socket.create_server((host, int(port))):
        said = work.run(*DELIVER, status=MachineUnready.exit_code).err
        assert f"{work.address} is in use" in said
        assert "coalmine.yaml" in said
        assert state(work) == before
    assert work.run(*DELIVER, "--version", "1.0.0", "--json").json["promoted"]


def test_a_release_that_somebody_else_made_meanwhile_takes_the_second_one_back(
    work: Workplace, tmp_path: Path
) -> None:
    work.git("clone", "--quiet", str(work.top / ".coalmine/remotes/git.git"), str(tmp_path / "clone"))
    other = Workplace(tmp_path / "clone")
    decision = f"models/{MODEL}/decision.yaml"
    (other.top / decision).write_text("# decided otherwise\n")
    other.commit("Another decision")

    work.edit(MODEL_YAML, LINEAR, f"{LINEAR}  params: {{C: 0.5}}\n")
    work.git("commit", "--quiet", "--all", "--message", "Less trust in single numbers")
    head, tags = work.head(), work.git("tag")
    said = work.run(*RETRAIN, status=PushRejected.exit_code).err
    assert f"{decision} (there by Kim" in said
    assert "git pull --rebase" in said
    assert (work.head(), work.git("tag")) == (head, tags)
    assert work.pushed() == other.head()


def state(work: Workplace) -> tuple[str, ...]:
    """Commits, tags, files and what runs."""
    rollouts = sorted(map(str, (work.top / ".coalmine/rollouts").glob("*/*/*")))
    runs = ProcessFolder(work.top / ".coalmine/local").supervisor_pid() is not None
    return work.head(), work.git("status", "--short"), work.git("tag"), str(rollouts), str(runs)
