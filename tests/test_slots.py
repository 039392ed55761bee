"""The machine-written file: what it says, what Kustomize copies from it, and what older ones said."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coalmine.errors import IntegrityError
from coalmine.slots import Slot, SlotPod, SlotRelease, Slots, dump_slots, parse_roles, parse_slots

PATH = "k8s/environments/production/m/slots.yaml"
EMPTY = Slots(environment="production", model="m")


def release(version: str) -> SlotRelease:
    return SlotRelease(version=version, commit="c" * 40, model_digest=version[0] * 64)


def pod(version: str, manifest: str = "model: m\nfiles:\n  - a\n") -> SlotPod:
    return SlotPod(
        version=version,
        digest=version[0] * 64,
        image="images.example.com/m@sha256:" + "1" * 64,
        manifest=manifest,
        timeout_s="2.0",
        queue="1024",
    )


FIRST = EMPTY.with_candidate(release("1.0.0"), pod("1.0.0")).with_promotion()
SECOND = FIRST.with_candidate(release("2.0.0"), pod("2.0.0"))
STATES = {
    "empty": EMPTY,
    "first candidate": EMPTY.with_candidate(release("1.0.0"), pod("1.0.0")),
    "one release": FIRST,
    "candidate": SECOND,
    "promoted": SECOND.with_promotion(),
    "rejected": SECOND.with_rejection(),
    "back": SECOND.with_promotion().with_stable(Slot.BLUE),
    "processes serve": EMPTY.with_candidate(release("1.0.0")).with_promotion(),
}


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_what_is_written_is_read_as_it_was(slots: Slots) -> None:
    assert parse_slots(dump_slots(slots), PATH) == slots


@given(st.text())
def test_a_manifest_comes_back_to_the_letter(manifest: str) -> None:
    slots = EMPTY.with_candidate(release("1.0.0"), pod("1.0.0", manifest))
    read = parse_slots(dump_slots(slots), PATH)
    assert read.pods[Slot.BLUE].manifest == manifest


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_kustomize_finds_each_field_of_both_slots_filled_or_not(slots: Slots) -> None:
    content = yaml.safe_load(dump_slots(slots))
    assert content["metadata"]["annotations"] == {"config.kubernetes.io/local-config": "true"}
    fields = {"absent", *SlotPod.model_fields}
    for slot in Slot:
        assert set(content["pods"][slot]) == fields
        assert all(isinstance(value, str) and value for value in content["pods"][slot].values())
        assert content["pods"][slot]["absent"] == ("false" if slot in slots.pods else "true")


def test_at_rest_everybody_is_on_stable_and_before_the_first_release_nobody_is_anywhere() -> None:
    assert EMPTY.weights == {Slot.BLUE: 0, Slot.GREEN: 0}
    assert SECOND.weights == {Slot.BLUE: 100, Slot.GREEN: 0}
    assert SECOND.with_promotion().weights == {Slot.BLUE: 0, Slot.GREEN: 100}
    for slots in (EMPTY, SECOND):
        assert sum(yaml.safe_load(dump_slots(slots))["weights"].values()) == 100


def test_a_rejected_release_leaves_nothing_in_its_slot() -> None:
    assert SECOND.with_rejection() == FIRST


def test_a_promotion_changes_no_pod() -> None:
    assert SECOND.with_promotion().pods == SECOND.pods


def test_the_files_of_older_versions_are_read() -> None:
    older = {
        "schema_version": 1,
        "environment": "local",
        "model": "m",
        "stable": "blue",
        "candidate": None,
        "releases": {"blue": release("1.0.0").model_dump()},
    }
    slots = parse_slots(yaml.safe_dump(older), PATH)
    assert slots.stable_release == release("1.0.0")
    assert slots.pods == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "stable: red", dump_slots(FIRST).replace("image: images", "img: images")]
)
def test_a_file_that_was_edited_by_hand_is_refused_with_the_way_back(text: str) -> None:
    with pytest.raises(IntegrityError, match=f"git checkout HEAD~1 -- {PATH}"):
        parse_slots(text, PATH)


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_the_roles_are_read_as_from_the_whole_file_without_its_pods(slots: Slots) -> None:
    assert parse_roles(dump_slots(slots), PATH) == slots.model_copy(update={"pods": {}})


def test_roles_below_the_pods_are_read_as_well() -> None:
    """As a person may order the file."""
    content = yaml.safe_load(dump_slots(SECOND))
    moved = {key: content[key] for key in sorted(content, key=lambda key: key in ("stable", "releases"))}
    text = yaml.safe_dump(moved, sort_keys=False)
    assert text.index("\npods:\n") < text.index("\nreleases:")
    assert parse_roles(text, PATH).releases == SECOND.releases
