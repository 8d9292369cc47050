"""The controller on a real API server: what it asks of the node's agent, and what the policies' status and the pods' events say of it.

It has the rights that deploy/kubernetes/README.md lists, and no other.

The pods run nowhere: an API server without a node takes them, and this is about what follows from what it says.
"""

from __future__ import annotations

import json
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.kubernetes.alone import API, Alone
from framework.patience import PATIENCE
from stockade.policy.format.crd import GROUP, VERSION

NODE = "node1"
RULE: dict[str, Any] = {
    "name": "read",
    "binary": {"allow": ["curl"]},
    "destination": {"allow": ["api.example.com"]},
    "port": [443],
    "method": {"allow": ["GET"]},
    "path": {"allow": ["/v1/**"]},
}
AGENT = {"matchLabels": {"app": "agent"}}
Json = dict[str, Any]


class Controlled:
    """A controller at work, and what it has asked of its node so far."""

    def __init__(self, api: Alone, state: Path, unmatched: str, *own: str, node: str = NODE) -> None:
        program = Path(__file__).with_name("node_of_lines.py")
        self._process = api.program(sys.executable, program, api.room / "agent.kubeconfig", node, state, unmatched, *own)
        self._lines: queue.Queue[Json] = queue.Queue()
        self.asked: dict[str, Json] = {}  # by the pod's uid, the last of each
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def hear(self, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def governs(self, uid: str, **more: Any) -> None:
        """The node's agent says that it has done what was asked."""
        self.hear(uid=uid, state="governed", revision=self.asked[uid]["revision"], **more)

    def until(self, uid: str, fits: Callable[[Json], bool]) -> Json:
        """What was asked of a pod, once that fits."""
        until = time.monotonic() + 30 * PATIENCE
        while not (uid in self.asked and fits(self.asked[uid])):
            try:
                said = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"last asked: {self.asked.get(uid)}") from None
            self.asked[said["uid"]] = said
        return self.asked[uid]

    def nothing_new(self, seconds: float) -> bool:
        try:
            said = self._lines.get(timeout=seconds)
        except queue.Empty:
            return True
        self.asked[said["uid"]] = said
        return False

    def end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def api(alone: Alone) -> Iterator[Alone]:
    """With a namespace `team`, and nothing of the test's in it or in `default` afterwards."""
    alone.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": {"kept": "yes"}}}))
    alone.kubectl("create", "serviceaccount", "default", "-n", "team", check=False)
    yield alone
    alone.kubectl("delete", "stp,cstp,pod,event", "--all", "--all-namespaces", "--force", "--grace-period=0")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(scope="module")
def controlled(alone: Alone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    """One for all: what a test leaves behind in it is what days leave behind."""
    running = Controlled(alone, tmp_path_factory.mktemp("state"), "leave")
    yield running
    running.end()


def pod(api: Alone, name: str, *, namespace: str = "default", node: str = NODE, notes: dict[str, str] | None = None, **labels: str) -> str:
    """Make one, and return its uid."""
    container = {"name": "main", "image": "docker.io/local/none:1", "imagePullPolicy": "Never", "ports": [{"containerPort": 8080}]}
    whole = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": notes or {}},
        "spec": {"nodeName": node, "automountServiceAccountToken": False, "containers": [container]},
    }
    api.apply(json.dumps(whole))
    return api.kubectl("get", "pod", name, "-n", namespace, "-o", "jsonpath={.metadata.uid}").stdout


def policy(api: Alone, name: str, *, rule: Json | None = None, namespace: str = "default", **spec: Any) -> None:
    """Of the cluster when namespace is empty."""
    head = {"name": name} | ({"namespace": namespace} if namespace else {})
    kind = "StockadePolicy" if namespace else "ClusterStockadePolicy"
    whole = {"network": [RULE | (rule or {})], "selector": AGENT} | spec
    whole = {key: value for key, value in whole.items() if value is not None}
    said = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": head, "spec": whole}
    api.apply(json.dumps(said), "--validate=false")


