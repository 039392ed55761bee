"""docs/kubernetes.md does what it says: every command block runs, in one shell, against the cluster.

The test has its own names, and no registry and no object store: the image is on the cluster already, and the
DVC remote is a folder here, which pods read over HTTP. Both are filled in by hand, as the page says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import KUSTOMIZATION
from coalmine.errors import Unsupported
from tests.cluster.file_server import serving_files
from tests.cluster.front_doors import gateway_address
from tests.cluster.git_server import serving_git
from tests.cluster.image import REFERENCE
from tests.cluster.shop import PROMETHEUS_URL, reachable_host
from tests.docs.test_tutorial import commands

PAGE = Path(__file__).parents[2] / "docs/kubernetes.md"
ENDS_WITHIN_S = 280

BY_HAND = r"""
cd k8s/environments/ENVIRONMENT
perl -pi -e 's|DVC_REMOTE: .*|DVC_REMOTE: $ENV{FILES}|' settings.yaml
perl -pi -e '
  s/^# images:/images:/; s/^#   - \{name: model-server/  - {name: model-server/;
  s|HOST/TEAM/NAME|$ENV{IMAGE}|; s/TAG/$ENV{TAG}/
' every_model/kustomization.yaml
perl -pi -e 's/requests: .*/requests: {cpu: 20m, memory: 128Mi}/' */kustomization.yaml  # nodes may be small
cd ../../..
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_leads_to_a_model_that_answers(cluster: Cluster, tmp_path: Path) -> None:
    host = reachable_host(cluster)
    environment = f"production-{cluster.namespace.rpartition('-')[2]}"
    name, _, tag = REFERENCE.rpartition(":")
    remote, files = tmp_path / "served/shop.git", tmp_path / "files"
    files.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", remote], check=True)
    try:
        cluster.kind(KUSTOMIZATION.api_version, KUSTOMIZATION.kind)
    except Unsupported as error:
        pytest.skip(str(error))
    gateway_address(cluster)
    with serving_git(remote.parent, host) as git, serving_files(files, host) as url:
        given = {
            "GIT_URL": f"{git}/{remote.name}",
            "DVC_URL": str(files),
            "DVC_PACKAGE": "dvc-http",
            "HOST": f"{cluster.namespace}.example.com",
            "GATEWAY": f"{cluster.namespace}/users",
            "PROMETHEUS": PROMETHEUS_URL,
            "FILES": url,
            "IMAGE": name,
            "TAG": tag,
        }
        said = run(script(environment, cluster.namespace), given, tmp_path)
    assert "credit-risk 1.0.0" in said
    assert '"versions":["1.0.0"]' in said


def script(environment: str, namespace: str) -> str:
    """The page's commands, in an environment of the test's own."""
    lines = "".join(commands(PAGE.read_text(encoding="utf-8")))
    lines = lines.replace("production", environment)
    lines = lines.replace("--namespace models", f"--namespace {namespace}")
    lines = lines.replace("-n models", f"-n {namespace}")
    by_hand = BY_HAND.replace("ENVIRONMENT", environment)
    build, look = 'coalmine image build --push --tag "$IMAGE"\n', "kubectl kustomize k8s/"
    assert lines.count(build) == lines.count(look) == 1
    return lines.replace(build, "").replace(look, f"{by_hand}{look}")


def run(lines: str, given: dict[str, str], folder: Path) -> str:
    settings = folder / "gitconfig"
    settings.write_text("[user]\n  name = Dana Reyes\n  email = dana@example.com\n")
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{lines}"],
        cwd=folder,
        env={
            **os.environ,
            **given,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_CONFIG_GLOBAL": str(settings),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
