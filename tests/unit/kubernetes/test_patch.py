"""What the webhook makes of a pod: the operations are carried out here as RFC 6902 says, and what comes of them is looked at."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stockade.attach.target import FATAL
from stockade.kubernetes.patch import (
    JAVA,
    JAVA_OPTIONS,
    KEEP,
    LEFT,
    NOT_GIVEN,
    NOT_HELD,
    TAKEN,
    TRUST,
    UNHOLDING,
    VARIABLES,
    Malformed,
    Patch,
    added,
    made,
)

Json = dict[str, Any]
NOTHING: frozenset[str] = frozenset()


def pod(*containers: Json, annotations: Json | None = None, **spec: Any) -> Json:
    metadata: Json = {"name": "a"} | ({"annotations": annotations} if annotations is not None else {})
    return {"metadata": metadata, "spec": {"containers": [{"name": "main", "image": "i"}, *containers], **spec}}


def carried_out(whole: Json, patch: Patch) -> Json:
    """RFC 6902, as far as the webhook uses it. KeyError or IndexError: the API server would refuse it."""
    result: Any = copy.deepcopy(whole)
    for operation in patch.operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        at = result
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        assert isinstance(at, dict) or operation["op"] == "replace"
        match operation["op"]:
            case "add":
                at[last] = operation["value"]
            case "replace" if isinstance(at, list):
                at[int(last)] = operation["value"]
            case "remove":
                del at[last]
            case other:
                raise AssertionError(other)
    assert isinstance(result, dict)
    return result


def through(whole: Json, may_keep: frozenset[str] = NOTHING) -> Json:
    """As it comes out; a second time, nothing changes any more."""
    result = carried_out(whole, made(whole, may_keep))
    assert made(result, may_keep).operations == (), "asked again"
    return result


def environment(container: Json) -> dict[str, str]:
    return {each["name"]: each.get("value", "?") for each in container.get("env", [])}


def told(whole: Json) -> Json:
    return {name.rpartition("/")[2]: text for name, text in whole["metadata"]["annotations"].items()}


def test_every_container_has_the_volume_the_variables_and_neither_capability() -> None:
    sidecar = {"name": "sidecar", "restartPolicy": "Always"}
    result = through(pod({"name": "other"}, initContainers=[{"name": "first"}, sidecar]))
    assert result["spec"]["volumes"] == [{"name": "stockade-trust", "emptyDir": {"sizeLimit": "16Mi"}}]
    for container in (*result["spec"]["containers"], *result["spec"]["initContainers"]):
        assert container["volumeMounts"] == [{"name": "stockade-trust", "mountPath": "/etc/stockade/trust", "readOnly": True}]
        assert environment(container) == dict(VARIABLES)
        assert container["securityContext"] == {"capabilities": {"drop": ["NET_ADMIN", "NET_RAW"]}}
    assert told(result) == {"trust": "volume"}
    assert "JAVA_TOOL_OPTIONS" not in VARIABLES and "SSL_CERT_DIR" not in VARIABLES


def test_what_a_pod_has_stays() -> None:
    volume, mount = {"name": "data", "hostPath": {"path": "/srv"}}, {"name": "data", "mountPath": "/data"}
    variable = {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    own = {"name": "own", "volumeMounts": [mount], "env": [variable], "securityContext": {"runAsUser": 7}}
    before = pod(own, volumes=[volume], annotations={"a~/b": "c"})
    result = through(before)
    kept = result["spec"]["containers"][1]
    assert result["spec"]["volumes"][0] == volume and kept["volumeMounts"][0] == mount and kept["env"][0] == variable
    assert kept["securityContext"]["runAsUser"] == 7 and result["metadata"]["annotations"]["a~/b"] == "c"


def test_an_empty_list_that_is_said_as_null_is_no_obstacle() -> None:
    result = through(pod({"name": "b", "env": None, "volumeMounts": None, "securityContext": None}, volumes=None))
    assert environment(result["spec"]["containers"][1]) == dict(VARIABLES)


def test_a_variable_that_a_container_sets_is_its_own_and_is_told_of() -> None:
    own = {"name": "own", "env": [{"name": "CURL_CA_BUNDLE", "value": "/mine"}, {"name": "PIP_CERT", "valueFrom": {}}]}
    patch = made(pod(own), NOTHING)
    result = through(pod(own))
    assert environment(result["spec"]["containers"][1]) == dict(VARIABLES) | {"CURL_CA_BUNDLE": "/mine", "PIP_CERT": "?"}
    assert told(result) == {"trust": "volume", "trust-left-alone": "own: sets CURL_CA_BUNDLE, PIP_CERT itself"}
    assert patch.said == ("stockade: own: sets CURL_CA_BUNDLE, PIP_CERT itself",)


@pytest.mark.parametrize(
    "path",
    ["/etc", "/etc/", "/etc/stockade", "/etc/stockade/trust", "/etc/stockade/trust/", "/etc/stockade/trust/deeper", "//etc", "/", "etc"],
)
def test_a_volume_of_its_own_in_that_place_leaves_a_container_as_it_is(path: str) -> None:
    """A place to mount at cannot be made in a read-only volume, and the container would not start."""
    result = through(pod({"name": "own", "volumeMounts": [{"name": "data", "mountPath": path}]}))
    main, own = result["spec"]["containers"]
    assert environment(main) and not environment(own) and len(own["volumeMounts"]) == 1
    assert own["securityContext"]["capabilities"]["drop"] == list(TAKEN), "which has nothing to do with it"
    assert told(result)["trust"] == "volume" and told(result)["trust-left-alone"].startswith("own: has a volume at /")


@pytest.mark.parametrize("path", ["/etcetera", "/etc/stockade-other", "/etc/ssl"])
def test_a_volume_beside_it_is_none_of_that(path: str) -> None:
    result = through(pod({"name": "own", "volumeMounts": [{"name": "data", "mountPath": path}]}))
    assert environment(result["spec"]["containers"][1]) == dict(VARIABLES) and told(result) == {"trust": "volume"}


def test_a_volume_of_that_name_is_ours_whatever_the_pod_says() -> None:
    """Else the node's agent would write, as root, into a directory of the pod's choice."""
    mine = {"name": "w", "volumeMounts": [{"name": "stockade-trust", "mountPath": "/w"}]}
    result = through(pod(mine, volumes=[{"name": "stockade-trust", "hostPath": {"path": "/etc"}}, {"name": "b"}]))
    assert result["spec"]["volumes"][0] == {"name": "stockade-trust", "emptyDir": {"sizeLimit": "16Mi"}}
    assert all(mount["readOnly"] for mount in result["spec"]["containers"][1]["volumeMounts"])
    written = {"name": "w", "volumeMounts": [{"name": "stockade-trust", "mountPath": "/etc/stockade/trust", "readOnly": False}]}
    [mount] = through(pod(written))["spec"]["containers"][1]["volumeMounts"]
    assert mount["readOnly"] is True


@pytest.mark.parametrize(
    ("capabilities", "comes", "taken", "unheld"),
    [
        ({"add": ["NET_ADMIN", "CHOWN"]}, {"add": ["CHOWN"], "drop": ["NET_ADMIN", "NET_RAW"]}, "NET_ADMIN", ()),
        ({"add": ["cap_net_raw"]}, {"drop": ["NET_ADMIN", "NET_RAW"]}, "NET_RAW", ()),
        ({"add": ["ALL"]}, {"add": ["ALL"], "drop": ["NET_ADMIN", "NET_RAW"]}, "", UNHOLDING),
        ({"add": ["ALL"], "drop": ["SYS_ADMIN"]}, {"add": ["ALL"], "drop": ["SYS_ADMIN", "NET_ADMIN", "NET_RAW"]}, "", UNHOLDING[1:]),
        ({"drop": ["ALL"]}, {"drop": ["ALL"]}, "", ()),
        ({"add": ["ALL"], "drop": ["all"]}, {"add": ["ALL"], "drop": ["all", "NET_ADMIN", "NET_RAW"]}, "", ()),
        ({"drop": ["ALL"], "add": ["NET_RAW"]}, {"drop": ["ALL"]}, "NET_RAW", ()),
        ({"drop": ["ALL"], "add": ["cap_sys_ptrace"]}, {"drop": ["ALL"], "add": ["cap_sys_ptrace"]}, "", ("SYS_PTRACE",)),
        ({"drop": ["CAP_NET_RAW"]}, {"drop": ["CAP_NET_RAW", "NET_ADMIN"]}, "", ()),
    ],
)
def test_both_capabilities_are_dropped_however_they_are_spelt(capabilities: Json, comes: Json, taken: str, unheld: tuple[str, ...]) -> None:
    result = through(pod({"name": "c", "securityContext": {"capabilities": capabilities}}))
    assert result["spec"]["containers"][1]["securityContext"]["capabilities"] == comes
    assert told(result).get("not-given") == (f"c: {taken}" if taken else None)
    assert told(result).get("not-held") == (f"c: {', '.join(unheld)}" if unheld else None)


def test_what_holds_nobody_here_is_what_the_node_says_of_it() -> None:
    assert {f"CAP_{each}" for each in (*UNHOLDING, "NET_ADMIN")} == {*FATAL.values(), "CAP_SYS_PTRACE"}


def test_a_privileged_container_is_not_held_and_that_is_said() -> None:
    result = through(pod({"name": "p", "securityContext": {"privileged": True}}))
    assert result["spec"]["containers"][1]["securityContext"] == {"privileged": True}
    assert told(result)["not-held"] == "p: privileged"


def test_who_may_keep_net_raw_keeps_it_and_is_held_by_his_device() -> None:
    asking = pod({"name": "asks", "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}, annotations={KEEP: "NET_RAW, cap_net_admin"})
    result = through(asking, frozenset({"NET_RAW"}))
    assert [each["securityContext"]["capabilities"] for each in result["spec"]["containers"]] == [
        {"drop": ["NET_ADMIN"]},
        {"add": ["NET_RAW"], "drop": ["NET_ADMIN"]},
    ]
    assert "not-held" not in told(result) and not [each for each in made(asking, frozenset({"NET_RAW"})).said if "not held" in each]
    assert "NET_ADMIN" in told(result)["trust-left-alone"]


def test_who_may_keep_net_admin_can_take_his_device_away_and_that_is_said() -> None:
    asks = {"name": "asks", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}
    takes_back = {"name": "dropped", "securityContext": {"capabilities": {"add": ["ALL"], "drop": [*UNHOLDING, "NET_ADMIN"]}}}
    result = through(pod(asks, takes_back, annotations={KEEP: "NET_RAW, NET_ADMIN"}), frozenset(TAKEN))
    assert result["spec"]["containers"][1]["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "NET_RAW"]
    assert told(result)["not-held"] == "asks: NET_ADMIN", "neither of who did not ask, nor of who dropped it by himself"


def test_who_asks_and_may_not_does_not() -> None:
    result = through(pod(annotations={KEEP: "NET_RAW"}))
    assert result["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"] == list(TAKEN)
    assert "it may not keep NET_RAW" in told(result)["trust-left-alone"] and "not-held" not in told(result)


def test_java_is_told_only_where_the_pod_asks() -> None:
    """The variable makes a JVM run code: a binary with network rules is not started with it unless the policy names it."""
    result = through(pod(annotations={JAVA: "tool-options"}))
    assert environment(result["spec"]["containers"][0])["JAVA_TOOL_OPTIONS"] == JAVA_OPTIONS


def test_words_of_ours_on_a_pod_are_ours() -> None:
    result = through(pod(annotations={TRUST: "none", LEFT: "lies", NOT_HELD: "lies"}))
    assert told(result) == {"trust": "volume"}


def test_what_another_webhook_put_in_meanwhile_is_seen_to() -> None:
    once = through(pod({"name": "asks", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}))
    once["spec"]["containers"].append({"name": "proxy"})
    again = through(once)
    assert environment(again["spec"]["containers"][-1]) == dict(VARIABLES)
    assert told(again)["not-given"] == "asks: NET_ADMIN", "what was said the first time stays"
    untouched = ("/spec/containers/0/", "/spec/containers/1/", "/spec/volumes")
    assert not [each for each in made(once, NOTHING).operations if each["path"].startswith(untouched)]


def test_a_pod_in_the_nodes_network_is_left_as_it_is_and_told_of() -> None:
    """The cluster's own network is made by such pods, with these very capabilities."""
    before = pod(hostNetwork=True)
    result = through(before)
    assert result["spec"] == before["spec"] and told(result) == {"trust": "none", "not-held": "it is in the node's network"}


