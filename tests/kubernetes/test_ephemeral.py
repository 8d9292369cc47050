"""Ephemeral containers on a real node (`kubectl debug`): put into a pod that runs, in its target's PID namespace, they are held to its
policy before their first instruction; and what a container of any kind keeps, by which it is not held, is told.

Kubernetes 1.20 has them in a form of their own, in which no webhook can give them anything and they may not ask for capabilities: so each
has what its runtime gives, NET_RAW too, and names the volume and the variable itself that the webhook gives since 1.23.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest

from framework import containers
from framework.kubernetes.cluster import unified
from framework.kubernetes.node import API, CURL, FRAME, IMAGE, OTHER, RAW, Node, pod, policy
from framework.kubernetes.parts import NODE
from framework.machine import select
from stockade.attach.target import PTRACE_WITHIN
from stockade.node.trust import BUNDLE, MOUNT, VOLUME

if missing := containers.lacking():
    pytest.skip(missing, allow_module_level=True)

Json = dict[str, Any]
# Without stopping it: the kubelet asks it whether it is ready.
SEIZE = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); assert libc.ptrace(0x4206, {pid}, None, None) == 0, ctypes.get_errno()"
SEND = "import socket; s = socket.socket(socket.AF_INET, socket.{kind}); s.connect(('{node}', {port})); s.send(b'out')"


def debug(node: Node, name: str, command: str = "true", *, of: str = "held", trusts: bool = True) -> None:
    """As `kubectl debug --target=main`, and wait until it runs. command: before it sleeps."""
    path = f"/api/v1/namespaces/default/pods/{of}/ephemeralcontainers"
    made: Json = {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "targetContainerName": "main",
        "command": ["sh", "-c", f"{command}; exec sleep 1000"],
        "workingDir": "/tmp",
    }
    if trusts:
        made["volumeMounts"] = [{"name": VOLUME, "mountPath": MOUNT, "readOnly": True}]
        made["env"] = [{"name": "CURL_CA_BUNDLE", "value": f"{MOUNT}/{BUNDLE}"}]

    def put() -> bool:
        known = json.loads(node.cluster.kubectl("get", "--raw", path).stdout)
        known["ephemeralContainers"] = [*known["ephemeralContainers"], made]
        done = node.cluster.kubectl("replace", "--raw", path, "-f", "-", text=json.dumps(known), check=False)
        assert not done.returncode or "has been modified" in done.stderr, done.stderr
        return not done.returncode

    node.until(put, "a version of the pod that nobody has changed meanwhile")
    states = f'jsonpath={{.status.ephemeralContainerStatuses[?(@.name=="{name}")].state.running.startedAt}}'
    node.until(lambda: node.cluster.kubectl("get", "pod", of, "-o", states).stdout, f"that {name} runs")


def run(node: Node, container: str, *words: str, of: str = "held") -> tuple[int, str]:
    done = node.cluster.kubectl("exec", of, "-c", container, "--", *words, check=False)
    return done.returncode, done.stdout.strip()


def records(node: Node, container: str, of: str = "held", **expected: Any) -> list[Json]:
    found = [each for each in node.records(**expected) if each["sandbox"]["labels"].get("pod") == of]
    return [each for each in found if each["sandbox"]["labels"].get("container") == container]


def began(node: Node, container: str, of: str = "held") -> Json:
    """The record of its last start."""
    return [each for each in records(node, container, of, reason="started") if each["detail"].get("started") == "container"][-1]


def test_one_is_held_before_its_first_instruction(node: Node) -> None:
    """The very first thing that it does is a request."""
    debug(node, "debug", f"{' '.join(CURL)} https://{API}/open/debug > /tmp/first")
    node.until(lambda: run(node, "debug", "cat", "/tmp/first")[1] == "200", "the answer to what it does first")
    started = began(node, "debug")
    detail, labels = started["detail"], started["sandbox"]["labels"]
    assert (detail["governed"], detail["gap_us"], detail["held"]) == ("before its first instruction", 0, "yes"), detail
    assert (labels["namespace"], labels["pod"], labels["image"]) == ("default", "held", IMAGE)
    (first,) = records(node, "debug", action="http", decision="allow")
    assert (first["http"]["path"], first["binary"]["path"], first["sandbox"]["labels"]) == ("/open/debug", "/usr/bin/curl", labels)


def test_what_its_pod_may_not_reach_it_does_not(node: Node) -> None:
    before = len(node.heard())
    assert run(node, "debug", *CURL, f"https://{API}/open/a") == (0, "200")
    assert run(node, "debug", *CURL, f"https://{API}/shut") == (0, "403")
    assert run(node, "debug", *CURL, f"https://{OTHER}/open/a")[0] == 6, "no such name"
    assert run(node, "debug", *CURL, f"http://{NODE}:{RAW}/")[0] == 7
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        assert run(node, "debug", "python3", "-c", SEND.format(kind=kind, node=NODE, port=RAW))[0] == 1
    assert run(node, "debug", "cp", "/bin/sh", "/tmp/sh")[0] == 137, "in no list"
    address = node.cluster.kubectl("get", "pod", "held", "-o", "jsonpath={.status.podIP}").stdout
    assert run(node, "debug", "python3", "-c", FRAME, address, NODE, str(RAW))[0] == 0, "it has a packet socket"
    node.until(lambda: len(records(node, "debug", action="connect", decision="deny", host=NODE)) >= 2, "the last refusal")
    assert [each["http"]["path"] for each in records(node, "debug", action="http", decision="deny")] == ["/shut"]
    assert records(node, "debug", action="dns", decision="deny", host=OTHER)
    assert records(node, "debug", action="exec", decision="deny", binary_path="/usr/bin/cp")
    assert [line for line in node.heard()[before:] if line.startswith("raw") or "/shut" in line] == []


def test_what_it_does_in_the_namespace_of_its_target_is_decided_as_its_own(node: Node) -> None:
    """It sees the target's processes and their files, executes these, and may trace those: it is the same pod, and gets no further."""
    before, decided = len(node.heard()), len(records(node, "debug", action="http"))
    assert "http.server" in run(node, "debug", "cat", "/proc/1/cmdline")[1], "the target's first process"
    theirs = "/proc/1/root/usr/bin"
    assert run(node, "debug", f"{theirs}/curl", *CURL[1:], f"https://{API}/open/theirs") == (0, "200")
    assert run(node, "debug", f"{theirs}/curl", *CURL[1:], f"https://{API}/shut") == (0, "403")
    assert run(node, "debug", f"{theirs}/cp", "/bin/sh", "/tmp/sh")[0] == 137, "in no list"
    found = [(each["http"]["path"], each["decision"]) for each in records(node, "debug", action="http")[decided:]]
    assert found == [("/open/theirs", "allow"), ("/shut", "deny")]
    seize = SEIZE.format(pid=1)
    assert run(node, "debug", "python3", "-c", seize)[0] == 0, "nobody refuses that (docs/kubernetes-node.md)"
    status, _ = run(node, "debug", "python3", "-c", f"{seize}\n{SEND.format(kind='SOCK_STREAM', node=NODE, port=RAW)}")
    assert status == 1
    assert [line for line in node.heard()[before:] if line.startswith("raw") or "/shut" in line] == []


