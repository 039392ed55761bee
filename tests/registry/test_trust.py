"""Who may change who may sign: an attacker who may push, and has no key, gets nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from coalmine.registry.trust import Trust, read_trust
from tests.keys import Key, make_key
from tests.registry.conftest import Clone

ASKS = "environments:\n  local: {}\n  production: {signatures: required}\n"
ASKS_NOT = "environments:\n  local: {}\n  production: {}\n"


@dataclass(frozen=True)
class Place:
    clone: Clone
    keys: Mapping[str, Key]

    def commit(self, files: Mapping[str, str | None], by: str | None = None) -> str:
        """by: whose key signs it; None: nobody's."""
        for path, text in files.items():
            if text is None:
                self.clone.git("rm", "-q", path)
            else:
                self.clone.write(path, text)
        self.clone.git("add", "-A")
        self.clone.git(*self._as(by), "commit", "-q", "--allow-empty", "-m", "a change", *self._sign(by))
        return self.clone.git("rev-parse", "HEAD")

    def merge(self, branch: str, *options: str, by: str | None = None) -> str:
        self.clone.git(
            *self._as(by), "merge", "-q", "--no-ff", "-m", "join", *self._sign(by), *options, branch
        )
        return self.clone.git("rev-parse", "HEAD")

    def allowed(self, *names: str) -> dict[str, str | None]:
        return {"allowed_signers": "".join(self.keys[name].listed() for name in names)}

    @property
    def trust(self) -> Trust:
        return read_trust(self.clone.repository)

    def _as(self, by: str | None) -> list[str]:
        settings = {} if by is None else self.keys[by].git
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _sign(self, by: str | None) -> list[str]:
        return ["--no-gpg-sign"] if by is None else ["-S"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, f"{name}@example.com") for name in ("dana", "kim", "eve")}


@pytest.fixture
def place(clone: Clone, keys: dict[str, Key]) -> Place:
    return Place(clone, keys)


@pytest.fixture
def held(place: Place) -> Place:
    """Dana is allowed, and production requires signatures."""
    place.commit(place.allowed("dana"), by="dana")
    place.commit({"coalmine.yaml": ASKS}, by="dana")
    return place


def who(trust: Trust) -> set[str]:
    return {each.principals.partition("@")[0] for each in trust.listed.allowed}


def test_a_repository_without_the_file_trusts_nobody_and_asks_for_nothing(place: Place) -> None:
    place.commit({"coalmine.yaml": ASKS_NOT})
    assert place.trust == Trust(None, None, {})


def test_the_root_is_the_first_list_signed_by_one_it_names(place: Place) -> None:
    unsigned = place.commit(place.allowed("dana"))
    stranger = place.commit(place.allowed("dana", "kim"), by="eve")
    assert place.trust.signers is None
    assert [each.commit for each in place.trust.unproven] == [unsigned, stranger]
    root = place.commit(place.allowed("kim", "dana"), by="kim")
    assert (who(place.trust), place.trust.root, place.trust.pending) == ({"dana", "kim"}, root, ())


def test_one_who_is_allowed_adds_and_takes_away_others(held: Place) -> None:
    held.commit(held.allowed("dana", "kim"), by="dana")
    held.commit(held.allowed("kim"), by="kim")
    assert (who(held.trust), held.trust.unproven) == ({"kim"}, ())
    late = held.commit(held.allowed("kim", "dana"), by="dana")
    assert (who(held.trust), [each.commit for each in held.trust.unproven]) == ({"kim"}, [late])


@pytest.mark.parametrize("by", [None, "eve"])
@pytest.mark.parametrize("path", ["allowed_signers", "revoked_signers", "coalmine.yaml"])
def test_a_change_that_nobody_allowed_has_signed_does_not_count(
    held: Place, path: str, by: str | None
) -> None:
    before = held.trust
    text = {"coalmine.yaml": ASKS_NOT, "revoked_signers": held.keys["dana"].public + "\n"}
    commit = held.commit({path: text.get(path, held.keys["eve"].listed())}, by)
    after = held.trust
    assert (after.signers, after.required_since) == (before.signers, before.required_since)
    assert after.pending == (path,)
    assert [(each.commit, each.paths) for each in after.unproven] == [(commit, (path,))]


def test_a_signed_change_of_another_file_does_not_make_it_count(held: Place) -> None:
    held.commit(held.allowed("dana", "eve"))
    held.commit({"coalmine.yaml": ASKS + "  test: {}\n"}, by="dana")
    assert (who(held.trust), held.trust.pending) == ({"dana"}, ("allowed_signers",))


def test_taken_back_or_signed_by_somebody_allowed_it_is_settled(held: Place) -> None:
    held.commit(held.allowed("dana", "kim"))
    held.commit(held.allowed("dana"))
    assert (who(held.trust), held.trust.pending) == ({"dana"}, ())
    held.commit(held.allowed("kim", "dana"))
    held.commit(held.allowed("dana", "kim"), by="dana")
    assert (who(held.trust), held.trust.pending, len(held.trust.unproven)) == ({"dana", "kim"}, (), 2)


