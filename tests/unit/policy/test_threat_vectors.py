"""Attacks by name and through HTTP, from the tables in tests/golden/vectors: each item of the checklist has vectors there, or names the
tests that show it on the live kernel and through the live proxy.
"""

from __future__ import annotations

import ast
import functools
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest
import yaml

from stockade.dns import Asker, Resolver, SyntheticTable
from stockade.policy import Policy, PolicyError, decide, load, refused_range
from stockade.policy.hosts import normalise_host, parse_pattern
from stockade.proxy.ladder import Admitted, Head, judge
from stockade.proxy.spine import Caller
from stockade.types import Binary, Record, Request

REPOSITORY = Path(__file__).resolve().parents[3]
VECTORS = REPOSITORY / "tests/golden/vectors"
CURL = Binary.named("curl", "/usr/bin/curl")
KINDS = ("hosts", "covers", "written", "dials", "queries", "asks", "heads", "shown_by")


@dataclass(frozen=True)
class Row:
    id: str
    item: str
    attack: str
    vectors: dict[str, Any]


def read(name: str) -> dict[str, list[Row]]:
    """The rows below each bullet of a table."""
    tables = yaml.safe_load((VECTORS / name).read_text(encoding="utf-8"))
    rows = {table["bullet"]: [dict(row) for row in table["rows"]] for table in tables}
    return {bullet: [Row(row.pop("id"), row.pop("item"), row.pop("attack"), row) for row in below] for bullet, below in rows.items()}


BULLETS = read("names.yaml") | read("http.yaml")
ROWS = [row for below in BULLETS.values() for row in below]


def vectors(kind: str) -> list[Any]:
    """One parameter for each vector of a kind, named after its row."""
    found = []
    for row in ROWS:
        written = row.vectors.get(kind, [])
        items = written.items() if isinstance(written, dict) else written
        found += [pytest.param(vector, id=f"{row.id}-{number}") for number, vector in enumerate(items, 1)]
    return found


@functools.cache
def policy() -> Policy:
    return load([VECTORS / "policy.yaml"])


@pytest.mark.parametrize("bullet", BULLETS)
def test_every_word_of_the_checklist_is_in_a_row(bullet: str) -> None:
    left = bullet
    for item in sorted((row.item for row in BULLETS[bullet]), key=len, reverse=True):
        assert item in left, f"{item!r} is not in the bullet, or two rows have it"
        left = left.replace(item, " ", 1)
    left = left.replace("meet the same rules", "")
    assert set(re.findall(r"\w+", left)) <= {"and", "also", "or", "Smuggling"}, left


def test_every_row_has_a_name_of_its_own_and_shows_something() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.vectors and set(row.vectors) <= set(KINDS), row.id
        assert all(row.vectors.values()) and row.attack, row.id


@pytest.mark.parametrize("vector", vectors("hosts"))
def test_the_one_spelling_of_a_host(vector: tuple[str, str | None]) -> None:
    spelling, becomes = vector
    if becomes is None:
        with pytest.raises(ValueError):
            normalise_host(spelling)
    else:
        assert normalise_host(spelling) == becomes == normalise_host(becomes)


@pytest.mark.parametrize("vector", vectors("covers"))
def test_what_an_entry_covers(vector: tuple[str, str, bool]) -> None:
    entry, host, covered = vector
    assert parse_pattern(entry).matches(normalise_host(host)) is covered


@pytest.mark.parametrize("vector", vectors("written"))
def test_what_an_allow_list_may_hold(vector: tuple[str, str | None], tmp_path: Path) -> None:
    entry, code = vector
    levels = {"binary": {"allow": ["curl"]}, "destination": {"allow": [entry]}, "method": {"allow": ["GET"]}, "path": {"allow": ["/**"]}}
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump([{"name": "rule", **levels}], allow_unicode=True), encoding="utf-8")
    try:
        load([file])
        codes: set[str] = set()
    except PolicyError as error:
        codes = {problem.code for problem in error.problems if problem.severity == "error"}
        assert all(problem.line for problem in error.problems)
    assert codes == (set() if code is None else {code})


@pytest.mark.parametrize("vector", vectors("dials"))
def test_which_address_a_name_may_lead_to(vector: tuple[str, str, str | None]) -> None:
    host, address, refused = vector
    assert refused_range(ipaddress.ip_address(address), host, policy(), 443, CURL) == refused


@pytest.mark.parametrize("vector", vectors("queries"))
def test_what_the_resolver_answers(vector: tuple[str, str, str, str]) -> None:
    name, kind, rcode, reason = vector
    records: list[Record] = []
    resolver = Resolver(
        table=SyntheticTable(),
        decide=lambda asker, host: decide(Request(asker.binary, host), policy()),
        publish=lambda index, host: None,
        record=lambda asker, record: records.append(record),
    )
    wire = resolver.answer(dns.message.make_query(name, kind).to_wire(), Asker(CURL))
    assert wire is not None
    reply = dns.message.from_wire(wire)
    assert (dns.rcode.to_text(reply.rcode()), [record.reason.value for record in records]) == (rcode, [reason])
    assert bool(reply.answer) is (reason == "rule_allow")


@pytest.mark.parametrize("vector", vectors("asks"))
def test_what_is_decided_at_connect(vector: tuple[str, int, str, str]) -> None:
    host, port, outcome, level = vector
    decision = decide(Request(CURL, normalise_host(host), port), policy())
    assert (decision.outcome.value, decision.level.value) == (outcome, level)


@pytest.mark.parametrize("vector", vectors("heads"))
def test_what_becomes_of_a_request(vector: dict[str, Any]) -> None:
    to, port = vector.get("to", "api.example.com"), vector.get("port", 443)
    authority = vector.get("authority")
    hosts = [vector["host"]] if "host" in vector else [] if authority is not None else [f"[{to}]" if ":" in to else to]
    head = Head(
        method=vector.get("method", "GET"),
        path=spelt(vector["target"]),
        authority=authority,
        headers=(*(("host", host) for host in hosts), *vector.get("headers", {}).items()),
        malformed=vector.get("malformed"),
    )
    outcome = judge(head, Caller(CURL, (), to, port), policy(), decide)
    said = f"admitted {outcome.target}" if isinstance(outcome, Admitted) else f"refused {outcome.level} {outcome.reason}"
    assert said == spelt(vector["says"])


def spelt(text: str) -> str:
    """`{4096}` stands for as many letters, `~~` for an octet that is no UTF-8."""
    return re.sub(r"\{(\d+)\}", lambda match: "x" * int(match[1]), text).replace("~~", "\udcff")


@pytest.mark.parametrize("node", sorted({node for row in ROWS for node in row.vectors.get("shown_by", ())}))
def test_a_test_that_a_row_names_is_there(node: str) -> None:
    file, _, name = node.partition("::")
    path = REPOSITORY / file
    assert path.is_file(), file
    assert name in {item.name for item in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(item, ast.FunctionDef)}
