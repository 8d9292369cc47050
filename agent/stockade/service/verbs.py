"""What root's commands may ask of the agent of one sandbox, over its control socket. Checks arguments; what is done is done elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stockade.policy import Problem
from stockade.service.control import Json, Peer, Verb
from stockade.service.generations import Generations
from stockade.service.governed import Governed


def of(governed: Governed, generations: Generations) -> Mapping[str, Verb]:
    """The verbs by name."""

    async def status(_arguments: Json, _peer: Peer) -> Json:
        return {
            "sandbox": governed.sandbox.name,
            "id": governed.sandbox.id,
            "pid": os.getpid(),
            "policy": governed.policy.name,
            "generation": governed.policy.generation,
            "mode": governed.policy.mode,
            "sources": [str(path) for path in governed.policy.sources],
        }

    async def reload(_arguments: Json, peer: Peer) -> Json:
        outcome = await generations.reload(f"command of {peer}")
        return {
            "generation": outcome.generation,
            "switched": outcome.switched,
            "why": outcome.why,
            "problems": [_problem(problem) for problem in outcome.problems],
            "read_us": outcome.read_us,
            "switch_us": outcome.switch_us,
        }

    return {"status": status, "reload": reload}


def _problem(problem: Problem) -> Json:
    return {
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message,
        "accepted": problem.accepted,
    }
