"""May this file run, and as whom? Each case with its effect (it ran, or it died before its first instruction) and its one event."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import KILLED, NETWORK, PYTHON, RUNS, Box
from stockade.kernel.abi import BinaryFlag, EventType, SandboxFlag, Verdict, Why
from stockade.policy import loader_variables
from stockade.sandbox.roster import LOADERS

RAN, DIED = Verdict.LOCAL, Verdict.DENY


@pytest.fixture
def touch(bench: Path) -> Path:
    """A program of our own: with an argument it leaves a file as evidence that it ran."""
    return Path(shutil.copy("/usr/bin/touch", bench / "touch"))


# which file


def test_a_listed_binary_runs(box: Box, touch: Path, bench: Path) -> None:
    identity = box.enrol(touch)
    ended = box.run(touch, bench / "evidence")
    assert ended.status == 0 and (bench / "evidence").exists()
    event = ended.exec
    assert (event.verdict, event.why, event.identity, event.tail) == (RAN, Why.POLICY, identity, os.fsencode(touch))
    assert event.exec_id and event.generation == 1 and event.pid


def test_an_unlisted_binary_never_runs_an_instruction(box: Box, touch: Path, bench: Path) -> None:
    ended = box.run(touch, bench / "evidence")
    assert ended.status == box.refusal and not (bench / "evidence").exists()
    assert (ended.exec.verdict, ended.exec.why, ended.exec.identity) == (DIED, Why.UNLISTED, 0)


def test_outside_the_box_nothing_changes(box: Box, touch: Path, bench: Path, cgroups: Path) -> None:
    neighbour = cgroups / f"box-{box.number}-neighbour"  # a longer name at the same level
    neighbour.mkdir()
    try:
        assert box.run(touch, bench / "evidence", cgroup=neighbour).status == 0
    finally:
        neighbour.rmdir()
    assert box.heard() == []


def test_a_copy_is_another_file(box: Box, touch: Path, bench: Path) -> None:
    box.enrol(touch)
    ended = box.run(shutil.copy2(touch, bench / "copy"), bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.UNLISTED)])
    assert not (bench / "evidence").exists()


def test_a_hard_link_is_the_same_file(box: Box, touch: Path, bench: Path) -> None:
    """The inode is the identity: a link made before enrolment is the listed binary by another name."""
    os.link(touch, bench / "link")
    identity = box.enrol(touch)
    ended = box.run(bench / "link")
    assert ended.exec.identity == identity and ended.said == [(RAN, Why.POLICY)]


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda file: os.link(file, file.with_name("new")), id="link"),
        pytest.param(lambda file: file.chmod(0o777), id="chmod"),
        pytest.param(lambda file: os.utime(file, ns=(1, 1)), id="utime"),
    ],
)
def test_whatever_moves_the_change_time_unlists(box: Box, touch: Path, bench: Path, tamper: Callable[[Path], None]) -> None:
    """ctime cannot be set back, so it stands for the content; what merely touches the inode is refused too, until it is hashed again."""
    box.enrol(touch)
    tamper(touch)
    ended = box.run(touch, bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.CHANGED)])


def test_a_rename_takes_the_identity_along_and_needs_hashing_again(box: Box, touch: Path) -> None:
    box.enrol(touch)
    moved = touch.rename(touch.with_name("moved"))
    assert box.run(moved).said == [(DIED, Why.CHANGED)]
    identity = box.enrol(moved)
    assert (moved_event := box.run(moved).exec).why is Why.POLICY and moved_event.identity == identity


def test_another_file_under_a_listed_name_is_unlisted(box: Box, touch: Path, bench: Path) -> None:
    box.enrol(touch)
    shutil.copy("/usr/bin/touch", bench / "other")
    (bench / "other").rename(touch)
    assert box.run(touch, bench / "evidence").said == [(DIED, Why.UNLISTED)]


def test_an_overwrite_in_place_of_the_same_size_is_seen(box: Box, touch: Path, bench: Path) -> None:
    """Same device, inode, generation, size and modification time: the change time is what tells."""
    box.enrol(touch)
    before = touch.stat()
    other = Path("/usr/bin/touch").read_bytes().replace(b"GNU coreutils", b"gnu coreutils")
    with touch.open("r+b") as file:
        file.write(other)
    os.utime(touch, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = touch.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    ended = box.run(touch, bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.CHANGED)]) and not (bench / "evidence").exists()


def test_a_symbolic_link_is_what_it_points_to(box: Box, touch: Path, bench: Path) -> None:
    identity = box.enrol(touch)
    (bench / "name").symlink_to(touch)
    assert box.run(bench / "name").exec.identity == identity


def test_the_name_given_to_the_program_is_nothing(box: Box, touch: Path, bench: Path) -> None:
    """argv[0] is the caller's to choose."""
    ended = box.run("/usr/bin/true", bench / "evidence", executable=touch)
    assert ended.status == box.refusal and ended.exec.tail == os.fsencode(touch)


