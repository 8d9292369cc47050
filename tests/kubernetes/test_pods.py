"""A pod under a policy on a real node, with the chart and the agent's own image: what it may and may not reach, and what goes on when parts
of the cluster do not. Each step is one of an operator's; they build on each other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from framework import containers
from framework.kubernetes.node import API, CURL, FRAME, IMAGE, OTHER, RAW, Node, pod, policy
from framework.kubernetes.parts import NODE, PARTS
from framework.kubernetes.release import AGENT, SPACE
from framework.machine import select

if missing := containers.lacking():
    pytest.skip(missing, allow_module_level=True)


def test_its_first_instruction_is_governed_and_it_trusts_its_sandbox(node: Node) -> None:
    """The very first thing that the container does is a request by TLS, with nothing but what the webhook gave the pod."""
    assert node.run("cat", "/tmp/first") == (0, "200"), node.release.log()
    assert "GET /open/first" in node.heard()
    found = [each for each in node.records(reason="started") if each["detail"].get("started") == "container"]
    started = found[0]
    assert len(found) == 1, [(each["time"], each["sandbox"], each["detail"]) for each in found]
    assert (started["detail"]["governed"], started["detail"]["gap_us"]) == ("before its first instruction", 0), started["detail"]
    labels = started["sandbox"]["labels"]
    assert {key: labels[key] for key in ("namespace", "pod", "container", "image", "node", "service_account")} == {
        "namespace": "default",
        "pod": "held",
        "container": "main",
        "image": IMAGE,
        "node": "node1",
        "service_account": "default",
    }
    (first,) = [each for each in node.records(action="http", decision="allow") if each["http"]["path"] == "/open/first"]
    assert (first["binary"]["path"], first["sandbox"]["labels"]) == ("/usr/bin/curl", labels)


def test_a_request_is_decided_by_binary_host_method_and_path(node: Node) -> None:
    before = len(node.release.records())
    assert node.run(*CURL, f"https://{API}/open/a") == (0, "200")
    assert node.run(*CURL, f"https://{API}/shut") == (0, "403")
    assert node.run(*CURL, "-X", "POST", f"https://{API}/open/a") == (0, "403")
    assert node.run(*CURL, f"https://{OTHER}/open/a")[0] == 6, "no such name"
    asked = f"import urllib.request as u; u.urlopen('https://{API}/open/a', timeout=20)"
    status, _ = node.run("python3", "-c", asked)
    assert status == 1, "another binary"
    node.until(lambda: select(node.release.records()[before:], action="dns", host=API, decision="deny"), "the last refusal")
    records = node.release.records()[before:]
    (allowed,) = select(records, action="http", decision="allow")
    assert (allowed["http"]["method"], allowed["http"]["path"]) == ("GET", "/open/a")
    assert [(each["http"]["method"], each["http"]["path"]) for each in select(records, action="http", decision="deny")] == [
        ("GET", "/shut"),
        ("POST", "/open/a"),
    ]
    assert select(records, action="dns", decision="deny", host=OTHER)
    assert [line for line in node.heard() if "/shut" in line or "POST" in line] == []


def test_nothing_else_gets_out_of_it(node: Node) -> None:
    before = len(node.release.records())
    assert node.run(*CURL, f"http://{NODE}:{RAW}/")[0] == 7
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        code = f"import socket; s = socket.socket(socket.AF_INET, socket.{kind}); s.connect(('{NODE}', {RAW})); s.send(b'out')"
        assert node.run("python3", "-c", code)[0] == 1
    code = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    assert node.run("python3", "-c", code)[0] == 1, "the webhook has taken NET_RAW"
    assert node.run("cp", "/bin/sh", "/tmp/sh")[0] == 137, "in no list"
    records = node.release.records()[before:]
    assert len(select(records, action="connect", decision="deny", host=NODE)) >= 2, records
    assert select(records, action="exec", decision="deny", binary_path="/usr/bin/cp")
    assert [line for line in node.heard() if line.startswith("raw")] == []


def test_what_kubernetes_does_with_a_pod_goes_on(node: Node) -> None:
    """The kubelet's probe came in, or the pod were not ready; logs, exec and port-forward do too, and nobody by another port."""
    cluster = node.cluster
    assert "GET / HTTP" in cluster.kubectl("logs", "held").stdout
    address = cluster.kubectl("get", "pod", "held", "-o", "jsonpath={.status.podIP}").stdout
    assert "200" in cluster.host("curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:8080/").stdout
    server = "import http.server as h; h.HTTPServer(('', 8081), h.SimpleHTTPRequestHandler).serve_forever()"
    words = [*cluster.inside(), *cluster.kubectl_words(), "exec", "held", "--", "python3", "-c", server]
    inside = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        node.until(lambda: "1F91" in node.run("cat", "/proc/net/tcp")[1], "a listener on 8081")
        assert cluster.host("curl", "-sS", "-m", "3", f"http://{address}:8081/", check=False).returncode in (7, 28)
    finally:
        inside.kill()
        inside.wait()
    words = [*cluster.inside(), *cluster.kubectl_words(), "port-forward", "held", "18080:8080"]
    forward = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert forward.stdout is not None and "Forwarding" in forward.stdout.readline()
        assert cluster.host("curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:18080/").stdout == "200"
    finally:
        forward.kill()
        forward.wait()


