"""What a version says of a release: data, code and parameters, or its inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.manifest import Tensor
from coalmine.operations.versions import Bump, bump_from, next_version
from coalmine.registry.repository import Repository
from coalmine.scaffold.repository import init
from tests.journals.fake_rollouts import make_manifest

MODEL_YAML = "models/credit-risk/model.yaml"


@pytest.mark.parametrize(
    ("bump", "expected"), [(Bump.PATCH, "1.4.3"), (Bump.MINOR, "1.5.0"), (Bump.MAJOR, "2.0.0")]
)
def test_a_part_grows_and_the_parts_after_it_begin_anew(bump: Bump, expected: str) -> None:
    assert next_version("1.4.2", bump) == expected


class Case:
    def __init__(self, top: Path) -> None:
        init(top, examples=["credit-risk"])
        self.top = top
        self.repository = Repository.open(top)
        code = self.repository.head()
        self.parent = make_manifest("1.0.0").model_copy(update={"model": "credit-risk", "code": code})

    def after(self, path: str, old: str, new: str) -> Bump:
        text = (self.top / path).read_text(encoding="utf-8")
        assert old in text
        (self.top / path).write_text(text.replace(old, new, 1), encoding="utf-8")
        self.repository.git("commit", "--quiet", "--all", "--message", "an edit")
        return self.bump()

    def bump(self, **schema: tuple[Tensor, ...]) -> Bump:
        inputs = schema.get("inputs", self.parent.inputs)
        outputs = schema.get("outputs", self.parent.outputs)
        return bump_from(self.parent, inputs, outputs, self.repository, self.repository.head())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "repository")


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (MODEL_YAML, "C: 0.3", "C: 0.5", Bump.MINOR),
        (MODEL_YAML, "test_share: 0.3", "test_share: 0.2", Bump.MINOR),
        (MODEL_YAML, "split:\n", "lookups: []\nsplit:\n", Bump.MINOR),
        ("pipelines/train.py", '"""', '"""Again. ', Bump.MINOR),
        ("models/credit-risk/dvc.yaml", "desc: Fit the estimator", "desc: Fit it", Bump.MINOR),
        (MODEL_YAML, "roc_auc: {minimum: 0.7}", "roc_auc: {minimum: 0.6}", Bump.PATCH),
        (MODEL_YAML, "owner: credit-risk team", "owner: Kim", Bump.PATCH),
        ("README.md", "\n", "\nhello\n", Bump.PATCH),
    ],
    ids=["parameters", "split", "lookups", "code", "pipeline", "a bound", "the owner", "words"],
)
def test_an_edit_counts_where_the_models_bytes_depend_on_it(
    case: Case, path: str, old: str, new: str, expected: Bump
) -> None:
    assert case.after(path, old, new) is expected


def test_new_data_alone_is_a_patch(case: Case) -> None:
    assert case.bump() is Bump.PATCH


def test_an_input_that_comes_goes_or_changes_its_type_is_major(case: Case) -> None:
    first, *others = case.parent.inputs
    other_type = "BYTES" if first.datatype != "BYTES" else "FP64"
    assert case.bump(inputs=tuple(others)) is Bump.MAJOR
    assert case.bump(inputs=(*case.parent.inputs, Tensor(name="new", datatype="FP64"))) is Bump.MAJOR
    assert case.bump(inputs=(Tensor(name=first.name, datatype=other_type), *others)) is Bump.MAJOR
    assert case.bump(outputs=()) is Bump.MAJOR


def test_order_and_missing_values_change_no_contract(case: Case) -> None:
    inputs = [tensor.model_copy(update={"nullable": not tensor.nullable}) for tensor in case.parent.inputs]
    assert case.bump(inputs=tuple(reversed(inputs))) is Bump.PATCH