def test_a_relative_path_is_the_same_file(box: Box, touch: Path, bench: Path) -> None:
    identity = box.enrol(touch)
    ended = box.run("./touch", "evidence", cwd=bench)
    assert (ended.exec.identity, ended.exec.tail) == (identity, b"./touch") and (bench / "evidence").exists()


def test_one_file_may_be_listed_in_one_box_and_not_in_the_next(box: Box, lenient: Box, touch: Path) -> None:
    box.enrol(touch)
    assert box.run(touch).said == [(RAN, Why.POLICY)]
    assert lenient.run(touch).said == [(RAN, Why.UNLISTED)]


# files without a name


FROM_MEMORY = """
fd = os.memfd_create("program", {flags})
with open({program!r}, "rb") as file:
    os.write(fd, file.read())
"""
FROM_DELETED = """
import shutil
shutil.copy({program!r}, {program!r} + ".deleted")
fd = os.open({program!r} + ".deleted", os.O_RDONLY)
os.unlink({program!r} + ".deleted")
"""
IN_CHILD = """
pid = os.fork()
if pid == 0:
    try:
        os.execve({file}, ["program", {evidence!r}], {{}})
    except OSError as error:
        os._exit(error.errno)
os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("unlisted", ["refuse", "no-network"])
@pytest.mark.parametrize(
    ("make", "file"),
    [
        pytest.param(FROM_MEMORY.replace("{flags}", "0"), "fd", id="memfd"),
        pytest.param(FROM_MEMORY.replace("{flags}", "0"), "f'/proc/self/fd/{fd}'", id="memfd-proc"),
        pytest.param(FROM_DELETED, "fd", id="deleted"),
    ],
)
def test_an_anonymous_file_is_refused_under_both_settings(
    box: Box, lenient: Box, touch: Path, bench: Path, unlisted: str, make: str, file: str
) -> None:
    box = box if unlisted == "refuse" else lenient
    box.enrol(PYTHON)
    inside = box.actor()
    inside(make.format(program=str(touch)))
    box.heard()
    assert inside(IN_CHILD.format(file=file, evidence=str(bench / "evidence"))) == box.refusal
    (event,) = box.heard()
    assert (event.verdict, event.why) == (DIED, Why.ANONYMOUS)
    assert not (bench / "evidence").exists()


@pytest.mark.parametrize("unlisted", ["refuse", "no-network"])
def test_the_dynamic_loader_is_no_program(box: Box, lenient: Box, touch: Path, bench: Path, unlisted: str) -> None:
    """`ld.so PROGRAM` would run a file the kernel never exec'd."""
    box = box if unlisted == "refuse" else lenient
    loader = next(path for pattern in LOADERS for path in glob.glob(pattern))  # noqa: PTH207
    box.enrol(touch)
    box.enrol(loader, BinaryFlag.LOADER, identity=0)
    ended = box.run(loader, touch, bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.ANONYMOUS)])
    assert not (bench / "evidence").exists()
    assert box.run(touch, bench / "evidence").status == 0  # as an interpreter of ELF files it goes on working


def test_an_unlisted_file_may_run_without_an_identity(lenient: Box, touch: Path, bench: Path) -> None:
    ended = lenient.run(touch, bench / "evidence")
    assert ended.status == 0 and (bench / "evidence").exists()
    assert (ended.exec.verdict, ended.exec.why, ended.exec.identity) == (RAN, Why.UNLISTED, 0)


def test_observe_records_and_lets_run(box: Box, touch: Path, bench: Path) -> None:
    box.switch(1, SandboxFlag.OBSERVE)
    ended = box.run(touch, bench / "evidence")
    assert ended.status == 0 and (bench / "evidence").exists()
    assert (ended.exec.verdict, ended.exec.why, ended.exec.identity) == (DIED, Why.UNLISTED, 0)


# scripts