def status(api: Alone, name: str, fits: Callable[[Json], bool], namespace: str = "default") -> Json:
    """Of a policy, once it fits."""
    place = f"namespaces/{namespace}/stockadepolicies" if namespace else "clusterstockadepolicies"
    until = time.monotonic() + 40 * PATIENCE
    while True:
        found: Json = json.loads(api.kubectl("get", "--raw", f"/apis/{GROUP}/{VERSION}/{place}/{name}").stdout).get("status", {})
        if fits(found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.3)


def served(api: Alone) -> None:
    """Until our resources are: an API server that starts says it is ready before, and kubectl would remember that they were not there."""
    until = time.monotonic() + 60 * PATIENCE
    for path in ("", "/stockadepolicies", "/clusterstockadepolicies"):
        while api.kubectl("get", "--raw", f"/apis/{GROUP}/{VERSION}{path}", check=False).returncode:
            assert time.monotonic() < until, path
            time.sleep(0.3)


def condition(status: Json, kind: str) -> Json:
    found: Json = next((each for each in status.get("conditions", ()) if each["type"] == kind), {})
    return found


def held_to(*policies: str) -> Callable[[Json], bool]:
    """Whether these are what a pod is held to, in this order: NAMESPACE.NAME.GENERATION, or cluster.NAME.GENERATION."""

    def fits(asked: Json) -> bool:
        names = [name.removeprefix("of.").rsplit(".", 2)[0] for name in asked.get("files", ())]
        return asked["call"] == "want" and names == list(policies)

    return fits


def test_a_policy_is_what_its_pods_are_held_to_until_it_is_gone(api: Alone, controlled: Controlled) -> None:
    mine, other = pod(api, "mine", app="agent"), pod(api, "other", app="else")
    elsewhere = pod(api, "elsewhere", node="node2", app="agent")
    assert controlled.until(mine, lambda asked: asked["call"] == "leave")
    policy(api, "reading")
    asked = controlled.until(mine, held_to("default.reading.1"))
    assert '"api.example.com"' in asked["texts"][0] and "mode: enforce" in asked["texts"][0] and not asked["observe"]
    assert asked["labels"] | {"pod_uid": mine} == {
        "namespace": "default",
        "pod": "mine",
        "pod_uid": mine,
        "node": NODE,
        "service_account": "default",
    }
    assert controlled.asked[other]["call"] == "leave" and elsewhere not in controlled.asked

    controlled.governs(mine)
    found = status(api, "reading", lambda status: status.get("sandboxes") == 1)
    assert (condition(found, "Loaded")["status"], condition(found, "Enforced")["status"]) == ("True", "True")
    assert [(each["name"], each["generation"], each["pods"]) for each in found["nodes"]] == [(NODE, 1, 1)]
    row = api.kubectl("get", "stp", "reading").stdout.splitlines()[1].split()
    assert row[1:5] == ["True", "1", "1", "0"], row

    policy(api, "reading", rule={"path": {"allow": ["/v2/**"]}})
    changed = controlled.until(mine, held_to("default.reading.2"))
    assert "/v2/**" in changed["texts"][0] and changed["revision"] != asked["revision"]
    found = status(api, "reading", lambda status: status.get("sandboxes") == 0 and status["observedGeneration"] == 2)
    assert condition(found, "Enforced")["reason"] == "Waiting"

    api.kubectl("label", "pod", "mine", "app=else", "--overwrite")
    assert controlled.until(mine, lambda asked: asked["call"] == "leave")
    api.kubectl("label", "pod", "other", "app=agent", "--overwrite")
    assert controlled.until(other, held_to("default.reading.2"))
    api.kubectl("delete", "stp", "reading")
    assert controlled.until(other, lambda asked: asked["call"] == "leave")
    api.kubectl("delete", "pod", "other", "--force", "--grace-period=0")
    assert controlled.until(other, lambda asked: asked["call"] == "forget")


