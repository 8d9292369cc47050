"""What the webhook changes of a pod that is to be made: a trust store, the variables that lead to it, two capabilities less.

Pure: a pod as the API has it goes in, operations of a JSON Patch (RFC 6902) come out. Asked a second time, about a pod that it has changed
already or that another webhook has put a container into meanwhile, it adds what is missing and nothing twice.

What the pod's author says by himself stays his: a variable that a container sets, a volume that it has at our place. It is written on the
pod what was left so, and which containers keep a capability through which they could get out beside the node's agent.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockade.node.trust import AUTHORITY, BUNDLE, KEYSTORE, MOUNT, VOLUME
from stockade.policy.format.crd import GROUP
from stockade.types import StockadeError

Json = dict[str, Any]

TRUST, LEFT, NOT_GIVEN, NOT_HELD = f"{GROUP}/trust", f"{GROUP}/trust-left-alone", f"{GROUP}/not-given", f"{GROUP}/not-held"
KEEP, JAVA = f"{GROUP}/keep-capabilities", f"{GROUP}/java"  # what a pod's author may ask for
_ADMIN = "NET_ADMIN"  # takes away what holds a pod; runtimes give it to whoever asks
TAKEN = (_ADMIN, "NET_RAW")
# With these, too, a container takes away what holds it, or acts through somebody who is not held (attach/target.py). They stay: whoever
# adds one wants it for something else. `kubectl debug --profile=general` adds the last.
UNHOLDING = ("SYS_ADMIN", "BPF", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE")

# Those with roots of their own are told of one more; the others of the whole bundle.
VARIABLES: Mapping[str, str] = {
    **dict.fromkeys(
        ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO"),
        f"{MOUNT}/{BUNDLE}",
    ),
    **dict.fromkeys(("NODE_EXTRA_CA_CERTS", "DENO_CERT"), f"{MOUNT}/{AUTHORITY}"),
}
# Only where the pod's author asks for it: whoever sets this variable makes a JVM load his code, so a binary with network rules is not
# started with it unless its policy names it (policies/loader_variables.yaml). It holds for every process of the container, Java or not.
JAVA_VARIABLE = "JAVA_TOOL_OPTIONS"
JAVA_OPTIONS = f"-Djavax.net.ssl.trustStore={MOUNT}/{KEYSTORE} -Djavax.net.ssl.trustStoreType=PKCS12"

_OUR_VOLUME: Json = {"name": VOLUME, "emptyDir": {"sizeLimit": "16Mi"}}
_OUR_MOUNT: Json = {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}
_LONGEST = 4096  # characters of an annotation of ours


class Malformed(StockadeError):
    """No pod, and the field that says so."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_review")


@dataclass(frozen=True, slots=True)
class Patch:
    """operations: none where nothing is to be changed. left: why nothing was looked at. said: to whoever made the pod."""

    operations: tuple[Json, ...] = ()
    left: str = ""
    said: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """What is to be changed and told of a pod's containers."""

    operations: list[Json] = field(default_factory=list)
    trusting: int = 0
    left: list[str] = field(default_factory=list)  # `container: what`
    taken: list[str] = field(default_factory=list)
    unheld: list[str] = field(default_factory=list)


def made(pod: Json, may_keep: frozenset[str]) -> Patch:
    """Of a pod that is to be made. may_keep: capabilities that pods of its namespace may keep when they ask to. Raises Malformed."""
    metadata, spec = _object(pod, "metadata", "metadata"), _object(pod, "spec", "spec")
    annotations = _object(metadata, "annotations", "metadata.annotations")
    if "kubernetes.io/config.mirror" in annotations:
        return Patch(left="the mirror of a static pod: its file is on the node, and is not changed by this")
    if _windows(spec):
        return Patch(left="a pod for Windows")
    found = _Found()
    host_network = spec.get("hostNetwork") is True
    if not host_network:
        keep, refused = _kept(annotations, may_keep)
        found.left += refused
        found.operations += _volume(spec)
        for kind in ("initContainers", "containers"):
            for place, container in enumerate(_objects(spec, kind, f"spec.{kind}")):
                _container(found, container, f"/spec/{kind}/{place}", keep, _java(annotations), mounted=True)
    told = {
        TRUST: "volume" if found.trusting else "none",
        LEFT: "; ".join(found.left),
        NOT_HELD: "it is in the node's network" if host_network else "; ".join(found.unheld),
    }
    if found.taken:  # asked again, nobody knows any more: what was said then stays
        told[NOT_GIVEN] = "; ".join(found.taken)
    return Patch((*found.operations, *_annotated(metadata, annotations, told)), said=_said(found))


