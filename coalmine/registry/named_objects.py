"""Which objects of DVC's somebody may still need, by what Git knows here and on the remote.

Whatever has a name keeps what it names: every commit of every branch, tag and pull request, stashes and what
the reflog still has, and files that no commit holds yet. Texts are searched for what looks like a digest of
DVC's, not parsed: a file of an older format keeps what it names as well. That may keep too much, never too
little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from coalmine.errors import RepositoryUnready
from coalmine.registry.faults import machine_fault
from coalmine.registry.repository import Repository
from coalmine.registry.whole_history import all_changes

# An md5, and what ends DVC's digest of a folder; not a part of a longer digest, of another kind.
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
_FILES = (
    ":(glob)**/*.dvc",
    ":(glob)**/dvc.lock",
    ":(glob)models/*/manifest.yaml",
    ":(glob)k8s/environments/*/*/slots.yaml",
)


def digests_in(text: str) -> set[str]:
    return set(_DIGEST.findall(text))


def named_objects(repository: Repository) -> set[str]:
    """The digests that the history of all references here names, and the files here that are in no commit.

    Raises:
        RepositoryUnready: a shallow clone, or one that lacks files of its own history.
        MachineUnready: a file here cannot be read.
    """
    repository.require_whole_history()
    named: set[str] = set()
    for text in _texts(repository):
        named |= digests_in(text)
    return named


def _texts(repository: Repository) -> Iterator[str]:
    blobs: set[str] = set()
    for each in all_changes(repository, ["--all", "--reflog"], _FILES):
        yield from each.commit.trailers.values()
        blobs.update(change.after for change in each.changes if change.after is not None)
    staged = repository.git("ls-files", "-z", "--stage", "--", *_FILES).split("\0")
    blobs.update(entry.split(" ")[1] for entry in staged if entry)
    for blob, content in zip(blobs, repository.read_all(blobs), strict=True):
        if content is None:
            raise RepositoryUnready(
                f"This clone lacks the file {blob} of its own history, so it cannot say what is needed. Take "
                "a whole one (git clone URL), or see what is damaged here (git fsck)"
            )
        yield content.decode(errors="replace")
    here = repository.git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_FILES)
    for name in filter(None, here.split("\0")):
        try:
            yield (repository.top / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue  # deleted, and still in the index
        except OSError as error:
            raise machine_fault(error, repository.top / name) from error