def test_a_policy_that_does_not_load_replaces_none_and_says_where_it_is_wrong(api: Alone, controlled: Controlled) -> None:
    policy(api, "reading")
    uid = pod(api, "mine", app="agent")
    controlled.until(uid, held_to("default.reading.1"))
    controlled.governs(uid)
    bad = {"name": "more", "binary": {"allow": ["curl"]}, "destination": {"allow": ["*.com"]}, "tls": "passthrough"}
    policy(api, "reading", network=[RULE, bad])
    found = status(api, "reading", lambda status: condition(status, "Loaded").get("status") == "False")
    problem = found["nodes"][0]["problems"][0]
    assert problem["field"] == "spec.network[1].destination.allow[0]" and problem["code"] and problem["line"] > 10
    assert "generation 1 stays in force" in condition(found, "Loaded")["message"]
    assert found["nodes"][0]["generation"] == 1 and found["observedGeneration"] == 2 and found["sandboxes"] == 1
    assert held_to("default.reading.1")(controlled.asked[uid])
    new = pod(api, "new", app="agent")  # the good one is what new ones are held to
    assert controlled.until(new, held_to("default.reading.1"))
    policy(api, "reading")
    assert controlled.until(uid, held_to("default.reading.3"))
    status(api, "reading", lambda status: condition(status, "Loaded").get("status") == "True")


def test_one_that_never_loaded_changes_nothing_for_who_was_there_and_lets_nobody_new_out(api: Alone, controlled: Controlled) -> None:
    there = pod(api, "there", app="agent")
    controlled.until(there, lambda asked: asked["call"] == "leave")
    policy(api, "typo", network=[RULE | {"pth": {"allow": ["/"]}}])
    status(api, "typo", lambda status: condition(status, "Loaded").get("status") == "False")
    assert controlled.asked[there]["call"] == "leave"
    new = pod(api, "new", app="agent")
    asked = controlled.until(new, lambda asked: asked["call"] == "want")
    assert asked["files"] == []


REACHING: dict[str, Json] = {
    "spec.extends[0]": {"extends": ["/etc/passwd"]},
    "spec.extends[1]": {"extends": ["presets/pypi", "./other.yaml"]},
    "spec.rego": {"rego": ["rules.rego"]},
    "spec.filesystem": {"filesystem": {"read": ["/etc"]}},
    "spec.selector.matchLables": {"selector": {"matchLables": {"app": "agent"}}},
    "spec.privacy.detect.dictionaries": {
        "privacy": {"detect": {"dictionaries": [{"name": "n", "category": "ip.document", "file": "/etc/shadow"}]}}
    },
    "spec.privacy.local": {"privacy": {"local": {"url": "http://x.example", "model": "m", "api_key_env": "TOKEN"}}},
    "spec.network[0]": {"network": [RULE | {"destination": {"allow": ["localhost:2379"]}}]},
}


def test_what_would_read_the_nodes_files_is_refused(api: Alone, controlled: Controlled) -> None:
    pod(api, "mine", app="agent")
    for number, spec in enumerate(REACHING.values()):
        policy(api, f"reaching-{number}", **spec)
    for number, field in enumerate(REACHING):
        found = status(api, f"reaching-{number}", lambda status: condition(status, "Loaded").get("status") == "False")
        assert condition(found, "Loaded")["message"].startswith(field)


def test_nodes_write_one_status_and_none_overwrites_another(api: Alone, controlled: Controlled, tmp_path: Path) -> None:
    others = {name: Controlled(api, tmp_path / name, "leave", node=name) for name in ("node2", "node3")}
    nodes = {NODE: controlled} | others
    try:
        uids = {name: pod(api, f"on-{name}", node=name, app="agent") for name in nodes}
        policy(api, "reading")  # and all of them have something to say of it at once
        for name, node in nodes.items():
            node.until(uids[name], held_to("default.reading.1"))
            node.hear(uid=uids[name], host="evil.example.com", outcome="deny", enforced=True)
            node.governs(uids[name], trust="a volume")
        found = status(api, "reading", lambda status: status.get("sandboxes") == 3)
        assert [(each["name"], each["pods"], each["refused"]) for each in found["nodes"]] == [(name, 1, 1) for name in sorted(nodes)]
        assert condition(found, "Loaded")["message"] == "3 pods on 3 nodes" and found["refused"] == 3
        stages = {"stages": [{"percent": 100, "for": "1s"}]}
        policy(api, "reading", rule={"path": {"allow": ["/v2/**"]}}, rollout=stages)
        for name, node in nodes.items():
            node.until(uids[name], held_to("default.reading.2"))
        found = status(api, "reading", lambda status: all(each["generation"] == 2 for each in status["nodes"]))
        assert (found["rollout"]["state"], found["rollout"]["stable"]["generation"], len(found["nodes"])) == ("Complete", 2, 3)
    finally:
        for node in others.values():
            node.end()