def test_an_operator_sees_what_is_in_force_and_what_is_refused(node: Node) -> None:
    node.until(lambda: node.governed() == "1/1", "the policy's status")
    (said,) = json.loads(node.cluster.kubectl("get", "stockadepolicies", "-o", "json").stdout)["items"]
    conditions = {each["type"]: each["status"] for each in said["status"]["conditions"]}
    assert (conditions["Loaded"], conditions["Enforced"], conditions["Trusted"]) == ("True", "True", "True"), said["status"]
    events = node.until(lambda: node.cluster.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").stdout, "an Event")
    assert "Refused" in events


def test_every_container_of_a_pod_is_told_apart(node: Node) -> None:
    """One that runs before the others, and one beside them: each is held, and records say which it was."""
    cluster, before = node.cluster, len(node.release.records())
    made = json.loads(pod("pair"))
    (main,) = made["spec"]["containers"]
    first = {key: main[key] for key in ("image", "imagePullPolicy")} | {"name": "first"}
    first |= {"command": ["sh", "-c", f"{' '.join(CURL)} https://{API}/open/init"]}
    side = first | {"name": "side", "command": ["sh", "-c", f"echo $({' '.join(CURL)} https://{API}/shut); exec sleep 1000"]}
    made["spec"] |= {"initContainers": [first], "containers": [main, side]}
    cluster.apply(json.dumps(made))
    cluster.wait("pod/pair", "condition=Ready", 120)
    said: list[str] = [""]
    with contextlib.suppress(AssertionError):
        node.until(
            lambda: said.append(cluster.kubectl("logs", "pair", "-c", "side").stdout.strip()) or said[-1] == "403", "the other container"
        )
    assert (said[-1], cluster.kubectl("logs", "pair", "-c", "first").stdout) == ("403", "200"), [
        (each["sandbox"]["labels"].get("container"), each["action"], each["reason"], each["detail"])
        for each in node.release.records()[before:]
        if each["sandbox"]["labels"].get("pod") == "pair"
    ]
    pods = [each for each in node.release.records()[before:] if each["sandbox"]["labels"].get("pod") == "pair"]
    assert {each["detail"]["held"] for each in select(pods, reason="started")} == {"yes"}
    records = [each for each in node.release.records()[before:] if each["sandbox"]["labels"].get("pod") == "pair"]
    decided = {(each["sandbox"]["labels"]["container"], each["http"]["path"], each["decision"]) for each in select(records, action="http")}
    assert decided == {("first", "/open/init", "allow"), ("main", "/open/first", "allow"), ("side", "/shut", "deny")}
    cluster.kubectl("delete", "pod", "pair", "--wait")


def test_a_pod_that_is_refused_sends_no_frames_of_its_own(node: Node) -> None:
    """It was made past the webhook, so it has what its runtime gives, NET_RAW too; and its policy has never loaded. One on the node's
    network has no device that could be closed: it is told as not held."""
    cluster, before = node.cluster, len(node.heard())
    cluster.kubectl("label", "namespace", "default", "stockade.internal/ignore=yes")
    try:
        cluster.apply(policy("/open/**", name="broken", selector={"matchLabels": {"app": "loose"}}, netwrk=[]))
        loads = 'jsonpath={.status.conditions[?(@.type=="Loaded")].status}'
        node.until(lambda: cluster.kubectl("get", "stp", "broken", "-o", loads).stdout == "False", "a word on the policy")
        for name in ("loose", "shared"):
            made = json.loads(pod(name, command=["sleep", "1000"], readinessProbe=None, ports=[]))
            made["metadata"]["labels"] = {"app": "loose"}
            made["spec"]["hostNetwork"] = name == "shared"
            cluster.apply(json.dumps(made))
        cluster.wait("pod/loose", "condition=Ready", 120)
        cluster.wait("pod/shared", "condition=Ready", 120)
    finally:
        cluster.kubectl("label", "namespace", "default", "stockade.internal/ignore-")
    address = cluster.kubectl("get", "pod", "loose", "-o", "jsonpath={.status.podIP}").stdout
    words = ["python3", "-c", FRAME, address, NODE, str(RAW)]
    assert node.run(*words, name="loose")[0] == 0, "it may have a packet socket"
    code = f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('{NODE}', {RAW})); s.send(b'out')"
    assert node.run("python3", "-c", code, name="loose")[0] == 1
    told = {each["sandbox"]["labels"]["pod"]: each["detail"] for each in node.records(reason="started", decision="deny")}
    assert {name: (detail["governed"].partition(":")[0], detail["held"]) for name, detail in told.items()} == {
        "loose": ("no", "yes"),
        "shared": ("no", "no"),
    }
    (why,) = told["shared"]["not_held"]
    assert "CAP_NET_RAW" in why and told["loose"]["not_held"] == []
    status = "jsonpath={.status.nodes[*].unheld}"
    node.until(
        lambda: f"default/shared: {why}" in cluster.kubectl("get", "stp", "broken", "-o", status).stdout,
        "a word on the one that is not held",
    )
    assert (
        "CAP_NET_RAW"
        not in cluster.kubectl("get", "stp", "broken", "-o", status).stdout.partition("default/loose")[2].partition("default/")[0]
    )
    assert [line for line in node.heard()[before:] if line.startswith("raw")] == []
    cluster.kubectl("delete", "stp", "broken")
    node.until(lambda: node.run(*words, name="loose") and "raw udp" in node.heard()[before:], "a frame, when it is let go of")
    cluster.kubectl("delete", "pod", "loose", "shared", "--wait")


