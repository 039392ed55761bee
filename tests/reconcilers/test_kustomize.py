from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.errors import MachineUnready, SpecError
from coalmine.reconcilers.kustomize import KustomizeRender
from coalmine.slots import Slot, SlotPod, Slots
from tests.contracts.reconciler import BETTER, GOOD
from tests.needs import needs_kustomize

HERE = Path(__file__).parents[2]
COMMIT = "c" * 40
PLACE = Path("k8s/environments/test/m")


def slots(**pods: SlotPod) -> Slots:
    there = {Slot(slot): given for slot, given in pods.items()}
    releases = {Slot.BLUE: GOOD, Slot.GREEN: BETTER}
    return Slots(
        environment="test",
        model="m",
        stable=Slot.BLUE,
        releases={slot: release for slot, release in releases.items() if slot in there},
        pods=there,
    )


def pod(version: str, digest: str) -> SlotPod:
    manifest = f"version: {version}\n"
    return SlotPod(
        version=version, digest=digest, image="host/x:1", manifest=manifest, timeout_s="1.0", queue="64"
    )


BLUE = pod(GOOD.version, GOOD.model_digest)
GREEN = pod(BETTER.version, BETTER.model_digest)


class Repository:
    """Of one commit. asked: what was taken from it."""

    def __init__(self, top: Path, kustomization: dict[str, Any]) -> None:
        self.top = top
        self.asked: list[tuple[str, list[str]]] = []
        shutil.copytree(HERE / "k8s" / "base", top / "k8s" / "base")
        shutil.copytree(HERE / "k8s" / "components", top / "k8s" / "components")
        (top / PLACE).mkdir(parents=True)
        (top / PLACE / "kustomization.yaml").write_text(yaml.dump(kustomization))

    def export(self, commit: str, paths: Sequence[Path], into: Path) -> None:
        self.asked.append((commit, [str(path) for path in paths]))
        for path in paths:
            shutil.copytree(self.top / path, into / path)


SHIPPED = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "namePrefix": "m-",
    "resources": ["../../../base", "slots.yaml"],
    "components": ["../../../components/slots", "../../../components/gateway_api"],
}


def built(repository: Repository, slots: Slots) -> dict[str, Any]:
    """By `kind/name`."""
    objects = KustomizeRender(repository.export, lambda: COMMIT)(slots)
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}


@needs_kustomize
def test_what_git_has_is_built_for_the_slots_that_are_asked_for(tmp_path: Path) -> None:
    repository = Repository(tmp_path, SHIPPED)
    objects = built(repository, slots(blue=BLUE, green=GREEN))
    annotations = objects["Deployment/m-green"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["coalmine.dev/digest"] == BETTER.model_digest
    assert objects["ConfigMap/m-green"]["data"]["manifest.yaml"] == GREEN.manifest
    assert repository.asked == [(COMMIT, ["k8s"])]


@needs_kustomize
def test_an_empty_slot_has_a_service_and_no_pods(tmp_path: Path) -> None:
    objects = built(Repository(tmp_path, SHIPPED), slots(blue=BLUE))
    assert {name for name in objects if name.endswith("m-green")} == {"Service/m-green"}
    assert "Deployment/m-blue" in objects
    assert not any(name.startswith("Slots") for name in objects)


@needs_kustomize
def test_the_folder_of_the_repository_is_not_written_to(tmp_path: Path) -> None:
    built(Repository(tmp_path, SHIPPED), slots(blue=BLUE))
    assert not (tmp_path / PLACE / "slots.yaml").exists()


@needs_kustomize
def test_what_does_not_build_is_one_line_with_kustomizes_words_and_the_command(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {**SHIPPED, "resources": ["../../../base", "absent.yaml"]})
    with pytest.raises(SpecError) as refused:
        built(repository, slots(blue=BLUE))
    said = str(refused.value)
    assert said.startswith(f"{PLACE} of commit cccccccccccc does not build: ")
    assert "absent.yaml" in said
    assert "kustomize" in said
    assert "coalmine-k8s-" not in said  # a folder that is gone by now
    assert "\n" not in said


@needs_kustomize
def test_a_model_that_has_no_place_in_the_environment_is_told_so(tmp_path: Path) -> None:
    repository = Repository(tmp_path, SHIPPED)
    shutil.rmtree(tmp_path / PLACE)
    with pytest.raises(SpecError, match=r"kustomization\.yaml"):
        built(repository, slots(blue=BLUE))


def test_without_a_program_that_builds_it_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineUnready, match="Neither kustomize nor kubectl is on PATH"):
        built(Repository(tmp_path, SHIPPED), slots(blue=BLUE))


@pytest.mark.parametrize(
    ("there", "called"),
    [(("kustomize", "kubectl"), "kustomize build"), (("kubectl",), "kubectl kustomize")],
    ids=["kustomize-first", "kubectl-alone"],
)
def test_kustomize_builds_or_the_one_in_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: Sequence[str], called: str
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in there:
        script = f"#!{sys.executable}\nimport sys\nprint('kind:', '{name}', *sys.argv[1:])\n"
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    repository = Repository(tmp_path / "top", SHIPPED)
    assert KustomizeRender(repository.export, lambda: COMMIT)(slots()) == [{"kind": f"{called} {PLACE}"}]


@pytest.mark.parametrize(("own", "used"), [(None, "400"), ("50", "50")], ids=["nobody's", "a person's own"])
def test_garbage_is_collected_seldom_unless_somebody_says_how_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, used: str
) -> None:
    program = tmp_path / "kustomize"
    program.write_text(f"#!{sys.executable}\nimport os\nprint('kind:', os.environ['GOGC'])\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GOGC", raising=False) if own is None else monkeypatch.setenv("GOGC", own)
    repository = Repository(tmp_path / "top", SHIPPED)
    assert KustomizeRender(repository.export, lambda: COMMIT)(slots()) == [{"kind": int(used)}]
