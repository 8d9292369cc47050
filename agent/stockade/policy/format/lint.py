"""Lint: what can only be said of the whole policy, or loads but deserves a look because it allows more, or less, than it seems to.

Knows no machine but the paths that a policy names: whether its binaries exist is `absent`'s to say, and only when asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from stockade.policy.families import Families
from stockade.policy.format.codes import Severity
from stockade.policy.format.document import Findings, Place
from stockade.policy.format.origins import Origins
from stockade.policy.format.overlaps import overlaps
from stockade.policy.hosts import LOCALHOST
from stockade.policy.model import Exec, Filesystem, Rule

# Where anybody on the machine can put a file, or where a workdir may be that the sandbox writes.
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/home")

# What Ollama, vLLM, NIM and other OpenAI-compatible servers answer at.
_MODEL_PATHS = (
    *("/", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/tags", "/api/show", "/api/ps", "/api/version", "/api/pull"),
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/models/x", "/v1/messages"),
    *("/v1/rerank", "/v1/score", "/v1/audio/transcriptions", "/tokenize", "/detokenize", "/health", "/ping", "/version", "/metrics"),
    *("/v1/health/live", "/v1/health/ready", "/v1/metadata", "/v1/metrics", "/v1/version"),
)


@dataclass(frozen=True, slots=True)
class Whole:
    """What a policy is made of, before it is one."""

    rules: tuple[Rule, ...]
    exec: Exec
    filesystem: Filesystem
    sources: tuple[Path, ...]
    origins: Origins


def examine(whole: Whole, families: Families, findings: Findings) -> None:
    """What loads and is hardly meant: into findings, most of it as warnings."""
    for rule in whole.rules:
        _interpreters(rule, families, findings)
        _never_runs(rule, whole.exec, findings)
        _model_paths(rule, whole.origins, findings)
    for relayed, inspected in overlaps(whole.rules):
        findings.add(
            relayed.place,
            "contradiction",
            f"rule `{relayed.name}` relays what rule `{inspected.name}` inspects: inspection wins",
            accepted="destinations or ports that differ",
            severity="warning",
        )
    _writable_programs(whole, findings)
    _writable_sources(whole, findings)


def _interpreters(rule: Rule, families: Families, findings: Findings) -> None:
    names = [name for name in rule.binary.allow if families.expand(name).interpreter]
    if names:
        message = f"rule `{rule.name}` allows any program that {' or '.join(names)} runs, not one tool"
        accepted = "the script's own name, such as pip or npm, when one tool is meant"
        findings.add(rule.place, "interpreter_rule", message, accepted=accepted, severity="warning")


def _never_runs(rule: Rule, exec_: Exec, findings: Findings) -> None:
    """A binary that may not run cannot use its rule."""
    for name in rule.binary.allow:
        if name in exec_.deny or name not in exec_.allow:
            why = "exec.deny holds it" if name in exec_.deny else "exec.allow does not list it"
            findings.add(rule.place, "never_runs", f"rule `{rule.name}` is for `{name}`, which may not run: {why}", severity="warning")


def _model_paths(rule: Rule, origins: Origins, findings: Findings) -> None:
    """localhost without a port means the model servers of the host; a rule none of whose paths they serve allows nothing there."""
    for pattern in rule.destination.allow:
        stated = pattern.port is not None or rule.ports
        if pattern.value != LOCALHOST or stated or rule.path is None or any(map(rule.path.allow.matches, _MODEL_PATHS)):
            continue
        place = origins.in_rule(rule.name, "destination.allow").get(pattern.text, rule.place)
        ports = " and ".join(map(str, rule.models))
        message = f"`{pattern.text}` without a port is the model server on the host's {ports}, and it serves no path of rule `{rule.name}`"
        accepted = "a rule of its own for localhost, with paths such as /v1/chat/completions or /api/chat; or the port of another service"
        findings.add(place, "no_path", message, accepted=accepted, severity="warning")


def _writable_programs(whole: Whole, findings: Findings) -> None:
    """What can be overwritten from inside would lend its name to other code. In shared places others of the machine could do the same."""
    for place, name in _named_programs(whole):
        below = next((directory for directory in whole.filesystem.write if _lies_below(name, directory)), None)
        severity: Severity = "warning"
        if below is not None and not whole.exec.writable:
            severity, message = "error", f"`{name}` lies below {below}, which filesystem.write opens: the sandbox could put another there"
        elif below is not None:
            message = f"`{name}` lies below {below}, which filesystem.write opens: what the sandbox puts there runs under its name"
        elif below := next((directory for directory in SHARED if _lies_below(name, directory)), None):
            message = f"`{name}` lies below {below}, where more than the administrator can put a program"
        else:
            continue
        findings.add(
            place, "exec_writable", message, accepted="a path that only root can write, such as /opt/tool/bin/tool", severity=severity
        )


def _lies_below(name: str, directory: str) -> bool:
    """Whether a path, or some path that a glob covers, lies below a directory."""
    parts, above = PurePosixPath(name).parts, PurePosixPath(directory).parts
    return len(parts) > len(above) and all(fnmatchcase(outer, part) for part, outer in zip(parts, above, strict=False))


def _named_programs(whole: Whole) -> Iterable[tuple[Place, str]]:
    """Every program that is named by its path, where it was first written."""
    found = {name: whole.origins.entry("exec.allow", name) for name in whole.exec.allow if name.startswith("/")}
    for rule in whole.rules:
        if any(name.startswith("/") and name not in found for name in rule.binary.allow):
            places = whole.origins.in_rule(rule.name, "binary.allow")
            found |= {name: places.get(name, rule.place) for name in rule.binary.allow if name.startswith("/") and name not in found}
    return ((place, name) for name, place in found.items())


def _writable_sources(whole: Whole, findings: Findings) -> None:
    """Whoever can write the policy is not governed by it. The workdir and what --bind adds are looked at when a sandbox starts."""
    for directory in whole.filesystem.write:
        for source in whole.sources:
            if source.is_relative_to(directory) or source.is_relative_to(Path(directory).resolve()):
                message = f"{source}, a file of this policy, lies below {directory}: the sandbox could rewrite what it is held to"
                place = whole.origins.entry("filesystem.write", directory)
                findings.add(place, "source_writable", message, accepted="the policy elsewhere, such as /etc/stockade")
