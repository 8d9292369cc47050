"""With this environment? What brings foreign code into a program that has network rules, and how much of an environment is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.box import DIED, KILLED, NETWORK, PYTHON, RAN, RUNS, Box
from kernel.scripts import Scripted
from stockade.kernel.abi import BinaryFlag, EventType, Why
from stockade.policy import loader_variables


@pytest.fixture
def guarded(box: Box) -> Box:
    """A box that holds binaries with network rules to the shipped list."""
    for pattern in loader_variables():
        box.maps.refuse_variable(box.number, pattern)
    return box


FOREIGN = [
    *(
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "LD_",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "OPENSSL_CONF",
        "OPENSSL_MODULES",
        "OPENSSL_ENGINES",
    ),
    *("NODE_OPTIONS", "NODE_PATH", "BUN_OPTIONS", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PERL5OPT", "BASH_ENV", "GIO_MODULE_DIR"),
    *("GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0", "GIT_CONFIG_GLOBAL", "SASL_PATH"),
]
HARMLESS = ["PATH", "LD", "XLD_PRELOAD", "NODE_OPTION", "NODE_OPTIONS_", "PYTHONPATHS", "GIT_CONFIG", "HOME", "", "ld_preload"]


@pytest.mark.parametrize("name", FOREIGN)
def test_what_brings_foreign_code_is_refused_for_a_binary_with_network_rules(guarded: Box, touch: Path, bench: Path, name: str) -> None:
    guarded.enrol(touch, RUNS | NETWORK)
    ended = guarded.run(touch, bench / "evidence", env={"A": "1", name: "", "Z": "1"})
    assert (ended.status, ended.said, ended.exec.identity) == (KILLED, [(DIED, Why.LOADER_VARIABLE)], 0)
    assert ended.exec.variable == name
    assert not (bench / "evidence").exists()


@pytest.mark.parametrize("name", [n for n in HARMLESS if n])
def test_names_that_are_only_alike_pass(guarded: Box, touch: Path, name: str) -> None:
    guarded.enrol(touch, RUNS | NETWORK)
    assert guarded.run(touch, "--version", env={name: "1"}).said == [(RAN, Why.POLICY)]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "NODE_OPTIONS", "GIT_CONFIG_COUNT"])
def test_a_binary_without_network_rules_may_have_any_and_that_is_remembered(guarded: Box, touch: Path, name: str) -> None:
    number = guarded.enrol(touch)
    ended = guarded.run(touch, "--version", env={name: ""})
    assert (ended.status, ended.said) == (0, [(RAN, Why.LOADER_VARIABLE)])
    assert (ended.exec.identity, ended.exec.variable) == (number, name)


def test_what_is_remembered_counts_as_no_failure(guarded: Box, touch: Path) -> None:
    guarded.enrol(touch)
    before = guarded.maps.failures()
    assert guarded.run(touch, "--version", env=variables(5_000)).said == [(RAN, Why.ENV_UNREADABLE)]
    assert guarded.maps.failures() == before


def test_a_script_with_network_rules_is_held_to_them_too(guarded: Box, bench: Path) -> None:
    scripted = Scripted(guarded, bench)
    scripted.enrol(scripted.path, RUNS | NETWORK)
    assert guarded.run(scripted.path, scripted.evidence, env={"LD_PRELOAD": ""}).said == [(DIED, Why.LOADER_VARIABLE)]
    assert guarded.run(scripted.path, scripted.evidence, env={}).said == [(RAN, Why.POLICY)]


def variables(count: int) -> dict[str, str]:
    return {f"VARIABLE_{number:05}": "x" for number in range(count)}


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        pytest.param({}, Why.POLICY, id="empty"),
        *(
            pytest.param(variables(before) | {"LD_PRELOAD": ""} | more, Why.LOADER_VARIABLE, id=f"LD_PRELOAD behind {before} of {of}")
            for before in (0, 3, 4, 7)  # the end is looked for at every fourth
            for more, of in (({}, before + 1), ({"Z": "1"}, before + 2))
        ),
        pytest.param(variables(32), Why.POLICY, id="32: the first step exactly"),
        pytest.param(variables(31) | {"LD_PRELOAD": ""}, Why.LOADER_VARIABLE, id="LD_PRELOAD as the last of the first step"),
        pytest.param(variables(32) | {"LD_PRELOAD": ""}, Why.LOADER_VARIABLE, id="LD_PRELOAD as number 33"),
        pytest.param(variables(160), Why.POLICY, id="160: two steps exactly"),
        pytest.param(variables(161), Why.POLICY, id="161"),
        pytest.param(variables(4_096), Why.POLICY, id="4096: what the design promises"),
        pytest.param(variables(3_999) | {"LD_PRELOAD": ""}, Why.LOADER_VARIABLE, id="LD_PRELOAD as number 4000"),
        pytest.param(variables(4_095) | {"LD_PRELOAD": ""}, Why.LOADER_VARIABLE, id="LD_PRELOAD as number 4096"),
        pytest.param(variables(5_000), Why.ENV_UNREADABLE, id="5000"),
        pytest.param(variables(5_000) | {"LD_PRELOAD": ""}, Why.ENV_UNREADABLE, id="LD_PRELOAD behind what is read"),
        pytest.param({"A": "x" * 30_000, "LD_PRELOAD": ""}, Why.LOADER_VARIABLE, id="behind 30 kB"),
        pytest.param({"A": "x" * 100 * 1024}, Why.ENV_UNREADABLE, id="a value of 100 KiB"),
        pytest.param({"A": "x" * 100 * 1024, "LD_PRELOAD": ""}, Why.LOADER_VARIABLE, id="behind 100 KiB"),
    ],
)
def test_how_much_environment_is_read(guarded: Box, touch: Path, environment: dict[str, str], why: Why) -> None:
    guarded.enrol(touch, RUNS | NETWORK)
    before = guarded.maps.failures()["environment"]
    ended = guarded.run(touch, "--version", env=environment)
    assert ended.said == [(RAN if why is Why.POLICY else DIED, why)]
    assert ended.status == (0 if why is Why.POLICY else KILLED)
    assert guarded.maps.failures()["environment"] - before == (why is Why.ENV_UNREADABLE)


@pytest.mark.parametrize("count", range(6))
def test_what_lies_behind_the_environment_is_no_variable(guarded: Box, touch: Path, bench: Path, count: int) -> None:
    """The path that was executed, as it was given: the kernel keeps it there (create_elf_tables, bprm->exec)."""
    name = "LD_PRELOAD=x"
    touch.rename(bench / name)
    guarded.enrol(bench / name, RUNS | NETWORK)
    ended = guarded.run(name, "evidence", executable=name, cwd=bench, env={"PATH": ""} | variables(count))
    assert (ended.status, ended.said, ended.exec.tail) == (0, [(RAN, Why.POLICY)], name.encode())
    assert (bench / "evidence").exists()


def test_an_exec_is_told_of_with_nothing_of_the_one_before(guarded: Box, touch: Path, bench: Path) -> None:
    """Both on one CPU, which has one place to put an event together."""
    guarded.maps.require_variable(guarded.number, "PYTHONNOUSERSITE=1")
    guarded.enrol(touch, RUNS | NETWORK | BinaryFlag.ISOLATED)
    longer = bench / ("d" * 100)
    longer.mkdir()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        first = guarded.run(longer / "../touch", bench / "evidence", env={"LD_PRELOAD": "", "PYTHONNOUSERSITE": "1"})
        second = guarded.run(touch, bench / "evidence", env={"A": "1"})
        third = guarded.run(touch, bench / "evidence", env={"A": "1", "PYTHONNOUSERSITE": "1"})
    finally:
        os.sched_setaffinity(0, allowed)
    assert (first.said, first.exec.variable) == ([(DIED, Why.LOADER_VARIABLE)], "LD_PRELOAD")
    assert (second.said, second.exec.variable, second.exec.tail) == ([(DIED, Why.LOADER_VARIABLE)], "", os.fsencode(touch))
    assert (third.said, third.exec.variable, third.exec.tail) == ([(RAN, Why.POLICY)], "", os.fsencode(touch))
    assert (third.status, (bench / "evidence").exists()) == (0, True)


def test_an_entry_without_a_name_hides_nothing(guarded: Box, touch: Path) -> None:
    """execve takes any strings: empty ones, ones without `=`."""
    guarded.enrol(PYTHON, RUNS)
    guarded.enrol(touch, RUNS | NETWORK)
    inside = guarded.actor()
    guarded.heard()
    inside("""
        def execve(path, *strings):
            pid = os.fork()
            if pid == 0:
                words = (ctypes.c_char_p * 2)(path.encode(), None)
                ctypes.CDLL(None).execve(path.encode(), words, (ctypes.c_char_p * (len(strings) + 1))(*strings, None))
                os._exit(99)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """)
    assert inside(f"execve({str(touch)!r}, b'', b'no name', b'=x', b'NODE_OPTIONS=', b'')") == KILLED
    assert [event.why for event in guarded.heard(EventType.EXEC)] == [Why.LOADER_VARIABLE]
    inside(f"execve({str(touch)!r}, b'', b'no name', b'=x', b'NODE_OPTIONS', b'')")
    assert [event.why for event in guarded.heard(EventType.EXEC)] == [Why.POLICY]