@pytest.mark.parametrize(
    "other",
    [
        pod(annotations={"kubernetes.io/config.mirror": "x"}),
        pod(nodeSelector={"kubernetes.io/os": "windows"}),
        pod(os={"name": "windows"}),
    ],
)
def test_what_is_no_pod_of_linux_or_not_the_apis_is_left_alone(other: Json) -> None:
    patch = made(other, NOTHING)
    assert not patch.operations and patch.left


def ephemeral(*containers: Json, **spec: Any) -> Json:
    return pod(ephemeralContainers=list(containers), **spec)


def test_an_ephemeral_container_is_given_what_its_pod_has() -> None:
    before = through(ephemeral({"name": "old"}))
    after = copy.deepcopy(before)
    after["spec"]["ephemeralContainers"].append({"name": "debug", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}})
    patch = added(after, before, NOTHING)
    result = carried_out(after, patch)
    old, new = result["spec"]["ephemeralContainers"]
    assert old == {"name": "old"} and environment(new) == dict(VARIABLES) and new["volumeMounts"][0]["name"] == "stockade-trust"
    assert new["securityContext"]["capabilities"] == {"drop": list(TAKEN)} and patch.said == ("stockade: not given to debug: NET_ADMIN",)
    assert result["metadata"] == before["metadata"], "which nobody may change of a pod in this way"


