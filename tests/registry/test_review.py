"""Releases by pull requests, over real remotes that protect their branch, and a stand-in for `gh`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import PushRejected, RepositoryUnready, ReviewAwaited
from coalmine.registry import review
from coalmine.registry.commits import Change, Tag, publish
from coalmine.registry.pull_requests import GitHost, PullRequest
from coalmine.registry.repository import Repository
from coalmine.registry.review import awaited, propose, settle_merged
from coalmine.settings import GitSettings, ReviewSettings

MANIFEST = Path("models/delay/manifest.yaml")
NAME = "coalmine/delay/release"
TAG = "delay@v1.0.1"
RELEASE = Change(
    paths=(MANIFEST, Path("models/delay/old.json"), Path("models/delay/new.json")),
    subject="Release delay 1.0.1",
    body="It is better.",
    trailers={"Model": "delay", "Version": "1.0.1", "Decision": "release", "Digest": "ab" * 32},
    tags=(Tag(TAG, "delay 1.0.1"),),
)
AWAITED = {"Model": "delay", "Decision": "release"}
GIT = GitSettings(review=ReviewSettings(wait_s=0))

# As hosts do it: nobody pushes to main, but for the merge itself.
PROTECTED = """\
#!/bin/sh
while read old new ref; do
  if [ "$ref" = refs/heads/main ] && [ -z "$MERGING" ]; then
    echo "GH006: Protected branch update failed for refs/heads/main." >&2
    exit 1
  fi
