"""The frame: what is installed, what is packed, and that each says what the others say."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from coalmine.scaffold.json_schemas import schema_files
from coalmine.scaffold.template import template_files

TOP = Path(__file__).parents[1]
LOCKS = [
    "requirements.lock",
    "requirements-build.lock",
    "requirements-pipelines.lock",
    "requirements-serving.lock",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return _build(TOP, tmp_path_factory.mktemp("dist"))


def _build(project: Path, folder: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(
        next(iter(WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])))
    )


def _packed(wheel: zipfile.ZipFile) -> dict[str, str]:
    prefix = "coalmine/template/"
    names = [name for name in wheel.namelist() if name.startswith(prefix)]
    return {name.removeprefix(prefix): wheel.read(name).decode() for name in names}


# --- the wheel -------------------------------------------------------------------------


def test_the_wheel_holds_coalmine_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"coalmine"}


def test_the_wheel_packs_the_files_that_a_checkout_would_write(wheel: zipfile.ZipFile) -> None:
    assert _packed(wheel) == {path.as_posix(): text for path, text in template_files().items()}


@pytest.mark.parametrize(
    "pattern",
    [
        "flows/*.py",
        "pipelines/*.py",
        "models/*/model.yaml",
        "data/*/dataset.yaml",
        "k8s/base/*",
        "dvc.yaml",
        "prefect.yaml",
        "coalmine.yaml",
    ],
)
def test_the_template_has_every_part_of_a_repository(pattern: str) -> None:
    assert [path for path in template_files() if path.match(pattern)]


def test_nothing_that_is_generated_is_packed(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "coalmine/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((TOP / name).read_bytes())
    written = [
        "data/d/dataset.yaml",
        "data/d/dvc.yaml",
        "models/m/model.yaml",
        "models/m/dvc.yaml",
        "dvc.yaml",
    ]
    generated = [
        "data/d/partitions/all.parquet",
        *("data/d/partitions.dvc", "data/d/dvc.lock", "data/d/report.json", "data/d/.gitignore"),
        *("models/m/dvc.lock", "models/m/manifest.yaml", "models/m/tuned.json", "models/m/model.skops"),
        *("models/m/prepared/train.parquet", "models/m/rollouts/1/rollout.yaml", "models/m/plots/roc.json"),
        "k8s/environments/local/m/slots.yaml",
        "pipelines/__pycache__/train.cpython-311.pyc",
    ]
    for name in (*written, *generated):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")

    assert _packed(_build(tmp_path, tmp_path / "dist")) == dict.fromkeys(written, "text")


def test_the_wheel_holds_what_is_no_python(wheel: zipfile.ZipFile) -> None:
    tracked = {
        path.relative_to(TOP).as_posix()
        for path in (TOP / "coalmine").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked <= set(wheel.namelist())


@pytest.mark.parametrize("pattern", ["data/*/dvc.yaml", "models/*/dvc.yaml"])
def test_the_stages_are_the_same_text_everywhere_but_for_lookups(pattern: str) -> None:
    """A new one gets a copy of any of them that has none."""
    files = template_files()
    texts = {_without_lookups(files, path) for path in files if path.match(pattern)}
    assert len(texts) == 1


def _without_lookups(files: dict[Path, str], path: Path) -> str:
    text = files[path].replace("features, lookups, split", "features, split")
    for lookup in yaml.safe_load(files.get(path.with_name("model.yaml"), "{}")).get("lookups", []):
        text, lines = re.subn(rf"^ +- data/{lookup['dataset']}/\S+\n", "", text, flags=re.MULTILINE)
        assert lines == 3
    return text


# --- the lock --------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_version_and_hashes(lock: str) -> None:
    entries = (TOP / lock).read_text().replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        requirement, *hashes = entry.split("--hash=")
        assert re.match(r"[a-z0-9.-]+==\S+ *(;|$)", requirement.strip()), entry[:80]
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()) for value in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_holds_no_addresses(lock: str) -> None:
    """Where packages come from is this machine's business."""
    assert not re.findall(r"://|--index|--find-links|@ ", (TOP / lock).read_text())


def test_the_lock_fulfils_pyproject() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    locked: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9.-]+)==(\S+)", (TOP / "requirements.lock").read_text(), re.MULTILINE
    ):
        locked.setdefault(name, []).append(version)
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for requirement in map(Requirement, wanted):
        # Names are written in two ways: ruamel.yaml is locked as ruamel-yaml.
        versions = locked.get(re.sub(r"[._]", "-", requirement.name.lower()), [])
        assert versions, f"{requirement.name} is not locked: make lock"
        assert all(map(requirement.specifier.contains, versions)), (
            f"{requirement} is locked as {versions}: make lock"
        )


# --- commands and papers ---------------------------------------------------------------


def test_make_alone_lists_every_command() -> None:
    rules = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert re.findall(r"^  make ([\w-]+) ", shown.stdout, re.MULTILINE) == rules


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_papers_name_commands_and_files_that_exist(paper: str) -> None:
    text = (TOP / paper).read_text()
    rules = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", text, re.MULTILINE)) <= rules
    linked = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert [target for target in linked if not (TOP / target).exists()] == []


def test_ci_runs_the_commands_that_people_run() -> None:
    script = (TOP / ".ci/run").read_text()
    assert re.findall(r"^make \w+", script, re.MULTILINE) == ["make check", "make test"]


def test_every_decision_is_listed() -> None:
    folder = TOP / "docs/decisions"
    records = {path.name for path in folder.glob("[0-9]*.md")}
    assert set(re.findall(r"\((\d{4}-[^)]+)\)", (folder / "README.md").read_text())) == records


# --- for editors -----------------------------------------------------------------------


def test_the_schemas_are_those_of_the_code() -> None:
    for path, text in schema_files().items():
        assert (TOP / path).read_text() == text, f"{path} is old: make schemas"


@pytest.mark.parametrize("pattern", ["models/*/model.yaml", "data/*/dataset.yaml", "coalmine.yaml"])
def test_the_examples_name_their_schema(pattern: str) -> None:
    for path, text in template_files().items():
        if path.match(pattern):
            name = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
            assert name, f"{path} names no schema in its first line"
            assert (TOP / path.parent / name[1]).resolve().is_relative_to(TOP / "docs/schemas")
            assert (TOP / path.parent / name[1]).is_file()
