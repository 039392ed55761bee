"""Where signatures are required, only a release serves that somebody allowed has signed.

The tag of a release is what is signed: it names the commit, and so the manifest, and so every file by digest.
"""

from __future__ import annotations

from collections.abc import Iterable

from coalmine.errors import IntegrityError, RepositoryUnready
from coalmine.operations.workspace import Workspace
from coalmine.registry.signed_objects import read_signed
from coalmine.registry.tags import release_tag
from coalmine.registry.trust import Trust, read_trust
from coalmine.settings import FILE, REQUIRED
from coalmine.signatures.signers import ALLOWED

_MORE = "docs/signatures.md says more"


def require_signed(workspace: Workspace, environment: str, releases: Iterable[tuple[str, str, str]]) -> None:
    """
    releases: model, version and commit of each that is to serve in `environment`.

    Raises:
        RepositoryUnready: signatures are required there, and the repository lists nobody who may sign.
        IntegrityError: one is not signed by anybody allowed, or who is allowed was changed by somebody else.
    """
    trust = read_trust(workspace.repository)
    asked = workspace.settings.environment(environment).signatures == REQUIRED
    if not asked and environment not in trust.required_since:
        return
    _require_signers(trust, environment)
    since = trust.required_since.get(environment)
    for model, version, commit in releases:
        # What was in the record when signatures were first asked for stays good.
        if since is None or not workspace.repository.is_before(commit, since):
            _require_tag(workspace, trust, environment, model, version, commit)


def _require_signers(trust: Trust, environment: str) -> None:
    if trust.pending:
        who = "; ".join(f"commit {each.commit[:12]} with {each.seen}" for each in trust.unproven)
        raise IntegrityError(
            f"{environment} requires signatures, and {', '.join(trust.pending)} was changed by nobody who "
            f"may: {who}. Nothing is delivered there. Somebody allowed takes it back (git revert -S COMMIT), "
            f"or changes the file in a commit that they sign; {_MORE}"
        )
    if trust.signers is None:
        raise RepositoryUnready(
            f"{environment} requires signatures, and no {ALLOWED} is committed here that one of those it "
            f"names has signed. Write it, and git commit -S; {_MORE}"
        )


def _require_tag(
    workspace: Workspace, trust: Trust, environment: str, model: str, version: str, commit: str
) -> None:
    name = release_tag(model, version)
    reference = workspace.repository.try_git("rev-parse", "--verify", "--quiet", f"refs/tags/{name}")
    seen = "there is none"
    if reference.status == 0:
        (tag,) = read_signed(workspace.repository, [reference.text])
        checked = trust.listed.check(tag.signature, tag.payload, tag.at)
        if (tag.says("tag"), tag.says("object")) != (name, commit):
            seen = f"it says {tag.says('tag') or 'no name'} of commit {tag.says('object')[:12] or 'none'}"
        elif checked.is_good:
            return
        else:
            seen = f"it has {checked.words}"
    remote = workspace.settings.git.remote
    raise IntegrityError(
        f"{model} {version} is not served in {environment}, which requires signatures ({FILE}). Its tag "
        f"{name} must be signed by somebody in {ALLOWED}: {seen}. If that is a mistake, one of them vouches "
        f"for commit {commit[:12]}: git tag -f -s -m '{model} {version}' '{name}' {commit[:12]} && "
        f"git push -f {remote} 'refs/tags/{name}'"
    )
