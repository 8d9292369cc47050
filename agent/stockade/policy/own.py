"""stockade.internal: the one host that is Stockade's own. No rule speaks of it, allows it or denies it; every binary that runs may ask it.

What is there is answered by the proxy worker itself, and only to be read: what became of a refused request (`/approvals/ID`).
"""

from __future__ import annotations

import re

from stockade.types import Decision, Effect, Level, Outcome, Reason, Request

HOST = "stockade.internal"
PORT = 80
APPROVALS = f"http://{HOST}/approvals/"


def is_own(name: str) -> bool:
    """Whether a normalised host, or all that lies below it, is Stockade's: no name server is asked for those."""
    return name == HOST or name.endswith(f".{HOST}")


_PATH = re.compile(r"/approvals/([a-z0-9]{1,32})")


def decide_own(request: Request, generation: int) -> Decision:
    """The decision for a request to HOST. Holds under `mode: observe` too: there is nothing to observe."""

    def deny(level: Level) -> Decision:
        return Decision(Outcome.DENY, Effect.REFUSE, level, Reason.NO_RULE, HOST, generation)

    if not request.binary.names:
        return deny(Level.BINARY)
    if request.port not in (None, PORT):
        return deny(Level.DESTINATION)
    if request.method not in (None, "GET"):
        return deny(Level.METHOD)
    if request.path is not None and approval_of(request.path) is None:
        return deny(Level.PATH)
    level = Level.PATH if request.path is not None else Level.METHOD if request.method is not None else Level.DESTINATION
    return Decision(Outcome.ALLOW, Effect.PASS, level, Reason.RULE_ALLOW, HOST, generation)


def approval_of(path: str) -> str | None:
    """The approval that a path asks for."""
    found = _PATH.fullmatch(path)
    return found[1] if found else None
