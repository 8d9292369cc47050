"""ECS 9.3 (Elastic Common Schema): one nested document for each record, and what ECS has no field for under `stockade`.

A refusal is of its own category and of `intrusion_detection`, the one whose types include allowed and denied, whatever was attempted.
"""

from __future__ import annotations

from stockade import __version__
from stockade.audit.formats.facts import PRODUCT, VENDOR, Gravity, address, basename, container, gravity, pod, texts
from stockade.audit.human import human_line
from stockade.audit.record import Json, record_id

VERSION = "9.3.0"

# action → event.category, event.type
_KINDS = {
    "exec": ("process", "start"),
    "dns": ("network", "protocol"),
    "connect": ("network", "connection"),
    "inbound": ("network", "connection"),
    "http": ("web", "access"),
    "websocket": ("web", "access"),
    "inference": ("api", "access"),
    "file": ("file", "access"),
    "device": ("host", "access"),
    "syscall": ("process", "info"),
    "policy": ("configuration", "change"),
    "lifecycle": ("process", "info"),
}
_LIFECYCLE = {"started": "start", "adopted": "start", "stopped": "end"}
_ASKED = frozenset(_KINDS) - {"policy", "lifecycle"}
_SEVERITIES = {Gravity.ALLOWED: 1, Gravity.REFUSED: 3, Gravity.OBSERVED: 5, Gravity.ALERT: 7, Gravity.LOST: 10}


def ecs(record: Json) -> Json:
    """The document, ready to be written as JSON."""
    sandbox = record["sandbox"]
    document: Json = {
        "@timestamp": record["time"],
        "ecs": {"version": VERSION},
        "message": human_line(record),
        "event": _event(record),
        "observer": {"vendor": VENDOR, "product": PRODUCT, "version": __version__, "type": "sandbox"},
        "container": _container(record),
        "stockade": _own(record),
    }
    if sandbox["labels"]:
        # A dot would make an object of a label, and another label with the shorter name would then be refused.
        document["labels"] = {name.replace(".", "_"): value for name, value in sorted(sandbox["labels"].items())}
    if record["rule"] is not None or sandbox["policy"]:
        named = {"name": record["rule"], "ruleset": sandbox["policy"] or None, "version": str(sandbox["generation"])}
        document["rule"] = {name: value for name, value in named.items() if value is not None}
    if process := _process(record):
        document["process"] = process
    return document | _network(record) | _http(record) | _rest(record) | _related(record) | _cluster(record)


def _container(record: Json) -> Json:
    """The sandbox; where a runtime has made it, what that calls it."""
    sandbox, made = record["sandbox"], container(record)
    if made is None:
        return {"id": sandbox["id"], "name": sandbox["name"], "runtime": "stockade"}
    named: Json = {"id": made.identity or sandbox["id"], "name": made.name}
    return named | ({"image": {"name": made.image}} if made.image else {})


def _cluster(record: Json) -> Json:
    """orchestrator is of ECS; kubernetes is what Elastic's own agents write beside it, and their dashboards read."""
    if (found := pod(record)) is None:
        return {}
    resource = {"type": "pod", "name": found.name, "id": found.uid}
    kubernetes: Json = {"namespace": found.namespace, "pod": {"name": found.name, "uid": found.uid}}
    if found.node:
        kubernetes["node"] = {"name": found.node}
    if (made := container(record)) is not None:
        kubernetes["container"] = {"name": made.name} | ({"image": made.image} if made.image else {})
    parts: Json = {"orchestrator": {"type": "kubernetes", "namespace": found.namespace, "resource": resource}, "kubernetes": kubernetes}
    return parts | ({"host": {"name": found.node}} if found.node else {})


def _event(record: Json) -> Json:
    category, kind = _KINDS[record["action"]]
    categories, types = [category], [_LIFECYCLE.get(record["reason"], kind) if record["action"] == "lifecycle" else kind]
    refused = record["decision"] == "deny"
    if record["action"] in _ASKED:
        if category == "network":
            types.append("denied" if refused else "allowed")
        elif refused:
            categories.append("intrusion_detection")
            types.append("denied")
    return {
        "kind": "alert" if gravity(record) >= Gravity.ALERT else "event",
        "category": categories,
        "type": types,
        "action": record["action"],
        "outcome": "failure" if refused or record["effect"] in ("refuse", "cut") else "success",
        "reason": record["reason"],
        "code": f"{record['action']}_{record['reason']}",
        "severity": _SEVERITIES[gravity(record)],
        "provider": "stockade",
        "module": "stockade",
        "dataset": "stockade.audit",
        "id": record_id(record),
        "sequence": record["seq"],
        "hash": record["hash"],
    }


