"""What root's commands may ask of the agent of one sandbox, over its control socket. Checks arguments; what is done is done elsewhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from stockade import __version__
from stockade.policy.summary import summary
from stockade.service.approvals import Approval, State, Term, for_people
from stockade.service.control import Handed, Json, Peer, Verb
from stockade.service.desk import Desk, Terms
from stockade.service.generations import Generations
from stockade.service.governed import Governed
from stockade.service.inbound import Doors
from stockade.service.neighbours import Caller
from stockade.service.observed import Observed
from stockade.service.renewal import Renewal
from stockade.types import StockadeError

LONGEST = 366 * 24 * 3600.0  # seconds of an approval that expires


def of(governed: Governed, generations: Generations, desk: Desk, doors: Doors, observed: Observed, renewal: Renewal) -> Mapping[str, Verb]:
    """The verbs by name."""

    async def status(_arguments: Json, _peer: Peer) -> Json:
        return {
            "sandbox": governed.sandbox.name,
            "id": governed.sandbox.id,
            "pid": os.getpid(),
            "version": __version__,
            "policy": governed.policy.name,
            "policy_sha256": await asyncio.to_thread(lambda: summary(generations.on_disk)["policy_sha256"]),
            "generation": governed.policy.generation,
            "mode": governed.policy.mode,
            "sources": [str(path) for path in governed.policy.sources],
            "approvals_pending": sum(approval.state is State.PENDING for approval in desk.table),
            "metrics": observed.metrics,
        }

    async def statistics(_arguments: Json, _peer: Peer) -> Json:
        """What happened in it so far."""
        return observed.snapshot().statistics()

    async def kill(_arguments: Json, _peer: Peer) -> Json:
        """Everything in it. What is left to say is in the trail, as of any end."""
        governed.cgroup.kill()
        return {"killed": True}

    async def reload(_arguments: Json, peer: Peer) -> Json:
        outcome = await generations.reload(f"command of {peer}")
        return {
            "generation": outcome.generation,
            "switched": outcome.switched,
            "why": outcome.why,
            "problems": [problem.as_json() for problem in outcome.problems],
            "read_us": outcome.read_us,
            "switch_us": outcome.switch_us,
        }

    async def approvals(arguments: Json, _peer: Peer) -> Json:
        """All, or the one whose id is given."""
        wanted = _text(arguments, "id") if "id" in arguments else None
        found = [for_people(approval) for approval in desk.table if wanted in (None, approval.id)]
        return {"approvals": found, "dropped": desk.table.dropped}

    async def approve(arguments: Json, peer: Peer) -> Json:
        return answered(await desk.approve(_text(arguments, "id"), _terms(arguments), str(peer)))

    async def deny(arguments: Json, peer: Peer) -> Json:
        return answered(await desk.deny(_text(arguments, "id"), str(peer)))

    async def dial(arguments: Json, _peer: Peer) -> Handed:
        """The way in for another sandbox, whose agent asks; the policy says whether."""
        return Handed({}, await doors.visit(_port(arguments), Caller.of(_mapping(arguments, "from"))))

    async def authority(_arguments: Json, _peer: Peer) -> Json:
        """What the sandbox trusts, and what signs for it."""
        return dict(renewal.described())

    async def rotate(_arguments: Json, peer: Peer) -> Json:
        return dict(await renewal.rotate(f"command of {peer}"))

    def answered(approval: Approval) -> Json:
        return {"approval": for_people(approval), "generation": governed.policy.generation}

    return {
        "status": status,
        "statistics": statistics,
        "kill": kill,
        "reload": reload,
        "approvals": approvals,
        "approve": approve,
        "deny": deny,
        "dial": dial,
        "authority": authority,
        "rotate": rotate,
    }


def _terms(arguments: Json) -> Terms:
    try:
        term = Term(_text(arguments, "term"))
    except ValueError:
        raise StockadeError("term is once, for or always", code="bad_argument") from None
    seconds = arguments.get("seconds", 0)
    if term is Term.FOR and not (isinstance(seconds, int | float) and 0 < seconds <= LONGEST):
        raise StockadeError("seconds is a number above 0, of a year at most", code="bad_argument")
    port = _port(arguments) if arguments.get("port") is not None else None
    return Terms(term, float(seconds), _texts(arguments, "methods"), _texts(arguments, "paths"), port)


def _port(arguments: Json) -> int:
    port = arguments.get("port")
    if not (type(port) is int and 0 < port <= 65535):
        raise StockadeError("port is 1 to 65535", code="bad_argument")
    return port


def _mapping(arguments: Json, name: str) -> Json:
    value = arguments.get(name)
    if not isinstance(value, dict):
        raise StockadeError(f"{name} is an object", code="bad_argument")
    return value


def _text(arguments: Json, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise StockadeError(f"{name} is a text", code="bad_argument")
    return value


def _texts(arguments: Json, name: str) -> tuple[str, ...]:
    value = arguments.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StockadeError(f"{name} is a list of texts", code="bad_argument")
    return tuple(value)
