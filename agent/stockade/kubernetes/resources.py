"""What the API's objects mean here: a pod of this node, a policy, a namespace. Whatever an object holds, it is read or passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stockade.node.pod import Pod
from stockade.node.trust import VOLUME

Json = dict[str, Any]
Kind = Literal["StockadePolicy", "ClusterStockadePolicy"]

POLICY = "stockade.internal/policy"  # the annotation by which a pod names its policies
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_HASH, _MIRROR = "kubernetes.io/config.hash", "kubernetes.io/config.mirror"


class Key(NamedTuple):
    """Which policy. namespace: empty for one of the cluster."""

    namespace: str
    name: str

    @property
    def cluster(self) -> bool:
        return not self.namespace

    @property
    def kind(self) -> Kind:
        return "ClusterStockadePolicy" if self.cluster else "StockadePolicy"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """A policy as the API has it. generation: counts its spec's changes; version: of the whole object, for compare-and-swap."""

    key: Key
    uid: str
    generation: int
    version: str
    spec: Json
    status: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod as the API has it. uid: of the object; pod.uid: as its cgroup is called.

    names: of policies, in its annotation; None: it has none. mirror: of a static pod. ended: all of its containers have, for good.
    trusts: it has a volume for the trust store of its sandbox.
    """

    pod: Pod
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    mirror: bool = False
    ended: bool = False
    created: str = ""
    trusts: bool = False


def key_of(item: Json) -> tuple[str, str]:
    """Of any object: where it is, and how it is called."""
    head = _mapping(item.get("metadata"))
    return _text(head.get("namespace")), _text(head.get("name"))


def policy(item: Json) -> Resource:
    """item: as the API has it. A field of another type than it should be is as if it were not there."""
    head = _mapping(item.get("metadata"))
    generation = head.get("generation")
    return Resource(
        Key(*key_of(item)),
        _text(head.get("uid")),
        generation if isinstance(generation, int) else 0,
        _text(head.get("resourceVersion")),
        _mapping(item.get("spec")),
        _mapping(item.get("status")),
    )


def labels_of(item: Json) -> dict[str, str]:
    return _texts(_mapping(item.get("metadata")).get("labels"))


def pod(item: Json) -> Seen:
    """item: as the API has it. A field of another type than it should be is as if it were not there."""
    head, spec, status = (_mapping(item.get(name)) for name in ("metadata", "spec", "status"))
    noted = _texts(head.get("annotations"))
    uid = _text(head.get("uid"))
    mirror = _MIRROR in noted and bool(noted.get(_HASH))  # the kubelet runs no pod that says so: it stands for one of its own files
    containers = {_text(each.get("name")): _text(each.get("image")) for kind in _CONTAINERS for each in _listed(spec.get(kind))}
    namespace, name = key_of(item)
    found = Pod(
        noted[_HASH] if mirror else uid,
        namespace,
        name,
        node=_text(spec.get("nodeName")),
        service_account=_text(spec.get("serviceAccountName")),
        host_network=spec.get("hostNetwork") is True,
        containers=containers,
        ports=tuple(sorted({port for kind in _CONTAINERS for each in _listed(spec.get(kind)) for port in _ports(each)})),
    )
    names = tuple(dict.fromkeys(filter(None, (word.strip() for word in noted[POLICY].split(","))))) if POLICY in noted else None
    ended = status.get("phase") in ("Succeeded", "Failed")
    volumes = _listed(spec.get("volumes"))
    trusts = any(each.get("name") == VOLUME and isinstance(each.get("emptyDir"), dict) for each in volumes)
    return Seen(found, uid, labels_of(item), names, mirror, ended, _text(head.get("creationTimestamp")), trusts)


def _ports(container: Json) -> Iterator[int]:
    """TCP ports that it declares, or that the kubelet asks it at: by number, or by the name of one that it declares."""
    declared = [each for each in _listed(container.get("ports")) if each.get("protocol", "TCP") == "TCP"]
    named = {each.get("name"): each.get("containerPort") for each in declared}
    asked = [_mapping(container.get(name)) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    asked += [_mapping(_mapping(container.get("lifecycle")).get(name)) for name in ("postStart", "preStop")]
    for port in [
        *(each.get("containerPort") for each in declared),
        *(_mapping(each.get(how)).get("port") for each in asked for how in ("httpGet", "tcpSocket", "grpc")),
    ]:
        number = named.get(port) if isinstance(port, str) else port
        if type(number) is int and 0 < number < 65536:
            yield number


def _listed(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> dict[str, str]:
    return {name: each for name, each in _mapping(value).items() if isinstance(each, str)}