def test_several_compose_with_those_of_the_cluster_first(api: Alone, controlled: Controlled) -> None:
    uid, away = pod(api, "mine", namespace="team", app="agent"), pod(api, "away", app="agent")
    policy(api, "b", namespace="team")
    policy(api, "a", namespace="team")
    policy(api, "z", namespace="team", priority=5)
    policy(api, "whole", namespace="", namespaceSelector={"matchLabels": {"kept": "yes"}}, selector={})
    controlled.until(uid, held_to("cluster.whole.1", "team.z.1", "team.a.1", "team.b.1"))
    assert '"cluster.whole.read"' in controlled.asked[uid]["texts"][0]
    api.kubectl("label", "namespace", "default", "kept=yes")
    try:
        assert controlled.until(away, held_to("cluster.whole.1"))
    finally:
        api.kubectl("label", "namespace", "default", "kept-")
    assert controlled.until(away, lambda asked: asked["call"] == "leave")


def test_a_pod_names_its_policies_and_one_that_is_not_there_lets_nothing_out(api: Alone, controlled: Controlled) -> None:
    policy(api, "named", selector=None)
    uid = pod(api, "mine", notes={"stockade.internal/policy": "named, other"})
    assert controlled.until(uid, lambda asked: asked["call"] == "want")["files"] == []
    policy(api, "other", selector=None, mode="observe")
    controlled.until(uid, held_to("default.named.1"))  # what observes is left out beside what enforces
    policy(api, "named", selector=None, mode="observe")
    assert controlled.until(uid, held_to("default.named.2", "default.other.1"))["observe"]


def test_events_say_the_first_refusals_and_who_is_not_held(api: Alone, controlled: Controlled) -> None:
    policy(api, "reading")
    uid = pod(api, "mine", app="agent")
    controlled.until(uid, held_to("default.reading.1"))
    for _ in range(3):
        controlled.hear(uid=uid, host="evil.example.com", outcome="deny", enforced=True)
    controlled.hear(uid=uid, host="api.example.com", outcome="allow", enforced=True)
    controlled.governs(uid, unheld=["CAP_NET_ADMIN of main"], gaps_us={"main": 1500})
    found = status(api, "reading", lambda status: status.get("refused") == 3)
    assert condition(found, "Enforced")["reason"] == "NotHeld" and "CAP_NET_ADMIN" in condition(found, "Enforced")["message"]
    until = time.monotonic() + 20 * PATIENCE
    while len(events := json.loads(api.kubectl("get", "events", "-o", "json").stdout)["items"]) < 3 and time.monotonic() < until:
        time.sleep(0.3)
    said = {(each["reason"], each["message"]) for each in events if each["involvedObject"]["uid"] == uid}
    assert said == {
        ("Refused", "connect of curl to evil.example.com:443: no_rule"),
        ("NotHeld", "it could get something out: CAP_NET_ADMIN of main"),
        ("HeldLate", "before it was governed main ran 1500 µs"),
    }


def test_a_roll_out_looks_first_and_holds_then(api: Alone, controlled: Controlled) -> None:
    uid = pod(api, "mine", app="agent")
    controlled.until(uid, lambda asked: asked["call"] == "leave")
    policy(api, "staged", rollout={"stages": [{"percent": 100, "for": "1s"}], "maximumUnexpected": 0})
    looked = controlled.until(uid, held_to("default.staged.1"))
    assert looked["observe"]
    held = controlled.until(uid, lambda asked: not asked["observe"])
    assert held["files"] == looked["files"] and held["revision"] != looked["revision"]
    controlled.governs(uid)
    found = status(api, "staged", lambda status: status.get("sandboxes") == 1 and status["rollout"]["state"] == "Complete")
    assert condition(found, "Progressing")["reason"] == "Complete" and found["rollout"]["stable"]["generation"] == 1


