"""What a person types."""

from __future__ import annotations

import subprocess


def kubectl(*words: str, stdin: str = "") -> str:
    """What it prints; it must end well."""
    done = subprocess.run(["kubectl", *words], input=stdin, text=True, check=False, capture_output=True)
    assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
    return done.stdout
