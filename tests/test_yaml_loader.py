"""What is read is what PyYAML's safe loader reads, whatever the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coalmine.manifest import dump_manifest
from coalmine.yaml_loader import YAML_LOADER
from tests.journals.fake_rollouts import make_manifest

TOP = Path(__file__).parents[1]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.dates(),
    st.datetimes(),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(), inner), st.dictionaries(st.integers(), inner)
    ),
)


@given(VALUES)
def test_any_value_is_read_as_the_safe_loader_reads_it(value: Any) -> None:
    text = yaml.safe_dump(value, sort_keys=False)
    # By repr, which tells 1, 1.0 and True apart, and one order of keys from another.
    assert repr(yaml.load(text, Loader=YAML_LOADER)) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("a: 1\nb: '1'\nc: \"1\"\nd: 1.0\ne: ~\nf: no\ng: 'no'", id="quoted or not"),
        pytest.param("a: 0o7\nb: 07\nc: 0x1f\nd: 1e3\ne: 1_000\nf: 1:30\ng: .inf", id="numbers"),
        pytest.param("a: 2020-01-01\nb: '2020-01-01'\nc: 2020-01-01T00:00:00Z", id="dates"),
        pytest.param("on: 1\nyes: 2\n5: 3\n~: 4\n2020-01-01: 5", id="keys that are no texts"),
        pytest.param("a: 1\nb: 2\na: 3", id="a key twice"),
        pytest.param("a: &a {b: [1, 2]}\nc: *a\nd: [*a, *a]", id="aliases"),
        pytest.param("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}", id="merged keys"),
        pytest.param("a: {'<<': 1}\n'=': 2", id="quoted signs"),
        pytest.param("!!set {a, b}", id="a set"),
        pytest.param("a: !!omap [b: 1, c: {d: 2}]\ne: !!pairs [f: 1, f: 2]", id="ordered pairs"),
        pytest.param("a: !!str 5\nb: !!int '5'\nc: !!float 5\nd: !!binary aGk=", id="tags"),
        pytest.param("a: |\n  1\n\n  two\nb: >\n  1\n  two", id="blocks"),
    ],
)
def test_every_kind_of_document_is_read_as_the_safe_loader_reads_it(text: str) -> None:
    assert repr(yaml.load(text, Loader=YAML_LOADER)) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: !!python/object/apply:os.getcwd []", id="code"),
        pytest.param("a: !mine 5", id="unknown tag"),
        pytest.param("{[a]: 1}", id="a key that is a list"),
        pytest.param("!!map [a]", id="a list called a mapping"),
        pytest.param("!!str [a]", id="a list called a text"),
        pytest.param("a: *b", id="no such alias"),
        pytest.param("--- a\n--- b", id="two documents"),
        pytest.param("a: =", id="a sign without quotes"),
    ],
)
def test_what_the_safe_loader_refuses_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as ours:
        yaml.load(text, Loader=YAML_LOADER)
    with pytest.raises(yaml.YAMLError) as theirs:
        yaml.safe_load(text)
    assert type(ours.value) is type(theirs.value)


def test_an_alias_is_the_same_thing_so_that_a_few_lines_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6))]
    read = yaml.load("\n".join(lines), Loader=YAML_LOADER)
    assert read["a5"][0] is read["a5"][9] is read["a4"]


def test_an_alias_may_name_what_it_stands_in() -> None:
    read = yaml.load("a: &a {b: [*a]}", Loader=YAML_LOADER)
    assert read["a"]["b"][0] is read["a"]


def test_what_is_nested_too_deeply_is_no_yaml() -> None:
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        yaml.load("[" * 5_000 + "]" * 5_000, Loader=YAML_LOADER)


def test_several_documents_are_read_one_after_the_other() -> None:
    assert list(yaml.load_all("a: 1\n---\nb: [2]", Loader=YAML_LOADER)) == [{"a": 1}, {"b": [2]}]


def test_the_files_of_this_repository_are_read_as_the_safe_loader_reads_them() -> None:
    texts = [dump_manifest(make_manifest())]
    texts += [path.read_text() for path in TOP.glob("models/**/*.yaml")]
    texts += [path.read_text() for path in TOP.glob("k8s/**/*.yaml")]
    for text in texts:
        assert repr(list(yaml.load_all(text, Loader=YAML_LOADER))) == repr(list(yaml.safe_load_all(text)))
