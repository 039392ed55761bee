"""The bill of materials: what is really there, in the words of CycloneDX 1.6, each time the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coalmine.operations import image_contents
from coalmine.operations.image_contents import contents
from coalmine.operations.sbom import bill_of_materials

Json = dict[str, Any]

NAME = "registry.example:5000/Team/model-server"
DIGEST = f"sha256:{'c' * 64}"
DPKG = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u13
Description: GNU C Library
 Package: no field, but a line of the text above

Package: mawk
Status: deinstall ok config-files
Architecture: amd64
Version: 1.3.4

Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1
"""


def metadata(name: str, version: str, *more: str) -> str:
    return "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *more, "", "text"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small system with two folders of Python packages."""
    files = {
        "var/lib/dpkg/status": DPKG,
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "opt/site-packages/numpy-2.4.1.dist-info/METADATA": metadata(
            "numpy", "2.4.1", "License-Expression: BSD-3-Clause AND 0BSD"
        ),
        "opt/site-packages/Ruamel.Yaml-0.18.6.dist-info/METADATA": metadata(
            "Ruamel.Yaml", "0.18.6", "Classifier: License :: OSI Approved :: MIT License"
        ),
        "usr/lib/pip-23.0.1.dist-info/METADATA": metadata("pip", "23.0.1"),
        "usr/lib/broken-1.dist-info/RECORD": "",
        "proc/1/cwd/ghost-1.dist-info/METADATA": metadata("ghost", "1"),
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.fixture
def sbom(root: Path) -> Json:
    return json.loads(bill_of_materials(contents(root), NAME, DIGEST, "0.1.0"))


def test_everything_that_is_installed_is_in_it_and_nothing_else(sbom: Json) -> None:
    purls = {each["purl"] for each in sbom["components"] if not each["purl"].startswith("pkg:generic/")}
    assert purls == {
        "pkg:pypi/numpy@2.4.1",
        "pkg:pypi/ruamel-yaml@0.18.6",
        "pkg:pypi/pip@23.0.1",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12",
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=debian-12",
    }


def test_licences_are_told_as_their_packages_tell_them(sbom: Json) -> None:
    told = {each["name"]: each.get("licenses") for each in sbom["components"]}
    assert told["numpy"] == [{"expression": "BSD-3-Clause AND 0BSD"}]
    assert told["Ruamel.Yaml"] == [{"license": {"name": "MIT License"}}]
    assert told["pip"] is None


def test_it_is_of_one_image_by_digest(sbom: Json) -> None:
    image = sbom["metadata"]["component"]
    assert (image["name"], image["version"]) == (NAME, DIGEST)
    assert image["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    host = "registry.example%3A5000%2Fteam%2Fmodel-server"
    assert image["purl"] == f"pkg:oci/model-server@sha256%3A{'c' * 64}?repository_url={host}"


def test_the_same_image_gives_the_same_bytes_and_another_one_another_number(root: Path) -> None:
    first = bill_of_materials(contents(root), NAME, DIGEST, "0.1.0")
    assert bill_of_materials(contents(root), NAME, DIGEST, "0.1.0") == first
    other = bill_of_materials(contents(root), NAME, f"sha256:{'d' * 64}", "0.1.0")
    assert json.loads(other)["serialNumber"] != json.loads(first)["serialNumber"]


def test_it_keeps_to_cyclonedx_1_6(sbom: Json) -> None:
    """What bom-1.6.schema.json requires and limits, of what is used here."""
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sbom["serialNumber"])
    assert set(sbom) == {
        *("$schema", "bomFormat", "specVersion", "serialNumber", "version"),
        *("metadata", "components", "compositions"),
    }
    assert sbom["metadata"]["lifecycles"] == [{"phase": "post-build"}]
    every = [
        sbom["metadata"]["component"],
        *sbom["metadata"]["tools"]["components"],
        *sbom["components"],
    ]
    allowed = {
        *("type", "name", "version", "bom-ref", "purl", "licenses", "hashes", "evidence"),
    }
    for each in every:
        assert {"type", "name"} <= set(each) <= allowed
        assert each["type"] in {"application", "container", "library", "platform"}
    refs = [each["bom-ref"] for each in every if "bom-ref" in each]
    assert len(refs) == len(set(refs))
    for composition in sbom["compositions"]:
        assert composition["aggregate"] == "incomplete"
        assert set(composition["assemblies"]) <= set(refs)


def test_the_script_runs_by_itself_with_nothing_installed(root: Path) -> None:
    """As in an image, where neither this repository nor its libraries need to be on the path."""
    command = [sys.executable, "-I", "-S", image_contents.__file__, str(root)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == contents(root)
