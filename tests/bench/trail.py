"""What the trail costs: how many records a second it takes and how late, how fast it is verified, each beside the plainest way of doing it.

`python tests/bench/trail.py [SECONDS]` measures this alone; needs no root. 60 seconds at 10,000 records a second are the aim; `make bench`
takes 10 (STOCKADE_BENCH_TRAIL=60 for all of it). The plain way is json.dumps and write of records of the same size: no chain, no pin.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stockade.audit import Trail, verify
from stockade.audit.sinks import Shipper
from stockade.settings import Audit, Checkpoint, Rotate
from stockade.settings.sinks import Sink
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record, Sandbox

RATE = 10_000  # records a second
SECONDS = float(os.environ.get("STOCKADE_BENCH_TRAIL", "10"))
_BOX = Sandbox("0d1f", "box-7f", "coding-agent", 12, {"agent": "claude-code"})
_CURL = Binary("curl", frozenset({"curl"}), "/usr/bin/curl", sha256="ab" * 32)
_RULES = Audit(rotate=Rotate(size=64 << 20), checkpoint=Checkpoint())
_LOOK = 64  # records between two looks at the clock: a sleep for each would be what is measured


def refused(number: int) -> Record:
    return Record(
        Action.CONNECT,
        Outcome.DENY,
        Effect.REFUSE,
        Level.DESTINATION,
        Reason.NO_RULE,
        binary=_CURL,
        exec_id=3,
        pid=4242,
        ancestry=("/usr/bin/bash",),
        destination=Destination(f"host{number % 1000}.example", 443),
    )


def request(number: int) -> Record:
    return Record(
        Action.HTTP,
        Outcome.ALLOW,
        Effect.PASS,
        Level.PATH,
        Reason.RULE_ALLOW,
        rule="pypi",
        binary=_CURL,
        exec_id=3,
        pid=77,
        destination=Destination("index.example", 443, "151.101.0.223"),
        http=Http("GET", f"/simple/{number % 1000}/"),
    )


def mixed(trail: Trail, number: int) -> None:
    """Every fourth is a request, which is written ahead, and then with what became of it."""
    if number % 4:
        trail.append(_BOX, refused(number))
    else:
        trail.finish(trail.begin(_BOX, request(number)), http=Http("GET", f"/simple/{number % 1000}/", 200, 0, 512))


def lines(seconds: float = SECONDS) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="stockade-bench-", dir="/var/tmp") as directory:
        room = Path(directory)
        yield from _written(room)
        yield from _paced(room, seconds)
        yield from _verified(room)


def _written(room: Path) -> Iterator[str]:
    """As fast as it goes: three rounds of each in turn, the middle one, by the time of the clock and of the CPU."""
    plain = room / "plain.jsonl"
    trail = Trail.open(room / "fast.jsonl", _RULES)
    trail.append(_BOX, refused(0))
    example = json.loads((room / "fast.jsonl").read_bytes().splitlines()[0])

    def write(count: int) -> None:
        with plain.open("wb", buffering=0) as file:
            for number in range(count):
                file.write(json.dumps(example | {"seq": number}).encode() + b"\n")

    def append(count: int) -> None:
        for number in range(count):
            trail.append(_BOX, refused(number))

    def finish(count: int) -> None:
        for number in range(count):
            trail.finish(trail.begin(_BOX, request(number)), http=Http("GET", "/simple/x/", 200, 0, 512))

    ways: dict[str, Callable[[int], None]] = {
        "plain json.dumps and write": write,
        "records": append,
        "requests, written ahead and with their end": finish,
    }
    rounds = {name: [_rates(way, 20_000) for _ in range(3)] for name, way in ways.items()}
    trail.close()
    base = 0.0
    for name, found in rounds.items():
        clock, cpu = (statistics.median(rates) for rates in zip(*found, strict=True))
        base = base or cpu
        beside = "" if name.startswith("plain") else f", {cpu / base:.2f} of the plain way's rate"
        yield f"trail: {name}: {clock:,.0f} /s by the clock, {cpu:,.0f} /s of CPU{beside}"


def _rates(way: Callable[[int], None], count: int) -> tuple[float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    way(count)
    return count / (time.perf_counter() - clock), count / (time.process_time() - cpu)


def _paced(room: Path, seconds: float) -> Iterator[str]:
    """At the aim's rate, with a sink behind. Lag: from when a record was due until it is in the file."""
    path = room / "paced.jsonl"
    trail = Trail.open(path, _RULES)
    shipper = Shipper(trail, [Sink("file", "file", path=str(room / "shipped"), rotate=Rotate(keep=1))], drain=60)
    total, lags = int(RATE * seconds), []
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(total):
        due = began + number / RATE
        if number % _LOOK == 0 and (ahead := due - time.perf_counter()) > 0:
            time.sleep(ahead)
        mixed(trail, number)
        lags.append(max(0.0, time.perf_counter() - due))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    behind = shipper.standing["file"].behind
    shipper.close()
    trail.close()
    verdict = verify(path)
    lags.sort()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - 8 * len(lags) / 2**20
    p50, p99 = (lags[int(len(lags) * share)] * 1000 for share in (0.5, 0.99))
    yield (
        f"trail: {RATE:,} /s asked for {seconds:g} s: {total / took:,.0f} /s written, lag p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"worst {lags[-1] * 1000:.1f} ms; CPU {100 * cpu / took:.0f} % of one core, {memory:.0f} MiB; "
        f"{total - verdict.records} lost, {verdict.files} files, {'verified' if verdict.ok else verdict.problem}"
    )
    said = shipper.standing["file"]
    yield f"trail: the sink beside it: {said.sent:,} delivered, {said.lost} lost, {behind / 2**20:.1f} MiB behind when the last was written"


def _verified(room: Path) -> Iterator[str]:
    """Of what was just written: three rounds, the middle one."""
    path = room / "paced.jsonl"
    whole = [file for file in sorted(room.glob("paced.jsonl*")) if file.suffix in (".jsonl",) or file.suffix[1:].isdigit()]

    def parse(_count: int) -> None:
        for file in whole:
            with file.open("rb") as opened:
                for line in opened:
                    json.loads(line)

    def check(_count: int) -> None:
        assert verify(path).ok

    count = verify(path).records
    plain, quick = ([_rates(way, count) for _ in range(3)] for way in (parse, check))
    (plain_clock, plain_cpu), (clock, cpu) = (
        tuple(statistics.median(rates) for rates in zip(*found, strict=True)) for found in (plain, quick)
    )
    yield f"trail: verify: {clock:,.0f} records/s by the clock, {cpu:,.0f} /s of CPU"
    beside = f"verify is {cpu / plain_cpu:.2f} of it"
    yield f"trail: json.loads of every line alone: {plain_clock:,.0f} /s by the clock, {plain_cpu:,.0f} /s of CPU: {beside}"


if __name__ == "__main__":
    for said in lines(float(sys.argv[1]) if sys.argv[1:] else SECONDS):
        print(said, flush=True)
