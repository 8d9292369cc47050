"""What `decide()` costs, by the number of rules: policies of two shapes, asked a mix of requests that they allow and refuse.

Needs no root and no network. `python tests/bench/decisions.py` prints the curve alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stockade.policy import Destination, HostPattern, Names, Paths, Policy, Rule, decide, load
from stockade.policy.paths import allow_list, deny_list
from stockade.policy.rego import judge
from stockade.resources import POLICIES
from stockade.types import Binary, Request

SIZES = (100, 1_000, 10_000)
ROUNDS = 20_000
CURL = Binary("curl", frozenset({"curl"}), "/usr/bin/curl", sha256="0" * 64)


@dataclass(frozen=True, slots=True)
class Curve:
    """One shape of policy; p50 and p99 in µs, by number of rules."""

    shape: str
    p50: dict[int, float]
    p99: dict[int, float]


def curves() -> Iterator[Curve]:
    for shape, rule, request in (
        ("a host for each rule", _own_host, _to_own_host),
        ("all rules on one host and binary", _one_host, _to_one_host),
    ):
        p50, p99 = {}, {}
        for size in SIZES:
            policy = Policy("bench", rules=tuple(dataclasses.replace(rule(number), position=number) for number in range(size)))
            seconds = _measure(policy, [request(number) for number in _numbers(size)])
            p50[size], p99[size] = seconds[len(seconds) // 2] * 1e6, seconds[len(seconds) * 99 // 100] * 1e6
        yield Curve(shape, p50, p99)


def _measure(policy: Policy, requests: list[Request]) -> list[float]:
    """Seconds of each call, sorted. Each request object is asked once before: what is worked out per generation is not what is measured."""
    for request in requests:
        decide(request, policy)
    taken = []
    for request in itertools.islice(itertools.cycle(requests), ROUNDS):
        start = time.perf_counter()
        decide(request, policy)
        taken.append(time.perf_counter() - start)
    return sorted(taken)


def _numbers(size: int) -> list[int]:
    """Which rules are asked about: spread over the policy, in no order, and fewer than rulings are kept."""
    return random.Random(1).sample(range(size), min(size, 1_000))


def _rule(number: int, host: str, allow: list[str], deny: list[str]) -> Rule:
    return Rule(
        name=f"rule-{number}",
        binary=Names(("curl", "git")),
        destination=Destination((HostPattern(host, "name", host),)),
        method=Names(("GET", "POST"), ("DELETE",)),
        path=Paths(allow_list(allow), deny_list(deny)),
    )


def _own_host(number: int) -> Rule:
    return _rule(number, f"host-{number}.example.com", ["/api/v1/items/*", "/api/v1/lists/**"], ["/api/v1/items/secret*", "/api/admin/*"])


def _to_own_host(number: int) -> Request:
    path = ("/api/v1/items/7", "/api/v1/lists/a/b/c", "/api/admin/x/y", "/elsewhere")[number % 4]
    return Request(CURL, f"host-{number}.example.com", 443, "GET", path)


def _one_host(number: int) -> Rule:
    path = f"/teams/team-{number}"
    return _rule(number, "api.example.com", [f"{path}/items/*", f"{path}/files/**", f"{path}/list.*"], [f"{path}/items/secret*"])


def _to_one_host(number: int) -> Request:
    path = f"/teams/team-{number}/" + ("items/7", "files/a/b/c", "list.json", "items/secret-1", "elsewhere")[number % 5]
    return Request(CURL, "api.example.com", 443, "GET", path)


def rego() -> tuple[list[float], list[float]]:
    """Seconds of decide() on a request that rules allow, and on one that the seed's Rego does; both sorted."""
    with_rego = load([POLICIES / "examples" / "rego.yaml"])
    requests = [Request(CURL, "api.slack.com", 443, "POST", f"/api/chat.{number}") for number in range(1_000)]
    rules = Policy("bench", rules=(_rule(0, "api.slack.com", ["/api/chat.*"], []),))
    try:
        return _measure(rules, requests), _measure(with_rego, requests)
    finally:
        judge.reset()


def lines() -> Iterator[str]:
    """The curve and Rego, a line each; ratios are to 100 rules, and to rules."""
    for curve in curves():
        for size in SIZES:
            p50, p99 = curve.p50[size], curve.p99[size]
            ratio = p50 / curve.p50[SIZES[0]]
            yield f"decide(), {curve.shape}: {size:>6} rules, p50 {p50:5.2f} µs ({ratio:.2f} of {SIZES[0]} rules), p99 {p99:5.2f} µs"
    rules, weighed = rego()
    p50, p99 = (weighed[len(weighed) * percent // 100] * 1e6 for percent in (50, 99))
    yield f"decide(), the seed's Rego: p50 {p50:.0f} µs ({p50 / (rules[len(rules) // 2] * 1e6):.0f} times a rule), p99 {p99:.0f} µs"


def main() -> None:
    for line in lines():
        print(line)


if __name__ == "__main__":
    main()
