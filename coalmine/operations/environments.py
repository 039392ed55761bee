"""Which kind of environment a name of coalmine.yaml is."""

from __future__ import annotations

from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.workspace import Workspace


def open_environment(workspace: Workspace, name: str) -> ServingEnvironment:
    """
    Raises:
        NotFound: coalmine.yaml has no such environment.
    """
    local = workspace.settings.environment(name).kubernetes is None
    return LocalEnvironment(workspace, name) if local else ClusterEnvironment(workspace, name)
