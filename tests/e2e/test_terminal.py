"""An interactive command: a real pseudo-terminal, a shell with jobs, the keyboard's signals and the window's size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.machine import STOCKADE, Machine, read_records, select, wait_for
from framework.policy import whole
from framework.terminal import Terminal

pytestmark = [pytest.mark.client("bash"), pytest.mark.client("/usr/bin/python3")]
POLICY = whole(allow=["bash", "sh", "cat", "sleep", "stty", "python3", "tty"])
TYPE_FOR_ANOTHER = (
    "import errno, fcntl, sys, termios\n"
    "for call in (termios.TIOCSTI, 0x541C):\n"
    "    try:\n"
    "        fcntl.ioctl(0, call, b'x')\n"
    "    except OSError as error:\n"
    "        print(errno.errorcode[error.errno])\n"
)


def line(machine: Machine, room: Path, *command: str) -> list[str]:
    (room / "policy.yaml").write_text(POLICY)
    return machine.wrap(
        [STOCKADE, "run", "--policy", room / "policy.yaml", "--workdir", room / "work", "--audit", room / "audit.jsonl", "--", *command]
    )


@pytest.fixture
def shell(machine: Machine) -> Iterator[Terminal]:
    room = machine.room({"type.py": TYPE_FOR_ANOTHER})
    with Terminal(line(machine, room, "bash", "--norc", "--noprofile", "--noediting", "-i"), room / "work", 33, 77) as terminal:
        greeting = terminal.ask("PS1=")
        assert "job control" not in greeting and "terminal process group" not in greeting
        yield terminal


def test_a_shell_has_jobs_and_its_terminal(shell: Terminal) -> None:
    assert "m" in shell.ask("echo $-"), "monitor: jobs have process groups of their own"
    assert shell.ask("echo seen >/dev/tty") == "seen\n"
    assert shell.ask("stty size") == "33 77\n"


def test_the_windows_size_follows(shell: Terminal) -> None:
    shell.ask("trap 'echo resized' WINCH")
    shell.resize(41, 99)
    assert shell.ask("stty size") == "resized\n41 99\n"


def test_ctrl_c_ends_the_job_and_not_the_shell(shell: Terminal) -> None:
    shell.type("echo begun; sleep 600\n")
    shell.wait_for("begun\r\n")
    wait_until_sleeping(shell)
    shell.type("\x03")
    assert shell.ask("echo status $?").endswith("status 130\n")


def test_ctrl_z_stops_a_job_and_fg_brings_it_back(shell: Terminal) -> None:
    shell.type("echo begun; sleep 600\n")
    shell.wait_for("begun\r\n")
    wait_until_sleeping(shell)
    shell.type("\x1a")
    shell.wait_for("Stopped")
    assert "Stopped" in shell.ask("jobs")
    shell.type("fg\n")
    shell.wait_for("sleep 600")
    wait_until_sleeping(shell)
    shell.type("\x03")
    assert shell.ask("echo status $?").endswith("status 130\n")
    assert shell.ask("jobs") == ""


def wait_until_sleeping(shell: Terminal) -> None:
    """Until the job has the terminal: the keyboard's signals go to whoever has it."""
    wait_for(lambda: shell.foreground() == "sleep", "the job to have the terminal")


def test_a_program_may_make_a_terminal_of_its_own(shell: Terminal) -> None:
    """tmux, script and every test runner with a screen do."""
    said = shell.ask("""python3 -c "import pty; pty.spawn(['sh', '-c', 'tty; stty rows 7 cols 9; stty size'])" """)
    assert said == "/dev/pts/0\n7 9\n"


def test_nobody_types_for_another(shell: Terminal) -> None:
    """TIOCSTI and TIOCLINUX put keys into the terminal that the host's shell reads next."""
    assert shell.ask("python3 type.py") == "EPERM\nEPERM\n"


def test_the_shells_end_is_the_commands_end(shell: Terminal) -> None:
    shell.type("sleep 600 & exit 5\n")
    assert shell.finish() == 5


def test_ctrl_c_reaches_a_command_that_is_no_shell_and_the_agent_sees_it_to_its_end(machine: Machine) -> None:
    room = machine.room()
    with Terminal(
        line(machine, room, "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 1; done"), room
    ) as terminal:
        terminal.wait_for("ready")
        terminal.type("\x03")
        terminal.wait_for("caught")
        assert terminal.finish() == 9
    assert [record["detail"]["status"] for record in read_records(room / "audit.jsonl") if record["reason"] == "stopped"] == [9]


def test_who_was_started_to_ignore_hang_ups_takes_the_end_of_its_terminal_for_none(machine: Machine) -> None:
    """As under nohup: the agent passes nothing on and reads its policy again, and the command goes on."""
    room = machine.room()
    script = ": >begun; while [ ! -e stop ]; do sleep 0.1; done"
    behind = ["sh", "-c", 'nohup "$@" </dev/null >../said 2>&1 & wait', "sh", *line(machine, room, "sh", "-c", script)]
    try:
        with Terminal(behind, room / "work"):
            wait_for((room / "work/begun").exists, "the command", 60)
        wait_for(lambda: select(read_records(room / "audit.jsonl"), reason="reloaded"), "what a hang-up means to it")
    finally:
        (room / "work/stop").touch()
    (stopped,) = wait_for(lambda: select(read_records(room / "audit.jsonl"), reason="stopped"), "the last record")
    assert stopped["detail"]["status"] == 0
