"""The webhook as a process: what it answers an API server, and everybody else; it stays alive, and shows the certificate that is there."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from framework.kubernetes.webhook import COMMAND, address, certify, running
from framework.patience import PATIENCE

Json = dict[str, Any]
LOOPBACK = "127.0.0.1"
POD: Json = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "main", "image": "i"}]}}


def review(subject: Json = POD, *, namespace: str = "team", operation: str = "CREATE", sub: str = "", **more: Any) -> Json:
    request: Json = {"uid": "4711", "operation": operation, "namespace": namespace, "object": subject}
    request["resource"] = {"group": "", "version": "v1", "resource": "pods"}
    if sub:
        request["subResource"] = sub
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request | more}


class Client:
    """Of a webhook with that certificate."""

    def __init__(self, directory: Path, where: tuple[str, int], metrics: tuple[str, int]) -> None:
        self.directory, self.where, self.metrics = directory, where, metrics
        self.trust = ssl.create_default_context(cafile=directory / "tls.crt")

    def ask(self, body: bytes | Json, path: str = "/mutate", method: str = "POST", **headers: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPSConnection(*self.where, timeout=20 * PATIENCE, context=self.trust)) as connection:
            connection.request(method, path, json.dumps(body).encode() if isinstance(body, dict) else body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def reviewed(self, body: Json) -> Json:
        status, text = self.ask(body)
        assert status == 200, text
        said = json.loads(text)
        assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert said["response"]["uid"] == "4711" and said["response"]["allowed"] is True
        response: Json = said["response"]
        return response

    def connected(self) -> ssl.SSLSocket:
        return self.trust.wrap_socket(socket.create_connection(self.where, timeout=20 * PATIENCE), server_hostname=self.where[0])

    def figure(self, name: str) -> float:
        with closing(http.client.HTTPConnection(*self.metrics, timeout=20 * PATIENCE)) as connection:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(f"{name} ")), "0"))


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    directory = tmp_path_factory.mktemp("webhook")
    certify(directory, LOOPBACK)
    words = ("--metrics", f"{LOOPBACK}:0", "--leave", "left-alone", "--may-keep", "probes/NET_RAW")
    with running(directory, *words, listen=f"{LOOPBACK}:0") as started:
        metrics = address(started, "metrics")
        yield Client(directory, address(started), metrics)
        assert started.poll() is None, "it is alive at the end of it all"
    assert started.returncode == 0
    assert "Traceback" not in (directory / "webhook.log").read_text()


def operations(response: Json) -> list[Json]:
    assert response["patchType"] == "JSONPatch"
    found: list[Json] = json.loads(base64.b64decode(response["patch"]))
    return found


def test_a_pod_is_given_its_trust_store(webhook: Client) -> None:
    before = webhook.figure('stockade_webhook_reviews_total{review="changed"}')
    paths = {each["path"] for each in operations(webhook.reviewed(review()))}
    assert paths == {
        "/spec/volumes",
        *(f"/spec/containers/0/{name}" for name in ("volumeMounts", "env", "securityContext")),
        "/metadata/annotations",
    }
    assert webhook.figure('stockade_webhook_reviews_total{review="changed"}') == before + 1
    assert webhook.figure("stockade_webhook_review_seconds_count") > before


@pytest.mark.parametrize(
    "question",
    [
        review(namespace="kube-system"),
        review(namespace="left-alone"),
        review(operation="UPDATE"),
        review(resource={"group": "apps", "version": "v1", "resource": "deployments"}),
        review(sub="status"),
    ],
)
def test_what_is_not_its_to_change_is_allowed_as_it_is(webhook: Client, question: Json) -> None:
    response = webhook.reviewed(question)
    assert "patch" not in response and "warnings" not in response


def test_an_ephemeral_container_loses_what_it_asks_for_and_whoever_asked_is_told(webhook: Client) -> None:
    debug = {"name": "debug", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
    after = {"metadata": {"name": "a"}, "spec": POD["spec"] | {"ephemeralContainers": [debug]}}
    response = webhook.reviewed(review(after, operation="UPDATE", sub="ephemeralcontainers", oldObject=POD))
    assert operations(response)[0]["value"] == {"drop": ["NET_ADMIN", "NET_RAW"]}
    assert response["warnings"] == ["stockade: not given to debug: NET_ADMIN"]


def test_only_pods_of_the_namespace_may_keep_what_they_ask_for(webhook: Client) -> None:
    asking = POD | {"metadata": {"name": "a", "annotations": {"stockade.internal/keep-capabilities": "NET_RAW"}}}
    for namespace, dropped in (("probes", ["NET_ADMIN"]), ("team", ["NET_ADMIN", "NET_RAW"])):
        [changed] = [
            each for each in operations(webhook.reviewed(review(asking, namespace=namespace))) if "securityContext" in each["path"]
        ]
        assert changed["value"]["capabilities"]["drop"] == dropped


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"9" * 100_000, "no JSON"),
        (b"[]", "no AdmissionReview"),
        (b'{"kind": "Pod"}', "no AdmissionReview"),
        (review() | {"apiVersion": "admission.k8s.io/v1beta1"}, "accepted: admission.k8s.io/v1"),
        (review(uid=5), "request.uid"),
        (review(object=[]), "object is no object"),
        (review({"spec": {"containers": "x"}}), "spec.containers is no list of objects"),
        (review({"spec": {"containers": [{"env": [1]}]}}), "env is no list of objects"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_garbage_is_refused_with_what_is_wrong_and_it_lives_on(webhook: Client, body: bytes | Json, says: str) -> None:
    before = webhook.figure('stockade_webhook_reviews_total{review="malformed"}')
    status, text = webhook.ask(body)
    assert status == 400 and says.encode() in text and text.count(b"\n") == 1, text
    assert webhook.figure('stockade_webhook_reviews_total{review="malformed"}') == before + 1
    assert operations(webhook.reviewed(review()))


def test_a_body_has_an_end(webhook: Client) -> None:
    """Said before, or not said at all."""
    with webhook.connected() as connection:
        connection.sendall(b"POST /mutate HTTP/1.1\r\nHost: w\r\nContent-Length: 999999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    with webhook.connected() as connection:
        connection.sendall(b"POST /mutate HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b""
        try:
            for _ in range(200):
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            answer = connection.recv(100)
        except OSError:  # it closed while more was coming
            pass
        assert not answer or answer.startswith(b"HTTP/1.1 413 ")
    assert operations(webhook.reviewed(review()))


def test_a_large_pod_is_taken_also_when_it_is_asked_for_first(webhook: Client) -> None:
    large = POD | {"spec": {"containers": [{"name": f"c{each}", "args": ["x" * 1000]} for each in range(1000)]}}
    status, text = webhook.ask(review(large), Expect="100-continue")
    assert status == 200 and len(json.loads(base64.b64decode(json.loads(text)["response"]["patch"]))) == 3002


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "POST", 404), ("/mutate", "GET", 405), ("/healthz", "GET", 200), ("/healthz", "POST", 405)]
)
def test_other_places_and_methods(webhook: Client, path: str, method: str, status: int) -> None:
    assert webhook.ask(b"", path, method)[0] == status


def test_what_is_no_tls_or_no_http_ends_that_connection_alone(webhook: Client) -> None:
    with socket.create_connection(webhook.where, timeout=20 * PATIENCE) as plain:
        plain.sendall(b"POST /mutate HTTP/1.1\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP")
    with webhook.connected() as connection:
        connection.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    with webhook.connected() as connection:
        connection.sendall(b"POST /mutate HTTP/1.1\r\n" + b"A: " + b"x" * 100_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
    with webhook.connected() as connection:
        connection.sendall(b"POST /mutate HTTP/1.1\r\nHost: w\r\nContent-Length: 10\r\n\r\nhalf")
    assert operations(webhook.reviewed(review()))


def test_who_says_nothing_does_not_keep_others_out(webhook: Client) -> None:
    """More of one address are turned away, and the others are let go of after some seconds."""
    before = webhook.figure('stockade_webhook_requests_total{status="busy"}')
    silent = [socket.create_connection(webhook.where) for _ in range(40)]
    try:
        until = time.monotonic() + 60 * PATIENCE
        while webhook.figure('stockade_webhook_requests_total{status="busy"}') < before + 8:
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        for each in silent:
            each.close()
    until = time.monotonic() + 60 * PATIENCE
    while True:
        try:
            assert operations(webhook.reviewed(review()))
            break
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < until
            time.sleep(0.1)


def test_another_certificate_is_shown_and_one_that_does_not_fit_its_key_is_not(webhook: Client) -> None:
    before = (webhook.directory / "tls.crt").read_bytes()
    other = certify(webhook.directory, LOOPBACK, "another")
    assert ssl.get_server_certificate(webhook.where).encode().strip() == other.strip() != before.strip()
    webhook.trust = ssl.create_default_context(cadata=other.decode())
    assert operations(webhook.reviewed(review()))
    (webhook.directory / "tls.crt").write_bytes(before)
    assert operations(webhook.reviewed(review())), "the one before goes on"
    assert webhook.figure("stockade_webhook_certificate_failing") == 1
    (webhook.directory / "tls.crt").write_bytes(other)
    until = time.monotonic() + 60 * PATIENCE
    while webhook.figure("stockade_webhook_certificate_failing"):
        assert time.monotonic() < until
        assert operations(webhook.reviewed(review()))
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--certificate", "absent.crt", "--key", "absent.key"), "webhook_tls"),
        (("--certificate", __file__, "--key", __file__), "webhook_tls"),
        (("--certificate", "a", "--key", "b", "--listen", "somewhere"), "bad_address"),
        (("--certificate", "a", "--key", "b", "--may-keep", "SYS_ADMIN"), "bad_capability"),
        (("--certificate", "a", "--key", "b", "--leave", "Not_A_Name"), "bad_namespace"),
    ],
)
def test_what_it_cannot_serve_with_is_told(words: tuple[str, ...], code: str) -> None:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"[{code}]" in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr
