"""Showing: the effective policy as one file that loads to the same, each line with the file and line that it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade import resources
from stockade.policy.format.amounts import size_text
from stockade.policy.format.document import NOWHERE, Place, plain_kind, quoted
from stockade.policy.format.origins import Origins
from stockade.policy.model import Inbound, Policy, Rule
from stockade.policy.privacy import Local, Privacy, Route

_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.@+*-]*(?::[0-9]+)?")
_COLUMN = 60  # comments begin here at the latest, unless their line is longer


@dataclass(frozen=True, slots=True)
class Stated:
    """A value and where it was written; origin is empty for what nobody wrote."""

    value: str | float | bool
    place: Place = NOWHERE

    @property
    def origin(self) -> str:
        """`agent.yaml:12`; a file that ships with Stockade by its name below policies/."""
        if not self.place.line:
            return ""
        path = Path(self.place.path)
        shown = path.relative_to(resources.POLICIES) if path.is_relative_to(resources.POLICIES) else path
        return f"{shown}:{self.place.line}"


Tree = Stated | list["Tree"] | dict[str, "Tree"]


def as_json(policy: Policy) -> dict[str, Any]:
    """Each value as {value, from}; from is null for a default. With the files that were read."""
    return {**_plain(_policy(policy)), "sources": [str(source) for source in policy.sources]}


def as_text(policy: Policy) -> str:
    """A YAML document that loads to the same policy; the origin of each line is the comment at its end."""
    lines = list(_written(_policy(policy), ""))
    column = min(max(len(text) for text, _ in lines), _COLUMN)
    return "".join(f"{text:<{column}}  # {note}\n" if note else f"{text}\n" for text, note in lines)


def _policy(policy: Policy) -> dict[str, Tree]:
    def word(key: str, value: str | float | None) -> Tree:
        return Stated(value, policy.origins.word(key)) if value is not None else []

    def several(key: str, values: Iterable[str]) -> Tree:
        return [Stated(value, policy.origins.entry(key, value)) for value in values]

    def pairs(key: str, values: Iterable[tuple[str, str]]) -> Tree:
        return {name: Stated(value, policy.origins.entry(key, name)) for name, value in values}

    exec_, files = policy.exec, policy.filesystem
    environment = ((name, "inherit" if value is None else value) for name, value in policy.process.env)
    whole: dict[str, Tree] = _without_gaps(
        {
            "version": Stated(1),
            "name": word("name", policy.name),
            "labels": pairs("labels", policy.labels.items()),
            "mode": word("mode", policy.mode),
            "best_effort": several("best_effort", sorted(policy.best_effort)),
            "exec": {
                "allow": several("exec.allow", exec_.allow),
                "deny": several("exec.deny", exec_.deny),
                "unlisted": word("exec.unlisted", exec_.unlisted),
                "writable": word("exec.writable", exec_.writable),
                "env": several("exec.env", exec_.env),
            },
            "filesystem": {key: several(f"filesystem.{key}", getattr(files, key)) for key in ("read", "write", "hide", "count")},
            "process": {
                "user": word("process.user", policy.process.user),
                "env": pairs("process.env", environment),
                "pids": word("process.pids", policy.process.pids),
                "memory": word("process.memory", size_text(policy.process.memory) if policy.process.memory else None),
                "cpu": word("process.cpu", policy.process.cpu),
                "devices": several("process.devices", policy.process.devices),
                "seccomp": {key: several(f"process.seccomp.{key}", getattr(policy.process.seccomp, key)) for key in ("allow", "deny")},
            },
            "inbound": [_inbound(policy, each) for each in policy.inbound],
            "on_audit_failure": word("on_audit_failure", policy.on_audit_failure),
            "rego": _rego(policy),
            "privacy": _privacy(policy.privacy, policy.origins) if policy.privacy else [],
            "network": [_rule(policy, rule) for rule in policy.rules],
        }
    )
    return whole


def _rego(policy: Policy) -> Tree:
    """Absolute: the text may be put anywhere."""
    places = {str(Path(place.path).parent / text): place for text, place in policy.origins.entries.get("rego", {}).items()}
    modules = policy.rego.modules if policy.rego else ()
    return [Stated(str(Path(module.name).resolve()), places.get(module.name, NOWHERE)) for module in modules]


def _privacy(privacy: Privacy, origins: Origins) -> dict[str, Tree]:
    """With its defaults, so that no section is an empty one, which would be left out and mean no router at all."""

    def placed(key: str, entry: str, value: str | float) -> Stated:
        return Stated(value, origins.entry(f"privacy.{key}", entry))

    def word(key: str, value: str | float) -> Stated:
        return placed("words", key, value)

    def pairs(key: str, values: Iterable[tuple[str, str | float]]) -> Tree:
        return {name: placed(key, name, value) for name, value in values}

    def entry(key: str, name: str, **values: str) -> Tree:
        said = {part: placed(f"{key}.{part}", name, value) for part, value in values.items() if value}
        return {"name": placed(key, name, name), **said}

    def route(each: Route) -> Tree:
        conditions = {"model": each.model, "endpoint": each.endpoint, "sandbox": each.sandbox}
        shown = entry("routes", each.name, **conditions, then=each.then)
        assert isinstance(shown, dict)
        when: Tree = [placed("routes.when", f"{each.name} {name}", name) for name in each.when]
        return {"name": shown.pop("name"), "when": when, **shown}

    return {
        "mode": word("mode", privacy.mode),
        "endpoints": [placed("endpoints", host, host) for host in privacy.endpoints],
        "detect": {
            "thresholds": pairs("detect.thresholds", privacy.thresholds),
            "dictionaries": [
                entry("detect.dictionaries", each.name, category=each.category, file=each.file) for each in privacy.dictionaries
            ],
            "custom": [entry("detect.custom", each.name, pattern=each.pattern, category=each.category) for each in privacy.custom],
        },
        "routes": [route(each) for each in privacy.routes],
        "redact": {"style": word("redact.style", privacy.style), "ttl": word("redact.ttl", privacy.ttl)},
        "local": _local(privacy.local, origins) if privacy.local else {},
        "residency": pairs("residency", privacy.residency),
        "require_residency": {
            name: [placed("require_residency", name, label) for label in labels] for name, labels in privacy.require_residency
        },
        "unreadable": word("unreadable", privacy.unreadable),
        "on_failure": word("on_failure", privacy.on_failure),
        "on_local_failure": word("on_local_failure", privacy.on_local_failure),
    }


def _local(local: Local, origins: Origins) -> dict[str, Tree]:
    words = {key: getattr(local, key) for key in ("url", "api", "model", "context", "timeout", "parallel", "queue", "api_key_env")}
    shown: dict[str, Tree] = {key: Stated(value, origins.entry("privacy.local", key)) for key, value in words.items() if value != ""}
    return shown | {"models": {asked: Stated(model, origins.entry("privacy.local.models", asked)) for asked, model in local.models}}


def _inbound(policy: Policy, inbound: Inbound) -> Tree:
    places = policy.origins.entries.get("inbound", {})
    sources: Tree = [Stated(str(source), places.get(f"{inbound.port} {source}", NOWHERE)) for source in inbound.sources]
    return {"port": Stated(inbound.port, places.get(str(inbound.port), NOWHERE)), "from": sources}


def _rule(policy: Policy, rule: Rule) -> Tree:
    def placed(key: str, values: Iterable[str | int]) -> Tree:
        places = policy.origins.in_rule(rule.name, key).values()
        values = tuple(values)
        return [Stated(value, place) for value, place in zip(values, places or (rule.place for _ in values), strict=True)]

    def word(key: str, value: str) -> Tree:
        places = tuple(policy.origins.in_rule(rule.name, key).values())
        return Stated(value, places[0]) if places else []

    def level(key: str, allow: Iterable[str], deny: Iterable[str]) -> dict[str, Tree]:
        return {"allow": placed(f"{key}.allow", allow), "deny": placed(f"{key}.deny", deny)}

    hosts = level("destination", (item.text for item in rule.destination.allow), (item.text for item in rule.destination.deny))
    hosts["addresses"] = placed("destination.addresses", map(str, rule.destination.addresses))
    return {
        "name": Stated(rule.name, rule.place),
        "why": word("why", rule.why),
        "binary": level("binary", rule.binary.allow, rule.binary.deny),
        "ancestors": placed("ancestors", rule.ancestors),
        "sha256": placed("sha256", rule.sha256),
        "scan": placed("scan", rule.scan),
        "on_found": word("on_found", rule.on_found),
        "destination": hosts,
        "port": placed("port", rule.ports),
        "method": level("method", rule.method.allow, rule.method.deny) if rule.method else {},
        "path": level("path", rule.path.allow.globs, rule.path.deny.globs) if rule.path else {},
        "tls": word("tls", rule.tls),
        "protocol": word("protocol", rule.protocol),
    }


def _without_gaps(tree: Any) -> Any:
    """What the policy does not say has no key: an empty list would be an error."""
    if isinstance(tree, dict):
        kept = {key: _without_gaps(value) for key, value in tree.items()}
        return {key: value for key, value in kept.items() if value not in ([], {})}
    return [_without_gaps(item) for item in tree] if isinstance(tree, list) else tree


def _plain(tree: Any) -> Any:
    match tree:
        case Stated():
            return {"value": tree.value, "from": tree.origin or None}
        case dict():
            return {key: _plain(value) for key, value in tree.items()}
    return [_plain(item) for item in tree]


def _written(tree: dict[str, Tree], indent: str) -> Iterator[tuple[str, str]]:
    """Lines with their comments."""
    for key, value in tree.items():
        head = f"{indent}{_scalar(key)}:"
        match value:
            case Stated():
                yield f"{head} {_scalar(value.value)}", value.origin or ("" if key == "version" else "default")
            case dict():
                yield head, ""
                yield from _written(value, f"{indent}  ")
            case list():
                yield head, ""
                for item in value:
                    yield from _entry(item, f"{indent}  ")


def _entry(item: Tree, indent: str) -> Iterator[tuple[str, str]]:
    if isinstance(item, Stated):
        yield f"{indent}- {_scalar(item.value)}", item.origin
    elif isinstance(item, dict):
        for number, (text, note) in enumerate(_written(item, f"{indent}  ")):
            yield (text if number else f"{indent}- {text[len(indent) + 2 :]}"), note


def _scalar(value: str | float | bool) -> str:
    """Plain where YAML takes it for what it is; otherwise in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and plain_kind(value) == "text":
        return value
    return quoted(value)
