"""The chart: what it makes of its values, that a real API server takes it, and what an agent may do that is put on a node by it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework import helm
from framework.kubernetes import Cluster, agent_image
from framework.kubernetes.cluster import hierarchies
from framework.kubernetes.parts import NODE
from framework.patience import PATIENCE
from stockade.node.trust import AUTHORITY, MOUNT, VOLUME
from stockade.settings import configured

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ROOT / "deploy/kubernetes"
ALL = {"metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards")}}
Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def program() -> None:
    try:
        helm.helm()
    except RuntimeError as error:
        pytest.skip(str(error))


def of(kind: str, made: list[Json], name: str = "") -> Json:
    found = [each for each in made if each["kind"] == kind and name in each["metadata"]["name"]]
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]


def agent(made: list[Json]) -> Json:
    (container,) = of("DaemonSet", made)["spec"]["template"]["spec"]["containers"]
    return dict(container)


# --- what is made of what ---


def test_the_resources_are_the_ones_that_the_product_makes() -> None:
    made = {each["metadata"]["name"]: each for each in helm.rendered() if each["kind"] == "CustomResourceDefinition"}
    definitions = {each["metadata"]["name"]: each for each in yaml.safe_load_all((PLAIN / "crds.yaml").read_text())}
    assert len(definitions) == 2
    for each in made.values():
        assert each["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert made == definitions


def test_rules_and_dashboards_are_the_ones_that_are_tested() -> None:
    made = helm.rendered(ALL)
    groups = [
        group
        for name in ("rules", "alerts")
        for group in yaml.safe_load((ROOT / f"deploy/prometheus/stockade.{name}.yml").read_text())["groups"]
    ]
    assert of("PrometheusRule", made)["spec"]["groups"] == groups
    shown = {key: json.loads(text) for each in made if "dashboard" in each["metadata"]["name"] for key, text in each["data"].items()}
    files = (ROOT / "deploy/grafana/dashboards").glob("*.json")
    assert shown == {f"stockade-{path.name}": json.loads(path.read_text()) for path in files}
    monitor, service = of("ServiceMonitor", made)["spec"], of("Service", made, "metrics")
    assert service["metadata"]["labels"].items() >= monitor["selector"]["matchLabels"].items()
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "stockade", "rules and dashboards ask for that job"


def test_what_is_optional_is_not_there_unless_it_is_asked_for() -> None:
    kinds = {each["kind"] for each in helm.rendered()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert not any("dashboard" in each["metadata"]["name"] for each in helm.rendered())
    without = {"metrics": {"enabled": False}, "webhook": {"enabled": False}, "crds": {"install": False}}
    kinds = {each["kind"] for each in helm.rendered(without)}
    assert kinds == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet"}


def test_the_settings_are_a_file_that_the_agent_reads(tmp_path: Path) -> None:
    sink = {"type": "http", "product": "splunk", "url": "https://splunk.example.com:8088", "token": "env:HEC"}
    made = helm.rendered({"agent": {"settings": {"audit": {"rotate": {"size": "64M"}, "sinks": [sink]}}}})
    file = tmp_path / "stockade.yaml"
    file.write_text(of("ConfigMap", made, "settings")["data"]["stockade.yaml"])
    file.chmod(0o600)
    read = configured(file)
    assert read.metrics.listen is not None and str(read.metrics.listen) == "0.0.0.0:9464"
    assert [each.name for each in read.audit.sinks] == ["splunk"]


def test_another_setting_is_another_pod() -> None:
    def mark(values: Json) -> str:
        annotations = of("DaemonSet", helm.rendered(values))["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert mark({}) != mark({"agent": {"settings": {"audit": {"rotate": {"size": "64M"}}}}})


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"webhook": {"failurePolicy": "Maybe"}}, "/webhook/failurePolicy"),
        ({"agent": {"capabilities": ["ALL"]}}, "/agent/capabilities/0"),
        ({"agent": {"privileged": True}}, "/agent"),
        ({"node": {"state": "var/lib"}}, "/node/state"),
        ({"node": {"run": "/run"}}, "/node/run"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"webhook": {"mayKeep": ["monitoring/SYS_ADMIN"]}}, "/webhook/mayKeep/0"),
        ({"metrics": {"port": 0}}, "/metrics/port"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_where_it_stands(values: Json, where: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"at '{where}'")):
        helm.rendered(values)


def test_every_value_is_in_the_schema() -> None:
    def keys(value: Any, schema: Mapping[str, Any], at: str = "") -> Iterator[str]:
        if isinstance(value, dict) and schema.get("additionalProperties") is False:
            for name, each in value.items():
                yield from keys(each, schema["properties"].get(name, {"absent": True}), f"{at}/{name}")
        elif "absent" in schema:
            yield at

    schema = json.loads((helm.CHART / "values.schema.json").read_text())
    assert list(keys(yaml.safe_load((helm.CHART / "values.yaml").read_text()), schema)) == []


def test_the_plain_manifests_are_the_charts(tmp_path: Path) -> None:
    """deploy/kubernetes/render.sh makes them anew."""
    subprocess.run([PLAIN / "render.sh", tmp_path], check=True, env={"HELM": str(helm.helm()), "PATH": "/usr/bin:/bin", "HOME": "/nowhere"})
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made.keys() == {"stockade.yaml", "webhook.yaml", "leave.yaml"}
    assert made == {name: (PLAIN / name).read_text() for name in made}


def images(made: list[Json]) -> list[str]:
    return [
        container["image"]
        for each in made
        if "template" in each.get("spec", {})
        for container in each["spec"]["template"]["spec"]["containers"]
    ]


def test_no_image_is_anybodys_but_the_operators() -> None:
    """A name that whoever comes first may take would be run with CAP_SYS_ADMIN on every node."""
    with pytest.raises(RuntimeError, match=r"image\.repository: no image is published; build one \(deploy/docker/build\.sh\)"):
        helm.rendered({"image": {"repository": ""}})
    with pytest.raises(RuntimeError, match=r"image\.repository: no image is published"):
        helm.rendered({"image": {"repository": ""}, "leave": {"enabled": True}, "webhook": {"enabled": False}})
    assert yaml.safe_load((helm.CHART / "values.yaml").read_text())["image"]["repository"] == ""
    assert {each.rpartition(":")[0] for each in images(helm.rendered())} == {helm.IMAGE}


@pytest.mark.parametrize("name", ["stockade.yaml", "webhook.yaml", "leave.yaml"])
def test_the_plain_manifests_name_an_image_that_no_registry_can_have_until_one_is_put_there(name: str) -> None:
    (command,) = re.findall(r"^sed .*$", (PLAIN / "README.md").read_text(), re.MULTILINE)
    (expression,) = re.findall(r"'(s#.*?)'", command)
    assert images([each for each in yaml.safe_load_all((PLAIN / name).read_text()) if each])[0].startswith("image.invalid/")
    done = subprocess.run(["sed", expression, PLAIN / name], capture_output=True, text=True, check=True)
    assert images([each for each in yaml.safe_load_all(done.stdout) if each]) == ["registry.example.com/stockade/agent:0.1.0"]
    assert "image.invalid" not in done.stdout


@pytest.mark.parametrize("name", ["stockade.yaml", "leave.yaml"])
def test_the_plain_manifests_have_no_field_that_an_older_server_refuses(name: str) -> None:
    """`appArmorProfile` is a field since 1.30; the annotation before it is taken by newer servers too."""
    template = of("DaemonSet", [each for each in yaml.safe_load_all((PLAIN / name).read_text()) if each])["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert "appArmorProfile" not in container["securityContext"]
    assert template["metadata"]["annotations"][f"container.apparmor.security.beta.kubernetes.io/{container['name']}"] == "unconfined"


def test_the_port_of_the_probes_is_said_once() -> None:
    with pytest.raises(RuntimeError, match=r"say metrics\.port"):
        helm.rendered({"agent": {"settings": {"metrics": {"listen": "127.0.0.1:9000"}}}})


def test_probes_ask_at_the_page_of_metrics_and_go_with_it() -> None:
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    made = agent(helm.rendered({"metrics": {"port": 9999}}))
    assert [made[each]["tcpSocket"] for each in probes] == [{"port": "metrics"}] * 3
    assert [each["containerPort"] for each in made["ports"]] == [9999]
    assert not {*probes, "ports"} & agent(helm.rendered({"metrics": {"enabled": False}})).keys()


def test_a_runtime_class_is_the_agents_where_one_is_said() -> None:
    specs = [of("DaemonSet", helm.rendered({"agent": agent}))["spec"]["template"]["spec"] for agent in ({}, {"runtimeClassName": "nvidia"})]
    assert [each.get("runtimeClassName") for each in specs] == [None, "nvidia"]


# --- least right ---


def test_the_agent_is_not_privileged_and_its_root_is_read_only() -> None:
    context = agent(helm.rendered())["securityContext"]
    assert not context["privileged"] and context["readOnlyRootFilesystem"] and context["capabilities"]["drop"] == ["ALL"]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("unconfined", {"type": "Unconfined"}),
        ("runtime/default", {"type": "RuntimeDefault"}),
        ("localhost/stockade", {"type": "Localhost", "localhostProfile": "stockade"}),
    ],
)
def test_its_apparmor_profile_is_said_as_the_cluster_has_it(said: str, field: Json) -> None:
    values = {"agent": {"appArmorProfile": said}}
    new, old = (helm.rendered(values, f"--kube-version={version}") for version in ("1.30.0", "1.29.0"))
    annotation = "container.apparmor.security.beta.kubernetes.io/agent"
    assert agent(new)["securityContext"]["appArmorProfile"] == field and "appArmorProfile" not in agent(old)["securityContext"]
    annotations = [of("DaemonSet", each)["spec"]["template"]["metadata"]["annotations"] for each in (new, old)]
    assert annotation not in annotations[0] and annotations[1][annotation] == said


def test_each_capability_is_explained() -> None:
    explained = re.findall(r"^\| `([A-Z_]+)` \| \S", (helm.CHART / "README.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(agent(helm.rendered())["securityContext"]["capabilities"]["add"])


def test_each_mount_is_explained() -> None:
    explained = re.findall(r"^\| `(/[a-z/.]+)` \| \S", (helm.CHART / "README.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(each["mountPath"] for each in agent(helm.rendered())["volumeMounts"])


def test_the_roles_rights_are_those_that_are_stated() -> None:
    """By the table of deploy/kubernetes/README.md, which the agent's author wrote."""
    stated = set()
    for group, resources, verbs in re.findall(
        r"^\| `([^`]*)` \| (`[^|]*`) \| ([a-z, ]+) \|", (PLAIN / "README.md").read_text(), re.MULTILINE
    ):
        stated |= {(group.strip('"'), name, verb) for name in re.findall("`([^`]+)`", resources) for verb in verbs.split(", ")}
    rules = of("ClusterRole", helm.rendered({"webhook": {"enabled": False}}))["rules"]
    given = {(group, name, verb) for each in rules for group in each["apiGroups"] for name in each["resources"] for verb in each["verbs"]}
    assert given == stated and len(given) > 10


