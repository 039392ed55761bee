"""Schemas of the kinds that k8s/ writes, out of their projects' CRDs: `python -m tests.k8s.extract CRDS`.

CRDS is a folder of CRDs as the projects release them; schemas/README.md says which and where they come from.
Words, defaults and rules in CEL are left out; a field that a schema does not name is refused, as by
`kubectl apply --validate=strict`. A cluster has the last word: tests/cluster/test_objects.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "schemas"
KINDS = {
    ("appmesh.k8s.aws", "v1beta2"): ("VirtualNode", "VirtualRouter", "VirtualService"),
    ("flagger.app", "v1beta1"): ("Canary",),  # docs/from-flagger.md names its fields
    ("gateway.networking.k8s.io", "v1"): ("HTTPRoute",),
    ("kustomize.toolkit.fluxcd.io", "v1"): ("Kustomization",),
    ("monitoring.coreos.com", "v1"): ("PodMonitor", "PrometheusRule"),
    ("networking.istio.io", "v1"): ("DestinationRule", "VirtualService"),
    ("source.toolkit.fluxcd.io", "v1"): ("GitRepository",),
}
_KEPT = {
    *("type", "required", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "nullable", "multipleOf"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string"),
    "x-kubernetes-preserve-unknown-fields",
}


def main(crds: Path) -> None:
    for path in sorted(crds.glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if crd is None or crd["kind"] != "CustomResourceDefinition":
                continue
            group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
            for version in crd["spec"]["versions"]:
                if kind in KINDS.get((group, version["name"]), ()):
                    schema = version["schema"]["openAPIV3Schema"]
                    for common in ("apiVersion", "kind", "metadata", "status"):
                        schema["properties"].pop(common, None)
                    text = json.dumps(_plain(schema), separators=(",", ":"), sort_keys=True)
                    (SCHEMAS / f"{group}_{version['name']}_{kind}.json").write_text(text + "\n")


def _plain(schema: Any) -> Any:
    plain = {key: value for key, value in schema.items() if key in _KEPT}
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            plain[key] = [_plain(each) for each in schema[key]]
    if "not" in schema:
        plain["not"] = _plain(schema["not"])
    if "items" in schema:
        plain["items"] = _plain(schema["items"])
    if "properties" in schema:
        plain["properties"] = {name: _plain(each) for name, each in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        plain["additionalProperties"] = _plain(schema["additionalProperties"])
    return plain


if __name__ == "__main__":
    main(Path(sys.argv[1]))