done
"""


@pytest.fixture
def protected(remote: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("MERGING", raising=False)
    remote.write("hooks/pre-receive", PROTECTED).chmod(0o755)
    monkeypatch.setattr(review, "LOOK_EVERY_S", 0.01)
    return remote


@pytest.fixture
def work(protected: Any, clone: Any) -> Any:  # noqa: ARG001
    _prepare(clone)
    return clone


def _prepare(clone: Any) -> None:
    clone.write(str(MANIFEST), "version: 1.0.1\n")
    clone.write("models/delay/new.json", "{}\n")
    (clone.top / "models/delay/old.json").unlink()


def _propose(clone: Any, change: Change = RELEASE, git: GitSettings = GIT, then: Any = None) -> str:
    assert git.review is not None
    return propose(clone.repository, change, git, git.review, NAME, then or (lambda _: None))


Merge = Callable[[Any], None]


def _in_reviewers_clone(remote: Any, tmp_path: Path, *commands: str) -> None:
    top = tmp_path / "reviewer"
    if not top.exists():
        subprocess.run(["git", "clone", "-q", str(remote.top), str(top)], check=True)
    env = {"MERGING": "1", "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), "PATH": "/usr/bin:/bin"}
    env |= {"GIT_COMMITTER_NAME": "Rita", "GIT_COMMITTER_EMAIL": "rita@example.com"}
    for command in ("git fetch -q --prune", "git reset -q --hard origin/main", *commands, "git push -q"):
        subprocess.run(["bash", "-c", command], cwd=top, check=True, env=env)


BRANCH = f"origin/{NAME}"
METHODS = {
    "merge commit": (f"git merge -q --no-ff --no-edit {BRANCH}",),
    "fast-forward": (f"git merge -q --ff-only {BRANCH}",),
    "rebase": (f"git cherry-pick --allow-empty {BRANCH}", "git commit -q --amend --no-edit --date=now"),
    "squash that keeps the message": (
        f"git merge -q --squash {BRANCH}",
        f"git log -1 --format=%B {BRANCH} | sed '1s/$/ (#12)/' > m && git commit -q -F m && rm m",
    ),
}


def test_nobody_merges_and_nothing_here_has_changed(work: Any, protected: Any) -> None:
    head, status = work.git("rev-parse", "HEAD"), work.git("status", "--porcelain")
    said: list[str] = []
    with pytest.raises(ReviewAwaited, match=r"Release delay 1\.0\.1.*Run again"):
        _propose(work, then=said.append)
    assert said == [f"Open a pull request of the branch {NAME} to main."]
    assert (work.git("rev-parse", "HEAD"), work.git("status", "--porcelain")) == (head, status)
    assert work.git("tag") == protected.git("tag") == ""
    assert protected.git("show", f"{NAME}:{MANIFEST}") == "version: 1.0.1"
    assert protected.git("log", "--format=%s", f"main..{NAME}") == "Release delay 1.0.1"
    proposed = awaited(work.repository, GIT, NAME, AWAITED)
    assert proposed is not None
    assert proposed.sha == protected.git("rev-parse", NAME)


@pytest.mark.parametrize(
    ("method", "meanwhile"),
    [
        *(pytest.param(commands, False, id=name) for name, commands in METHODS.items()),
        pytest.param(METHODS["merge commit"], True, id="merge commit, and main moved on"),
        pytest.param(METHODS["squash that keeps the message"], True, id="squash, and main moved on"),
    ],
)
def test_what_is_merged_is_the_record(
    work: Any, protected: Any, tmp_path: Path, method: tuple[str, ...], meanwhile: bool
) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    if meanwhile:
        other = "echo more >> notes.txt && git commit -qam Meanwhile"
        _in_reviewers_clone(protected, tmp_path, other)
    _in_reviewers_clone(protected, tmp_path, *method)
    merged = _propose(work)
    assert protected.git("merge-base", "--is-ancestor", merged, "main") == ""
    assert protected.git("show", f"{merged}:{MANIFEST}") == "version: 1.0.1"
    assert dict(work.repository.commit(merged).trailers) == dict(RELEASE.trailers)
    assert (
        protected.git("rev-parse", f"{TAG}^{{commit}}")
        == work.git("rev-parse", f"{TAG}^{{commit}}")
        == merged
    )
    assert work.git("rev-parse", "HEAD") == protected.git("rev-parse", "main")
    assert work.git("status", "--porcelain") == ""
    assert awaited(work.repository, GIT, NAME, AWAITED) is None
    assert protected.git("branch", "--list", "coalmine/*") == ""
    assert _propose(work) == merged  # once more: nothing is proposed again
    assert protected.git("branch", "--list", "coalmine/*") == ""


def test_what_was_merged_while_nobody_waited_is_settled(
    work: Any, protected: Any, new_clone: Callable[[str], Any], tmp_path: Path
) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    status = work.git("status", "--porcelain")
    settle_merged(work.repository, RELEASE, GIT, NAME)  # not yet
    assert (work.git("status", "--porcelain"), work.git("tag"), protected.git("tag")) == (status, "", "")
    _in_reviewers_clone(protected, tmp_path, *METHODS["rebase"])
    fresh = new_clone("fresh")
    fresh.write(str(MANIFEST), "version: of somebody at work\n")
    settle_merged(fresh.repository, RELEASE, GIT, NAME)
    assert protected.git("rev-parse", f"{TAG}^{{commit}}") == protected.git("rev-parse", "main")
    assert fresh.git("status", "--porcelain") == f" M {MANIFEST}"
    settle_merged(work.repository, RELEASE, GIT, NAME)
    assert work.git("rev-parse", "HEAD") == protected.git("rev-parse", "main")
    assert work.git("status", "--porcelain") == ""


def test_it_is_waited_for_while_somebody_merges(work: Any, protected: Any, tmp_path: Path) -> None:
    patient = GitSettings(review=ReviewSettings(wait_s=60))

    def merge(_: str) -> None:
        _in_reviewers_clone(protected, tmp_path, *METHODS["merge commit"])

    assert _propose(work, git=patient, then=merge) == protected.git("rev-parse", f"{TAG}^{{commit}}")


@pytest.mark.parametrize("deletes", [True, False], ids=["branch deleted", "branch left"])
def test_a_squash_that_drops_the_message_gets_no_tag_and_is_told(
    work: Any, protected: Any, tmp_path: Path, deletes: bool
) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    squash = (f"git merge -q --squash {BRANCH}", "git commit -qm 'Release delay 1.0.1 (#12)'")
    _in_reviewers_clone(protected, tmp_path, *squash)
    if deletes:
        protected.git("branch", "-D", NAME)
    for _ in range(2):
        with pytest.raises(PushRejected, match=r"without the trailers.*squash must keep the message"):
            _propose(work)
    assert protected.git("tag") == ""


def test_other_contents_under_the_same_message_are_told(work: Any, protected: Any, tmp_path: Path) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    edited = (
        f"git merge -q --squash {BRANCH}",
        f"echo 'version: 9.9.9' > {MANIFEST}; git log -1 --format=%B {BRANCH} > ../m; git commit -qa -F ../m",
    )
    _in_reviewers_clone(protected, tmp_path, *edited)
    with pytest.raises(PushRejected, match="with other contents"):
        _propose(work)
    assert protected.git("tag") == ""


def test_declined_is_told_once_and_can_be_proposed_again(work: Any, protected: Any) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    protected.git("branch", "-D", NAME)
    with pytest.raises(PushRejected, match="declined"):
        _propose(work)
    assert awaited(work.repository, GIT, NAME, AWAITED) is None
    with pytest.raises(ReviewAwaited):
        _propose(work)
    assert protected.git("branch", "--list", NAME) != ""


def test_another_clone_goes_on_with_what_is_proposed(
    work: Any, protected: Any, new_clone: Callable[[str], Any], tmp_path: Path
) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    proposed = protected.git("rev-parse", NAME)
    other = new_clone("other")
    found = awaited(other.repository, GIT, NAME, AWAITED)
    assert found is not None
    assert found.sha == proposed
    _prepare(other)
    with pytest.raises(ReviewAwaited):
        _propose(other)
    assert protected.git("rev-parse", NAME) == proposed
    _in_reviewers_clone(protected, tmp_path, *METHODS["rebase"])
    assert _propose(other) == _propose(work) == protected.git("rev-parse", f"{TAG}^{{commit}}")


def test_a_newer_challenger_replaces_the_one_that_waits(work: Any, protected: Any) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    work.write(str(MANIFEST), "version: 1.0.1 # of newer data\n")
    newer = replace(RELEASE, trailers={**RELEASE.trailers, "Digest": "cd" * 32})
    with pytest.raises(ReviewAwaited):
        _propose(work, newer)
    assert protected.git("rev-list", "--count", f"main..{NAME}") == "1"
    assert protected.git("show", f"{NAME}:{MANIFEST}") == "version: 1.0.1 # of newer data"


def test_main_may_have_moved_on_before_it_is_proposed(work: Any, protected: Any, tmp_path: Path) -> None:
    _in_reviewers_clone(protected, tmp_path, "echo more >> notes.txt && git commit -qam Meanwhile")
    with pytest.raises(ReviewAwaited):
        _propose(work)
    assert protected.git("diff", "--no-renames", "--name-only", "main", NAME).splitlines() == [
        "models/delay/manifest.yaml",
        "models/delay/new.json",
        "models/delay/old.json",
    ]


def test_commits_of_a_person_do_not_travel_along(work: Any, protected: Any) -> None:
    work.commit("notes.txt", "mine\n")
    with pytest.raises(RepositoryUnready, match=r"lacks 1 commits that are here"):
        _propose(work)
    assert protected.git("branch", "--list", "coalmine/*") == ""


def test_killed_before_the_tag_reached_the_remote_it_goes_on(
    work: Any, protected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReviewAwaited):
        _propose(work)
    _in_reviewers_clone(protected, tmp_path, *METHODS["rebase"])
    protected.git("branch", "-D", NAME)  # as hosts do after a merge
    with monkeypatch.context() as patch:
        patch.setattr("coalmine.registry.upstream.Upstream.push_tags", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            _propose(work)
    assert protected.git("tag") == ""
    assert _propose(work) == protected.git("rev-parse", f"{TAG}^{{commit}}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "words",
    [
        "GH006: Protected branch update failed for refs/heads/main.",
        "GH013: Repository rule violations found for refs/heads/main.",
        "GitLab: You are not allowed to push code to protected branches on this project.",
        "Branch refs/heads/main can only be modified through pull requests.",
        "TF402455: Pushes to this branch are not permitted; you must use a pull request.",
        "Gitea: Not allowed to push to protected branch main",
    ],
)
def test_a_protected_branch_is_recognised_and_the_remedy_told(clone: Any, remote: Any, words: str) -> None:
    remote.write("hooks/pre-receive", f'#!/bin/sh\necho "{words}" >&2\nexit 1\n').chmod(0o755)
    _prepare(clone)
    with pytest.raises(PushRejected, match=r"main is protected.*git: \{review: \{\}\}"):
        publish(clone.repository, RELEASE, "origin", "main")


# --- the host --------------------------------------------------------------------------

GH = """\
#!/bin/sh
printf '%s\\n' "$*" >> {calls}
case "$1 $2" in
  "pr list") cat {opened} 2>/dev/null ;;
  "pr create") {create} ;;
