"""The branch of releases is protected: a release and its candidate each wait for somebody to merge them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from coalmine.errors import PushRejected, ReviewAwaited
from tests.scenarios.workplace import DATASET, MODEL, Workplace

# The host lets this account past for what nobody decides about: how a rollout ended, a kept champion.
HOOK = """\
#!/bin/sh
while read old new ref; do
  [ "$ref" = refs/heads/main ] || continue
  case "$(git log -1 --format='%(trailers:key=Decision,valueonly)' $new)" in
    release*|candidate*) echo "GH006: Protected branch update failed" >&2; exit 1 ;;
  esac
done
"""
RELEASE, CANDIDATE = f"coalmine/{MODEL}/release", f"coalmine/{MODEL}/to-local"


def _there(work: Workplace, *words: str, message: str = "") -> str:
    """In the remote, past its hooks, as its host does it."""
    bare = work.top / ".coalmine/remotes/git.git"
    done = subprocess.run(
        ["git", *words], cwd=bare, input=message, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _merge(work: Workplace, branch: str) -> str:
    parents = ("-p", "main", "-p", branch)
    made = _there(work, "commit-tree", f"{branch}^{{tree}}", *parents, message="Merge pull request #7\n")
    _there(work, "update-ref", "refs/heads/main", made)
    return made


def _squash(work: Workplace, branch: str) -> str:
    message = _there(work, "log", "-1", "--format=%s (#8)%n%n%b", branch)
    made = _there(work, "commit-tree", f"{branch}^{{tree}}", "-p", "main", message=message)
    _there(work, "update-ref", "refs/heads/main", made)
    _there(work, "update-ref", "-d", f"refs/heads/{branch}")
    return made


def test_a_release_and_its_candidate_wait_to_be_merged(new_work: Workplace) -> None:
    work = new_work
    hook = Path(work.top / ".coalmine/remotes/git.git/hooks/pre-receive")
    hook.write_text(HOOK)
    hook.chmod(0o755)
    work.run("ingest", DATASET)
    refused = work.run("retrain", MODEL, status=PushRejected.exit_code)
    assert "git: {review: {}}" in refused.err
    work.edit("coalmine.yaml", "git:\n", "git:\n  review: {wait_s: 0}\n")
    work.git("commit", "--quiet", "--message", "Releases are reviewed", "--", "coalmine.yaml")
    work.git("push", "--quiet")

    before = work.head()
    waits = work.run("retrain", MODEL, status=ReviewAwaited.exit_code)
    assert f"Release {MODEL} 1.0.0: nobody has merged it into main" in waits.err
    proposed = _there(work, "rev-parse", RELEASE)
    assert (work.head(), work.pushed()) == (before, before)
    again = work.run("retrain", MODEL, status=ReviewAwaited.exit_code)
    assert f"{MODEL} 1.0.0 waits for its review." in again.out
    assert _there(work, "rev-parse", RELEASE) == proposed

    merged = _squash(work, RELEASE)
    assert work.run("retrain", MODEL, "--json").json["changed"] is False
    assert work.head() == work.pushed() == merged
    assert work.git("status", "--short") == ""
    assert work.tags() == {f"{MODEL}@v1.0.0": f"Release {MODEL} 1.0.0 (#8)"}

    work.run("deliver", MODEL, status=ReviewAwaited.exit_code)
    candidate = _there(work, "rev-parse", CANDIDATE)
    work.run("deliver", MODEL, status=ReviewAwaited.exit_code)
    assert _there(work, "rev-parse", CANDIDATE) == candidate
    (status,) = work.run("status", "--json").json
    assert status["stable"] is None
    handed_over = _merge(work, CANDIDATE)
    work.run("deliver", MODEL)
    assert work.slots == {"stable": "1.0.0", "candidate": None}
    assert work.subjects(handed_over) == [f"Promote {MODEL} 1.0.0 in local"]
    assert work.pushed() == work.head()
    assert _there(work, "branch", "--list", "coalmine/*") == ""
    assert "they hold" in work.run("verify").out