@pytest.mark.parametrize("spec", [{"hostNetwork": True}, {"os": {"name": "windows"}}, {"nodeSelector": {"kubernetes.io/os": "windows"}}])
def test_one_in_a_pod_that_was_left_alone_is_left_alone_too(spec: Json) -> None:
    patch = added(ephemeral({"name": "debug"}, **spec), ephemeral(**spec), NOTHING)
    assert not patch.operations and patch.left


@pytest.mark.parametrize(
    ("security", "comes", "said"),
    [
        ({"privileged": True}, {"privileged": True}, "debug: privileged"),  # kubectl debug --profile=sysadmin
        (  # --profile=general
            {"capabilities": {"add": ["SYS_PTRACE"]}},
            {"capabilities": {"add": ["SYS_PTRACE"], "drop": list(TAKEN)}},
            "debug: SYS_PTRACE",
        ),
    ],
)
def test_by_what_an_ephemeral_container_is_not_held_is_said_to_whoever_makes_it(security: Json, comes: Json, said: str) -> None:
    before = through(ephemeral())
    after = copy.deepcopy(before)
    after["spec"]["ephemeralContainers"].append({"name": "debug", "targetContainerName": "main", "securityContext": security})
    patch = added(after, before, NOTHING)
    assert patch.said == (f"stockade: not held by the node: {said}",)
    (debug,) = carried_out(after, patch)["spec"]["ephemeralContainers"]
    assert (debug["targetContainerName"], debug["securityContext"]) == ("main", comes)


