"""What the policy is made of, where the sandbox could write it."""

from __future__ import annotations

import pytest

from framework.internet import ECHO
from framework.machine import Machine
from framework.policy import bare, http

FIRST = "version: 1\nname: test\nexec: {allow: [touch]}\n"


@pytest.mark.attack("policy-sources", "policy-dictionaries")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("base.yaml", "extends: [./work/base.yaml]"),
        ("more.rego", "rego: [./work/more.rego]"),
        ("wards.txt", "privacy: {detect: {dictionaries: [{name: wards, category: ip.document, file: ./work/wards.txt}]}}"),
    ],
)
def test_a_source_that_the_sandbox_could_write_is_refused(machine: Machine, name: str, line: str) -> None:
    texts = {"base.yaml": bare(http("curl", ECHO)), "more.rego": "package stockade\n\ndefault allow = false\n", "wards.txt": "ward nine\n"}
    text = texts[name]
    room = machine.room({name: text})
    elsewhere = machine.room()
    for place, allowed in ((elsewhere, True), (room, False)):
        if allowed:  # the same policy with its source where the sandbox cannot write is one that starts
            (place / name).write_text(text)
        policy = FIRST + (line.replace("./work/", "./") if allowed else line) + "\n"
        result = machine.run("touch ran", policy=policy, room=place)
        assert (result.status == 0) is allowed, result
        assert (place / "work/ran").exists() is allowed
    assert "writable" in result.stderr, result
