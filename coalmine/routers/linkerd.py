"""Linkerd: an HTTPRoute whose parent is a Service, which the clients' proxies route by. Pure.

It reads as Gateway API's. Linkerd copies no requests, and refuses a route that asks for it. Its controller
says whether it accepts a route, but not which version of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from coalmine.cluster.kinds import SERVICE_PROFILE
from coalmine.rollout.ports import Routing
from coalmine.routers.gateway_api import GATEWAY_API, not_in_force
from coalmine.routers.technology import Rival


def apex_name(model: str) -> str:
    """The Service of both slots: the clients' address, and the route's parent."""
    return f"{model}-apex"


# While a Service has a ServiceProfile, Linkerd routes by that and leaves the HTTPRoute alone.
_PROFILE = Rival(SERVICE_PROFILE, lambda model, namespace: f"{apex_name(model)}.{namespace}.svc.")

LINKERD = replace(
    GATEWAY_API,
    name="Linkerd",
    component="linkerd",
    supports=frozenset({Routing.MATCH}),
    not_in_force=partial(not_in_force, says_generation=False),
    rival=_PROFILE,
)