def test_a_branch_from_before_the_root_brings_no_root_of_its_own(held: Place) -> None:
    held.clone.git("checkout", "-q", "-b", "side", "HEAD~2")
    held.commit(held.allowed("eve"), by="eve")
    held.clone.git("checkout", "-q", "main")
    for options in (("-s", "ours"), ("-X", "theirs")):
        held.clone.git("checkout", "-q", "-B", "try", "main")
        held.merge("side", *options, by="eve")
        assert held.trust.signers is None  # nobody knows who is right, until somebody whom both allow says
        assert "allowed_signers" in held.trust.pending


@pytest.mark.parametrize("options", [("-s", "ours"), ()], ids=["kept by force", "plain"])
def test_a_merge_brings_no_older_list_back(held: Place, options: tuple[str, ...]) -> None:
    held.commit(held.allowed("dana", "kim"), by="dana")
    held.clone.git("checkout", "-q", "-b", "old")
    held.commit({"notes.txt": "kim was here\n"})
    held.clone.git("checkout", "-q", "main")
    held.commit(held.allowed("dana"), by="dana")
    held.clone.git("checkout", "-q", "old")
    merge = held.merge("main", *options)
    assert who(held.trust) == {"dana"}
    forced = [merge] if options else []
    assert [each.commit for each in held.trust.unproven] == forced
    assert held.trust.pending == (("allowed_signers",) if forced else ())


def test_one_who_was_taken_out_adds_nothing_on_a_branch_from_before(held: Place) -> None:
    held.commit(held.allowed("dana", "kim"), by="dana")
    held.clone.git("checkout", "-q", "-b", "side")
    held.commit(held.allowed("dana", "kim", "eve"), by="kim")
    held.clone.git("checkout", "-q", "main")
    held.commit(held.allowed("dana"), by="dana")
    held.clone.git("checkout", "-q", "side")
    held.merge("main", "-X", "ours", by="kim")
    assert held.trust.signers is None
    held.commit(held.allowed("dana", "eve"), by="eve")
    assert held.trust.signers is None
    held.commit(held.allowed("dana"), by="dana")
    assert (who(held.trust), held.trust.pending) == ({"dana"}, ())


def test_two_signed_changes_join_where_somebody_both_allow_signs(held: Place) -> None:
    held.clone.git("checkout", "-q", "-b", "side")
    held.commit(held.allowed("dana", "kim"), by="dana")
    held.clone.git("checkout", "-q", "main")
    since = held.trust.required_since
    asked = held.commit({"coalmine.yaml": ASKS + "  test: {signatures: required}\n"}, by="dana")
    held.merge("side", by="dana")
    assert (who(held.trust), held.trust.pending) == ({"dana", "kim"}, ())
    assert held.trust.required_since["production"] == since["production"]
    assert held.trust.required_since["test"] == asked


def test_a_requirement_counts_from_the_branch_that_made_it(held: Place) -> None:
    held.clone.git("checkout", "-q", "-b", "side")
    asked = held.commit({"coalmine.yaml": ASKS + "  test: {signatures: required}\n"}, by="dana")
    held.clone.git("checkout", "-q", "main")
    held.commit(held.allowed("dana", "kim"), by="dana")
    held.merge("side", by="dana")
    assert held.trust.required_since["test"] == asked


def test_branches_of_everything_else_are_no_matter(held: Place) -> None:
    held.clone.git("checkout", "-q", "-b", "side", "HEAD~2")
    held.commit({"notes.txt": "work\n"})
    held.clone.git("checkout", "-q", "main")
    held.merge("side")
    assert (who(held.trust), held.trust.unproven, held.trust.pending) == ({"dana"}, (), ())


def test_settings_are_free_while_no_environment_asks(place: Place) -> None:
    place.commit(place.allowed("dana"), by="dana")
    place.commit({"coalmine.yaml": ASKS_NOT})
    asked = place.commit({"coalmine.yaml": ASKS})
    assert (place.trust.required_since, place.trust.unproven) == ({"production": asked}, ())
    place.commit({"coalmine.yaml": ASKS + "# why\n"}, by="dana")
    assert place.trust.required_since == {"production": asked}
    place.commit({"coalmine.yaml": ASKS_NOT}, by="dana")
    assert place.trust.required_since == {}


@pytest.mark.parametrize("text", ["", "# nobody\n", "dana@example.com no key\n"])
def test_a_list_that_would_lock_everybody_out_does_not_count(held: Place, text: str) -> None:
    held.commit({"allowed_signers": text}, by="dana")
    assert (who(held.trust), held.trust.pending) == ({"dana"}, ("allowed_signers",))


def test_a_key_counts_for_changes_in_its_time_alone(held: Place) -> None:
    ended = held.keys["kim"].listed('valid-before="20200101Z"')
    held.commit({"allowed_signers": held.keys["dana"].listed() + ended}, by="dana")
    late = held.commit(held.allowed("kim"), by="kim")
    assert [(each.commit, "until 2020-01-01" in each.seen) for each in held.trust.unproven] == [(late, True)]
