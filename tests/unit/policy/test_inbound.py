"""Inbound ports as policies state them: who is admitted, from which file, and what another policy changes."""

from __future__ import annotations

import ipaddress
import pickle
from pathlib import Path

import pytest

from stockade.policy import Policy, load
from stockade.policy.format.show import as_json, as_text
from stockade.policy.proof.diff import diff

OWN = """\
version: 1
name: own
extends: [./base.yaml]
inbound:
  - {port: 8080, from: [10.1.0.0/16, "fd00:1::/64"]}
  - {port: 22, protocol: tcp, from: [127.0.0.1]}
"""
BASE = """\
version: 1
inbound:
  - {port: 8080, from: [192.0.2.7, 10.1.0.0/16]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "own.yaml").write_text(OWN)
    return load([tmp_path / "own.yaml"])


ADMITTED = {
    (8080, "10.1.255.255"): True,
    (8080, "10.2.0.0"): False,
    (8080, "192.0.2.7"): True,
    (8080, "192.0.2.8"): False,
    (8080, "fd00:1::9"): True,
    (8080, "fd00:2::9"): False,
    (8080, "::ffff:10.1.0.1"): False,
    (8080, "127.0.0.1"): False,
    (22, "127.0.0.1"): True,
    (22, "10.1.0.1"): False,
    (22, "::1"): False,
    (80, "127.0.0.1"): False,
}


@pytest.mark.parametrize(("port", "source"), ADMITTED)
def test_who_is_admitted(policy: Policy, port: int, source: str) -> None:
    assert policy.admits(port, ipaddress.ip_address(source)) is ADMITTED[port, source]


def test_a_policy_without_it_admits_nobody(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    policy = load([tmp_path / "policy.yaml"])
    assert policy.inbound == () and not policy.admits(80, ipaddress.ip_address("127.0.0.1"))


def test_a_worker_is_given_it(policy: Policy) -> None:
    assert pickle.loads(pickle.dumps(policy)).inbound == policy.inbound  # noqa: S301


def test_what_is_shown_loads_to_the_same_and_says_from_where(policy: Policy, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(as_text(policy))
    assert load([again]).inbound == policy.inbound
    ssh, web = as_json(policy)["inbound"]
    assert (ssh["port"]["value"], web["port"]["value"]) == (22, 8080)
    places = {entry["value"]: Path(entry["from"]).name for entry in web["from"]}
    assert places == {"10.1.0.0/16": "own.yaml:5", "fd00:1::/64": "own.yaml:5", "192.0.2.7/32": "base.yaml:3"}


def test_what_another_policy_changes(policy: Policy, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(OWN.replace("10.1.0.0/16", "0.0.0.0/0").replace("22", "23"))
    said = {(change.effect, change.area, change.text) for change in diff(policy, load([other]))}
    assert said == {
        ("possible", "inbound", "0.0.0.0/0 may connect to port 8080"),
        ("possible", "inbound", "127.0.0.1/32 may connect to port 23"),
        ("impossible", "inbound", "127.0.0.1/32 may connect to port 22"),
    }
    assert diff(policy, policy) == ()
