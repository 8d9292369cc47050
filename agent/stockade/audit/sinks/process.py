"""The process that delivers: a thread a sink, until standard input ends, and then as long as it may drain.

    python -m stockade.audit.sinks.process REPORT     (a descriptor; what to do comes as one line of JSON on standard input)

Reports a line of JSON for all sinks every second in which something changed, and one at the end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stockade.audit.sinks import products, secret
from stockade.audit.sinks.confine import Watch, confine, drop
from stockade.audit.sinks.cursor import Position
from stockade.audit.sinks.deliver import Delivery
from stockade.audit.sinks.file import FileSink
from stockade.audit.sinks.journald import JournaldSink
from stockade.audit.sinks.sink import Sink
from stockade.audit.sinks.stream import StreamSink
from stockade.audit.sinks.syslog import SyslogSink
from stockade.settings.rotate import Rotate
from stockade.settings.sinks import Batch, Tls
from stockade.settings.sinks import Sink as Rules
from stockade.types import StockadeError

EVERY = 1.0
ANEW = 75  # EX_TEMPFAIL: a file that it read was replaced, and another process is to go on


def made(rules: Rules, trail: Path) -> Sink:
    """Raises StockadeError for what cannot be used as it is configured: secrets that are not there, certificates that are none."""
    for text in (rules.token, *rules.headers.values()):
        secret.resolve(text)
    match rules.type:
        case "file":
            return FileSink(Path(rules.path.replace("{trail}", trail.name)), rules.rotate)
        case "stdout":
            return StreamSink(1)
        case "journald":
            return JournaldSink()
        case "syslog":
            return SyslogSink(rules)
        case "otlp":
            from stockade.audit.sinks import otlp  # here: a tenth of a second that only its users pay

            return otlp.sink(rules)
    return products.sink(rules)


def deliver(trail: Path, rules: Sequence[Rules], start: Position) -> list[tuple[Delivery, threading.Thread]]:
    """Begins. A sink that another process delivers for is left to it. Raises StockadeError."""
    deliveries: list[Delivery] = []
    try:
        for each in rules:
            deliveries.append(Delivery(trail, each, made(each, trail), start))
    except StockadeError:
        for one in deliveries:
            one.abandon()
        raise
    begun = [(one, threading.Thread(target=one.run, name=f"sink-{one.rules.name}", daemon=True)) for one in deliveries]
    for _, thread in begun:
        thread.start()
    return begun


def standing(delivery: Delivery, *, tell: bool) -> dict[str, Any]:
    """One sink, as the agent hears of it. tell: what was lost is going to be on record."""
    waiting = delivery.behind()
    return {
        "name": delivery.rules.name,
        "type": delivery.rules.type,
        "sent": delivery.sent,
        "lost": delivery.lost,
        "retried": delivery.retried,
        "failing": delivery.failing,
        "seq": delivery.seq,
        "behind": waiting,
        "news": delivery.news() if tell else 0,
    }


def rules_of(said: dict[str, Any]) -> Rules:
    """Of asdict(): the settings were read and checked by the agent."""
    paths = {name: None if path is None else Path(path) for name, path in said["tls"].items()}
    return Rules(**(said | {"rotate": Rotate(**said["rotate"]), "tls": Tls(**paths), "batch": Batch(**said["batch"])}))


def main(report: int) -> int:
    """The process that ships. report: the descriptor that it tells the agent by. Returns the exit status; ANEW asks to be started again."""
    logging.basicConfig(format="stockade: %(message)s", level=logging.WARNING)
    drop()
    order = json.loads(sys.stdin.readline())
    trail, rules = Path(order["trail"]), [rules_of(one) for one in order["sinks"]]
    watch = Watch(rules)
    try:
        for one in rules:
            made(one, trail).close()
        confine(trail, rules)
    except (StockadeError, OSError) as error:
        print(f"stockade: {error}", file=sys.stderr)
        return 1
    # Held by another process that still drains, of the agent before: it ends within its time.
    until = time.monotonic() + order["patience"]
    while True:
        try:
            begun = deliver(trail, rules, Position(**order["start"]))
            break
        except StockadeError as error:
            if error.code != "audit_unavailable" or time.monotonic() > until:
                print(f"stockade: {error.message}", file=sys.stderr)
                return 1
            time.sleep(0.2)
    ended = threading.Event()
    threading.Thread(target=_until_told, args=(ended,), daemon=True).start()
    last: list[dict[str, Any]] = []
    anew = False
    with os.fdopen(report, "w") as pipe:
        while not ended.wait(EVERY) and not anew:
            last, anew = _report(begun, pipe, last), watch.replaced()
        for delivery, _ in begun:
            delivery.stop(0.0 if anew else order["drain"])
        for _, thread in begun:
            thread.join(order["drain"] + 15)
        _report(begun, pipe, [])
    return ANEW if anew else 0


def _report(begun: list[tuple[Delivery, threading.Thread]], pipe: Any, last: list[dict[str, Any]]) -> list[dict[str, Any]]:
    now = [standing(delivery, tell=True) for delivery, _ in begun]
    if now != last:
        with contextlib.suppress(OSError):  # the agent is gone; what is left is delivered all the same
            print(json.dumps(now), file=pipe, flush=True)
    return now


def _until_told(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
