"""An AdmissionReview, admission.k8s.io/v1: what an API server asks of a webhook, and what it is answered.

Owns the two shapes. Every question about something else than a pod is answered with yes and no change: what a webhook is asked about is for
its configuration to say, and this one refuses nobody.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from stockade.kubernetes.patch import Malformed, Patch

API = "admission.k8s.io/v1"
LARGEST = 8 << 20  # octets: an API server takes 3 MiB of a request, and says the old object and the new one

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """resource: as pods or pods/ephemeralcontainers. name: of the pod, or what its name will begin with."""

    uid: str
    operation: str
    resource: str
    namespace: str
    name: str
    subject: Json
    before: Json


def parse(body: bytes) -> Question:
    """Raises Malformed, which says what is wrong."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:  # text that is not UTF-8, and numbers without end, are ValueErrors
        raise Malformed(f"the body is no JSON: {str(error)[:100]}") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise Malformed("the body is no AdmissionReview")
    if review.get("apiVersion") != API:
        raise Malformed(f"apiVersion is {str(review.get('apiVersion'))[:60]}; accepted: {API}")
    request = _object(review, "request")
    uid, resource = request.get("uid"), _object(request, "resource")
    if not isinstance(uid, str) or not 0 < len(uid) <= 128:
        raise Malformed("request.uid is no name")
    kind = str(resource.get("resource", "")) if not resource.get("group") else f"{resource.get('group')}/{resource.get('resource')}"
    if sub := request.get("subResource"):
        kind = f"{kind}/{sub}"
    subject = _object(request, "object")
    metadata = subject.get("metadata") if isinstance(subject.get("metadata"), dict) else {}
    name = request.get("name") or (metadata or {}).get("name") or (metadata or {}).get("generateName") or "?"
    namespace = request.get("namespace")
    return Question(
        uid,
        str(request.get("operation", "")),
        kind,
        namespace if isinstance(namespace, str) else "",
        str(name)[:253],
        subject,
        _object(request, "oldObject"),
    )


def answer(question: Question, patch: Patch) -> bytes:
    """Allowed, with what is to be changed. Nothing is refused: what a pod may do is decided when it does it."""
    response: Json = {"uid": question.uid, "allowed": True}
    if patch.operations:
        operations = json.dumps(patch.operations, separators=(",", ":")).encode("ascii")
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(operations).decode("ascii")}
    if patch.said:
        response["warnings"] = list(patch.said)
    return json.dumps({"apiVersion": API, "kind": "AdmissionReview", "response": response}, separators=(",", ":")).encode("ascii")


def _object(parent: Json, key: str) -> Json:
    found = parent.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Malformed(f"{key} is no object")
    return found