esac
"""


def _gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: str) -> Path:
    (tmp_path / "bin").mkdir()
    calls, opened = tmp_path / "calls", tmp_path / "opened"
    program = tmp_path / "bin/gh"
    program.write_text(GH.format(calls=calls, opened=opened, create=create.format(opened=opened)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return calls


def test_gh_opens_the_pull_request_once(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://github.com/bank/models/pull/12"
    calls = _gh(tmp_path, monkeypatch, f"echo {url} | tee {{opened}}")
    said: list[str] = []
    for _ in range(2):
        with pytest.raises(ReviewAwaited, match=url):
            _propose_at_github(work, said)
    assert said == [f"The pull request waits: {url}."] * 2
    created = [call for call in calls.read_text().splitlines() if call.startswith("pr create")]
    assert created == [
        f"pr create --repo github.com/bank/models --head {NAME} --base main --title Release delay 1.0.1 "
        "--body Merge it by a merge commit or a rebase. A squash must keep the lines at the end, as its last "
        "ones: they are what an audit reads."
    ]
    asked = calls.read_text().partition("pr create")[2].partition("\npr list")[0]
    last = asked.rstrip().split("\n\n")[-1].splitlines()
    assert last == [f"{key}: {value}" for key, value in RELEASE.trailers.items()]


def _propose_at_github(work: Any, said: list[str]) -> None:
    """The remote's address is GitHub's, as far as anybody asks, and leads to the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "remote_url", lambda *_: "git@github.com:bank/models.git")
        _propose(work, then=said.append)


