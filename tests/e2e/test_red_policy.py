"""A policy that what it governs could exchange: by a link, or a directory, on the way to one of its files."""

from __future__ import annotations

import pytest

from framework.machine import Machine, wait_for

pytestmark = pytest.mark.client("sh")

WIDE = "version: 1\nname: wide\nexec: {allow: [sh, coreutils, curl]}\n"


@pytest.mark.parametrize(
    ("way", "policy"),
    [
        ("extends", "version: 1\nname: p\nexec: {allow: [sh, coreutils]}\nextends: [./work/link.yaml]\n"),
        ("rego", "version: 1\nname: p\nexec: {allow: [sh, coreutils]}\nrego: [work/link.rego]\n"),
        ("back out", "version: 1\nname: p\nexec: {allow: [sh, coreutils]}\nextends: [./work/sub/../../base.yaml]\n"),
        ("itself", ""),
    ],
)
def test_a_source_behind_a_link_that_the_sandbox_could_exchange_is_refused(way: str, policy: str, machine: Machine) -> None:
    room = machine.room()
    (room / "base.yaml").write_text(WIDE)
    (room / "base.rego").write_text("allow { false }\n")
    (room / "work/sub").mkdir()
    (room / "work/link.yaml").symlink_to("../base.yaml")
    (room / "work/link.rego").symlink_to("../base.rego")
    file = room / "work/link.yaml"
    if policy:
        file = room / "policy.yaml"
        file.write_text(policy)
    result = machine.run(["sh", "-c", "echo ran"], policy=file, room=room)
    assert (result.status, result.stdout) == (125, ""), result
    assert "writable_source" in result.stderr, result


def test_nor_does_a_reload_take_one(machine: Machine) -> None:
    room = machine.room()
    policy = room / "policy.yaml"
    policy.write_text("version: 1\nname: p\nexec: {allow: [sh, coreutils]}\n")
    (room / "base.yaml").write_text("version: 1\nname: base\n")
    (room / "work/link.yaml").symlink_to("../base.yaml")
    with machine.start(["sh", "-c", "touch ready; while [ ! -e stop ]; do sleep 0.1; done"], policy=policy, room=room) as running:
        wait_for((room / "work/ready").exists, "the command to start", running=running)
        policy.write_text("version: 1\nname: p\nexec: {allow: [sh, coreutils]}\nextends: [./work/link.yaml]\n")
        wait_for(lambda: [each for each in running.records() if each["action"] == "policy"], "an answer to the reload", running=running)
        (room / "work/stop").touch()
        result = running.finish()
    (record,) = result.select(action="policy")
    assert record["reason"] == "reload_refused" and "writable from inside" in record["detail"]["why"], result
