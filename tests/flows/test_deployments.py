"""prefect.yaml: what `coalmine up` deploys, and the forms that people fill in."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object

from coalmine.operations.platform import POOL
from coalmine.spec import model_names

TOP = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((TOP / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS = [pytest.param(each, id=each["name"]) for each in FILE["deployments"]]


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    path, _, function = deployment["entrypoint"].partition(":")
    assert (TOP / path).is_file()
    flow: Flow[..., Any] = import_object(f"{path.removesuffix('.py').replace('/', '.')}.{function}")
    return flow


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_field_of_its_form_has_a_type_and_help(deployment: dict[str, Any]) -> None:
    fields = parameter_schema(flow_of(deployment)).properties
    assert fields
    for name, field in fields.items():
        assert field.get("description"), f"{name} has no help"
        assert {"type", "$ref", "anyOf"} & field.keys(), f"{name} has no type"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_what_it_presets_is_what_its_flow_takes(deployment: dict[str, Any]) -> None:
    flow, preset = flow_of(deployment), deployment.get("parameters", {})
    about = {"model": "any"} if "model" in flow.parameters.properties else {}
    # It raises where one does not fit.
    assert flow.validate_parameters({**about, **preset}) is not None


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_it_says_what_it_is_for_and_is_run_by_the_worker_of_up(deployment: dict[str, Any]) -> None:
    assert deployment["description"]
    assert deployment["work_pool"]["name"] == POOL


def test_a_schedule_names_a_model_that_a_new_repository_has() -> None:
    presets = [each.get("parameters", {}) for each in FILE["deployments"] if each.get("schedules")]
    named = {preset["model"] for preset in presets if "model" in preset}
    assert named
    assert named <= set(model_names(TOP))


def test_the_file_is_of_a_prefect_that_coalmine_runs_with() -> None:
    allowed = next(each for each in map(Requirement, requires("coalmine") or []) if each.name == "prefect")
    assert FILE["prefect-version"] in allowed.specifier


def test_no_flow_is_forgotten() -> None:
    defined = {
        name
        for path in (TOP / "flows").glob("*.py")
        for name in re.findall(r"^@flow\(.*?name=\"([a-z-]+)\"", path.read_text(), re.MULTILINE | re.DOTALL)
    }
    assert {flow_of(each).name for each in FILE["deployments"]} == defined