def test_containers_that_share_their_processes_are_told_apart_and_taken_over(node: Node) -> None:
    """By an agent that ends while they run, one with an ephemeral container, one with an orphan that the pod's own process took up."""
    made = json.loads(pod("shared", command=["sh", "-c", "(sleep 999 &); exec python3 -m http.server 8080"]))
    (main,) = made["spec"]["containers"]
    side = {"name": "side", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", "(sleep 998 &); exec sleep 1000"]}
    made["spec"] |= {"shareProcessNamespace": True, "containers": [main, side]}
    node.cluster.apply(json.dumps(made))
    node.cluster.wait("pod/shared", "condition=Ready", 120)
    debug(node, "guest", of="shared")
    for name in ("side", "guest"):
        detail = began(node, name, "shared")["detail"]
        assert (detail["governed"], detail["gap_us"], detail["held"]) == ("before its first instruction", 0, "yes"), (name, detail)
    before, heard = len(node.release.records()), len(node.heard())
    os.kill(node.agent(), signal.SIGKILL)
    for name in ("side", "guest"):
        assert run(node, name, *CURL, f"http://{NODE}:{RAW}/", of="shared")[0] == 7
        assert run(node, name, "cp", "/bin/sh", "/tmp/sh", of="shared")[0] == 137
    node.release.rolled_out()
    for of, name in (("shared", "side"), ("shared", "guest"), ("held", "debug")):
        node.until(lambda of=of, name=name: run(node, name, *CURL, f"https://{API}/open/again", of=of) == (0, "200"), f"{name} again")
        assert run(node, name, *CURL, f"https://{API}/shut", of=of) == (0, "403")
        assert run(node, name, *CURL, f"http://{NODE}:{RAW}/", of=of)[0] == 7
    since = node.release.records()[before:]
    told = [each for each in select(since, reason="started") if each["detail"].get("started") == "container"]
    executed = {each["sandbox"]["labels"]["container"]: " ".join(each["detail"]["processes"]) for each in told}
    assert executed["side"].count("/usr/bin/sleep") == 2 and executed["guest"].count("/usr/bin/sleep") == 1, executed
    asked = {each["sandbox"]["labels"]["container"] for each in select(since, action="http", decision="deny")}
    assert asked == {"side", "guest", "debug"}
    assert [line for line in node.heard()[heard:] if line.startswith("raw") or "/shut" in line] == []
    node.cluster.kubectl("delete", "pod", "shared", "--wait")


def test_a_pod_that_is_older_than_its_policy_is_held_with_what_was_put_into_it(node: Node) -> None:
    """Until then nobody holds it. What runs already is told as late, what comes afterwards is not."""
    cluster = node.cluster
    made = json.loads(pod("older", command=["sleep", "1000"], readinessProbe=None, ports=[]))
    made["metadata"]["labels"] = {"app": "older"}
    cluster.apply(json.dumps(made))
    cluster.wait("pod/older", "condition=Ready", 120)
    debug(node, "early", of="older", trusts=False)
    out = SEND.format(kind="SOCK_DGRAM", node=NODE, port=RAW)
    heard = len(node.heard())
    assert run(node, "early", "python3", "-c", out, of="older")[0] == 0
    node.until(lambda: "raw udp" in node.heard()[heard:], "what nobody refuses")
    cluster.apply(policy("/open/**", name="older", selector={"matchLabels": {"app": "older"}}))
    node.until(lambda: run(node, "early", "python3", "-c", out, of="older")[0] == 1, "a refusal")
    heard = len(node.heard())
    debug(node, "later", of="older", trusts=False)
    for name in ("early", "later"):
        assert run(node, name, "python3", "-c", out, of="older")[0] == 1
        assert run(node, name, *CURL, f"http://{NODE}:{RAW}/", of="older")[0] == 7
        assert run(node, name, *CURL, f"https://{API}/open/a", of="older")[0] == 60, "it was given no trust store"
    early, later = began(node, "early", "older")["detail"], began(node, "later", "older")["detail"]
    assert early["governed"] == "after its first instruction" and early["gap_us"] > 0
    assert [each for each in early["processes"] if "/usr/bin/sleep" in each]
    assert (later["governed"], later["gap_us"]) == ("before its first instruction", 0)
    assert [line for line in node.heard()[heard:] if line.startswith("raw")] == []
    cluster.kubectl("delete", "stockadepolicies", "older")
    cluster.kubectl("delete", "pod", "older", "--wait")


def test_by_what_a_container_is_not_held_is_told(node: Node) -> None:
    """In its record and in the policy's status; of what it asks for also to whoever makes it, and on the pod. Else it is governed."""
    cluster = node.cluster
    runtime = f"{cluster.room}/containerd.sock"
    security = {"tracing": {"capabilities": {"add": ["SYS_PTRACE"]}}, "mighty": {"privileged": True}, "starting": {}, "leaving": {}}
    keeps = {"tracing": "main: SYS_PTRACE", "mighty": "main: privileged"}
    shown = {"starting": runtime, "leaving": str(unified(""))}
    for name, asked in security.items():
        made = json.loads(pod(name, command=["sleep", "1000"], readinessProbe=None, ports=[], securityContext=asked))
        if name in shown:
            made["spec"]["volumes"] = [{"name": "node", "hostPath": {"path": shown[name]}}]
            made["spec"]["containers"][0]["volumeMounts"] = [{"name": "node", "mountPath": "/node", "readOnly": name == "starting"}]
        said = cluster.kubectl("create", "-f", "-", text=json.dumps(made)).stderr
        assert (f"stockade: not held by the node: {keeps.get(name)}" in said) == (name in keeps)
        noted = json.loads(cluster.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.annotations}").stdout)
        assert noted.get("stockade.internal/not-held") == keeps.get(name)
    for name in security:
        cluster.wait(f"pod/{name}", "condition=Ready", 120)
    told = {name: began(node, "main", name)["detail"] for name in security}
    assert {detail["held"] for detail in told.values()} == {"no"}
    assert told["tracing"]["not_held"] == [f"main keeps {PTRACE_WITHIN}"]
    assert {"main keeps CAP_SYS_ADMIN", "main keeps CAP_NET_ADMIN"} <= set(told["mighty"]["not_held"])
    assert told["starting"]["not_held"] == [f"main keeps {runtime}, by which it can start what nobody holds"]
    assert told["leaving"]["not_held"] == ["main keeps /node, by which it can leave what holds it"]
    status = "jsonpath={.status.nodes[*].unheld}"

    def says() -> bool:
        text = cluster.kubectl("get", "stockadepolicies", "app", "-o", status).stdout
        return all(f"default/{name}: main keeps" in text for name in security) and "default/held" not in text

    node.until(says, "a word on each")
    for name in security:
        assert node.run(*CURL, f"https://{API}/open/a", name=name) == (0, "200")
        assert node.run(*CURL, f"http://{NODE}:{RAW}/", name=name)[0] == 7
    cluster.kubectl("delete", "pod", *security, "--wait")


def test_one_that_is_put_into_a_pod_past_the_api_is_governed_too(node: Node) -> None:
    """By whoever has the runtime: with every capability, as `kubectl debug --profile=sysadmin` has since 1.23. No API knows it."""
    cluster, identity = node.cluster, secrets.token_hex(32)
    runtime = node.runtime[:-1]
    main = began(node, "main", "held")["sandbox"]["labels"]["container_id"]
    listed = [line.split() for line in cluster.host(*node.runtime, "ls").stdout.splitlines()]
    (pid,) = [int(words[1]) for words in listed if words[0].startswith(main)]
    own = next(line.removeprefix("0::") for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    within = ["--cgroup", f"{own.rpartition('/')[0]}/{identity}", "--with-ns", f"network:/proc/{pid}/ns/net"]
    before = len(node.heard())
    cluster.host(*runtime, "run", "--detach", "--privileged", *within, IMAGE, identity, "sleep", "1000")
    try:
        short = identity[:12]
        node.until(lambda: records(node, short, "held", reason="started"), "the record of its start")
        detail = began(node, short, "held")["detail"]
        assert (detail["governed"], detail["gap_us"], detail["held"]) == ("before its first instruction", 0, "no"), detail
        assert {f"{short} keeps CAP_SYS_ADMIN", f"{short} keeps CAP_NET_ADMIN"} <= set(detail["not_held"])
        tasks = [*node.runtime, "exec", "--exec-id"]
        assert cluster.host(*tasks, "raw", identity, *CURL, f"http://{NODE}:{RAW}/", check=False).returncode == 7
        assert cluster.host(*tasks, "cp", identity, "cp", "/bin/sh", "/tmp/sh", check=False).returncode == 137
        assert records(node, short, "held", action="connect", decision="deny", host=NODE)
        assert records(node, short, "held", action="exec", decision="deny", binary_path="/usr/bin/cp")
        says = "jsonpath={.status.nodes[*].unheld}"
        node.until(lambda: f"{short} keeps" in cluster.kubectl("get", "stockadepolicies", "app", "-o", says).stdout, "a word in the status")
    finally:
        cluster.host(*node.runtime, "kill", "--signal", "SIGKILL", identity, check=False)
        node.until(lambda: cluster.host(*node.runtime, "rm", identity, check=False).returncode == 0, "its end")
        cluster.host(*runtime, "containers", "rm", identity)
    assert [line for line in node.heard()[before:] if line.startswith("raw")] == []
