"""The agent's end of its sinks: starts the process that delivers, hears how it stands, and puts what was lost on record."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stockade.audit.sinks.follow import current
from stockade.audit.trail import AGENT, Trail
from stockade.settings.sinks import Sink as Rules
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, StockadeError

log = logging.getLogger(__name__)

_BEGINS = 20.0  # seconds in which a process has begun, or has said why not
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One sink. sent, lost: records, in all its life; retried: attempts that failed; behind: bytes of the trail that wait; failing: why."""

    name: str
    type: str
    sent: int = 0
    lost: int = 0
    retried: int = 0
    behind: int = 0
    failing: str = ""


class Shipper:
    """Of one trail. standing: of each sink, as it was told last."""

    def __init__(self, trail: Trail, rules: Sequence[Rules], drain: float) -> None:
        """Begins delivery with the trail's next record, or where each sink stood. Raises StockadeError for sinks that cannot be made."""
        from stockade.audit.sinks.process import made  # here, and below: only an agent with sinks pays for it

        for each in rules:
            made(each, trail.path).close()
        self.standing = {each.name: Standing(each.name, each.type) for each in rules}
        self._trail, self._rules, self._drain = trail, rules, drain
        self._closed = False
        self._start = current(trail.path)
        self._process = self._spawn()
        self._hearing = threading.Thread(target=self._hear, name="sinks", daemon=True)
        self._hearing.start()

    def _spawn(self) -> subprocess.Popen[bytes]:
        read, write = os.pipe()
        prints = any(each.type == "stdout" for each in self._rules)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stockade.audit.sinks.process", str(write)],
            stdin=subprocess.PIPE,
            stdout=None if prints else subprocess.DEVNULL,
            pass_fds=(write,),
            start_new_session=True,  # Ctrl-C is the command's
        )
        os.close(write)
        self._report = os.fdopen(read)
        order = {
            "trail": str(self._trail.path.absolute()),
            "sinks": [_plain(each) for each in self._rules],
            "start": asdict(self._start),
            "drain": self._drain,
            "patience": _PATIENCE,
        }
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode("ascii") + b"\n")
            process.stdin.flush()
        return process

    def _hear(self) -> None:
        """Until the process ends. One that dies is started again: it goes on where it stood."""
        from stockade.audit.sinks.process import ANEW

        while True:
            for line in self._report:
                for said in json.loads(line):
                    self._take(said)
            self._report.close()
            status = self._process.wait()
            if self._closed:
                return
            if status == ANEW:
                log.info("a secret, certificate or resolver file of the audit sinks was replaced: their process begins anew")
            else:
                log.error("the process of the audit sinks ended with %d, and is started again", status)
            threading.Event().wait(1.0)
            if self._closed:
                return
            self._process = self._spawn()

    def _take(self, said: dict[str, Any]) -> None:
        news = int(said["news"])
        fields = {name: said[name] for name in ("name", "type", "sent", "lost", "retried", "behind", "failing")}
        self.standing[str(said["name"])] = Standing(**fields)
        if news:
            detail: dict[str, str | int | list[str]] = {"sink": str(said["name"]), "lost": news, "error": str(said["failing"])}
            record = Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.SINK_LOST, detail=detail)
            with contextlib.suppress(StockadeError):  # counted by the trail itself
                self._trail.append(AGENT, record)

    def close(self) -> None:
        """Wait until everything is delivered, or as long as the settings say; the rest waits in the trail. Before the trail is closed."""
        self._closed = True
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(self._drain + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hearing.join(5)


def _plain(rules: Rules) -> dict[str, Any]:
    """As JSON has it: paths are texts."""
    said = asdict(rules)
    said["tls"] = {name: None if path is None else str(path) for name, path in said["tls"].items()}
    said["headers"], said["tags"] = dict(rules.headers), dict(rules.tags)
    return said
