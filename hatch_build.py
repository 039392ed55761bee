"""Packs a user's repository into the wheel, as `coalmine/template/`, from this repository's own files.

`coalmine.scaffold.template` reads the same list from pyproject.toml in a source checkout.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TemplateHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        for pattern in self.config["template"]:
            for path in root.glob(pattern):
                if path.is_file():
                    target = Path("coalmine/template") / path.relative_to(root)
                    build_data["force_include"][str(path)] = target.as_posix()
