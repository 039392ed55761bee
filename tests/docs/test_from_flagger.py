"""docs/from-flagger.md knows every field of Flagger's Canary, and what it shows is taken by both sides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from coalmine.spec import ModelSpec, parse_spec
from tests.k8s.validation import SCHEMAS, faults

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/from-flagger.md").read_text(encoding="utf-8")


def _fields(path: str) -> dict[str, Any]:
    """Those of the Canary's `spec` under `path`, with their schemas."""
    at: dict[str, Any] = json.loads((SCHEMAS / "flagger.app_v1beta1_Canary.json").read_text())
    for part in filter(None, ["spec", *path.split(".")]):
        at = at["properties"][part]
    found: dict[str, Any] = at.get("items", at)["properties"]
    return found


def _named(heading: str) -> set[str]:
    """The fields in the first column of the table under `heading`."""
    rows = re.findall(
        r"^\| (.+?) \|", PAGE.split(f"**`{heading}`**\n", 1)[1].split("\n\n**", 1)[0], re.MULTILINE
    )
    return {name for row in rows for name in re.findall(r"`([A-Za-z]+)`", row)}


def _blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_field_of_a_canary_has_its_row() -> None:
    assert set(_fields("")) <= _named("spec")
    assert set(_fields("service")) <= _named("service")
    assert set(_fields("analysis")) <= _named("analysis")
    assert set(_fields("analysis.metrics")) <= _named("analysis.metrics[]")
    assert set(_fields("analysis.webhooks")) - {"type"} <= _named("analysis.webhooks[]")


def test_every_type_of_webhook_has_its_row() -> None:
    types = {each for each in _fields("analysis.webhooks")["type"]["enum"] if each}
    assert types == set(re.findall(r"`type: ([a-z-]+)`", PAGE))


def test_no_row_is_of_a_field_that_flagger_does_not_have() -> None:
    assert _named("service") <= set(_fields("service"))
    assert _named("analysis") <= set(_fields("analysis"))


def test_the_canary_on_the_page_is_one_and_so_is_what_becomes_of_it() -> None:
    canary, ours = _blocks()
    assert faults(yaml.safe_load(canary)) == []
    model = (TOP / "models/flight-delays/model.yaml").read_text().partition("rollout:\n")[0]
    rollout = parse_spec(ModelSpec, model + ours, "from-flagger.md").rollout
    spec = yaml.safe_load(canary)["spec"]
    assert list(rollout.stages) == spec["analysis"]["stepWeights"]
    assert rollout.progress_deadline_s == spec["progressDeadlineSeconds"]
    assert len(rollout.gates) == len(spec["analysis"]["metrics"]) + 1