def test_names_of_the_cluster_are_found_as_pods_look_for_them(node: Node) -> None:
    """By search lists with five dots (glibc, and musl, which asks in its own way), at a pod's own address and at one that leads to it."""
    cluster = node.cluster
    made = json.loads(pod("service"))
    made["metadata"]["labels"] = {}
    made["spec"]["containers"][0]["command"] = ["python3", "-m", "http.server", "8080"]
    cluster.apply(json.dumps(made))
    cluster.wait("pod/service", "condition=Ready", 120)
    address = cluster.kubectl("get", "pod", "service", "-o", "jsonpath={.status.podIP}").stdout
    web, virtual, near = "web.default.svc.cluster.local", "10.96.77.7", "near.default.svc.cluster.local"
    leads = f"type nat hook output priority -100; ip daddr {virtual} tcp dport 80 dnat to {address}:8080;"
    rules = f"table ip virtual {{\nchain out {{ {leads}\n}}\n}}"
    cluster.host("nft", "-f", "-", text=rules)
    with node.zone.open("a") as zone:
        zone.write(f"{web} {address}\n{near} {virtual}\nother.default.svc.cluster.local {address}\n")
    spec = json.loads(policy("/open/**"))["spec"]
    rule = spec["network"][0] | {"name": "web", "binary": {"allow": ["curl", "ask"]}, "path": {"allow": ["/**"]}}
    rule |= {"destination": {"allow": [web, near]}, "port": [80, 8080]}
    cluster.apply(policy("/open/**", network=[*spec["network"], rule], exec={"allow": [*spec["exec"]["allow"], "ask"]}))
    node.until(lambda: node.run(*CURL, "http://web:8080/") == (0, "200"), "the short name")
    assert node.run(*CURL, "http://web.default.svc:8080/") == (0, "200")
    assert node.run(*CURL, f"http://{web}:8080/") == (0, "200")
    assert node.run(*CURL, "http://near/") == (0, "200")
    assert node.run(*CURL, "http://other:8080/")[0] == 6
    if shutil.which("musl-gcc"):
        assert node.run("ask", "web", "8080") == (0, "HTTP/1.0 200 OK")
        assert node.run("ask", "other", "8080")[0] == 2, "no such name"
    asked = node.records(action="http", host=web)
    assert {each["binary"]["name"] for each in asked} == ({"curl", "ask"} if shutil.which("musl-gcc") else {"curl"})
    cluster.kubectl("delete", "pod", "service", "--wait")
    cluster.apply(policy("/open/**"))


