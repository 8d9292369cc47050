"""`make bench`: the same work without and with Stockade, side by side in one run.

Ratios mean something on a noisy machine, rates alone do not. The servers are the tests' own, one veth away; both columns
speak to the same ones. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import decisions
import hosted
import launching
import privacy
import reload
import trail

from framework import probes
from framework.internet import ECHO, RELAY_PORT, RELAYED, Internet
from framework.machine import STOCKADE, Machine
from framework.policy import http, relay, whole

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/usr/bin/python3"
CACHE = Path("/var/cache/stockade")  # compiled programs and the header tree: what a warm start need not make again
POLICY = whole(
    http(["wrk", "python3"], ECHO, name="inspected"),
    relay(["wrk", "python3"], RELAYED[0], name="passthrough", tls="passthrough"),
    relay("python3", RELAYED[1], name="relayed", protocol="tcp", port=[RELAY_PORT]),
    allow=["true", "wrk", "python3"],
)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, twice. `ratio` is with / without."""

    what: str
    unit: str
    without: float
    governed: float

    @property
    def ratio(self) -> float:
        return self.governed / self.without


class Bench:
    """Runs the same command on the same machine, governed or not, and returns its stdout."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._files = {path.name: path.read_text() for path in INSIDE.glob("*.py")}

    def plain(self, command: Sequence[str]) -> str:
        room = self.machine.room(self._files)
        done = subprocess.run(self.machine.wrap(command), cwd=room / "work", capture_output=True, text=True, timeout=300)
        return _checked(command, done.returncode, done.stdout, done.stderr)

    def governed(self, command: Sequence[str]) -> str:
        result = self.machine.run(command, policy=POLICY, files=self._files, timeout=300)
        return _checked(command, result.status, result.stdout, result.stderr)

    def seconds(self, command: Sequence[str | Path], rounds: int) -> float:
        """The median wall time of a command, from the outside."""
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(self.machine.wrap(command), check=True, capture_output=True, timeout=120)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def start_up(self) -> Iterator[Row]:
        room = self.machine.room()
        (room / "policy.yaml").write_text(POLICY)
        run: list[str | Path] = [
            STOCKADE,
            "run",
            "--policy",
            room / "policy.yaml",
            "--workdir",
            room / "work",
            "--audit",
            room / "audit.jsonl",
            "--",
            "true",
        ]
        # An empty tmpfs over the cache, in the run's own mount namespace: the machine's cache stays as it is.
        cold: list[str | Path] = ["sh", "-ec", f'mkdir -p {CACHE}; mount -t tmpfs -o mode=700 none {CACHE}; exec "$@"', "sh", *run]
        plain = self.seconds(["true"], 9)
        yield Row("`true`, nothing cached", "s", plain, self.seconds(cold, 2))
        yield Row("`true`, caches warm", "s", plain, self.seconds(run, 9))

    def sandbox(self) -> Iterator[Row]:
        """Beside bubblewrap, not beside nothing."""
        room = self.machine.room()
        (room / "policy.yaml").write_text(POLICY)
        for what, bubblewrap, stockade in launching.milliseconds(room / "policy.yaml", room / "work"):
            yield Row(f"{what}, than bwrap", "ms", bubblewrap, stockade)

    def processes(self) -> Iterator[Row]:
        """The middle of seven rounds in turn: without anything, in bubblewrap, governed. One differs from the next by 3 %."""
        command = [PYTHON, "spawn.py", "1000"]
        room = self.machine.room(self._files) / "work"
        wrapped = launching.bubblewrap("--ro-bind", str(room), "/work", "--chdir", "/work", *command)
        rounds = [(self.plain(command), self.plain(wrapped), self.governed(command)) for _ in range(7)]
        plain, bubblewrap, governed = (statistics.median(map(float, rates)) for rates in zip(*rounds, strict=True))
        yield Row("fork+exec", "/s", plain, governed)
        yield Row("fork+exec, than in bwrap", "/s", bubblewrap, governed)

    def connects(self) -> Iterator[Row]:
        for name, host, port in (("inspected", ECHO, 80), ("relayed", RELAYED[1], RELAY_PORT)):
            command = [PYTHON, "latency.py", host, str(port), "500"]
            without, governed = ([float(word) for word in run(command).split()] for run in (self.plain, self.governed))
            yield Row(f"connect, {name}, p50", "µs", without[0], governed[0])
            yield Row(f"connect, {name}, p99", "µs", without[1], governed[1])

    def requests(self) -> Iterator[Row]:
        for name, host in (("inspected", ECHO), ("passthrough", RELAYED[0])):
            command = ["wrk", "-t1", "-c16", "-d8s", "--latency", f"https://{host}/"]
            without, governed = (_wrk(run(command)) for run in (self.plain, self.governed))
            yield Row(f"HTTPS keep-alive, {name}", "/s", without[0], governed[0])
            yield Row(f"HTTPS keep-alive, {name}, p50", "ms", without[1], governed[1])
            yield Row(f"HTTPS keep-alive, {name}, p99", "ms", without[2], governed[2])

    def privacy(self) -> Iterator[Row]:
        """Beside the same call governed and not read."""
        for what, without, read in privacy.calls(self.machine):
            yield Row(what, "ms", without, read)


def _checked(command: Sequence[str], status: int, stdout: str, stderr: str) -> str:
    if status != 0:
        raise SystemExit(f"bench: {' '.join(command)} ended with {status}:\n{stdout}{stderr}")
    return stdout


def _wrk(report: str) -> tuple[float, float, float]:
    """Requests per second, p50 and p99 in ms. An answer that was not a 2xx makes the numbers mean nothing."""
    if "Non-2xx" in report or "Socket errors" in report:
        raise SystemExit(f"bench: wrk saw errors:\n{report}")
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    percentiles = {
        percent: float(number) * units[unit] for percent, number, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s)$", report, re.M)
    }
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", report, re.M)
    if rate is None:
        raise SystemExit(f"bench: wrk said:\n{report}")
    return float(rate[1]), percentiles["50"], percentiles["99"]


def main() -> int:
    parser = argparse.ArgumentParser(description="What Stockade costs, beside the same work without it.")
    parser.add_argument("-o", "--output", type=Path, help="write the rows as JSON too")
    parser.add_argument("only", nargs="*", help="of: start_up sandbox processes connects requests privacy policy trail daemon")
    args = parser.parse_args()
    if missing := probes.governing():
        print(f"bench: this machine cannot govern a sandbox: {missing}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="stockade-bench-", dir="/var/tmp") as directory:
        room = Path(directory)
        room.chmod(0o755)
        (room / "internet").mkdir()
        with Internet(room / "internet") as internet:
            bench = Bench(Machine(internet, room))
            parts: dict[str, Callable[[], Iterator[Row]]] = {
                "start_up": bench.start_up,
                "sandbox": bench.sandbox,
                "processes": bench.processes,
                "connects": bench.connects,
                "requests": bench.requests,
                "privacy": bench.privacy,
            }
            said: list[str] = []
            print(f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}")
            print(f"{'':38}{'without':>12}{'Stockade':>12}{'ratio':>9}")
            for name in args.only or [*parts, "policy", "trail", "daemon"]:
                for row in parts[name]() if name in parts else ():
                    rows.append(row)
                    print(f"{row.what + ' (' + row.unit + ')':38}{row.without:12.4g}{row.governed:12.4g}{row.ratio:9.3g}", flush=True)
            more = {
                "privacy": privacy.lines(),
                "policy": itertools.chain(decisions.lines(), reload.lines(bench.machine)),
                "trail": trail.lines(),
                "daemon": hosted.lines(bench.machine.room(), int(os.environ.get("STOCKADE_BENCH_HOSTED", "200"))),
            }
            for name, lines in more.items():
                if not args.only or name in args.only:
                    print()
                    for line in lines:
                        said.append(line)
                        print(line, flush=True)
    if args.output:
        facts = {"kernel": platform.release(), "cores": os.cpu_count(), "python": platform.python_version()}
        table = [asdict(row) | {"ratio": row.ratio} for row in rows]
        args.output.write_text(json.dumps(facts | {"rows": table, "said": said}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