class Scripted:
    """A script and its interpreter, which may not run on its own."""

    def __init__(self, box: Box, bench: Path) -> None:
        self.box, self.bench = box, bench
        self.interpreter = Path(shutil.copy(os.path.realpath("/bin/sh"), bench / "interp"))
        self.path = bench / "script"
        self.path.write_text(f'#!{self.interpreter}\n: > "$1"\n')
        self.path.chmod(0o755)
        self.bare = box.enrol(self.interpreter, BinaryFlag.NONE)
        self.link = bench / "link"
        self.link.symlink_to(self.path)
        self.pair = 50
        self.enrol(self.path)

    def enrol(self, path: Path, flags: BinaryFlag = RUNS) -> None:
        self.box.maps.enrol_script(self.box.number, self.bare, str(path), self.pair, flags, 1, carried=False)

    @property
    def evidence(self) -> Path:
        return self.bench / "evidence"


@pytest.fixture
def scripted(box: Box, bench: Path) -> Scripted:
    return Scripted(box, bench)


def test_a_script_is_the_pair_of_it_and_its_interpreter(box: Box, scripted: Scripted) -> None:
    ended = box.run(scripted.path, scripted.evidence)
    assert ended.status == 0 and scripted.evidence.exists()
    assert (ended.exec.identity, ended.exec.why, ended.exec.tail) == (scripted.pair, Why.POLICY, os.fsencode(scripted.path))


def test_the_interpreter_started_by_hand_is_not_the_script(box: Box, scripted: Scripted) -> None:
    """`interpreter script` may carry any code: -c, stdin, another working directory."""
    ended = box.run(scripted.interpreter, scripted.path, scripted.evidence)
    assert (ended.status, ended.said, ended.exec.identity) == (box.refusal, [(DIED, Why.UNLISTED)], 0)
    assert not scripted.evidence.exists()


def test_an_interpreter_that_may_run_is_itself_when_started_by_hand(box: Box, scripted: Scripted) -> None:
    box.enrol(scripted.interpreter, RUNS, identity=scripted.bare)
    assert box.run(scripted.interpreter, scripted.path, scripted.evidence).exec.identity == scripted.bare
    assert box.run(scripted.path, scripted.evidence).exec.identity == scripted.pair


def test_another_script_of_the_same_interpreter_is_not_listed(box: Box, scripted: Scripted) -> None:
    other = Path(shutil.copy(scripted.path, scripted.bench / "other"))
    assert box.run(other, scripted.evidence).said == [(DIED, Why.UNLISTED)]


def test_the_script_with_another_interpreter_is_not_listed(box: Box, scripted: Scripted) -> None:
    other = Path(shutil.copy(scripted.interpreter, scripted.bench / "interp-2"))
    box.enrol(other, BinaryFlag.NONE)
    scripted.path.write_text(scripted.path.read_text().replace(str(scripted.interpreter), str(other)))
    assert box.run(scripted.path, scripted.evidence).said == [(DIED, Why.UNLISTED)]


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(lambda s: "./script", id="relative"),
        pytest.param(lambda s: f"{s.bench}/./script", id="dot"),
        pytest.param(lambda s: f"{s.bench}//script", id="double-slash"),
        pytest.param(lambda s: str(s.link), id="symlink"),
    ],
)
def test_a_script_by_a_spelling_that_is_not_enrolled_is_refused(box: Box, scripted: Scripted, spelling: Callable[[Scripted], str]) -> None:
    """The kernel knows a script by the path execve got; the roster enrols the path of every PATH entry that leads to it."""
    ended = box.run(spelling(scripted), scripted.evidence, cwd=scripted.bench)
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.UNLISTED)]) and not scripted.evidence.exists()


def test_every_enrolled_spelling_is_the_same_pair(box: Box, scripted: Scripted) -> None:
    scripted.enrol(scripted.link)
    assert (
        box.run(scripted.link, scripted.evidence).exec.identity == scripted.pair == box.run(scripted.path, scripted.evidence).exec.identity
    )


def test_a_script_path_that_does_not_fit_is_refused(box: Box, scripted: Scripted) -> None:
    """256 bytes and more: a truncated path must not match one that begins like it."""
    directory = scripted.bench / ("d" * 200)
    directory.mkdir()
    long = directory / ("s" * (256 - len(str(directory)) - 1))
    shutil.copy(scripted.path, long)
    assert len(os.fsencode(long)) == 256
    with pytest.raises(ValueError, match="longer than 255"):
        scripted.enrol(long)
    scripted.enrol(Path(str(long)[:255]))
    assert box.run(long, scripted.evidence).said == [(DIED, Why.UNLISTED)]