def test_a_policy_that_is_edited_holds_at_once_and_cuts_what_it_denies(node: Node) -> None:
    cluster = node.cluster
    words = [*cluster.inside(), *cluster.kubectl_words(), "exec", "held", "--", "curl", "-sS", "-N", f"https://{API}/open/slow"]
    stale = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert stale.stdout is not None and stale.stdout.readline(), "it streams"
    began = time.monotonic()
    cluster.apply(policy("/shut"))
    node.until(lambda: node.run(*CURL, f"https://{API}/shut") == (0, "200"), "the new generation")
    print(f"in force {time.monotonic() - began:.1f} s after `kubectl apply` began")
    assert stale.wait(60) != 0
    assert node.run(*CURL, f"https://{API}/open/a") == (0, "403")
    assert node.records(reason="reloaded")
    assert node.until(lambda: node.records(reason="policy_changed"), "the record of the cut")
    cluster.apply(policy("/open/**"))
    node.until(lambda: node.run(*CURL, f"https://{API}/open/a") == (0, "200"), "the one before")


def test_a_binary_that_a_new_policy_names_is_found(node: Node) -> None:
    """What may run is looked up again in the container for every policy."""
    assert node.run("true")[0] == 137
    spec = json.loads(policy("/open/**"))["spec"]
    node.cluster.apply(policy("/open/**", exec={"allow": [*spec["exec"]["allow"], "true"]}))
    node.until(lambda: node.run("true")[0] == 0, "another binary")
    node.cluster.apply(policy("/open/**"))
    node.until(lambda: node.run("true")[0] == 137, "the one before")


def test_a_policy_that_does_not_load_replaces_nothing(node: Node) -> None:
    cluster = node.cluster
    cluster.apply(policy("/open/**", netwrk=[]))
    message = 'jsonpath={.status.conditions[?(@.type=="Loaded")].message}'
    node.until(lambda: "netwrk" in cluster.kubectl("get", "stp", "app", "-o", message).stdout, "a word on it")
    assert "line" in cluster.kubectl("get", "stp", "app", "-o", message).stdout
    assert node.run(*CURL, f"https://{API}/open/a") == (0, "200")
    assert node.run(*CURL, f"https://{API}/shut") == (0, "403")
    cluster.apply(policy("/open/**"))


