"""What an OpenShell policy says to a request, as its documentation and its Rego have it: small, slow, and written without ours in mind.

Where they leave room (which slashes a star crosses), every reading is here, and the tests hold the import to each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Matcher = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. binary: the path of the executable; ancestors: those of what started it. path: decoded."""

    binary: str
    ancestors: tuple[str, ...]
    host: str
    port: int
    method: str
    path: str


def _expression(pattern: str, star: str, double: str) -> str:
    parts = {"**": double, "*": star, "?": "[^/]"}
    return "".join(
        parts.get(token) or (token if len(token) > 1 else re.escape(token)) for token in re.findall(r"\*\*|\[[^\]]*\]|.", pattern)
    )


def by_segment(pattern: str, text: str) -> bool:
    """glob.match with `/` as its delimiter."""
    return re.fullmatch(_expression(pattern, "[^/]*", ".*"), text) is not None


def crossing(pattern: str, text: str) -> bool:
    """The schema reference: both stars may cross."""
    return re.fullmatch(_expression(pattern, ".*", ".*"), text) is not None


def by_component(pattern: str, text: str) -> bool:
    """Engines for file names: `**` counts only between slashes, where it is none or more; else it is a star."""
    expression = _expression(pattern, "[^/]*", "\0")
    expression = re.sub("/\0/", "/(?:.*/)?", expression)
    expression = re.sub("/\0$", "/.*", expression)
    return re.fullmatch(expression.replace("\0", "[^/]*"), text) is not None


READINGS: tuple[Matcher, ...] = (by_segment, crossing, by_component)


def allowed(policy: dict[str, Any], asked: Asked, matches: Matcher) -> bool:
    endpoints = [
        endpoint
        for entry in policy["network_policies"].values()
        if any(_binary(item["path"], path) for item in entry.get("binaries", ()) for path in (asked.binary, *asked.ancestors))
        for endpoint in entry["endpoints"]
        if _host(endpoint["host"], asked.host) and asked.port in endpoint.get("ports", [endpoint.get("port")])
    ]
    inspected = [endpoint for endpoint in endpoints if endpoint.get("protocol", "") not in ("", "tcp") and endpoint.get("tls") != "skip"]
    if not inspected:
        return bool(endpoints)
    if "%2F" in asked.path and not any(endpoint.get("allow_encoded_slash") for endpoint in inspected):
        return False
    here = [endpoint for endpoint in inspected if _path(endpoint.get("path", "**"), asked.path, matches)]
    return any(_allows(endpoint, asked, matches) for endpoint in here) and not any(_denies(endpoint, asked, matches) for endpoint in here)


def _binary(pattern: str, path: str) -> bool:
    return by_segment(pattern, path) if "*" in pattern else pattern == path


def _host(pattern: str, host: str) -> bool:
    expression = "".join({"**": ".*", "*": "[^.]*"}.get(token, re.escape(token)) for token in re.findall(r"\*\*|\*|[^*]+", pattern))
    return re.fullmatch(expression, host) is not None


def _path(pattern: str, path: str, matches: Matcher) -> bool:
    return pattern in ("", "**") or matches(pattern, path)


def _method(pattern: str, method: str) -> bool:
    return pattern in ("*", method) or (pattern == "GET" and method == "HEAD")


def _allows(endpoint: dict[str, Any], asked: Asked, matches: Matcher) -> bool:
    """A request without query and with a body that is neither GraphQL nor JSON-RPC."""
    access = endpoint.get("access")
    if endpoint["protocol"] == "websocket":
        if access is not None:
            return access != "read-only" and asked.method == "GET"
        rules = [rule["allow"] for rule in endpoint["rules"]]
        fits = [rule["method"] for rule in rules if _path(rule["path"], asked.path, matches)]
        return asked.method == "GET" and {"GET", "*"} & {*fits} != set() and {"WEBSOCKET_TEXT", "*"} & {*fits} != set()
    if endpoint["protocol"] != "rest":
        return False
    if access is not None:
        reading = ("GET", "HEAD", "OPTIONS")
        return access == "full" or asked.method in (reading if access == "read-only" else (*reading, "POST", "PUT", "PATCH"))
    return any(
        _method(rule["allow"]["method"], asked.method)
        and _path(rule["allow"]["path"], asked.path, matches)
        and "query" not in rule["allow"]
        for rule in endpoint["rules"]
    )


def _denies(endpoint: dict[str, Any], asked: Asked, matches: Matcher) -> bool:
    """What looks into bodies is authoritative for its paths: a body that it cannot read is denied."""
    if endpoint["protocol"] not in ("rest", "websocket"):
        return True
    return any(
        _method("GET" if rule["method"] == "WEBSOCKET_TEXT" else rule["method"], asked.method) and _path(rule["path"], asked.path, matches)
        for rule in endpoint.get("deny_rules", ())
        if "query" not in rule
    )
