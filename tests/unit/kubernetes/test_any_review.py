"""Whatever a review holds, it is answered or refused with what is wrong: nothing else comes out, and no operation that RFC 6902 has not."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.kubernetes.patch import KEEP, Malformed
from stockade.kubernetes.review import answer, parse
from stockade.kubernetes.webhook import Whom

Json = dict[str, Any]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "value", "add", "x"]), inner, max_size=3),
    max_leaves=6,
)
CAPABILITIES = st.fixed_dictionaries(
    {}, optional={key: st.lists(st.sampled_from(["ALL", "NET_RAW", "cap_net_admin"])) for key in ("add", "drop")}
)
MOUNT = st.fixed_dictionaries(
    {"name": st.sampled_from(["stockade-trust", "d"]), "mountPath": st.sampled_from(["/etc", "/etc/stockade/trust", "/d"])}
)


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One in twelve is anything: what lies deep is to be reached, and most of it to be right."""
    return st.integers(0, 11).flatmap(lambda number: good if number else ANYTHING)


VARIABLE = st.fixed_dictionaries({"name": mostly(st.sampled_from(["SSL_CERT_FILE", "A"]))}, optional={"value": mostly(st.text(max_size=4))})
SECURITY = st.fixed_dictionaries({}, optional={"privileged": mostly(st.booleans()), "capabilities": mostly(CAPABILITIES)})
CONTAINER = st.fixed_dictionaries(
    {"name": mostly(st.text(max_size=8))},
    optional={"env": mostly(st.lists(VARIABLE)), "volumeMounts": mostly(st.lists(MOUNT)), "securityContext": mostly(SECURITY)},
)
CONTAINERS = st.lists(mostly(CONTAINER), max_size=3)
SPEC = st.fixed_dictionaries(
    {"containers": mostly(CONTAINERS)},
    optional={
        "initContainers": mostly(CONTAINERS),
        "ephemeralContainers": mostly(CONTAINERS),
        "volumes": mostly(st.lists(st.fixed_dictionaries({"name": st.sampled_from(["stockade-trust", "d"])}))),
        "hostNetwork": mostly(st.booleans()),
    },
)
METADATA = st.fixed_dictionaries(
    {}, optional={"annotations": mostly(st.dictionaries(st.sampled_from([KEEP, "a/b"]), st.text(max_size=12)))}
)
POD = st.fixed_dictionaries({}, optional={"metadata": mostly(METADATA), "spec": mostly(SPEC)})
REQUEST = st.fixed_dictionaries(
    {
        "uid": mostly(st.just("u")),
        "operation": st.sampled_from(["CREATE", "UPDATE", "DELETE"]),
        "resource": mostly(st.just({"group": "", "version": "v1", "resource": "pods"})),
        "object": mostly(POD),
    },
    optional={"subResource": st.sampled_from(["", "ephemeralcontainers"]), "oldObject": mostly(POD), "namespace": mostly(st.just("team"))},
)


@settings(max_examples=400, deadline=None)
@given(REQUEST)
def test_it_is_answered_or_refused(request: Json) -> None:
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
    try:
        question = parse(body)
        said = answer(question, Whom(may_keep=frozenset({("", "NET_RAW")})).patch(question))
    except Malformed as error:
        assert error.message and "\n" not in error.message
        return
    response = json.loads(said)["response"]
    assert response["allowed"] is True and response["uid"] == request["uid"]
    for operation in json.loads(base64.b64decode(response.get("patch", b64("[]")))):
        assert operation["op"] in ("add", "replace", "remove") and operation["path"].startswith(("/spec/", "/metadata/annotations"))


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_review_is_refused(body: bytes) -> None:
    try:
        parse(body)
    except Malformed as error:
        assert error.message
        return
    raise AssertionError("it is a review")
