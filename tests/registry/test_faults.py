"""A remote's address in the words of libraries, without what opens it."""

from __future__ import annotations

import pytest

from coalmine.registry.faults import without_credentials


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("Cannot connect to https://kim:s3cret@dvc.example/x", "Cannot connect to https://dvc.example/x"),
        ("'https://token@dvc.example'", "'https://dvc.example'"),
        ("s3://bucket/path@2 is away", "s3://bucket/path@2 is away"),
        ("write to kim@example.org", "write to kim@example.org"),
        (
            "https://a:b@one.example and https://c:d@two.example",
            "https://one.example and https://two.example",
        ),
    ],
    ids=["user and password", "a token alone", "an @ in the path", "a person", "several"],
)
def test_what_stands_before_the_host_is_left_out_of_messages(words: str, left: str) -> None:
    assert without_credentials(words) == left