def test_a_gh_that_fails_says_why_and_where_to_open_it(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gh(tmp_path, monkeypatch, "echo 'gh: run gh auth login' >&2; exit 4")
    with pytest.raises(ReviewAwaited, match=r"run gh auth login.*/bank/models/compare/main\.\.\."):
        _propose_at_github(work, [])


def test_gitlab_is_asked_by_the_push(work: Any, protected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no glab
    protected.git("config", "receive.advertisePushOptions", "true")
    hook = "env | grep GIT_PUSH_OPTION_ | sort > options\n"
    protected.write("hooks/pre-receive", PROTECTED.replace("#!/bin/sh\n", f"#!/bin/sh\n{hook}")).chmod(0o755)
    settings = GitSettings(review=ReviewSettings(wait_s=0, host="gitlab"))
    with pytest.raises(ReviewAwaited, match="is asked for"):
        _propose(work, git=settings)
    assert (protected.top / "options").read_text().splitlines() == [
        "GIT_PUSH_OPTION_0=merge_request.create",
        "GIT_PUSH_OPTION_1=merge_request.target=main",
        "GIT_PUSH_OPTION_2=merge_request.title=Release delay 1.0.1",
        "GIT_PUSH_OPTION_COUNT=3",
    ]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("git@github.com:bank/models.git", GitHost("github", "github.com", "bank/models")),
        ("https://me@github.bank.com/bank/models", GitHost("github", "github.bank.com", "bank/models")),
        ("ssh://git@gitlab.bank.com:22/a/b/models.git", GitHost("gitlab", "gitlab.bank.com", "a/b/models")),
        ("git@git.bank.com:models.git", GitHost(None, "git.bank.com", "models")),
        ("/srv/git/models.git", GitHost(None, "", "srv/git/models")),
    ],
)
def test_the_host_is_known_by_its_address(address: str, host: GitHost) -> None:
    assert GitHost.of(address) == host


def test_where_there_is_no_program_a_url_opens_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    request = PullRequest("coalmine/delay/release", "main", "Release", "")
    github = GitHost("github", "github.com", "bank/models").open(request, tmp_path)
    assert github.endswith(
        "https://github.com/bank/models/compare/main...coalmine%2Fdelay%2Frelease?expand=1"
    )
    gitlab = GitHost("gitlab", "gitlab.com", "bank/models").open(request, tmp_path)
    assert "/-/merge_requests/new?merge_request[source_branch]=coalmine%2Fdelay%2Frelease" in gitlab