def test_while_there_is_no_agent_nothing_gets_out_and_the_next_one_takes_over(node: Node) -> None:
    release = node.release
    before, heard = len(release.records()), len(node.heard())
    os.kill(node.agent(), signal.SIGKILL)
    tried = [node.run(*CURL, f"https://{API}/open/none")[0], node.run(*CURL, f"http://{NODE}:{RAW}/")[0]]
    tried += [node.run("cp", "/bin/sh", "/tmp/sh")[0]]  # exec rules hold meanwhile
    assert tried[1:] == [7, 137], tried
    print(f"without an agent: curl to what is allowed ended with {tried[0]}")
    release.rolled_out()
    node.until(lambda: node.run(*CURL, f"https://{API}/open/again") == (0, "200"), "the next agent")
    assert node.run(*CURL, f"https://{API}/shut") == (0, "403")
    assert node.run(*CURL, f"http://{NODE}:{RAW}/")[0] == 7
    records = release.records()[before:]
    (started,) = [each for each in select(records, reason="started") if each["detail"].get("started") == "container"]
    assert [each for each in started["detail"]["processes"] if "python3" in each], "and whoever came into it meanwhile"
    assert [line for line in node.heard()[heard:] if line.startswith("raw")] == []


def test_the_next_container_of_a_pod_is_governed_too(node: Node) -> None:
    """A container that ends is started again in the same pod, and what it does first is decided."""
    cluster = node.cluster
    before, count = len(node.heard()), "jsonpath={.status.containerStatuses[0].restartCount}"
    os.kill(node.task()[1], signal.SIGKILL)
    node.until(lambda: cluster.kubectl("get", "pod", "held", "-o", count).stdout == "1", "a restart")
    cluster.wait("pod/held", "condition=Ready", 120)
    assert "GET /open/first" in node.heard()[before:]
    assert node.run(*CURL, f"https://{API}/shut") == (0, "403")


def test_without_an_api_everything_goes_on(node: Node) -> None:
    """kubectl asks that API too, so the pod is entered as the runtime does."""
    cluster = node.cluster
    identity, _ = node.task()

    def run(*words: str) -> tuple[int, str]:
        done = cluster.host(*node.runtime, "exec", "--exec-id", f"x{time.monotonic_ns()}", identity, *words, check=False)
        return done.returncode, done.stdout.strip()

    cluster.stop_part("apiserver")
    try:
        before = len(node.release.records())
        assert run(*CURL, f"https://{API}/open/alone") == (0, "200")
        assert run(*CURL, f"https://{API}/shut") == (0, "403")
        records = node.release.records()[before:]
        assert select(records, action="http", decision="allow") and select(records, action="http", decision="deny")
    finally:
        cluster.start_part(next(part for part in PARTS if part.name == "apiserver"))
    node.until(lambda: cluster.kubectl("get", "pods", check=False).returncode == 0, "the API")
    cluster.apply(policy("/shut"))
    node.until(lambda: node.run(*CURL, f"https://{API}/shut") == (0, "200"), "a policy after it")
    cluster.apply(policy("/open/**"))
    node.until(lambda: node.run(*CURL, f"https://{API}/open/a") == (0, "200"), "the one before")


def test_a_policy_that_is_deleted_lets_go_of_its_pods(node: Node) -> None:
    node.cluster.kubectl("delete", "stockadepolicies", "app")
    node.until(lambda: node.run("cp", "/bin/sh", "/tmp/sh")[0] == 0, "that nothing holds it")
    node.until(lambda: node.run(*CURL, f"http://{NODE}:{RAW}/")[0] != 7, "a way out")
    assert any(line.startswith("raw tcp") for line in node.heard())
    last = node.records(reason="stopped")[-1]
    assert "let go" in last["detail"]["why"], last
    inside = ["nsenter", f"--net=/proc/{node.task()[1]}/ns/net", "--"]
    assert node.cluster.host(*inside, "nft", "list", "tables").stdout == ""
    assert "198.1" not in node.cluster.host(*inside, "ip", "address").stdout
    ready = ["get", "-n", SPACE, AGENT, "-o", "jsonpath={.status.numberReady}"]
    node.until(lambda: node.cluster.kubectl(*ready).stdout == "1", "the agent's readiness, as the API heard it since it was away")
    lives = "jsonpath={.items[0].status.containerStatuses[0].restartCount}"
    words = ["get", "pods", "-n", SPACE, "-l", "app.kubernetes.io/component=agent", "-o", lives]
    assert node.cluster.kubectl(*words).stdout == "1", "it ended once, when it was killed"