def test_the_webhook_may_see_policies_and_namespaces_or_nothing_at_all() -> None:
    made = helm.rendered()
    spec = of("Deployment", made)["spec"]["template"]["spec"]
    (rights,) = [each["rules"] for each in made if each["kind"] == "ClusterRole" and each["metadata"]["name"] == spec["serviceAccountName"]]
    assert {verb for each in rights for verb in each["verbs"]} == {"list", "watch"}
    assert {name for each in rights for name in each["resources"]} == {"namespaces", "stockadepolicies", "clusterstockadepolicies"}
    assert "--policies" in spec["containers"][0]["args"]
    for values in ({"webhook": {"pods": "every"}}, {"agent": {"settings": {"kubernetes": {"unmatched": "deny"}}}}):
        made = helm.rendered(values)
        spec = of("Deployment", made)["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False and "serviceAccountName" not in spec
        assert "--policies" not in spec["containers"][0]["args"] and of("ClusterRole", made)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and "hostNetwork" not in spec
    assert (
        container["securityContext"]["capabilities"] == {"drop": ["ALL"]} and not container["securityContext"]["allowPrivilegeEscalation"]
    )


def test_the_webhooks_certificate_is_for_its_service_and_signed_by_whom_the_api_server_is_told(tmp_path: Path) -> None:
    import base64

    made = helm.rendered()
    secret, hook = of("Secret", made)["data"], of("MutatingWebhookConfiguration", made)["webhooks"][0]["clientConfig"]
    for name, text in (("ca", hook["caBundle"]), ("crt", secret["tls.crt"])):
        (tmp_path / name).write_bytes(base64.b64decode(text))
    host = f"{hook['service']['name']}.{hook['service']['namespace']}.svc"
    words: list[str | Path] = ["openssl", "verify", "-CAfile", tmp_path / "ca", "-verify_hostname", host, tmp_path / "crt"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(secret) == {"tls.crt", "tls.key", "ca.crt"}, "the key of the CA is nowhere"


# --- on a cluster ---


def test_a_real_api_server_takes_all_of_it(cluster: Cluster) -> None:
    """Each resource by its own schema; those of operators that are not here are their CRDs' to judge."""
    cluster.kubectl("create", "namespace", "stockade")
    try:
        made = helm.rendered(ALL, "--kube-version=1.20.0")
        foreign = {"ServiceMonitor", "PrometheusRule"}
        known = [each for each in made if each["kind"] not in foreign]
        said = cluster.apply(yaml.safe_dump_all(known), "--dry-run=server").stdout
        assert len(said.splitlines()) == len(known) > 12, said
        for name in ("stockade.yaml", "leave.yaml"):  # webhook.yaml has a policy/v1, of 1.21
            cluster.apply((PLAIN / name).read_text(), "--dry-run=server")
    finally:
        cluster.kubectl("delete", "namespace", "stockade")


RELEASE, SPACE = "stockade", "stockade"
AGENT = f"daemonset/{RELEASE}-agent"
PLACES = {"run": "/run/stockade", "state": "/var/lib/stockade", "log": "/var/log/stockade", "cache": "/var/lib/stockade-cache"}
POLICY: Json = {
    "apiVersion": "stockade.internal/v1alpha1",
    "kind": "StockadePolicy",
    "metadata": {"name": "held"},
    "spec": {
        "selector": {"matchLabels": {"app": "held"}},
        "network": [
            {
                "name": "elsewhere",
                "binary": {"allow": ["curl"]},
                "destination": {"allow": ["elsewhere.example.com"]},
                "port": [443],
                "method": {"allow": ["GET"]},
                "path": {"allow": ["/**"]},
            }
        ],
    },
}
POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "held", "labels": {"app": "held"}},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "work", "image": agent_image.NAME, "imagePullPolicy": "Never", "command": ["sleep", "infinity"]}],
    },
}