def test_in_a_pod_without_the_volume_it_is_given_no_mount_that_the_api_would_refuse() -> None:
    patch = added(ephemeral({"name": "debug"}), ephemeral(), NOTHING)
    assert [each["path"] for each in patch.operations] == ["/spec/ephemeralContainers/0/securityContext"]


@pytest.mark.parametrize(
    ("whole", "says"),
    [
        ({"metadata": [], "spec": {}}, "metadata is no object"),
        ({"spec": "x"}, "spec is no object"),
        (pod(volumes={}), "spec.volumes is no list of objects"),
        (pod(volumes=["x"]), "spec.volumes is no list of objects"),
        ({"spec": {"containers": [1]}}, "spec.containers is no list of objects"),
        (pod({"name": "b", "env": 5}), "spec/containers/1/env is no list of objects"),
        (pod({"name": "b", "securityContext": {"capabilities": {"add": [5]}}}), "capabilities/add is no list of words"),
        ({"metadata": {"annotations": "x"}, "spec": {}}, "metadata.annotations is no object"),
    ],
)
def test_what_is_no_pod_is_refused_with_the_field(whole: Json, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        made(whole, NOTHING)


def test_an_annotation_of_ours_has_an_end() -> None:
    many = [{"name": f"c{number}", "securityContext": {"privileged": True}} for number in range(1000)]
    result = through(pod(*many))
    assert len(result["metadata"]["annotations"][NOT_HELD]) == 4096 and NOT_GIVEN not in result["metadata"]["annotations"]
