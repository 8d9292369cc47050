"""What a policy says, short enough to stand in the record of a start and of every reload: so a trail alone answers what was in force.

    terms          key=value of every setting that widens or narrows the sandbox, in a fixed order
    rules          a line each: name, who, where, what, and file:line where it was written
    policy_sha256  over all of it, whole, and what decides beside it (Rego, dictionaries): two generations that say the same have the same

Values of process.env are never in it, only the names of the variables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from stockade.policy.model import Policy, Rule

RULES = 200  # shown
WIDTH = 300  # characters of one
_SEVERAL = 24  # entries of one list

Detail = dict[str, str | int | list[str]]


def summary(policy: Policy) -> Detail:
    """terms, rules, policy_sha256, rule_count."""
    terms = [f"{key}={value}" for key, value in _terms(policy)]
    rules = [_rule(rule) for rule in policy.rules]
    whole = [f"{key}={value}" for key, value in _terms(policy, whole=True)] + [_rule(rule, whole=True) for rule in policy.rules]
    digest = hashlib.sha256("\n".join([*whole, *_unshown(policy)]).encode(errors="surrogatepass"))
    files = {path: Path(path).resolve() for path in {rule.place.path for rule in policy.rules[:RULES]}}  # whoever reads it stands elsewhere
    shown = [f"{text}{_place(rule, files)}" for text, rule in zip(rules[:RULES], policy.rules, strict=False)]
    return {"terms": terms, "rules": shown, "rule_count": len(rules), "policy_sha256": digest.hexdigest()}


def _terms(policy: Policy, *, whole: bool = False) -> Iterator[tuple[str, str]]:
    execs, files, process, privacy = policy.exec, policy.filesystem, policy.process, policy.privacy
    yield "mode", policy.mode
    yield "best_effort", _listed(sorted(policy.best_effort), whole)
    yield "on_audit_failure", policy.on_audit_failure
    yield "exec.allow", _listed(execs.allow, whole)
    yield "exec.deny", _listed(execs.deny, whole)
    yield "exec.unlisted", execs.unlisted
    yield "exec.writable", "true" if execs.writable else "false"
    yield "exec.env", _listed(execs.env, whole)
    yield "filesystem.read", _listed(files.read, whole)
    yield "filesystem.write", _listed(files.write, whole)
    yield "filesystem.hide", _listed(files.hide, whole)
    yield "process.user", process.user or ""
    yield "process.env", _listed([name if value is not None else f"{name} (inherited)" for name, value in process.env], whole)
    yield "process.pids", str(process.pids or "")
    yield "process.memory", str(process.memory or "")
    yield "process.cpu", str(process.cpu or "")
    yield "process.devices", _listed(process.devices, whole)
    yield "process.seccomp.allow", _listed(process.seccomp.allow, whole)
    yield "process.seccomp.deny", _listed(process.seccomp.deny, whole)
    yield "inbound", _listed([f"{each.port} from {' '.join(map(str, each.sources))}" for each in policy.inbound], whole)
    yield "rules", str(len(policy.rules))
    yield "rules.inspected", str(sum(rule.inspected for rule in policy.rules))
    yield "rules.relayed", str(sum(not rule.inspected for rule in policy.rules))
    yield "rules.any_path", str(sum(_any_path(rule) for rule in policy.rules))
    yield "rules.scanned", str(sum(bool(rule.scan) for rule in policy.rules))
    yield "rules.pinned", str(sum(bool(rule.sha256) for rule in policy.rules))
    yield "rego", "none" if policy.rego is None else ("allow and deny" if policy.rego.denies else "allow")
    yield "privacy", "none" if privacy is None else privacy.mode
    if privacy is not None:
        yield "privacy.routes", _listed([f"{'+'.join(route.when)} -> {route.then}" for route in privacy.routes], whole)
        yield "privacy.unreadable", privacy.unreadable
        yield "privacy.on_failure", privacy.on_failure
        yield "privacy.on_local_failure", privacy.on_local_failure
        yield "privacy.local", "" if privacy.local is None else privacy.local.model
        yield "privacy.redact.style", privacy.style
        yield (
            "privacy.require_residency",
            _listed([f"{category} in {'/'.join(where)}" for category, where in privacy.require_residency], whole),
        )


def _unshown(policy: Policy) -> Iterator[str]:
    if policy.rego is not None:
        yield policy.rego.key
    if (privacy := policy.privacy) is not None:
        yield repr((privacy.endpoints, privacy.thresholds, privacy.custom, privacy.local, privacy.residency, privacy.routes))
        yield from (f"{each.name} {each.category} {each.sha256}" for each in privacy.dictionaries)


def _rule(rule: Rule, *, whole: bool = False) -> str:
    """`slack: curl -> *.slack.com:443 POST /api/**, not /api/admin*`."""
    destination = rule.destination
    ports = ",".join(map(str, rule.ports))
    where = _listed([entry.text for entry in destination.allow], whole) + (f" port {ports}" if ports else "")
    words = [f"{rule.name}: {_listed(rule.binary.allow, whole)} -> {where}"]
    if rule.method is not None and rule.path is not None:
        words.append(f"{_listed(rule.method.allow, whole)} {_listed(rule.path.allow.globs, whole)}")
    else:
        words.append("tcp, not looked into" if rule.protocol == "tcp" else "TLS passed through, not looked into")
    denied = [
        *rule.binary.deny,
        *(entry.text for entry in destination.deny),
        *(rule.method.deny if rule.method else ()),
        *(rule.path.deny.globs if rule.path else ()),
    ]
    if denied:
        words.append(f"never {_listed(denied, whole)}")
    if rule.scan:
        words.append(f"scanned for {_listed(rule.scan, whole)}")
    if rule.ancestors:
        words.append(f"started by {_listed(rule.ancestors, whole)}")
    if rule.sha256:
        words.append("sha256 " + _listed([digest if whole else digest[:12] for digest in rule.sha256], whole))
    if whole and destination.addresses:
        words.append(f"addresses {_listed([str(each) for each in destination.addresses], whole)}")
    text = "; ".join(words)
    return text if whole or len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _place(rule: Rule, files: Mapping[str, Path]) -> str:
    return f" ({files[rule.place.path]}:{rule.place.line})" if rule.place.line else ""


def _any_path(rule: Rule) -> bool:
    return rule.path is not None and "/**" in rule.path.allow.globs


def _listed(texts: tuple[str, ...] | list[str], whole: bool = False) -> str:
    if whole or len(texts) <= _SEVERAL:
        return ", ".join(texts)
    return f"{', '.join(texts[:_SEVERAL])} and {len(texts) - _SEVERAL} more"