class Release:
    """The chart on the cluster, as an operator has it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        registry, _, tag = agent_image.NAME.rpartition(":")
        self.values: Json = {
            "image": {"repository": registry, "tag": tag, "pullPolicy": "Never"},
            "node": PLACES | {"kubelet": f"{cluster.room}/kubelet"},
            "api": {"host": NODE, "port": 6443},  # there is no kube-proxy
            "agent": {"settings": {"kubernetes": {"networks": [NODE, "10.123.0.1"]}}, "resources": {"requests": {"memory": "64Mi"}}},
            "webhook": {"replicas": 1, "timeoutSeconds": 10},
        }

    def say(self, verb: str, values: Json | None = None) -> None:
        chart = [str(helm.CHART), "--values=/dev/stdin"] if verb != "uninstall" else []
        words = [f"--kubeconfig={self.cluster.room}/kubeconfig", f"--namespace={SPACE}", verb, RELEASE, *chart]
        self.cluster.host(helm.helm(), *words, text=json.dumps(self.values | (values or {})), timeout=120)

    def rolled_out(self, what: str = AGENT) -> None:
        try:
            self.cluster.kubectl("rollout", "status", "-n", SPACE, what, f"--timeout={int(180 * PATIENCE)}s", timeout=200 * PATIENCE)
        except RuntimeError as error:
            said = self.cluster.kubectl("logs", "-n", SPACE, what, "--tail=30", check=False)
            raise AssertionError(f"{error}\n{said.stdout}{said.stderr}") from None


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Release]:
    agent_image.load(cluster)
    cluster.kubectl("create", "namespace", SPACE)
    if Path("/var/cache/stockade").is_dir():  # programs that are compiled already
        cluster.host("cp", "-a", "/var/cache/stockade", PLACES["cache"])
    cluster.apply(json.dumps(POD))
    made = Release(cluster)
    made.say("install")
    yield made
    cluster.kubectl("delete", "pod", "held", "--ignore-not-found")
    cluster.kubectl("delete", "namespace", SPACE)
    cluster.kubectl(
        "delete", "crd", "stockadepolicies.stockade.internal", "clusterstockadepolicies.stockade.internal", "--ignore-not-found"
    )


def reached(cluster: Cluster) -> int:
    """What the pod's curl exits with, at the one server that there is for sure."""
    return cluster.exec("held", "curl", "-sk", "-o", "/dev/null", "-m", "5", f"https://{NODE}:6443/version", check=False).returncode


