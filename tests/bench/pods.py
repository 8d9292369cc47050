"""What many pods on one node cost: `python tests/bench/pods.py [COUNT]`, as root, with the cluster of the tests (minutes, built once).

Prints, for COUNT pods (50) that are made at once under one policy: how long a container stands still before its first instruction, how long
from its cgroup to its being governed, memory of the agent and of its worker, CPU of an idle minute, and requests to the API meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from framework import containers
from framework.kubernetes import Cluster, agent_image
from framework.kubernetes.release import PLACES, SPACE, WEBHOOK, Release

IMAGE = "docker.io/local/app:1"
POLICY = {
    "apiVersion": "stockade.internal/v1alpha1",
    "kind": "StockadePolicy",
    "metadata": {"name": "many"},
    "spec": {
        "selector": {"matchLabels": {"app": "many"}},
        "exec": {"allow": ["sh", "sleep"]},
        "network": [
            {"name": "api", "binary": {"allow": ["curl"]}, "destination": {"allow": ["api.example.com"]}, "port": [443], "protocol": "tcp"}
        ],
    },
}
REQUESTS = re.compile(r'^apiserver_request_total\{[^}]*resource="([a-z]*)"[^}]*verb="([A-Z]*)"[^}]*\} ([0-9.e+]+)$', re.MULTILINE)


def pods(count: int) -> str:
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "100000"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main]}
    made = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"many-{number}", "labels": {"app": "many"}}, "spec": spec}
        for number in range(count)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": made})


def governed(release: Release) -> list[dict[str, Any]]:
    """What the records say of each container that was taken up; those of pods that nobody governs have one too, and no such time."""
    return [each["detail"] for each in release.records() if each["reason"] == "started" and "since_cgroup_us" in each["detail"]]


def processes() -> dict[str, int]:
    """Those of the agent: words that tell them apart → PID. Of several with the agent's words (it forks before it loads) the largest."""
    found: dict[str, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            inside = "kubepods" in (path / "cgroup").read_text()
        except OSError:
            continue
        name = "agent" if "kubernetes agent" in words else "worker" if words.startswith("stockade-worker") else ""
        if inside and name and (name not in found or memory(int(path.name)) > memory(found[name])):
            found[name] = int(path.name)
    return found


def memory(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +([0-9]+) kB", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requests(cluster: Cluster) -> dict[str, int]:
    """To the resources that only agents ask for, and to pods by watch."""
    found: dict[str, int] = {}
    for resource, verb, count in REQUESTS.findall(cluster.kubectl("get", "--raw", "/metrics").stdout):
        if resource in ("stockadepolicies", "clusterstockadepolicies", "events"):
            found[f"{verb} {resource}"] = found.get(f"{verb} {resource}", 0) + int(float(count))
    return found


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main(count: int) -> None:
    room = Path(tempfile.mkdtemp(prefix="stockade-pods-"))
    with Cluster() as cluster:
        cluster.image(IMAGE, containers.root_filesystem(room / "root", Path(containers.BUNDLE)), ["/bin/sh"])
        agent_image.load(cluster)
        cluster.kubectl("create", "namespace", SPACE)
        if Path("/var/cache/stockade").is_dir():
            cluster.host("cp", "-a", "/var/cache/stockade", PLACES["cache"])
        release = Release(cluster)
        release.say("install")
        release.rolled_out()
        release.rolled_out(WEBHOOK)
        release.lead_to_the_webhook()
        cluster.apply(json.dumps(POLICY))
        time.sleep(3)
        found = processes()
        before = {name: memory(pid) for name, pid in found.items()}
        began = time.monotonic()
        cluster.apply(pods(count))
        while len(governed(release)) < count and time.monotonic() - began < 900:
            time.sleep(2)
        taken, all_of_them = time.monotonic() - began, governed(release)
        cluster.kubectl("wait", "pod", "-l", "app=many", "--for=condition=Ready", "--timeout=300s", timeout=330)
        time.sleep(20)
        after = {name: memory(pid) for name, pid in found.items()}
        asked, used, start = requests(cluster), {name: cpu(pid) for name, pid in found.items()}, time.monotonic()
        time.sleep(60)
        minute = (time.monotonic() - start) / 60
        used = {name: (cpu(pid) - used[name]) / minute / 60 for name, pid in found.items()}
        asked = {name: number - asked.get(name, 0) for name, number in requests(cluster).items() if number > asked.get(name, 0)}
        stood = [each["stood_us"] / 1000 for each in all_of_them if "stood_us" in each]
        since = [each["since_cgroup_us"] / 1000 for each in all_of_them]
        late = sum(1 for each in all_of_them if each["gap_us"])
        print(f"{len(all_of_them)} of {count} pods governed after {taken:.0f} s, {late} of them after their first instruction")
        print(f"from a container's cgroup to its being governed: p50 {quantile(since, 0.5):.0f} ms, p99 {quantile(since, 0.99):.0f} ms")
        print(f"of that it stood still: p50 {quantile(stood, 0.5):.0f} ms, p99 {quantile(stood, 0.99):.0f} ms")
        for name, size in after.items():
            print(f"{name}: {size:.0f} MiB, {(size - before[name]) / count:.2f} MiB a pod; idle {100 * used[name]:.1f} % of a core")
        print(f"requests to the API in {minute:.1f} idle minutes: {asked or 'none of its own'}")
        cluster.kubectl("delete", "pod", "--all", "--wait=false")
    shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
