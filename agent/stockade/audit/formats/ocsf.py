"""OCSF 1.8.0 (Open Cybersecurity Schema Framework): every record is one event of the class that fits what was attempted.

    exec        Process Activity                   dns             DNS Activity
    connect     Network Activity                   file, device    File System Activity
    inbound     Network Activity, inbound          syscall         Kernel Activity
    http        HTTP Activity                      policy          Entity Management, of a policy
    websocket   HTTP Activity                      lifecycle       Application Lifecycle; Detection Finding for what went wrong
    inference   API Activity, profile ai_operation

The profile host carries who and where, security_control what was decided, and by which rule. What the schema has no name for is in
`unmapped`. The device is the sandbox: a record says on which machine it was made only where that is a node of a cluster; else whoever sends
it does. What a container runtime has made, and of which pod it is, is in the profile container.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from stockade import __version__
from stockade.audit.formats.facts import (
    PRODUCT,
    VENDOR,
    Gravity,
    address,
    basename,
    container,
    finding,
    gravity,
    milliseconds,
    pod,
    texts,
    title,
)
from stockade.audit.human import human_line
from stockade.audit.record import Json, record_id

VERSION = "1.8.0"

_CATEGORIES = {1: "System Activity", 2: "Findings", 3: "Identity & Access Management", 4: "Network Activity", 6: "Application Activity"}
_SEVERITIES = {
    Gravity.ALLOWED: (1, "Informational"),
    Gravity.REFUSED: (2, "Low"),
    Gravity.OBSERVED: (3, "Medium"),
    Gravity.ALERT: (4, "High"),
    Gravity.LOST: (5, "Critical"),
}
# effect → action_id, disposition_id
_EFFECTS = {
    "pass": (1, "Allowed", 1, "Allowed"),
    "relay": (1, "Allowed", 1, "Allowed"),
    "refuse": (2, "Denied", 2, "Blocked"),
    "cut": (2, "Denied", 21, "Reset"),
    "redact": (4, "Modified", 11, "Corrected"),
    "local": (4, "Modified", 7, "Custom Action"),
}
_OBSERVED = (3, "Observed", 15, "Detected")
_METHODS = {"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9}
_POLICY = {"reloaded": (3, "Update"), "reload_refused": (3, "Update"), "approved": (8, "Enable"), "approval_denied": (9, "Disable")}
_LIFECYCLE = {"started": (3, "Start"), "adopted": (5, "Restart"), "stopped": (4, "Stop")}
_DEVICES = {"char": (3, "Character Device"), "block": (4, "Block Device")}
_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OTHER, _UNMAPPED_ALWAYS = 99, ("level", "effect", "enforced", "generation", "hash", "prev")


def ocsf(record: Json) -> Json:
    """The event, ready to be written as JSON."""
    make = _finding if finding(record) else _CLASSES[record["action"]]
    uid, name, (activity, activity_name), own = make(record)
    category = uid // 1000
    severity, severity_name = _SEVERITIES[gravity(record)]
    allowed = record["decision"] == "allow" and record["effect"] not in ("refuse", "cut")
    event: Json = {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": category,
        "category_name": _CATEGORIES[category],
        "class_uid": uid,
        "class_name": name,
        "type_uid": uid * 100 + activity,
        "type_name": f"{name}: {activity_name}",
        "time": milliseconds(record),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": 1 if allowed else 2,
        "status": "Success" if allowed else "Failure",
        "status_code": record["reason"],
        "message": human_line(record),
        "metadata": _metadata(record),
        "unmapped": _unmapped(record),
    }
    return event | _control(record) | own


def _metadata(record: Json) -> Json:
    profiles = ["host", "security_control"] + (["ai_operation"] if record["action"] == "inference" else [])
    if pod(record) is not None or container(record) is not None:
        profiles.append("container")
    metadata: Json = {
        "version": VERSION,
        "product": {"name": PRODUCT, "vendor_name": VENDOR, "version": __version__},
        "profiles": profiles,
        "uid": record_id(record),
        "sequence": record["seq"],
        "log_name": "audit",
        "event_code": record["action"],
        "original_time": record["time"],
        "correlation_uid": record["sandbox"]["id"],
    }
    if labels := record["sandbox"]["labels"]:
        metadata["tags"] = [{"name": name, "value": value} for name, value in sorted(labels.items())]
    return metadata


def _control(record: Json) -> Json:
    """Of the profile security_control: what was done, and under which rule of which policy."""
    observed = record["decision"] == "deny" and not record["enforced"]
    action, action_name, disposition, disposition_name = _OBSERVED if observed else _EFFECTS[record["effect"]]
    control: Json = {
        "action_id": action,
        "action": action_name,
        "disposition_id": disposition,
        "disposition": disposition_name,
        "is_alert": gravity(record) >= Gravity.ALERT,
    }
    if policy := record["sandbox"]["policy"]:
        control["policy"] = {"name": policy, "version": str(record["sandbox"]["generation"]), "is_applied": bool(record["enforced"])}
    if record["rule"] is not None:
        control["firewall_rule"] = {"name": record["rule"]}
    return control


def _unmapped(record: Json) -> Json:
    flat = {name: record.get(name) for name in _UNMAPPED_ALWAYS} | {"generation": record["sandbox"]["generation"]}
    unmapped: Json = {name: str(value) for name, value in flat.items() if value is not None}
    if record["binary"] is not None:
        unmapped["identity"] = record["binary"]["identity"]
    if detail := texts(record["detail"]):
        unmapped["detail"] = detail
    return unmapped


# parts


def _device(record: Json) -> Json:
    sandbox = record["sandbox"]
    device: Json = {"type_id": _OTHER, "type": "Sandbox", "name": sandbox["name"]}
    if sandbox["id"]:
        device["uid"] = sandbox["id"]
    if (found := pod(record)) is not None and found.node:
        device["hostname"] = found.node
    return device | _container(record)


def _container(record: Json) -> Json:
    """Of the profile container: what a runtime has made, the pod that it is of, or the pod where it is not known which."""
    found, made = pod(record), container(record)
    if found is None and made is None:
        return {}
    container_: Json = {"name": made.name if made is not None else found.name if found is not None else "?"}
    if made is not None and made.identity:
        container_["uid"] = made.identity
    if made is not None and made.image:
        container_["image"] = {"uid": made.image, "name": made.image}  # as the pod asked for it: a digest is known to the runtime
    if found is not None:
        container_["orchestrator"] = "Kubernetes"
        named = {"namespace": found.namespace, "pod": found.name, "service_account": found.service_account}
        container_["tags"] = [{"name": name, "value": value} for name, value in named.items() if value]
        if _UUID.fullmatch(found.uid):
            container_["pod_uuid"] = found.uid
    return {"container": container_}


def _process(record: Json) -> Json | None:
    """None where nobody is known to have asked."""
    binary = record["binary"]
    if binary is None and record["pid"] is None:
        return None
    process: Json = {"pid": record["pid"]} if record["pid"] is not None else {"uid": "unknown"}
    if binary is not None:
        if binary["exec_id"] is not None:
            process["uid"] = str(binary["exec_id"])
        process |= {"name": binary["name"], "path": binary["path"], "file": _executable(binary)}
    if record["ancestry"]:
        process["lineage"] = list(record["ancestry"])
    return process


def _executable(binary: Json) -> Json:
    path = binary["script"] or binary["path"]
    file: Json = {"name": basename(path), "path": path, "type_id": 8, "type": "Executable File"}
    if binary["sha256"]:
        file["hashes"] = [{"algorithm_id": 3, "algorithm": "SHA-256", "value": binary["sha256"]}]
    return file


def _actor(record: Json) -> Json:
    process = _process(record)
    return {"app_name": record["sandbox"]["name"]} | ({"process": process} if process is not None else {})


def _endpoint(record: Json) -> Json:
    destination = record["destination"] or {"host": "?", "port": None, "address": None}
    literal = address(destination["host"])
    endpoint: Json = {"ip": literal} if literal else {"hostname": destination["host"]}
    if ip := address(destination["address"]):
        endpoint["ip"] = ip
    if destination["port"] is not None:
        endpoint["port"] = destination["port"]
    return endpoint


def _sandbox_endpoint(record: Json) -> Json:
    """The sandbox as one end of a connection."""
    sandbox = record["sandbox"]
    return {"name": sandbox["name"], "type_id": _OTHER, "type": "Sandbox"} | ({"uid": sandbox["id"]} if sandbox["id"] else {})


def _http(record: Json) -> Json:
    http = record["http"] or {"method": "", "path": "", "status": None, "request_bytes": None, "response_bytes": None}
    url: Json = {"path": http["path"] or "/"}
    if record["destination"] is not None:
        url["hostname"] = record["destination"]["host"]
        if record["destination"]["port"] is not None:
            url["port"] = record["destination"]["port"]
    request: Json = {"url": url}
    if http["method"] in _METHODS:
        request["http_method"] = http["method"]
    if http["request_bytes"] is not None:
        request["body_length"] = http["request_bytes"]
    parts: Json = {"http_request": request}
    if http["status"] is not None:
        parts["http_response"] = {"code": http["status"]}
        if http["response_bytes"] is not None:
            parts["http_response"]["body_length"] = http["response_bytes"]
    return parts


# classes: class_uid, its caption, the activity, and the fields that only it has

type _Made = tuple[int, str, tuple[int, str], Json]


def _exec(record: Json) -> _Made:
    process = _process(record) or {"uid": "unknown"}
    return (
        1007,
        "Process Activity",
        (1, "Launch"),
        {"device": _device(record), "actor": {"app_name": record["sandbox"]["name"]}, "process": process},
    )


def _dns(record: Json) -> _Made:
    destination, detail = record["destination"], record["detail"]
    own: Json = {"device": _device(record), "actor": _actor(record), "src_endpoint": _sandbox_endpoint(record)}
    if destination is not None:
        query: Json = {"hostname": destination["host"]}
        kind = detail.get("type")
        own["query"] = query | ({"type": kind} if isinstance(kind, str) else {})
        if destination["address"] is not None and record["decision"] == "allow":
            own["answers"] = [{"rdata": destination["address"]}]
    own |= {"rcode_id": 0, "rcode": "NoError"} if record["effect"] == "pass" else {"rcode_id": _OTHER, "rcode": "refused by policy"}
    return 4003, "DNS Activity", (6, "Traffic"), own


def _connect(record: Json) -> _Made:
    activity = {"refuse": (5, "Refuse"), "cut": (3, "Reset")}.get(record["effect"], (1, "Open"))
    own = {
        "device": _device(record),
        "actor": _actor(record),
        "src_endpoint": _sandbox_endpoint(record),
        "dst_endpoint": _endpoint(record),
        "connection_info": _connection(record, 2, "Outbound"),
    }
    return 4001, "Network Activity", activity, own | _traffic(record, "bytes_sent", "bytes_received")


def _inbound(record: Json) -> _Made:
    if record["reason"] == "bind_refused":
        activity = (7, "Listen")
    else:
        activity = {"refuse": (5, "Refuse"), "cut": (3, "Reset")}.get(record["effect"], (1, "Open"))
    own = {
        "device": _device(record),
        "actor": _actor(record),
        "dst_endpoint": _endpoint(record),
        "connection_info": _connection(record, 1, "Inbound"),
    }
    return 4001, "Network Activity", activity, own | _traffic(record, "bytes_sent", "bytes_received")


def _connection(record: Json, direction: int, name: str) -> Json:
    protocol = record["detail"].get("protocol", "tcp")
    return {"direction_id": direction, "direction": name} | ({"protocol_name": protocol} if isinstance(protocol, str) else {})


def _traffic(record: Json, out: str, into: str) -> Json:
    sent, received = record["detail"].get(out), record["detail"].get(into)
    if not isinstance(sent, int) or not isinstance(received, int):
        return {}
    return {"traffic": {"bytes_out": sent, "bytes_in": received, "bytes": sent + received}}


def _web(record: Json) -> _Made:
    method = (record["http"] or {}).get("method", "")
    activity = (_METHODS[method], method.capitalize()) if method in _METHODS else (_OTHER, method or "Other")
    own = {
        "device": _device(record),
        "actor": _actor(record),
        "src_endpoint": _sandbox_endpoint(record),
        "dst_endpoint": _endpoint(record),
        "app_protocol_name": record["action"],
    }
    return 4002, "HTTP Activity", activity, own | _http(record)


def _inference(record: Json) -> _Made:
    detail, http = record["detail"], record["http"] or {}
    api: Json = {"operation": f"{http.get('method', '')} {http.get('path', '')}".strip() or "inference"}
    if isinstance(name := detail.get("api"), str):
        api["service"] = {"name": name}
    own = {
        "device": _device(record),
        "actor": _actor(record),
        "api": api,
        "src_endpoint": _sandbox_endpoint(record),
        "dst_endpoint": _endpoint(record),
    }
    if isinstance(model := detail.get("local_model") or detail.get("model"), str):
        where = detail.get("local_host") or own["dst_endpoint"].get("hostname") or "?"
        own["ai_model"] = {"name": model, "ai_provider": str(where)}
    return 6003, "API Activity", (_OTHER, "Inference"), own | _http(record)


def _file(record: Json) -> _Made:
    detail = record["detail"]
    path = str(detail.get("prefix") or detail.get("path") or "?")
    file: Json = {"name": basename(path), "path": path, "type_id": 2 if "prefix" in detail else 0}
    own: Json = {"device": _device(record), "actor": _actor(record), "file": file}
    if isinstance(times := detail.get("times"), int):
        own["count"] = times
    return 1001, "File System Activity", (14, "Open"), own


def _device_node(record: Json) -> _Made:
    name = str(record["detail"].get("device", "?"))
    kind, caption = _DEVICES.get(name.partition(" ")[0], (0, "Unknown"))
    file: Json = {"name": name, "type_id": kind, "type": caption}
    return 1001, "File System Activity", (14, "Open"), {"device": _device(record), "actor": _actor(record), "file": file}


def _syscall(record: Json) -> _Made:
    call = str(record["detail"].get("call", "?"))
    kernel: Json = {"name": call, "type_id": 2, "type": "System Call", "system_call": call}
    own: Json = {"device": _device(record), "actor": _actor(record), "kernel": kernel}
    if isinstance(times := record["detail"].get("times"), int):
        own["count"] = times
    return 1003, "Kernel Activity", (4, "Invoke"), own


def _policy(record: Json) -> _Made:
    sandbox = record["sandbox"]
    policy: Json = {"name": sandbox["policy"] or "?", "version": str(sandbox["generation"])}
    entity: Json = {"type_id": 5, "type": "Policy", **policy, "policy": policy}
    activity = _POLICY.get(record["reason"], (11, "Deactivate"))
    return 3004, "Entity Management", activity, {"device": _device(record), "actor": _actor(record), "entity": entity}


def _lifecycle(record: Json) -> _Made:
    sandbox = record["sandbox"]
    app: Json = {"name": PRODUCT, "vendor_name": VENDOR, "version": __version__, "feature": {"name": sandbox["name"]}}
    if sandbox["id"]:
        app["feature"]["uid"] = sandbox["id"]
    activity = _LIFECYCLE.get(record["reason"], (_OTHER, record["reason"]))
    return 6002, "Application Lifecycle", activity, {"device": _device(record), "actor": _actor(record), "app": app}


def _finding(record: Json) -> _Made:
    info: Json = {
        "uid": record_id(record),
        "title": title(record),
        "desc": human_line(record),
        "types": [record["reason"]],
        "created_time": milliseconds(record),
    }
    resource: Json = {"type": "sandbox", "name": record["sandbox"]["name"]}
    if record["sandbox"]["id"]:
        resource["uid"] = record["sandbox"]["id"]
    own = {"status_id": 1, "status": "New", "device": _device(record), "finding_info": info, "resources": [resource]}
    return 2004, "Detection Finding", (1, "Create"), own


_CLASSES: Mapping[str, Callable[[Json], _Made]] = {
    "exec": _exec,
    "dns": _dns,
    "connect": _connect,
    "http": _web,
    "websocket": _web,
    "inference": _inference,
    "inbound": _inbound,
    "file": _file,
    "syscall": _syscall,
    "device": _device_node,
    "policy": _policy,
    "lifecycle": _lifecycle,
}