def text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # ended
        return ""


def test_every_node_has_an_agent_with_those_capabilities_and_no_more(release: Release) -> None:
    release.rolled_out()
    said = release.cluster.kubectl("exec", "-n", SPACE, AGENT, "--", "grep", "-E", "^Cap(Eff|Bnd)", "/proc/self/status").stdout
    numbers = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_ADMIN": 12}
    numbers |= {"SYS_PTRACE": 19, "SYS_ADMIN": 21}  # linux/capability.h
    wanted = sum(1 << numbers[name] for name in agent(helm.rendered())["securityContext"]["capabilities"]["add"])
    assert [int(line.split()[1], 16) for line in said.splitlines()] == [wanted, wanted]
    written = release.cluster.kubectl("exec", "-n", SPACE, AGENT, "--", "touch", "/opt/stockade/x", check=False)
    assert written.returncode != 0 and "Read-only file system" in written.stderr


@pytest.fixture(scope="module")
def holding(release: Release) -> Release:
    """With a pod that could reach the API server, and no longer can."""
    cluster = release.cluster
    release.rolled_out()
    cluster.wait("pod/held", "condition=Ready")
    assert reached(cluster) == 0, "before there is a policy"
    cluster.apply(json.dumps(POLICY))
    until = time.monotonic() + 60 * PATIENCE
    while reached(cluster) == 0:
        assert time.monotonic() < until, cluster.kubectl("logs", "-n", SPACE, AGENT, "--tail=30").stdout
        time.sleep(0.5)
    return release


