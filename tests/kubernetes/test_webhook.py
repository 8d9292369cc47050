"""The webhook as a real API server asks it: what becomes of pods, and that none waits for it when it is away."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framework.kubernetes import Cluster
from framework.kubernetes.alone import Alone
from framework.kubernetes.injector import SIDECAR
from framework.kubernetes.parts import NODE
from framework.kubernetes.webhook import address, certify, running
from stockade.kubernetes.patch import VARIABLES
from stockade.node import trust
from stockade.proxy import Authority

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
IMAGE = "docker.io/local/webhook-busybox:1"
POLICY = """
apiVersion: stockade.internal/v1alpha1
kind: StockadePolicy
metadata: {name: agents, namespace: default}
spec:
  selector: {matchLabels: {app: agent}}
  network:
    - {name: read, binary: {allow: [curl]}, destination: {allow: [api.example.com]}, method: {allow: [GET]}, path: {allow: [/**]}}
"""
TEAM, IGNORED = "webhook-team", "webhook-ignored"
NOWHERE: Json = {"nodeSelector": {"no": "where"}}  # it is never scheduled, and gone as soon as it is deleted
CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13}  # linux/capability.h
CONFIGURATION: Json = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingWebhookConfiguration",
    "metadata": {"name": "stockade"},
    "webhooks": [
        {
            "name": "trust.stockade.internal",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "timeoutSeconds": 2,
            "namespaceSelector": {"matchExpressions": [{"key": "stockade.internal/ignore", "operator": "DoesNotExist"}]},
            "rules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/ephemeralcontainers"]},
            ],
        }
    ],
}


def configured(name: str, port: int, certificate: bytes, **more: Any) -> str:
    client = {"url": f"https://{NODE}:{port}/mutate", "caBundle": base64.b64encode(certificate).decode()}
    hook = CONFIGURATION["webhooks"][0] | {"clientConfig": client} | more
    return json.dumps(CONFIGURATION | {"metadata": {"name": name}, "webhooks": [hook]})


@dataclass(frozen=True, slots=True)
class Pods:
    cluster: Cluster

    def make(
        self,
        name: str,
        *,
        namespace: str = TEAM,
        container: Json | None = None,
        labels: Json | None = None,
        annotations: Json | None = None,
        **spec: Any,
    ) -> Json:
        """Create it, as kubectl does, and return what the API has of it then, with `warned`."""
        main = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "1000"]} | (container or {})
        metadata = {"name": name, "namespace": namespace, "labels": labels or {}, "annotations": annotations or {}}
        whole = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [main], **spec},
        }
        said = self.cluster.kubectl("create", "-f", "-", text=json.dumps(whole))
        found: Json = json.loads(self.cluster.kubectl("get", "pod", "-n", namespace, name, "-o", "json").stdout)
        return found | {"warned": said.stderr}

    def runs(self, made: Json) -> str:
        """Wait until it does. As `exec` wants its name."""
        namespace, name = made["metadata"]["namespace"], made["metadata"]["name"]
        self.cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=90)
        return f"{namespace}/{name}"

    def capabilities(self, pod: str) -> set[str]:
        """That its first process could ever have, of the two."""
        lines = self.cluster.exec(pod, "cat", "/proc/1/status").stdout.splitlines()
        held = int(next(line.split()[1] for line in lines if line.startswith("CapBnd:")), 16)
        return {name for name, bit in CAPABILITIES.items() if held >> bit & 1}


@pytest.fixture(scope="module")
def pods(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """Two namespaces, and the image."""
    root = tmp_path_factory.mktemp("busybox")
    (root / "bin").mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "sleep", "cat", "env", "touch"):
        (root / "bin" / applet).symlink_to("busybox")
    cluster.image(IMAGE, root, ["/bin/sh"], {"SSL_CERT_FILE": "/of-the-image"})
    for name, labels in ((TEAM, {}), (IGNORED, {"stockade.internal/ignore": ""})):
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
        account = ("get", "serviceaccount", "-n", name, "default")
        cluster.host("bash", "-c", f"until {' '.join(_kubectl(cluster, *account))}; do sleep 0.2; done >/dev/null 2>&1", timeout=60)
    yield Pods(cluster)
    cluster.kubectl("delete", "namespace", TEAM, IGNORED, "--wait", timeout=120)


def _kubectl(cluster: Cluster, *words: str) -> list[str]:
    return ["/var/cache/stockade-tests/kubernetes/kubectl", f"--kubeconfig={cluster.room}/kubeconfig", *words]


@contextmanager
def registered(cluster: Cluster, name: str, port: int, certificate: bytes, **more: Any) -> Iterator[None]:
    cluster.apply(configured(name, port, certificate, **more))
    try:
        yield
    finally:
        cluster.kubectl("delete", "mutatingwebhookconfiguration", name)


@pytest.fixture(scope="module")
def hooked(pods: Pods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """While the API server asks the webhook about every pod."""
    directory = tmp_path_factory.mktemp("tls")
    certificate = certify(directory, NODE)
    with running(directory, listen=f"{NODE}:0", inside=pods.cluster.inside()) as started:
        _, port = address(started)
        with registered(pods.cluster, "stockade", port, certificate):
            _until_asked(pods, TEAM)
            yield pods
    assert "Traceback" not in (directory / "webhook.log").read_text()


def _until_asked(pods: Pods, namespace: str) -> None:
    """The API server learns of a configuration a moment after it has taken it."""
    for number in range(100):
        if told(pods.make(f"asked-{number}", namespace=namespace, **NOWHERE)):
            return
    raise AssertionError("the API server does not ask the webhook")


def told(made: Json) -> Json:
    """Annotations of ours."""
    found = made["metadata"].get("annotations", {}).items()
    return {name.removeprefix("stockade.internal/"): text for name, text in found if name.startswith("stockade.internal/")}


def environment(container: Json) -> Json:
    return {each["name"]: each.get("value") for each in container.get("env", [])}


def test_a_pod_starts_with_its_trust_store_and_without_either_capability(hooked: Pods, tmp_path: Path) -> None:
    made = hooked.make(
        "plain", initContainers=[{"name": "first", "image": IMAGE, "imagePullPolicy": "Never", "command": ["cat", "/proc/1/status"]}]
    )
    assert told(made) == {"trust": "volume"}
    pod = hooked.runs(made)
    inside = dict(line.split("=", 1) for line in hooked.cluster.exec(pod, "env").stdout.splitlines())
    assert VARIABLES.items() <= inside.items(), "what the image says of its bundle does not count"
    assert hooked.capabilities(pod) == set()
    said = hooked.cluster.kubectl("logs", "-n", TEAM, "plain", "-c", "first").stdout
    assert not int(said.partition("CapBnd:")[2].split()[0], 16) & 0x3000, "nor has a container that runs before it"
    assert hooked.cluster.exec(pod, "touch", "/etc/stockade/trust/mine", check=False).returncode != 0

    volume = trust.directory(made["metadata"]["uid"], hooked.cluster.room / "kubelet")
    assert volume is not None
    for _ in range(2):  # a second one is what a renewal is
        authority = Authority.create("box").certificate_pem
        assert trust.give(volume, authority)
        assert hooked.cluster.exec(pod, "cat", "/etc/stockade/trust/ca.crt").stdout == authority.decode()
    bundle = tmp_path / "bundle.crt"
    bundle.write_text(hooked.cluster.exec(pod, "cat", inside["SSL_CERT_FILE"]).stdout)
    (tmp_path / "ca.crt").write_bytes(authority)
    verified = subprocess.run(["openssl", "verify", "-CAfile", bundle, tmp_path / "ca.crt"], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified


def test_what_a_container_sets_itself_stays_and_whoever_makes_it_is_told(hooked: Pods) -> None:
    asks = {"env": [{"name": "CURL_CA_BUNDLE", "value": "/mine"}], "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
    made = hooked.make("own", container=asks)
    assert told(made) == {"trust": "volume", "trust-left-alone": "main: sets CURL_CA_BUNDLE itself", "not-given": "main: NET_ADMIN"}
    assert "Warning: stockade: main: sets CURL_CA_BUNDLE itself" in made["warned"]
    assert "Warning: stockade: not given to main: NET_ADMIN" in made["warned"]
    pod = hooked.runs(made)
    inside = dict(line.split("=", 1) for line in hooked.cluster.exec(pod, "env").stdout.splitlines())
    assert inside["CURL_CA_BUNDLE"] == "/mine" and inside["PIP_CERT"] == VARIABLES["PIP_CERT"]
    assert hooked.capabilities(pod) == set()


def test_a_volume_at_that_place_keeps_the_container_as_it_is_and_it_starts(hooked: Pods) -> None:
    mount = {"volumeMounts": [{"name": "etc", "mountPath": "/etc/stockade", "readOnly": True}]}
    made = hooked.make("placed", container=mount, volumes=[{"name": "etc", "emptyDir": {}}])
    assert told(made) == {"trust": "none", "trust-left-alone": "main: has a volume at /etc/stockade"}
    assert "SSL_CERT_FILE=/of-the-image" in hooked.cluster.exec(hooked.runs(made), "env").stdout


def test_a_namespace_that_is_left_alone_and_those_of_the_cluster(hooked: Pods) -> None:
    made = hooked.make("ignored", namespace=IGNORED)
    assert not told(made) and not environment(made["spec"]["containers"][0])
    assert hooked.capabilities(hooked.runs(made)) == {"NET_RAW"}, "which is what a runtime gives"
    own = hooked.make("of-the-cluster", namespace="kube-system", **NOWHERE)
    hooked.cluster.kubectl("delete", "pod", "-n", "kube-system", "of-the-cluster", "--force", "--grace-period=0")
    assert not told(own)


def test_what_another_webhook_puts_in_afterwards_is_seen_to(hooked: Pods, tmp_path: Path) -> None:
    """Those of a later name are asked later; ours is asked again."""
    certificate = certify(tmp_path, NODE)
    words = ["-m", "framework.kubernetes.injector", NODE, "8444", str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")]
    command = [*hooked.cluster.inside(), sys.executable, *words]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ) as injector:
        try:
            assert injector.stdout is not None and injector.stdout.readline() == "ready\n"
            with registered(hooked.cluster, "zz-mesh", 8444, certificate):
                for number in range(100):
                    made = hooked.make(f"meshed-{number}", **NOWHERE)
                    if len(made["spec"]["containers"]) == 2:
                        break
        finally:
            injector.terminate()
    main, injected = made["spec"]["containers"]
    assert injected["name"] == SIDECAR
    for container in (main, injected):
        assert environment(container) == VARIABLES and len(container["env"]) == len(VARIABLES)
        assert [each["name"] for each in container["volumeMounts"]].count(trust.VOLUME) == 1
        assert container["securityContext"]["capabilities"] == {"drop": ["NET_ADMIN", "NET_RAW"]}
    assert [each["name"] for each in made["spec"]["volumes"]].count(trust.VOLUME) == 1


def test_only_pods_that_a_policy_means_are_changed_where_it_is_told_so(alone: Alone, tmp_path: Path) -> None:
    """It asks the API itself, as a node's agent does."""
    certificate, pods, numbers = certify(tmp_path, NODE), Pods(alone), itertools.count()

    def changed(**labels: str) -> bool:
        return "trust" in told(pods.make(f"p-{next(numbers)}", namespace="default", labels=labels, **NOWHERE))

    alone.apply(POLICY)
    follows = ("--policies", "--kubeconfig", f"{alone.room}/agent.kubeconfig")
    with running(tmp_path, *follows, listen=f"{NODE}:0", inside=alone.inside()) as started:
        _, port = address(started)
        with registered(alone, "stockade", port, certificate):
            assert any(changed(app="agent") for _ in range(100)), "whom its policy means"
            assert any(not changed(app="web") for _ in range(100)), "and nobody else, as soon as it has heard of all policies"
            assert changed(app="agent") and not changed(app="web") and not changed()
            absent = {"stockade.internal/policy": "absent"}
            named = pods.make("named", namespace="default", annotations=absent, **NOWHERE)
            assert told(named)["trust"] == "volume", "its node refuses it, and does not leave it alone"
            alone.kubectl("delete", "stockadepolicy", "agents")
            assert any(not changed(app="agent") for _ in range(100)), "whom no policy means any more"
    assert "Traceback" not in (tmp_path / "webhook.log").read_text()


def test_a_pod_does_not_wait_for_a_webhook_that_is_away(pods: Pods, tmp_path: Path) -> None:
    """failurePolicy Ignore: it starts as it is. Its HTTP rules refuse then, and its agent says what it keeps."""
    certificate = certify(tmp_path, NODE)
    with running(tmp_path, listen=f"{NODE}:0", inside=pods.cluster.inside()) as started:
        _, port = address(started)
        theirs = {"matchLabels": {"stockade.internal/ignore": ""}}  # the other one, which lives, is not asked about those
        with registered(pods.cluster, "stockade-dead", port, certificate, namespaceSelector=theirs):
            _until_asked(pods, IGNORED)
            started.kill()
            started.wait()
            made = pods.make("alone", namespace=IGNORED)
            assert not told(made) and trust.directory(made["metadata"]["uid"], pods.cluster.room / "kubelet") is None
            assert pods.capabilities(pods.runs(made)) == {"NET_RAW"}
