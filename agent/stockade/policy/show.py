"""Showing: the effective policy as people and programs read it, with where each rule comes from."""

from __future__ import annotations

from typing import Any

from stockade.policy.model import Policy, Rule


def as_json(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "labels": policy.labels,
        "mode": policy.mode,
        "best_effort": sorted(policy.best_effort),
        "exec": {
            "allow": list(policy.exec.allow),
            "deny": list(policy.exec.deny),
            "unlisted": policy.exec.unlisted,
            "writable": policy.exec.writable,
            "env": list(policy.exec.env),
        },
        "filesystem": {
            "read": list(policy.filesystem.read),
            "write": list(policy.filesystem.write),
            "hide": list(policy.filesystem.hide),
        },
        "process": {
            "user": policy.process.user,
            "env": {name: "inherit" if value is None else value for name, value in policy.process.env},
        },
        "on_audit_failure": policy.on_audit_failure,
        "network": [_rule(rule) for rule in policy.rules],
        "sources": [str(source) for source in policy.sources],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": rule.name, "from": f"{rule.place.path}:{rule.place.line}"}
    if rule.why:
        shown["why"] = rule.why
    shown["binary"] = _lists(rule.binary.allow, rule.binary.deny)
    shown["destination"] = _lists(
        tuple(f"{pattern.text} ports {','.join(map(str, rule.ports_for(pattern)))}" for pattern in rule.destination.allow),
        tuple(pattern.text for pattern in rule.destination.deny),
    )
    if rule.destination.addresses:
        shown["destination"]["addresses"] = [str(network) for network in rule.destination.addresses]
    if rule.method:
        shown["method"] = _lists(rule.method.allow, rule.method.deny)
    if rule.path:
        shown["path"] = _lists(rule.path.allow.globs, rule.path.deny.globs)
    if not rule.inspected:
        shown["relayed"] = "tcp" if rule.protocol == "tcp" else "tls"
    return shown


def _lists(allow: tuple[str, ...], deny: tuple[str, ...]) -> dict[str, list[str]]:
    return {"allow": list(allow), "deny": list(deny)} if deny else {"allow": list(allow)}


def as_text(policy: Policy) -> str:
    """Lines indented as YAML would be; made for reading, not for loading."""
    lines: list[str] = []
    _write(as_json(policy), "", lines)
    return "\n".join(lines)


def _write(value: dict[str, Any], indent: str, lines: list[str]) -> None:
    for key, item in value.items():
        if isinstance(item, dict):
            lines.append(f"{indent}{key}:" + ("" if item else " none"))
            _write(item, indent + "  ", lines)
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            lines.append(f"{indent}{key}:")
            for entry in item:
                lines.append(f"{indent}- rule {entry['name']}, from {entry['from']}")
                _write({name: part for name, part in entry.items() if name not in ("name", "from")}, indent + "    ", lines)
        elif isinstance(item, list):
            lines.append(f"{indent}{key}: {', '.join(map(str, item)) or 'none'}")
        else:
            lines.append(f"{indent}{key}: {item if item is not None else 'default'}")