def test_what_a_pod_is_refused_is_in_the_nodes_trails(holding: Release) -> None:
    records = holding.cluster.host("sh", "-c", f"cat {PLACES['log']}/*.jsonl").stdout
    refused = [each for each in map(json.loads, records.splitlines()) if each.get("reason") == "no_rule"]
    assert any(NODE in json.dumps(each) for each in refused), records[-2000:]


def test_a_pod_that_is_made_is_given_its_trust_store_by_the_charts_webhook(holding: Release) -> None:
    """The API server asks the Service by its certificate; what kube-proxy would do for it is done here."""
    cluster = holding.cluster
    holding.rolled_out(f"deployment/{RELEASE}-webhook")
    asked = ("get", "-n", SPACE, "-o")
    service = cluster.kubectl(*asked, "jsonpath={.spec.clusterIP}", f"service/{RELEASE}-webhook").stdout
    pod = cluster.kubectl(*asked, "jsonpath={.items[0].status.podIP}", "pod", "-l", "app.kubernetes.io/component=webhook").stdout
    led = ["-d", service, "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination", f"{pod}:8443"]
    cluster.host("iptables", "-t", "nat", "-A", "OUTPUT", *led)
    try:
        assert cluster.host("curl", "-sk", f"https://{service}/healthz").stdout == "ok\n"
        cluster.apply(json.dumps(POD | {"metadata": POD["metadata"] | {"name": "given"}}))
        made = json.loads(cluster.kubectl("get", "pod", "given", "-o", "json").stdout)["spec"]
        assert VOLUME in [each["name"] for each in made["volumes"]]
        assert made["containers"][0]["securityContext"]["capabilities"]["drop"] == ["NET_ADMIN", "NET_RAW"]
        cluster.wait("pod/given", "condition=Ready")
        until = time.monotonic() + 60 * PATIENCE
        # by the one program that the policy lets run
        while cluster.exec("given", "curl", "-s", f"file://{MOUNT}/{AUTHORITY}", check=False).stdout.count("BEGIN CERTIFICATE") != 1:
            assert time.monotonic() < until, cluster.kubectl("logs", "-n", SPACE, AGENT, "--tail=30").stdout
            time.sleep(0.5)
    finally:
        cluster.host("iptables", "-t", "nat", "-D", "OUTPUT", *led)
        cluster.kubectl("delete", "pod", "given", "--ignore-not-found", "--grace-period=0", "--force")


