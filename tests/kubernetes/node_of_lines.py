"""A node's agent that holds nobody and says what it is told: the controller on a real API, without pods to govern.

    python node_of_lines.py KUBECONFIG NODE DIRECTORY leave|deny [UID of the pod that it is]

Says a line of JSON for each call of the controller; hears lines of JSON: a standing, or a record of a pod.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from stockade.audit.record import describe
from stockade.kubernetes.api import Api
from stockade.kubernetes.main import controlling
from stockade.node.pod import Standing, Wanted
from stockade.types import Action, Binary, Destination, Effect, Level, Outcome, Reason, Record, Sandbox


def say(**what: Any) -> None:
    print(json.dumps(what, default=str), flush=True)


class Lines:
    def want(self, wanted: Wanted) -> None:
        pod = wanted.pod
        texts = [path.read_text() for path in wanted.policies]
        files = [path.name for path in wanted.policies]
        say(
            call="want",
            uid=pod.uid,
            pod=pod.name,
            files=files,
            texts=texts,
            revision=wanted.revision,
            observe=wanted.observe,
            labels=pod.labels,
        )

    def leave(self, uid: str) -> None:
        say(call="leave", uid=uid)

    def forget(self, uid: str) -> None:
        say(call="forget", uid=uid)


def record(uid: str, host: str, outcome: str, enforced: bool, binary: str = "curl") -> tuple[str, Any]:
    reason = Reason.RULE_ALLOW if outcome == "allow" else Reason.NO_RULE
    found = Record(
        Action.CONNECT,
        Outcome(outcome),
        Effect.PASS if outcome == "allow" or not enforced else Effect.REFUSE,
        Level.DESTINATION,
        reason,
        binary=Binary.named(binary, f"/usr/bin/{binary}"),
        destination=Destination(host, 443),
        enforced=enforced,
    )
    return uid, describe(Sandbox(uid, uid, "policy", 1), found)


async def main(kubeconfig: str, node: str, directory: str, unmatched: Any, own: str = "") -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with controlling(Api(Path(kubeconfig)), Lines(), node, Path(directory), unmatched, own=own) as controller:
        while line := await reader.readline():
            heard = json.loads(line)
            if "state" in heard:
                controller.stands(Standing(**heard))
            else:
                controller.recorded(*record(**heard))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
