"""Two lines of work as one tree, file by file: whoever changed a file since the common commit wins.

A file that both changed is a conflict for people, except dvc.lock, which is joined stage by
stage. Lines within a file are never mixed: a manifest made of two halves would be nobody's release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coalmine.errors import PushRejected
from coalmine.registry.repository import Repository

_BASE, _THEIRS, _OURS = "1", "2", "3"  # Git's numbers for the sides of an unmerged file


def joined_tree(repository: Repository, base: str, theirs: str, ours: str) -> str:
    """The tree with what `theirs` and `ours` changed since `base`.

    Raises:
        PushRejected: names each file that both changed, and who changed it there.
    """
    with repository.own_index() as env:
        repository.git("read-tree", "-i", "-m", "--aggressive", base, theirs, ours, env=env)
        conflicts = []
        for path, sides in _unmerged(repository, env).items():
            lock = _joined_lock(repository, path, sides)
            if lock is None:
                conflicts.append(path)
                continue
            blob = repository.git("hash-object", "-w", "--stdin", stdin=lock)
            entries = [f"0 {'0' * 40}\t{path}", f"100644 {blob}\t{path}"]  # drop the sides, add the one
            stdin = "".join(f"{entry}\0" for entry in entries).encode()
            repository.git("update-index", "-z", "--index-info", stdin=stdin, env=env)
        if conflicts:
            raise PushRejected(_conflict(repository, base, theirs, conflicts))
        return repository.git("write-tree", env=env)


def joined_lock(base: bytes, theirs: bytes, ours: bytes) -> bytes | None:
    """A dvc.lock with the stages that either side changed; None when both changed one, differently."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update  # half a second, rarely needed

    was, result, mine = (parse_yaml_for_update(text.decode(), "dvc.lock") for text in (base, theirs, ours))
    for section in dict.fromkeys([*was, *mine]):
        if section == "schema":  # the format's version, the same in all
            continue
        result[section] = result.get(section) or {}
        if not _take_changes(was.get(section) or {}, result[section], mine.get(section) or {}):
            return None
    text: str = dumps_yaml(result)
    return text.encode()


def _take_changes(base: Mapping[str, Any], into: dict[str, Any], ours: Mapping[str, Any]) -> bool:
    """Bring what `ours` changed since `base` into `into`; False when `into` changed it too."""
    for key in dict.fromkeys([*base, *ours]):
        was, there, here = base.get(key), into.get(key), ours.get(key)
        if here in (was, there):
            continue
        if there != was:
            return False
        if here is None:
            del into[key]
        else:
            into[key] = here
    return True


def _unmerged(repository: Repository, env: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Path to its sides, each with the file's blob."""
    sides: dict[str, dict[str, str]] = {}
    for entry in repository.git("ls-files", "--unmerged", "-z", env=env).split("\0"):
        if entry:
            description, path = entry.split("\t", 1)
            _, blob, side = description.split(" ")
            sides.setdefault(path, {})[side] = blob
    return sides


def _joined_lock(repository: Repository, path: str, sides: Mapping[str, str]) -> bytes | None:
    if path.rpartition("/")[2] != "dvc.lock" or not {_THEIRS, _OURS} <= sides.keys():
        return None
    contents = {side: repository.git_bytes("cat-file", "blob", blob) for side, blob in sides.items()}
    return joined_lock(contents.get(_BASE, b""), contents[_THEIRS], contents[_OURS])


def _conflict(repository: Repository, base: str, theirs: str, paths: list[str]) -> str:
    lines = []
    for path in paths:
        theirs_last = next(repository.log([path], revision=f"{base}..{theirs}"))
        lines.append(
            f"{path} (there by {theirs_last.author} in {theirs_last.sha[:12]}: {theirs_last.subject})"
        )
    return (
        f"Changed both here and on the remote: {'; '.join(lines)}. Nothing was recorded, and the files here "
        "are left as they are. Take the remote's state (git stash -u && git pull --rebase) and run again"
    )
