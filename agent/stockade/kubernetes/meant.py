"""Whether a policy of the cluster means a pod that is to be made, for the webhook: policies and namespaces, as they are heard of.

Says no more than that. Whether a policy loads is for the nodes; one whose selectors cannot be read means whom it meant before, and before
anything is known every pod is meant: to have a trust store that nobody fills is safe, to lack one is to be refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from stockade.kubernetes import api, resources
from stockade.kubernetes.api import Api
from stockade.kubernetes.resources import Json, Key, Resource
from stockade.kubernetes.selecting import Choice, choice, chosen
from stockade.kubernetes.watching import Listed, Lost, News, Watch

_log = logging.getLogger(__name__)

NAMESPACES, POLICIES, CLUSTER_POLICIES = KINDS = ("namespaces", "policies", "cluster policies")


class Meant:
    """Hears the watches."""

    def __init__(self) -> None:
        self._choices: dict[Key, Choice] = {}
        self._namespaces: dict[str, dict[str, str]] = {}
        self._heard: set[str] = set()

    @property
    def known(self) -> bool:
        return self._heard == set(KINDS)

    def means(self, namespace: str, pod: Json) -> bool:
        """pod: as in the API server's question, where its namespace may not stand yet."""
        metadata = pod.get("metadata")
        seen = resources.pod(pod | {"metadata": (metadata if isinstance(metadata, dict) else {}) | {"namespace": namespace}})
        if not self.known or seen.names:  # who asks for a policy that is not there is refused, and not left alone
            return True
        return bool(chosen(seen, self._choices.values(), self._namespaces))

    def told(self, news: News) -> None:
        """What the API says of policies; what was last known holds while it says nothing."""
        match news:
            case Lost(kind, why):
                _log.warning("webhook: %s: %s", kind, why or "heard of again")
            case Listed(kind, items):
                self._listed(kind, items)
                self._heard.add(kind)
            case _:
                self._changed(news.item, news.gone)

    def _listed(self, kind: str, items: tuple[object, ...]) -> None:
        if kind == NAMESPACES:
            self._namespaces = {}
        else:
            there = {item.key for item in items if isinstance(item, Resource)}
            gone = [key for key in self._choices if key.cluster == (kind == CLUSTER_POLICIES) and key not in there]
            for key in gone:
                del self._choices[key]
        for item in items:
            self._changed(item, False)

    def _changed(self, item: object, gone: bool) -> None:
        match item:
            case Resource(key=key) if gone:
                self._choices.pop(key, None)
            case Resource(key=key, spec=spec):
                found, faults = choice(key, spec)
                if not faults or key not in self._choices:
                    self._choices[key] = found
            case (str(name), dict(labels)):
                if gone:
                    self._namespaces.pop(name, None)
                else:
                    self._namespaces[name] = labels


@contextlib.asynccontextmanager
async def following(kubeconfig: Path | None) -> AsyncIterator[Meant]:
    """kubeconfig None: by the service account of the pod that this runs in. Raises StockadeError when the API is not known."""
    cluster, meant, loop = Api(kubeconfig), Meant(), asyncio.get_running_loop()
    watches = [
        Watch(cluster, api.NAMESPACES, NAMESPACES, _namespace, meant.told, loop),
        Watch(cluster, api.POLICIES, POLICIES, resources.policy, meant.told, loop),
        Watch(cluster, api.CLUSTER_POLICIES, CLUSTER_POLICIES, resources.policy, meant.told, loop),
    ]
    for watch in watches:
        watch.start()
    try:
        yield meant
    finally:
        for watch in watches:
            watch.end()
        await asyncio.gather(*(asyncio.to_thread(watch.join, 5) for watch in watches))


def _namespace(item: Json) -> tuple[str, dict[str, str]]:
    return resources.key_of(item)[1], resources.labels_of(item)