def added(pod: Json, before: Json, may_keep: frozenset[str]) -> Patch:
    """Of a pod that runs and is given ephemeral containers; nothing else of it can be changed any more. Raises Malformed."""
    metadata, spec = _object(pod, "metadata", "metadata"), _object(pod, "spec", "spec")
    if spec.get("hostNetwork") is True:
        return Patch(left="a pod in the node's network")
    if _windows(spec):  # where the API refuses a container that says anything of capabilities
        return Patch(left="a pod for Windows")
    annotations = _object(metadata, "annotations", "metadata.annotations")
    there = {str(each.get("name")) for each in _ephemeral(_object(before, "spec", "spec"))}
    mounted = any(each.get("name") == VOLUME and "emptyDir" in each for each in _objects(spec, "volumes", "spec.volumes"))
    found = _Found()
    keep, _ = _kept(annotations, may_keep)
    for place, container in enumerate(_ephemeral(spec)):
        if str(container.get("name")) not in there:
            _container(found, container, f"/spec/ephemeralContainers/{place}", keep, _java(annotations), mounted=mounted)
    return Patch(tuple(found.operations), said=_said(found))


def _volume(spec: Json) -> Iterator[Json]:
    volumes = _objects(spec, "volumes", "spec.volumes")
    for place, volume in enumerate(volumes):
        if volume.get("name") == VOLUME:
            if volume != _OUR_VOLUME:  # of the pod's making: a directory of the node's, say
                yield {"op": "replace", "path": f"/spec/volumes/{place}", "value": _OUR_VOLUME}
            return
    yield _appended("/spec/volumes", volumes, [_OUR_VOLUME])


def _container(found: _Found, container: Json, path: str, keep: frozenset[str], java: bool, *, mounted: bool) -> None:
    name = str(container.get("name", "?"))[:63]
    if mounted:
        mounts = _objects(container, "volumeMounts", f"{path}/volumeMounts")
        if why := _in_the_way(mounts):
            found.left.append(f"{name}: {why}")
        else:
            found.trusting += 1
            if changed := _mounted(mounts):
                found.operations.append({"op": "add", "path": f"{path}/volumeMounts", "value": changed})
            _variables(found, container, path, name, java)
    _capabilities(found, container, path, name, keep)


def _in_the_way(mounts: Sequence[Json]) -> str:
    """Whether the container has a place of its own where ours would be: a place in a read-only volume cannot even be made."""
    for mount in mounts:
        at = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
        beside = mount.get("name") != VOLUME or at != MOUNT
        if beside and (at in ("/", MOUNT) or MOUNT.startswith(f"{at}/") or at.startswith(f"{MOUNT}/")):
            return f"has a volume at {at[:100]}"
    return ""


def _mounted(mounts: Sequence[Json]) -> list[Json]:
    """The container's mounts with ours, and every other one of our volume read-only; none when they are so already."""
    others = [mount for mount in mounts if mount.get("mountPath") != MOUNT]
    wanted = [mount | {"readOnly": True} if mount.get("name") == VOLUME else mount for mount in others]
    return [*wanted, _OUR_MOUNT] if _OUR_MOUNT not in mounts or wanted != others else []


def _variables(found: _Found, container: Json, path: str, name: str, java: bool) -> None:
    environment = _objects(container, "env", f"{path}/env")
    there = {str(each.get("name")): each.get("value") for each in environment}
    wanted = {**VARIABLES, **({JAVA_VARIABLE: JAVA_OPTIONS} if java else {})}
    if own := [variable for variable, value in wanted.items() if variable in there and there[variable] != value]:
        found.left.append(f"{name}: sets {', '.join(own)} itself")
    if missing := [{"name": variable, "value": value} for variable, value in wanted.items() if variable not in there]:
        found.operations.append(_appended(f"{path}/env", environment, missing))


