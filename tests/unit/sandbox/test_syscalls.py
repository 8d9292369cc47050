"""The table of system calls: it is whole, it is smaller than a container's, and its page and its profile say the same."""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path

import pytest

from stockade.cli import seccomp as command
from stockade.policy.model import Seccomp
from stockade.sandbox import profile, seccomp
from stockade.sandbox.conditions import CONDITIONS
from stockade.sandbox.filter import compile_filter
from stockade.sandbox.syscalls import ALLOWED, BY_POLICY, CONTAINER_DEFAULT, KNOWN, NEEDED, NEVER, NEWEST_JUDGED, allowed, names, never

X86_64 = 0xC000003E
PAGE = Path(__file__).resolve().parents[3] / "docs" / "seccomp.md"


def known_to_libseccomp() -> dict[str, int]:
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    found = {number: lib.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(X86_64), number) for number in range(1024)}
    return {name.decode(): number for number, name in found.items() if name}


def test_every_call_of_the_architecture_stands_in_one_place() -> None:
    listed = names((*ALLOWED, *NEVER, *BY_POLICY))
    assert len(listed) == len(set(listed)), sorted(call for call in set(listed) if listed.count(call) > 1)
    assert set(known_to_libseccomp()) - set(listed) == set()


def test_what_is_allowed_exists_and_was_judged() -> None:
    """A name that libseccomp does not have would be refused in silence, and one above NEWEST_JUDGED is absent before any rule is asked."""
    numbers = known_to_libseccomp()
    assert {call for call in names(ALLOWED) if numbers.get(call, 1 << 30) > NEWEST_JUDGED} == set()


def test_fewer_calls_are_allowed_than_in_a_container(capsys: pytest.CaptureFixture[str]) -> None:
    count = len(allowed(executable=True))
    with capsys.disabled():
        print(f"\n{count} system calls are allowed, with exec.writable; the default of container runtimes: more than {CONTAINER_DEFAULT}")
    assert 200 < count < CONTAINER_DEFAULT


def test_a_policy_widens_and_narrows_but_not_beyond_the_boundary() -> None:
    every = names(NEVER)
    assert allowed(every) == allowed()
    assert allowed(["io_setup"]) - allowed() == {"io_setup"}
    assert allowed() - allowed(deny=["socketpair", "io_setup"]) == {"socketpair"}
    assert allowed(["io_setup"], ["io_setup"]) == allowed()
    assert allowed(["no_such_call"]) == allowed()
    assert allowed(executable=True) - allowed() == {"memfd_create"}
    assert [group.name for call in ("mount", "read", "io_setup") if (group := never(call))] == ["mounts and roots"]


def test_conditions_and_needs_are_of_allowed_calls() -> None:
    assert set(CONDITIONS) <= set(names(ALLOWED))
    assert set(names(ALLOWED)) >= NEEDED
    assert set(names(ALLOWED)).isdisjoint(names(NEVER))


def test_the_page_is_fresh() -> None:
    page = PAGE.read_text()
    assert profile.renewed(page) == page
    assert profile.renewed(page.replace("`ptrace`", "`gone`")) == page, "a part that is stale is made anew"
    assert all(f"`{call}`" in page or f"`{call}*`" in page for call in KNOWN)


# --- the command -------------------------------------------------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    assert command.run(parser.parse_args(["show", *words])) == 0
    return capsys.readouterr().out


def test_show_prints_groups_and_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    assert f"{len(allowed())} system calls are allowed" in text
    assert all(group.name in text for group in (*ALLOWED, *NEVER))
    assert json.loads(shown(capsys, "-o", "json"))["count"] == len(allowed())


def test_show_knows_a_policy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nexec: {allow: [sh], writable: true}\nprocess: {seccomp: {allow: [io_setup], deny: [mknod]}}\n")
    found = json.loads(shown(capsys, "-o", "json", "--policy", str(policy)))
    assert found["groups"][-1]["calls"] == ["io_setup", "memfd_create"]
    assert not any("mknod" in group["calls"] for group in found["groups"])
    assert found["count"] == len(allowed()) + 2 - 1


# --- the profile -------------------------------------------------------------------------------------------------------------------------


def test_the_profile_is_one_that_an_oci_runtime_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """The structure and the words of runtime-spec, config-linux.md#seccomp."""
    found = json.loads(shown(capsys, "--format", "oci"))
    assert set(found) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert (found["defaultAction"], found["defaultErrnoRet"], found["architectures"]) == ("SCMP_ACT_ERRNO", 1, ["SCMP_ARCH_X86_64"])
    for entry in found["syscalls"]:
        assert entry["names"] and set(entry["names"]) <= KNOWN
        assert set(entry) <= {"names", "action", "errnoRet", "args"}
        assert entry["action"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO")
        assert ("errnoRet" in entry) == (entry["action"] == "SCMP_ACT_ERRNO")
        for argument in entry.get("args", ()):
            assert set(argument) == {"index", "value", "valueTwo", "op"}
            assert 0 <= argument["index"] < 6 and argument["op"] == "SCMP_CMP_MASKED_EQ"
            assert argument["valueTwo"] & ~argument["value"] == 0, "a value outside its mask would never match"


def test_the_profile_allows_what_the_filter_allows() -> None:
    stated = Seccomp(allow=("io_setup",), deny=("mknod",))
    found = profile.as_oci(seccomp.sandbox(stated, executable=True))
    passing = {call for entry in found["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" for call in entry["names"]}
    assert passing == allowed(stated.allow, stated.deny, executable=True)
    bound = {call for entry in found["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" and "args" in entry for call in entry["names"]}
    assert bound == set(CONDITIONS) - {"mknod"}
    free = {call for entry in found["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" and "args" not in entry for call in entry["names"]}
    assert free.isdisjoint(bound)


def test_a_rule_that_cannot_be_said_is_an_error() -> None:
    from stockade.types import StockadeError

    with pytest.raises(StockadeError, match="does not know the system call no_such_call"):
        compile_filter([seccomp.Rule("no_such_call")])
