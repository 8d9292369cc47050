r"""CEF 0 (ArcSight Common Event Format): `CEF:0|vendor|product|version|class|name|severity|key=value key=value …`, one ASCII line.

Owns the escaping, all that keeps a host or a path from ending a field: in the header `\` and `|`, in a value `\` and `=`, and there a
line's end as `\n` or `\r`. Everything else that is not printable ASCII (control characters, those that turn the direction of writing,
letters of other alphabets) is spelt out, `\\u202e`. So a line that is read back gives the field names that were written, and no other.
"""

from __future__ import annotations

import re

from stockade import __version__
from stockade.audit.formats.facts import PRODUCT, VENDOR, Gravity, address, container, gravity, milliseconds, pod, texts, title
from stockade.audit.human import human_line
from stockade.audit.record import Json, canonical, record_id

_SEVERITIES = {Gravity.ALLOWED: 1, Gravity.REFUSED: 4, Gravity.OBSERVED: 6, Gravity.ALERT: 8, Gravity.LOST: 10}
_UNPRINTABLE = re.compile(r"[^ -~]")
_HEADER = re.compile(r"[\\|]")
_VALUE = re.compile(r"[\\=]")


def cef(record: Json) -> str:
    """The line, without its end."""
    code = f"{record['action']}:{record['reason']}"
    fields = (VENDOR, PRODUCT, __version__, code, title(record), str(_SEVERITIES[gravity(record)]))
    extension = " ".join(f"{name}={_value(str(value))}" for name, value in _extension(record).items() if value not in (None, ""))
    return "CEF:0|" + "|".join(map(_header, fields)) + "|" + extension


def _header(text: str) -> str:
    return _UNPRINTABLE.sub(_spelt, _HEADER.sub(r"\\\g<0>", text))


def _value(text: str) -> str:
    text = _VALUE.sub(r"\\\g<0>", text).replace("\n", r"\n").replace("\r", r"\r")
    return _UNPRINTABLE.sub(_spelt, text)


def _spelt(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\\\u{code:04x}" if code < 0x10000 else f"\\\\U{code:08x}"


def _extension(record: Json) -> Json:
    sandbox, binary, destination, http = record["sandbox"], record["binary"] or {}, record["destination"] or {}, record["http"] or {}
    detail = record["detail"]
    outward = record["action"] in ("dns", "connect", "http", "websocket", "inference")
    return {
        "rt": milliseconds(record),
        "externalId": record_id(record),
        "cat": record["action"],
        "act": record["decision"],
        "outcome": record["effect"],
        "reason": record["reason"],
        "deviceExternalId": sandbox["id"],
        "dvchost": sandbox["name"],
        "deviceDirection": 1 if outward else 0 if record["action"] == "inbound" else None,
        "sproc": binary.get("name"),
        "spid": record["pid"],
        "filePath": binary.get("script") or binary.get("path"),
        "fileHash": binary.get("sha256"),
        "dhost": destination.get("host"),
        "dst": address(destination.get("address")) or address(destination.get("host")),
        "dpt": destination.get("port"),
        "proto": detail.get("protocol") if isinstance(detail.get("protocol"), str) else None,
        "requestMethod": http.get("method"),
        "request": http.get("path"),
        "out": http.get("request_bytes"),
        "in": http.get("response_bytes"),
        **_cluster(record),
        **_custom("cs1", "rule", record["rule"]),
        **_custom("cs2", "policy", sandbox["policy"]),
        **_custom("cs3", "level", record["level"]),
        **_custom("cs4", "labels", canonical(sandbox["labels"]).decode() if sandbox["labels"] else None),
        **_custom("cs5", "detail", canonical(texts(detail)).decode() if detail else None),
        **_custom("cs6", "hash", record["hash"]),
        **_custom("cn1", "generation", sandbox["generation"]),
        **_custom("cn2", "sequence", record["seq"]),
        **_custom("cn3", "status", http.get("status")),
        "msg": human_line(record),
    }


def _cluster(record: Json) -> Json:
    """CEF has names for a host and a user; the rest is spelt as it wants the fields of a vendor to be."""
    found, made = pod(record), container(record)
    fields: Json = {} if made is None else {"StockadeContainer": made.name, "StockadeImage": made.image}
    if found is not None:
        user = f"system:serviceaccount:{found.namespace}:{found.service_account}" if found.service_account else None
        fields |= {"shost": found.name, "suser": user, "StockadeNamespace": found.namespace, "StockadeNode": found.node}
    return fields


def _custom(name: str, label: str, value: object) -> Json:
    """One of CEF's own fields for what it has no name for. The label goes only where the value does."""
    return {} if value in (None, "") else {f"{name}Label": label, name: value}