def test_a_roll_out_that_would_refuse_what_is_done_goes_back_by_itself(api: Alone, controlled: Controlled) -> None:
    policy(api, "staged")
    uid = pod(api, "mine", app="agent")
    controlled.until(uid, held_to("default.staged.1"))
    controlled.governs(uid)
    stages = {"stages": [{"percent": 100, "for": "1h"}]}
    policy(api, "staged", rule={"destination": {"allow": ["other.example.com"]}}, rollout=stages)
    status(api, "staged", lambda status: any(each.get("looking") for each in status.get("nodes", ())))
    controlled.hear(uid=uid, host="other.example.com", outcome="deny", enforced=True)  # nobody may do that today
    controlled.hear(uid=uid, host="api.example.com", outcome="allow", enforced=True)
    found = status(api, "staged", lambda status: status["rollout"]["state"] == "RolledBack")
    assert "connect of curl to api.example.com:443: no_rule (node1)" in condition(found, "Progressing")["message"]
    assert held_to("default.staged.1")(controlled.asked[uid]) and controlled.nothing_new(1)
    assert found["rollout"]["stable"]["generation"] == 1 and found["nodes"][0]["generation"] == 1
    policy(api, "staged", rule={"destination": {"allow": ["other.example.com"]}})  # and without stages it is in force at once
    controlled.until(uid, held_to("default.staged.3"))
    status(api, "staged", lambda status: "rollout" not in status)


def test_the_nodes_of_a_cluster_are_seen_through_its_api(api: Alone, controlled: Controlled) -> None:
    policy(api, "reading")
    uid = pod(api, "mine", app="agent")
    controlled.until(uid, held_to("default.reading.1"))
    controlled.hear(uid=uid, host="evil.example.com", outcome="deny", enforced=True)
    controlled.governs(uid, trust="a volume")
    status(api, "reading", lambda status: status.get("sandboxes") == 1)
    code, (host,), findings = fleet(api)
    assert (code, findings) == (0, []) and host["name"] == NODE and host["node"]["version"]
    (row,) = host["node"]["sandboxes"]
    assert (row["policy"], row["generation"], row["name"], row["denied"]) == ("default/reading", 1, "1 of 1 pods", 1)

    policy(api, "reading", network=[RULE | {"pth": {}}])
    status(api, "reading", lambda status: condition(status, "Loaded").get("status") == "False")
    code, _, (finding,) = fleet(api)
    assert (code, finding["kind"], finding["host"]) == (1, "problem", NODE) and "spec.network[0].pth" in finding["text"]


def fleet(api: Alone) -> tuple[int, list[Json], list[Json]]:
    kubeconfig = str(api.room / "agent.kubeconfig")
    done = api.host(sys.executable, "-m", "stockade", "fleet", "status", "--kubernetes", kubeconfig, "-o", "json", check=False)
    said = json.loads(done.stdout)
    return done.returncode, said["hosts"], said["findings"]


def test_the_cluster_may_say_that_what_no_policy_means_is_refused(api: Alone, state: Path) -> None:
    uid, own = pod(api, "mine", app="agent"), pod(api, "stockade", app="agent")
    running = Controlled(api, state, "deny", own)
    try:
        assert running.until(uid, lambda asked: asked["call"] == "want")["files"] == []
        assert running.until(own, lambda asked: asked["call"] == "leave")  # else it would cut itself off
    finally:
        running.end()


def test_it_goes_on_from_the_disk_while_the_api_is_away(api: Alone, state: Path, tmp_path: Path) -> None:
    policy(api, "reading")
    uid = pod(api, "mine", app="agent")
    first = Controlled(api, state, "leave")
    before = first.until(uid, held_to("default.reading.1"))
    policy(api, "reading", network=[RULE | {"pth": {}}])
    status(api, "reading", lambda status: condition(status, "Loaded").get("status") == "False")
    api.stop_part(API.name)
    try:
        assert first.nothing_new(1.5)
        second = Controlled(api, Path(shutil.copytree(state, tmp_path / "copied")), "leave")  # as an agent that starts now
        again = second.until(uid, lambda asked: asked["call"] == "want")
        assert (again["revision"], again["texts"]) == (before["revision"], before["texts"])
        assert second.nothing_new(1.5)
    finally:
        api.start_part(API)
        served(api)
    policy(api, "reading", rule={"method": {"allow": ["GET", "HEAD"]}})
    for running in (first, second):
        running.until(uid, held_to("default.reading.3"))
    first.end()
    second.governs(uid)
    status(api, "reading", lambda status: status.get("sandboxes") == 1)
    second.end()
