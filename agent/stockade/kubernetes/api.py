"""The cluster's API, in JSON, through the official client: who it is, how it is asked, and what went wrong. Blocking: for threads.

The client's own models stay out: an object of a newer API is read for what is known of it, and a pod is not parsed twice.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from stockade import __version__
from stockade.policy.format.crd import GROUP, VERSION
from stockade.types import StockadeError

Json = dict[str, Any]
Body = Json | list[Json] | None

PODS, NAMESPACES, NODES = "/api/v1/pods", "/api/v1/namespaces", "/api/v1/nodes"
POLICIES = f"/apis/{GROUP}/{VERSION}/stockadepolicies"
CLUSTER_POLICIES = f"/apis/{GROUP}/{VERSION}/clusterstockadepolicies"
OPERATIONS = "application/json-patch+json"

_CONNECT, _ANSWER = 5.0, 30.0  # seconds
# A peer that is gone without a word is noticed within half a minute, also where nothing is said for long.
_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Away(Exception):
    """It could not be asked, or not now: its words."""


class Denied(Exception):
    """It answered with an error. status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message or 'no reason given'} ({status})")
        self.status = status


class Expired(Exception):
    """What is asked for begins at a version that the API has forgotten (410 Gone)."""


class Api:
    """One connection pool; safe for several threads."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        """kubeconfig None: the service account of the pod that this runs in. Raises StockadeError."""
        settings = Configuration()
        try:
            if kubeconfig is not None:
                config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError, ValueError) as error:
            hint = "set kubernetes.kubeconfig in the settings, or run it in a pod with a service account"
            if kubeconfig is not None:
                hint = "name the kubeconfig that kubectl uses, as ~/.kube/config"
            by = f" by {kubeconfig}" if kubeconfig is not None else ""
            raise StockadeError(f"the cluster's API is not known{by}: {error}", hint=hint, code="kubernetes") from None
        settings.retries = False  # when and how often is decided here
        settings.socket_options = _ALIVE
        settings.connection_pool_maxsize = 8
        self.host = settings.host
        self.asked: Counter[str] = Counter()  # by method, WATCH apart
        self._client = ApiClient(settings)
        self._client.user_agent = f"stockade/{__version__}"

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Body = None,
        kind: str = "application/json",
    ) -> Json:
        """kind: of the body. Raises Away, Denied, Expired."""
        answer = self._begin(method, path, query, body, kind, _ANSWER)
        try:
            return _object(answer.data)
        except (HTTPError, OSError) as error:
            raise Away(_words(error)) from None
        finally:
            answer.release_conn()

    def follow(self, path: str, query: Sequence[tuple[str, str]], seconds: float) -> Followed:
        """Begin to watch. seconds: how long it is asked to last. Raises Away, Denied, Expired."""
        words = [*query, ("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", str(int(seconds)))]
        return Followed(self._begin("GET", path, words, None, "", seconds + _ANSWER))

    def _begin(self, method: str, path: str, query: Sequence[tuple[str, str]], body: Body, kind: str, seconds: float) -> BaseHTTPResponse:
        self.asked["WATCH" if ("watch", "true") in query else method] += 1
        heads = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
        try:
            asked = self._client.param_serialize(
                method, path, query_params=list(query), header_params=heads, body=body, auth_settings=["BearerToken"]
            )
            answer: BaseHTTPResponse = self._client.call_api(*asked, _request_timeout=(_CONNECT, seconds)).response
        except (HTTPError, OSError, config.ConfigException) as error:  # the last: the token's file, which is read anew each minute
            raise Away(_words(error)) from None
        if answer.status < 300:
            return answer
        try:
            said = str(_object(answer.data).get("message", ""))
        except (HTTPError, OSError, Away):
            said = ""
        finally:
            answer.release_conn()
        if answer.status == 410:
            raise Expired(said)
        if answer.status >= 500 or answer.status == 429:
            raise Away(f"{said or 'it has too much to do'} ({answer.status})")
        raise Denied(answer.status, said)


class Followed:
    """A watch under way."""

    def __init__(self, answer: BaseHTTPResponse) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[Json]:
        """Each event as the API writes it, until it ends the watch. Raises Away, Expired."""
        rest = b""
        try:
            for piece in self._answer.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (_object(line) for line in lines if line)
        except (HTTPError, OSError) as error:
            raise Away(_words(error)) from None
        finally:
            self._answer.close()

    def end(self) -> None:
        """From another thread: what waits in it goes on with Away, or with its end."""
        self._answer.shutdown()


def at(path: str, namespace: str = "", name: str = "", *more: str) -> str:
    """The path of one object, of the path of all of its kind."""
    if namespace:
        head, _, plural = path.rpartition("/")
        path = f"{head}/namespaces/{quote(namespace, safe='')}/{plural}"
    return "/".join([path, *([quote(name, safe="")] if name else []), *more])


def _object(data: bytes) -> Json:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Away("what it answers is no JSON") from None
    if not isinstance(found, dict):
        raise Away("what it answers is no object")
    return found


def _words(error: Exception) -> str:
    """Without the spelling of an object in memory that urllib3 puts before what happened."""
    return str(error).rpartition(">: ")[2] or type(error).__name__
