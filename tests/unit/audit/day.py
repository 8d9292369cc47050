"""A trail of one day: a sandbox from its start to its end, with refusals, a reload, calls to models, and something that went wrong.

Its records are the examples', which the product's own functions made; their times are spread over the day, and the trail's writer signs.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stockade.audit import Trail
from stockade.audit.chain import GENESIS, seal
from stockade.audit.record import Json, timestamp

MORNING = datetime(2026, 11, 24, 8, 2, tzinfo=UTC)
PERIOD = ("2026-11-24T08:00:00Z", "2026-11-24T18:00:00Z")
_ALLOWED = (
    "exec-allow",
    "dns-allow",
    "connect-allow",
    "http-allow",
    "http-allow",
    "http-allow",
    "inference-allow",
    "inference-allow-redact",
)
_DENIED = ("connect-deny", "connect-deny-literal", "http-deny", "exec-deny", "dns-deny", "file-deny", "inference-deny", "websocket-deny")


def write(path: Path, examples: dict[str, Json], records: int = 900) -> None:
    """Of one sandbox, the examples'; the same every time but for what is signed."""
    chance = random.Random(20261124)
    whole = sorted(chance.triangular(0, 9 * 3600, 2 * 3600) for _ in range(records))
    plan = [(0.0, "lifecycle-allow")]
    plan += [(at + 1, chance.choice(_DENIED if chance.random() < 0.12 else _ALLOWED)) for at in whole]
    plan += [
        (3.4 * 3600, "policy-deny"),
        (3.5 * 3600, "policy-allow"),
        (5 * 3600, "policy-allow-approved"),
        (6 * 3600, "lifecycle-deny-lost"),
    ]
    plan += [(2 * 3600.0, "inference-allow-local"), (4.1 * 3600, "file-allow"), (9.2 * 3600, "lifecycle-allow-stopped")]
    sandbox = examples["http-allow"]["sandbox"]
    prev, generation = GENESIS, 1
    with path.open("wb") as file:
        for seq, (seconds, name) in enumerate(sorted(plan), 1):
            generation += name == "policy-allow"
            fields = {key: value for key, value in examples[name].items() if key not in ("hash", "prev")}
            fields |= {"seq": seq, "time": timestamp(MORNING + timedelta(seconds=seconds)), "sandbox": sandbox | {"generation": generation}}
            line, prev = seal(fields, prev)
            file.write(line)
    Trail.open(path).close()
