"""The human line: one record as a person reads it on a terminal.

Derived from the record's own JSON, so it cannot say anything else. Every value is a single printable ASCII word: spaces, control
characters, escapes and non-ASCII are spelt out, so no host, path or argument can add a field, move the cursor or start a line.
"""

from __future__ import annotations

import re

from stockade.audit.record import Json

_KINDS = {"exec": "EXEC", "dns": "DNS", "connect": "NET", "http": "HTTP", "websocket": "WS", "lifecycle": "AGENT"}
# For who reads the record: when a request began tells the journal's apart, and what a policy says fills a screen.
_LONG = frozenset({"began", "terms", "rules"})
_UNSAFE = re.compile(r"[^!-\[\]-~]")  # all but printable ASCII without space and backslash


def human_line(record: Json) -> str:
    """`NET DENY curl(4242) box-7f -> pastebin.com:443 reason=no_rule gen=12`. record: the JSON object of one trail line."""
    kind = _KINDS.get(record["action"], str(record["action"]).upper())
    words = [kind, str(record["decision"]).upper(), f"{_who(record)}{_pid(record)}", word(record["sandbox"]["name"])]
    if target := _target(record):
        words += ["->", target]
    if http := record.get("http"):
        words += [word(http["method"]), word(http["path"])]
        words += [str(http["status"])] if http.get("status") is not None else []
        words += [f"{http['response_bytes']}B"] if http.get("response_bytes") is not None else []
    words += [f"{name}={word(value)}" for name, value in sorted(record.get("detail", {}).items()) if name not in _LONG]
    if record.get("rule") is not None:
        words.append(f"rule={word(record['rule'])}")
    words.append(f"reason={word(record['reason'])}")
    if not record["enforced"]:
        words.append("enforced=no")
    words.append(f"gen={record['sandbox']['generation']}")
    return " ".join(words)


def word(value: object) -> str:
    """One word: what is not printable ASCII, a space or a backslash becomes \\xNN, \\uNNNN or \\UNNNNNNNN."""
    if isinstance(value, list):
        return ",".join(word(item) for item in value)
    return _UNSAFE.sub(lambda match: _spell(ord(match[0])), str(value)) or '""'


def _spell(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _who(record: Json) -> str:
    return word(record["binary"]["name"]) if record.get("binary") else "-"


def _pid(record: Json) -> str:
    return f"({record['pid']})" if record.get("pid") is not None else ""


def _target(record: Json) -> str:
    destination = record.get("destination")
    if destination:
        host = word(destination["host"])
        if destination.get("port") is None:
            return host
        return f"[{host}]:{destination['port']}" if ":" in host else f"{host}:{destination['port']}"
    if record["action"] == "exec" and record.get("binary"):
        return word(record["binary"]["script"] or record["binary"]["path"])
    return ""
