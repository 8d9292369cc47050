"""The body of a 403: JSON that the agent's model can act on, and that echoes no secret."""

from __future__ import annotations

import json
import re

from stockade.proxy.ladder import Refusal
from stockade.proxy.spine import Caller
from stockade.types import Level, Reason

# Credentials that APIs put into paths, and tokens that look the same wherever they stand.
_SECRETS = (
    (re.compile(r"(?<=/bot)[0-9]+(?::|%3A)[A-Za-z0-9_-]+"), "***"),  # api.telegram.org
    (re.compile(r"(?<=/services/)[^/]+/[^/]+/[^/]+"), "***"),  # hooks.slack.com
    (re.compile(r"(?<=/webhooks/)([^/]+)/[^/]+"), r"\1/***"),  # discord.com
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|ghu|glpat|xox[abeprs]|hf|npm|pypi)[-_][A-Za-z0-9_-]{16,}"), "***"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"), "***"),  # a JWT
)

_HINTS = {
    Level.BINARY: "no rule lets this binary reach this host: use a binary that a rule names, or ask for a rule",
    Level.DESTINATION: "no rule names this host and port for this binary",
    Level.METHOD: "a rule allows this host with other methods",
    Level.PATH: "a rule allows this host and method on other paths",
}


def mask_path(path: str) -> str:
    """The path without the credentials in it; only for eyes, never for matching."""
    for pattern, shown in _SECRETS:
        path = pattern.sub(shown, path)
    return path


def body(refusal: Refusal, caller: Caller, method: str) -> bytes:
    """The JSON of one refusal, one line and a newline."""
    hint = refusal.hint
    if not hint and refusal.decision is not None:
        hint = _HINTS.get(refusal.level, "") if refusal.reason is Reason.NO_RULE else "a deny list of the rule names it"
    fields = {
        "error": refusal.error,
        "level": refusal.level.value,
        "rule": refusal.rule,
        "reason": refusal.reason.value,
        "host": caller.host,
        "method": method[:64],
        "path": mask_path(refusal.path),
        "binary": caller.binary.name,
        "hint": hint,
    }
    return json.dumps(fields).encode() + b"\n"
