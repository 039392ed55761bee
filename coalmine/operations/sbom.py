"""An image's bill of materials, as CycloneDX 1.6 has it in JSON.

Pure: what was found in the image comes in, text goes out. The same image gives the same bytes, so it
has no time, and its serial number follows from the image's digest. What it leaves out: libraries that
a wheel carries inside itself (OpenBLAS in numpy, say), of which no metadata tells.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]


def bill_of_materials(contents: Mapping[str, Any], name: str, digest: str, coalmine: str) -> str:
    """name: the image's host and path. digest: sha256:... of its manifest. coalmine: the version that
    wrote it down."""
    system = contents["system"]
    components = [
        *(_distribution(each) for each in contents["distributions"]),
        *(_package(each, system) for each in contents["packages"]),
        _python(contents["python"]),
    ]
    image = _image(name, digest)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, image['purl'])}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "post-build"}],
            "tools": {"components": [{"type": "application", "name": "coalmine", "version": coalmine}]},
            "component": image,
        },
        "components": sorted(components, key=lambda each: str(each["bom-ref"])),
        "compositions": [{"aggregate": "incomplete", "assemblies": [image["bom-ref"]]}],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _image(name: str, digest: str) -> Json:
    last = name.rpartition("/")[2]
    purl = f"pkg:oci/{_quoted(last.lower())}@{_quoted(digest)}?repository_url={_quoted(name.lower())}"
    algorithm, _, value = digest.partition(":")
    return {
        "type": "container",
        "bom-ref": purl,
        "name": name,
        "version": digest,
        "hashes": [{"alg": {"sha256": "SHA-256"}[algorithm], "content": value}],
        "purl": purl,
    }


def _distribution(found: Mapping[str, Any]) -> Json:
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()  # as the index has it, and purl
    purl = f"pkg:pypi/{_quoted(name)}@{_quoted(found['version'])}"
    licences = [{"license": {"name": each}} for each in found["licences"]]
    expression = [{"expression": found["licence"]}] if found["licence"] else licences
    return {
        "type": "library",
        # The same distribution may be there twice, the base's and ours.
        "bom-ref": f"{purl}#{_quoted(found['path'])}",
        "name": found["name"],
        "version": found["version"],
        **({"licenses": expression} if expression else {}),
        "purl": purl,
        "evidence": {"occurrences": [{"location": found["path"]}]},
    }


def _package(found: Mapping[str, str], system: Mapping[str, str]) -> Json:
    distribution = system["id"] or "debian"
    about = (
        f"arch={_quoted(found['architecture'])}&distro={_quoted(distribution)}-{_quoted(system['version'])}"
    )
    purl = f"pkg:deb/{_quoted(distribution)}/{_quoted(found['name'])}@{_quoted(found['version'])}?{about}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": found["name"],
        "version": found["version"],
        "purl": purl,
    }


def _python(version: str) -> Json:
    purl = f"pkg:generic/python@{_quoted(version)}"
    return {"type": "platform", "bom-ref": purl, "name": "python", "version": version, "purl": purl}


def _quoted(text: str) -> str:
    return quote(text, safe="~")