def _own(record: Json) -> Json:
    own: Json = {name: record[name] for name in ("decision", "effect", "enforced", "level")}
    own |= {"generation": record["sandbox"]["generation"], "prev": record["prev"]}
    if container(record) is not None or pod(record) is not None:  # else it is `container`
        own["sandbox"] = {"id": record["sandbox"]["id"], "name": record["sandbox"]["name"]}
    if record["binary"] is not None:
        own["identity"] = record["binary"]["identity"]
    if detail := texts(record["detail"]):
        own["detail"] = {name.replace(".", "_"): value for name, value in detail.items()}
    return own


def _process(record: Json) -> Json:
    process: Json = {"pid": record["pid"]} if record["pid"] is not None else {}
    if (binary := record["binary"]) is not None:
        process |= {"name": binary["name"], "executable": binary["path"]}
        if binary["exec_id"] is not None:
            process["entity_id"] = f"{record['sandbox']['id']}-{binary['exec_id']}"
        if binary["sha256"]:
            process["hash"] = {"sha256": binary["sha256"]}
    if record["ancestry"]:
        process["parent"] = {"executable": record["ancestry"][0]}
    return process


def _network(record: Json) -> Json:
    destination, detail, action = record["destination"], record["detail"], record["action"]
    if destination is None:
        return {}
    host = destination["host"]
    end: Json = {"address": host}
    if literal := address(host):
        end["ip"] = literal
    else:
        end["domain"] = host
    if ip := address(destination["address"]):
        end["ip"] = ip
    if destination["port"] is not None:
        end["port"] = destination["port"]
    for name, key in (("bytes_received", "bytes"),):
        if isinstance(detail.get(name), int):
            end[key] = detail[name]
    parts: Json = {"destination": end}
    if action in ("connect", "inbound", "http", "websocket", "inference"):
        protocol = detail.get("protocol", "tcp")
        network: Json = {"direction": "inbound" if action == "inbound" else "outbound"}
        if isinstance(protocol, str):
            network["transport"] = protocol
        if action in ("http", "websocket", "inference"):
            network["protocol"] = "websocket" if action == "websocket" else "http"
        parts["network"] = network
    if action == "dns":
        question: Json = {"name": host}
        if isinstance(kind := detail.get("type"), str):
            question["type"] = kind
        parts["dns"] = {"type": "answer", "question": question, "response_code": "NOERROR" if record["effect"] == "pass" else "NXDOMAIN"}
    return parts


def _http(record: Json) -> Json:
    http = record["http"]
    if http is None:
        return {}
    request: Json = {"method": http["method"]}
    if http["request_bytes"] is not None:
        request["body"] = {"bytes": http["request_bytes"]}
    response: Json = {} if http["status"] is None else {"status_code": http["status"]}
    if http["response_bytes"] is not None:
        response["body"] = {"bytes": http["response_bytes"]}
    url: Json = {"path": http["path"]}
    if (destination := record["destination"]) is not None:
        url["domain"] = destination["host"]
        if destination["port"] is not None:
            url["port"] = destination["port"]
    return {"http": {"request": request} | ({"response": response} if response else {}), "url": url}


def _rest(record: Json) -> Json:
    """Files, and the model that a call of an LLM was for."""
    detail, parts = record["detail"], Json()
    if record["action"] == "file" and isinstance(path := detail.get("prefix") or detail.get("path"), str):
        parts["file"] = {"path": path, "name": basename(path), "type": "dir" if "prefix" in detail else "file"}
    if record["action"] == "inference":
        model: Json = {}
        if isinstance(asked := detail.get("model"), str) and asked:
            model["request"] = {"model": asked}
        if isinstance(answered := detail.get("local_model"), str) and answered:
            model["response"] = {"model": answered}
        if isinstance(api := detail.get("api"), str):
            model["system"] = api
        if model:
            parts["gen_ai"] = model
    return parts


def _related(record: Json) -> Json:
    """What an analyst pivots on."""
    destination, binary = record["destination"], record["binary"]
    related: Json = {}
    if destination is not None:
        if not address(destination["host"]):
            related["hosts"] = [destination["host"]]
        addresses = {ip for text in (destination["host"], destination["address"]) if (ip := address(text))}
        if addresses:
            related["ip"] = sorted(addresses)
    if binary is not None and binary["sha256"]:
        related["hash"] = [binary["sha256"]]
    return {"related": related} if related else {}