def _capabilities(found: _Found, container: Json, path: str, name: str, keep: frozenset[str]) -> None:
    security = _object(container, "securityContext", f"{path}/securityContext")
    capabilities = _object(security, "capabilities", f"{path}/securityContext/capabilities")
    asked, dropped = (_words(capabilities, key, f"{path}/securityContext/capabilities/{key}") for key in ("add", "drop"))
    if security.get("privileged") is True:
        found.unheld.append(f"{name}: privileged")
        return  # no runtime drops anything of it then
    take = [each for each in TAKEN if each not in keep]
    remaining = [each for each in asked if _bare(each) not in take]
    without = {_bare(each) for each in dropped}
    more = [each for each in take if not {each, "ALL"} & without or (each not in without and "ALL" in map(_bare, asked))]
    if len(remaining) < len(asked):
        found.taken.append(f"{name}: {', '.join(sorted({_bare(each) for each in asked} & set(take)))}")
    wanted = {_bare(each) for each in asked}
    every = "ALL" in wanted and "ALL" not in without
    # Not NET_RAW, which gets past nothing: the pod has a network of its own, and its device is closed.
    may = ((_ADMIN,) if _ADMIN in keep else ()) + UNHOLDING
    if keeps := [each for each in may if each not in without and (every or each in wanted)]:
        found.unheld.append(f"{name}: {', '.join(keeps)}")
    if not more and len(remaining) == len(asked):
        return
    changed = {key: value for key, value in {"add": remaining, "drop": [*dropped, *more]}.items() if value}
    if security:
        found.operations.append({"op": "add", "path": f"{path}/securityContext/capabilities", "value": changed})
    else:
        found.operations.append({"op": "add", "path": f"{path}/securityContext", "value": {"capabilities": changed}})


def _kept(annotations: Json, may_keep: frozenset[str]) -> tuple[frozenset[str], list[str]]:
    """What the pod asks to keep and may, and what is to be said of the rest."""
    asked = {_bare(each) for each in str(annotations.get(KEEP, ""))[:_LONGEST].split(",") if each.strip()}
    refused = sorted(asked - may_keep)
    said = [f"it may not keep {', '.join(each[:40] for each in refused[:8])}: the webhook's --may-keep does not say so"] if refused else []
    return frozenset(asked & may_keep), said


def _java(annotations: Json) -> bool:
    return annotations.get(JAVA) == "tool-options"


def _windows(spec: Json) -> bool:
    system = _object(spec, "os", "spec.os").get("name") or _object(spec, "nodeSelector", "spec.nodeSelector").get("kubernetes.io/os")
    return system == "windows"


def _ephemeral(spec: Json) -> list[Json]:
    return _objects(spec, "ephemeralContainers", "spec.ephemeralContainers")


def _annotated(metadata: Json, annotations: Json, told: Mapping[str, str]) -> Iterator[Json]:
    """An empty text: there is no such annotation, also where the pod's author has written one."""
    wanted = {name: text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for name, text in told.items()}
    if not annotations:
        yield {"op": "add", "path": "/metadata/annotations", "value": {name: text for name, text in wanted.items() if text}}
        return
    for name, text in wanted.items():
        path = f"/metadata/annotations/{name.replace('~', '~0').replace('/', '~1')}"
        if text and annotations.get(name) != text:
            yield {"op": "add", "path": path, "value": text}
        elif not text and name in annotations:
            yield {"op": "remove", "path": path}


def _said(found: _Found) -> tuple[str, ...]:
    """For whoever makes the pod: kubectl shows it. The API cuts what is longer."""
    told = [f"stockade: {each}" for each in found.left]
    told += [f"stockade: not given to {each}" for each in found.taken]
    return tuple(each[:250] for each in [*told, *(f"stockade: not held by the node: {each}" for each in found.unheld)][:12])


def _appended(path: str, there: Sequence[Json], more: Sequence[Json]) -> Json:
    """What is there may be null, or not be there: the whole list is said."""
    return {"op": "add", "path": path, "value": [*there, *more]}


def _bare(capability: str) -> str:
    """Runtimes take them in any case, with CAP_ or without."""
    return capability.strip().upper().removeprefix("CAP_")


def _object(parent: Json, key: str, where: str) -> Json:
    found = parent.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Malformed(f"{where.lstrip('/')} is no object")
    return found


def _objects(parent: Json, key: str, where: str) -> list[Json]:
    found = parent.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Malformed(f"{where.lstrip('/')} is no list of objects")
    return found


def _words(parent: Json, key: str, where: str) -> list[str]:
    found = parent.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Malformed(f"{where.lstrip('/')} is no list of words")
    return found