def test_a_changed_interpreter_changes_every_script(box: Box, scripted: Scripted) -> None:
    scripted.interpreter.chmod(0o777)
    assert box.run(scripted.path, scripted.evidence).said == [(DIED, Why.CHANGED)]


class Carried:
    """`#!ENV NAME`, as npm and pip have it: env(1) is started by the kernel for the script, and passes it on to NAME, found in PATH."""

    def __init__(self, box: Box, bench: Path) -> None:
        self.box, self.bench = box, bench
        self.env = Path(shutil.copy("/usr/bin/env", bench / "env"))
        self.interpreter = Path(shutil.copy(os.path.realpath("/bin/sh"), bench / "interp"))
        self.path, self.evidence = bench / "script", bench / "evidence"
        self.path.write_text(f'#!{self.env} interp\n: > "$1"\n')
        self.path.chmod(0o755)
        self.env_bare, self.bare = box.enrol(self.env, BinaryFlag.NONE), box.enrol(self.interpreter, BinaryFlag.NONE)
        self.carrying, self.pair = 51, 52
        self.enrol(self.path, 1, self.carrying, self.pair)

    def enrol(self, path: Path, script: int, carrying: int, pair: int) -> None:
        maps, number = self.box.maps, self.box.number
        maps.enrol_script(number, self.env_bare, str(path), carrying, RUNS | BinaryFlag.CARRIES, script, carried=False)
        maps.enrol_script(number, self.bare, str(path), pair, RUNS, script, carried=True)

    @property
    def search(self) -> dict[str, str]:
        return {"PATH": str(self.bench)}


@pytest.fixture
def carried(box: Box, bench: Path) -> Carried:
    return Carried(box, bench)


def test_env_carries_the_script_to_its_interpreter(box: Box, carried: Carried) -> None:
    ended = box.run(carried.path, carried.evidence, env=carried.search)
    assert ended.status == 0 and carried.evidence.exists(), ended
    assert [(event.identity, event.why) for event in ended.events] == [(carried.carrying, Why.POLICY), (carried.pair, Why.POLICY)]
    assert ended.events[1].parent_exec_id == ended.events[0].exec_id


def test_env_by_hand_carries_nothing(box: Box, carried: Carried) -> None:
    box.enrol(carried.env, RUNS, identity=carried.env_bare)
    ended = box.run(carried.env, "interp", carried.path, carried.evidence, env=carried.search)
    assert ended.said == [(RAN, Why.POLICY), (DIED, Why.UNLISTED)] and not carried.evidence.exists()


def test_a_carried_pair_is_not_had_by_a_shebang_of_its_interpreter(box: Box, carried: Carried) -> None:
    carried.path.write_text(f'#!{carried.interpreter}\n: > "$1"\n')
    assert box.run(carried.path, carried.evidence).said == [(DIED, Why.UNLISTED)]


def test_env_carries_its_own_script_and_no_other(box: Box, carried: Carried) -> None:
    """A second listed script whose shebang names the first's path as the argument must not become the first."""
    second = carried.bench / "second"
    second.write_text(f"#!{carried.env} -S interp {carried.path}\n")
    second.chmod(0o755)
    carried.enrol(second, 2, 61, 62)
    ended = box.run(second, carried.evidence, env=carried.search)
    assert ended.said == [(RAN, Why.POLICY), (DIED, Why.UNLISTED)] and not carried.evidence.exists()


def test_env_finds_only_what_is_listed(box: Box, carried: Carried) -> None:
    """PATH is the caller's to choose."""
    own = carried.bench / "own"
    own.mkdir()
    shutil.copy(carried.interpreter, own / "interp")
    ended = box.run(carried.path, carried.evidence, env={"PATH": str(own)})
    assert ended.said == [(RAN, Why.POLICY), (DIED, Why.UNLISTED)]


# the environment


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


# exec keeps its promises in a flood of them


def test_every_exec_has_exactly_one_event_with_a_number_of_its_own(box: Box) -> None:
    shell, true = box.enrol("/bin/sh"), box.enrol("/usr/bin/true")
    ended = box.run("/bin/sh", "-c", "i=0; while [ $i -lt 200 ]; do /usr/bin/true; i=$((i+1)); done")
    assert ended.status == 0
    assert [event.identity for event in ended.events] == [shell, *[true] * 200]
    assert len({event.exec_id for event in ended.events}) == 201
    assert {event.parent_exec_id for event in ended.events[1:]} == {ended.events[0].exec_id}
    assert len({event.pid for event in ended.events}) == 201
