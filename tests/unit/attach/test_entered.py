"""Who may come in goes with the policy that says so."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path

from stockade.attach.entered import entrances
from stockade.attach.target import Target
from stockade.attach.wanted import prepared
from stockade.policy import Policy, load
from stockade.proxy.parcel import pack
from stockade.sandbox.cgroup import Cgroup, mounted


def read(directory: Path, port: int) -> Policy:
    path = directory / "policy.yaml"
    path.write_text(f"version: 1\nexec: {{allow: [curl]}}\ninbound:\n  - {{port: {port}, from: [10.88.0.0/16]}}\n")
    return load([path])


def test_what_is_read_later_changes_nothing_of_what_was_read_before(tmp_path: Path) -> None:
    """Also not when the one before is put in force again, as another generation."""
    first, _ = (prepared(read(tmp_path, port), _target()) for port in (8080, 9090))
    again = dataclasses.replace(first, generation=7).with_generation(8)
    for each in (first, again):
        assert ([entrance.port for entrance in entrances(each)], each.inbound) == ([8080], ())


def test_a_worker_is_given_it_as_it_is(tmp_path: Path) -> None:
    policy = prepared(read(tmp_path, 8080), _target())
    for packed in (pickle.dumps(policy), pack(policy)):
        found = pickle.loads(packed)  # noqa: S301 (its own)
        assert entrances(found) == entrances(policy)
        assert (found.sources, found.index) == ((), policy.index)


def _target() -> Target:
    return Target(Cgroup(mounted() / "x"), os.getpid(), name="x")
