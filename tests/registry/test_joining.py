"""dvc.lock from two sides, stage by stage."""

from __future__ import annotations

import pytest

from coalmine.registry.joining import joined_lock


def _lock(stages: str) -> bytes:
    """As DVC writes it: "a1 b2" is stage `a` with an output of digest 1, and `b` with 2."""
    lines = ["schema: '2.0'", "stages:"]
    for name, digest in stages.split():
        lines += [f"  {name}:", f"    cmd: python -m {name}", "    outs:", f"    - path: {name}.out"]
        lines += ["      hash: md5", f"      md5: {digest}", "      size: 7"]
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "joined"),
    [
        pytest.param("a1", "a2", "a1", "a2", id="only theirs changed"),
        pytest.param("a1", "a1", "a2", "a2", id="only ours changed"),
        pytest.param("a1 b1", "a2 b1", "a1 b2", "a2 b2", id="one each"),
        pytest.param("a1", "a2", "a2", "a2", id="both the same"),
        pytest.param("a1", "a1 b1", "a1 c1", "a1 b1 c1", id="new ones"),
        pytest.param("a1 b1", "a2 b1", "a1", "a2", id="ours removed one"),
        pytest.param("a1 b1", "b1", "a1 b2", "b2", id="theirs removed one"),
        pytest.param("", "a1", "b1", "a1 b1", id="all new"),
    ],
)
def test_each_side_keeps_the_stages_it_changed(base: str, theirs: str, ours: str, joined: str) -> None:
    assert joined_lock(_lock(base), _lock(theirs), _lock(ours)) == _lock(joined)


def test_a_lock_that_only_one_side_has_yet_is_taken_over() -> None:
    assert joined_lock(b"", _lock("a1"), b"") == _lock("a1")


@pytest.mark.parametrize(
    ("base", "theirs", "ours"),
    [
        pytest.param("a1", "a2", "a3", id="changed differently"),
        pytest.param("", "a2", "a3", id="new and different"),
        pytest.param("a1", "", "a3", id="removed there, changed here"),
        pytest.param("a1", "a2", "", id="changed there, removed here"),
    ],
)
def test_a_stage_that_both_sides_changed_is_not_joined(base: str, theirs: str, ours: str) -> None:
    assert joined_lock(_lock(base), _lock(theirs), _lock(ours)) is None