def test_an_agent_that_is_killed_is_started_again_and_holds_the_pod(holding: Release) -> None:
    """What is started in the pod meanwhile waits for it."""
    cluster = holding.cluster
    cluster.host("pkill", "-9", "-f", "^/opt/stockade/bin/python /usr/local/bin/stockade kubernetes agent")
    asked = (
        "get",
        "pod",
        "-n",
        SPACE,
        "-l",
        "app.kubernetes.io/component=agent",
        "-o",
        "jsonpath={.items[0].status.containerStatuses[0].restartCount}",
    )
    until = time.monotonic() + 60 * PATIENCE
    while cluster.kubectl(*asked).stdout != "1":
        assert time.monotonic() < until
        time.sleep(0.5)
    holding.rolled_out()
    assert reached(cluster) != 0


def test_a_node_that_is_left_is_as_it_was(holding: Release) -> None:
    cluster = holding.cluster
    assert cluster.host("ls", "/sys/fs/bpf/stockade").stdout, "the pins"
    assert reached(cluster) != 0
    uid = cluster.kubectl("get", "pod", "held", "-o", "jsonpath={.metadata.uid}").stdout
    (pid,) = [path.parts[2] for path in Path("/proc").glob("[0-9]*/cgroup") if uid in text(path) and "sleep" in text(path.parent / "comm")]
    cluster.host("kill", "-STOP", pid)  # as one that began while there was no agent
    holding.say("upgrade", {"leave": {"enabled": True, "trails": "remove"}})
    holding.rolled_out()
    assert text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[0] == "S"
    assert reached(cluster) == 0, cluster.kubectl("logs", "-n", SPACE, AGENT).stdout
    holding.say("uninstall")
    ours = ("-n", SPACE, "-l", "app.kubernetes.io/name=stockade")
    cluster.kubectl("wait", "--for=delete", "pods", *ours, f"--timeout={int(60 * PATIENCE)}s", timeout=70 * PATIENCE)
    assert cluster.kubectl("get", "all,secrets,configmaps,serviceaccounts", *ours, "-o", "name").stdout == ""
    assert "stockade" not in cluster.kubectl("get", "clusterroles,clusterrolebindings,mutatingwebhookconfigurations", "-o", "name").stdout
    left = cluster.host("ls", "-d", *PLACES.values(), "/sys/fs/bpf/stockade", check=False).stdout
    assert left == ""
    assert not [path for top in hierarchies() for path in (top / "stockade").glob("*-node*")]
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    assert cluster.host(*inside, "nft", "list", "tables").stdout == ""
    assert "198.1" not in cluster.host(*inside, "ip", "address").stdout
