"""One namespace of one cluster: objects as the API server has them, plain JSON in and out.

The official client finds the server, the credentials and the certificates; requests are made by
path, since custom resources have no classes there. Every fault has a type that says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
import urllib3.exceptions

from coalmine.cluster.kinds import POD, Kind
from coalmine.cluster.pace import Pace
from coalmine.errors import CoalmineError, MachineUnready, Unavailable, Unsupported

if TYPE_CHECKING:  # it takes half a second to import, and most commands ask no cluster
    from kubernetes.client import ApiClient
    from kubernetes.client.rest import RESTResponse

Json = dict[str, Any]

FIELD_MANAGER = "coalmine"
TIMEOUT_S = 10.0
CONNECTIONS = 64  # kept open; one for each rollout that asks at the same moment

_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"


class ClusterUnavailable(Unavailable):
    """The API server does not answer, or cannot now: safe to repeat."""


class ClusterRefuses(CoalmineError):
    """The API server answers, and will not: says why. Repeating it as it is changes nothing."""


class Stale(ClusterRefuses):
    """Somebody else wrote the object since it was read, or another field manager owns the fields."""


@dataclass(frozen=True)
class Changes:
    """What changes, as it changes, from the moment at which they were asked for.

    stream: `type` (ADDED, MODIFIED, DELETED, BOOKMARK) and `object` of each, in the order of the writes; ends
        after the time that was asked for. end: ends it now, from another thread.
    """

    stream: Iterator[Json]
    end: Callable[[], None]


class Cluster:
    """namespace: where all objects are read and written. Safe to use from several threads."""

    def __init__(self, api: ApiClient, namespace: str, pace: Pace | None = None) -> None:
        """pace: of all requests together."""
        self.api = api
        self.namespace = namespace
        self.pace = pace or Pace()
        self.server: str = api.configuration.host
        self._kinds: dict[str, dict[str, Json]] = {}

    @classmethod
    def connect(cls, namespace: str, context: str | None = None) -> Cluster:
        """
        context: of the kubeconfig; default: its current one. In a pod without a kubeconfig it is the pod's
            service account, whatever the context: that is a name of people's own machines.

        Raises:
            MachineUnready: there is no kubeconfig, or it has no such context.
        """
        from kubernetes import client, config
        from kubernetes.config import ConfigException

        configuration = client.Configuration()
        try:
            if _is_a_pod_without_kubeconfig():
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(context=context, client_configuration=configuration)
        except (ConfigException, OSError, ValueError) as error:
            named = "the current context" if context is None else f"the context {context}"
            raise MachineUnready(
                f"No cluster can be reached: {named} of the kubeconfig cannot be used ({error}). See what "
                "is there (kubectl config get-contexts), name one as `kubernetes.context` in coalmine.yaml"
            ) from error
        configuration.retries = False
        configuration.connection_pool_maxsize = CONNECTIONS
        return cls(client.ApiClient(configuration), namespace)

    # --- objects ---------------------------------------------------------------------------

    def get(self, kind: Kind, name: str) -> Json | None:
        """None: there is no such object, or no such kind.

        Raises:
            ClusterUnavailable, ClusterRefuses: as for all the methods below.
        """
        try:
            return self._ask("GET", self._path(kind, name))
        except _Absent:
            return None

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Json]:
        """Those with all of `labels`; none where the kind is not installed."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        try:
            found = self._ask("GET", self._path(kind), {"labelSelector": selector} if selector else None)
        except _Absent:
            return []
        items: list[Json] = found.get("items", [])
        return items

    def snapshot(self, kind: Kind) -> tuple[Sequence[Json], str]:
        """All of them, and since when `changes` tell what became of them."""
        found = self._ask("GET", self._path(kind))
        return found["items"], found["metadata"]["resourceVersion"]

    @contextmanager
    def changes(self, kind: Kind, since: str, for_s: float) -> Iterator[Changes]:
        """What becomes of the objects of `kind` after `since`, for `for_s` seconds.

        Raises, also from the stream:
            ClusterUnavailable: the API server does not answer, or says nothing for longer than that.
            ClusterRefuses: it no longer knows what there was at `since`: take a new snapshot.
        """
        query = {
            "watch": "true",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{for_s:.0f}",
        }
        answer = self._answer("GET", self._path(kind), query, silent_for_s=for_s + TIMEOUT_S / 2)
        try:
            yield Changes(self._told(answer, f"watch {kind.plural}"), answer.response.shutdown)
        finally:
            answer.response.close()

    def _told(self, answer: RESTResponse, what: str) -> Iterator[Json]:
        try:
            for line in answer.response:
                told = orjson.loads(line)
                if told["type"] == "ERROR":
                    raise _fault(told["object"]["code"], orjson.dumps(told["object"]), what)
                yield told
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            raise self._silent(error) from error

    def create(self, kind: Kind, body: Json) -> Json:
        """
        Raises:
            Stale: it is there already.
        """
        return self._ask("POST", self._path(kind), {"fieldManager": FIELD_MANAGER}, body)

    def replace(self, kind: Kind, body: Json) -> Json:
        """The whole object, as changed since it was read.

        Raises:
            Stale: somebody else wrote it meanwhile, or it is gone.
            ClusterRefuses: it has fields that this cluster's version of the kind does not know, too.
        """
        path = self._path(kind, body["metadata"]["name"])
        # Not to know a field is to drop it unsaid: copy 5 % of the requests would become copy them all.
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        try:
            return self._ask("PUT", path, query, body)
        except _Absent as error:
            raise Stale(str(error)) from error

    def merge(self, kind: Kind, name: str, change: Json) -> Json:
        """RFC 7386: `change` into the object; null takes a field away.

        Raises:
            Stale: `change` names a `resourceVersion` that is not the present one, or the object is gone.
        """
        try:
            return self._ask(
                "PATCH", self._path(kind, name), {"fieldManager": FIELD_MANAGER}, change, _MERGE_PATCH
            )
        except _Absent as error:
            raise Stale(str(error)) from error

    def apply(self, body: Json, plural: str, *, force: bool = False, dry_run: bool = False) -> Json:
        """Server-side apply: the fields of `body` are coalmine's, all others stay as they are.

        Raises:
            Stale: another field manager owns one of them, and `force` is not set.
        """
        kind = Kind.of(body, plural)
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        path = self._path(kind, body["metadata"]["name"])
        return self._ask("PATCH", path, query, body, _APPLY_PATCH)

    def delete(self, kind: Kind, name: str, uid: str | None = None) -> None:
        """Gone already is as good. uid: of the very object that is meant, not of one that took its name.

        Raises:
            Stale: it has another uid.
        """
        only = {} if uid is None else {"preconditions": {"uid": uid}}
        try:
            self._ask("DELETE", self._path(kind, name), {"propagationPolicy": "Background"}, only)
        except _Absent:
            return

    def from_pod(self, pod: str, port: int, path: str) -> bytes:
        """What a pod answers to GET `path`, through the API server."""
        place = f"{self._path(POD, f'{pod}:{port}')}/proxy/{path.lstrip('/')}"
        try:
            return self._read(self._answer("GET", place))
        except _Absent as error:
            raise ClusterUnavailable(str(error)) from error

    # --- requests --------------------------------------------------------------------------

    def in_namespace(self, namespace: str) -> Cluster:
        """The same cluster, another namespace: Flux's objects live in one of their own."""
        return Cluster(self.api, namespace, self.pace)

    def kind(self, api_version: str, kind: str) -> Kind:
        """As the API server names it in paths. Asked once for each `api_version`.

        Raises:
            Unsupported: it knows no such kind, or one that lives in no namespace.
        """
        group, _, version = api_version.rpartition("/")
        if api_version not in self._kinds:
            self._kinds[api_version] = self._resources(Kind(group, version, "", "").path)
        known = self._kinds[api_version].get(kind)
        if known is None:
            raise Unsupported(
                f"The cluster at {self.server} knows no {kind} of {api_version}: install what brings it"
            )
        if not known["namespaced"]:
            raise Unsupported(f"A {kind} of {api_version} belongs to no namespace: apply it yourself, once")
        return Kind(group, version, kind, known["name"])

    def _resources(self, path: str) -> dict[str, Json]:
        """What stands under `path`, by kind; nothing where the API server does not serve it."""
        try:
            found = self.raw(path)["resources"]
        except _Absent:
            return {}
        # A name with a slash is a part of an object, such as `deployments/status`.
        return {each["kind"]: each for each in found if "/" not in each["name"]}

    def raw(self, path: str) -> Json:
        """GET `path` of the API server, such as `/version`."""
        return self._ask("GET", path)

    def has_namespace(self) -> bool:
        """Whether there is the namespace itself.

        Raises:
            ClusterRefuses: whoever asks may not look at it.
        """
        try:
            self.raw(f"/api/v1/namespaces/{self.namespace}")
        except _Absent:
            return False
        return True

    def served(self, group: str) -> tuple[str, ...]:
        """The versions of `group` that are served; none where nothing of it is installed."""
        try:
            return tuple(each["version"] for each in self.raw(f"/apis/{group}")["versions"])
        except _Absent:
            return ()

    def post(self, path: str, body: Json) -> Json:
        """What the API server says to `body`, a question that it answers and keeps nowhere."""
        return self._ask("POST", path, None, body)

    def _path(self, kind: Kind, name: str = "") -> str:
        path = f"{kind.path}/namespaces/{self.namespace}/{kind.plural}"
        return f"{path}/{name}" if name else path

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        said = self._read(self._answer(method, path, query, body, content_type))
        try:
            content: Json = orjson.loads(said)
        except ValueError as error:
            raise ClusterUnavailable(
                f"What answers at {self.server} is no API server: {said[:80]!r}"
            ) from error
        return content

    def _read(self, answer: RESTResponse) -> bytes:
        try:
            said: bytes = answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silent(error) from error
        return said

    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        silent_for_s: float = TIMEOUT_S,
    ) -> RESTResponse:
        """One that is no refusal, to be read."""
        from kubernetes.client import ApiException

        asked = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        self.pace.wait()
        try:
            # The official client makes the call's headers, which hold the credentials.
            _, url, headers, content, _ = self.api.param_serialize(
                method, asked, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            answer = self.api.rest_client.request(
                method, url, headers=headers, body=content, _request_timeout=(TIMEOUT_S, silent_for_s)
            )
            if 200 <= answer.status < 300:
                return answer
            said: bytes = answer.read()
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silent(error) from error
        raise _fault(answer.status, said, f"{method} {path}")

    def _silent(self, error: Exception) -> ClusterUnavailable:
        return ClusterUnavailable(f"The API server at {self.server} does not answer: {error}")


class _Absent(ClusterRefuses):
    pass


def _fault(status: int, body: bytes, what: str) -> CoalmineError:
    try:
        words = str(orjson.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        words = body[:200].decode(errors="replace").strip() or f"status {status}"
    match status:
        case 404:
            return _Absent(f"{what}: {words}")
        case 409:
            return Stale(f"{what}: {words}")
        case 408 | 429:
            return ClusterUnavailable(f"The API server asks to come again later: {words}")
        case _ if status >= 500:
            return ClusterUnavailable(f"The API server cannot now ({status}): {words}")
        case 401:
            return ClusterRefuses(f"The API server does not know who asks ({what}): {words}")
        case _:
            return ClusterRefuses(f"The API server refuses {what}: {words}")


def _is_a_pod_without_kubeconfig() -> bool:
    from kubernetes.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR, KUBE_CONFIG_DEFAULT_LOCATION

    files = KUBE_CONFIG_DEFAULT_LOCATION.split(ENV_KUBECONFIG_PATH_SEPARATOR)
    return "KUBERNETES_SERVICE_HOST" in os.environ and not any(
        Path(file).expanduser().is_file() for file in files if file
    )
