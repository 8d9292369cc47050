"""SPEAKER: what the worker learns of who else wrote to a connection that another process opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kernel.box import PYTHON, RUNS, Actor, Box
from kernel.dial import DIAL, V4, V6, Verdicts
from kernel.wire import Wire
from stockade.kernel import backend
from stockade.kernel.abi import SPEAKER_OPTION, Speaker, Verdict

SHELL = os.path.realpath("/bin/sh")
SPAWN = """
def spawn(*argv, child=lambda: None):
    pid = os.fork()
    if pid == 0:
        child()
        os.execv(argv[0], argv)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def inherited(s):
    os.set_inheritable(s.fileno(), True)
    return s
"""


@pytest.fixture(autouse=True)
def sending_is_seen() -> None:
    if not backend.tells_senders():
        pytest.skip("this kernel has neither the tracepoint sock_send_length (6.3) nor BPF LSM")


@pytest.fixture
def speaking(inside: Actor, governed: Box, verdict: Verdicts) -> Actor:
    """An actor that may dial, and start others."""
    inside(SPAWN)
    verdict(Verdict.INSPECT)
    return inside


@pytest.mark.parametrize("address", [V4, V6, f"::ffff:{V4}"])
def test_who_connected_may_speak_from_threads_and_children(speaking: Actor, wire: Wire, address: str) -> None:
    speaking(f"""
        s = dial({address!r}, 443)
        s.sendall(b"own")
        thread = threading.Thread(target=s.sendall, args=(b"thread",)); thread.start(); thread.join()
        pid = os.fork()
        if pid == 0:
            s.sendall(b"child")
            os._exit(0)
        os.waitpid(pid, 0)
    """)
    connection = wire.arrival().connection
    assert connection.recv(64) == b"ownthreadchild"
    assert Speaker.of(connection) is None


def test_a_program_that_inherits_the_socket_is_named(speaking: Actor, governed: Box, wire: Wire) -> None:
    shell = governed.enrol(SHELL, RUNS)
    speaking(f"s = inherited(dial({V4!r}, 443)); s.sendall(b'own ')")
    arrival = wire.arrival()
    assert Speaker.of(arrival.connection) is None
    assert speaking(f"spawn({SHELL!r}, '-c', 'echo foreign >&' + str(s.fileno()))") == 0
    assert arrival.connection.recv(64) == b"own foreign\n"
    speaker = Speaker.of(arrival.connection)
    assert speaker is not None and speaker.identity == shell and speaker.exec_id, speaker
    assert Speaker.of(arrival.connection) == speaker, "asked again, the same is said"
    speaking("s.sendall(b'own again')")
    assert Speaker.of(arrival.connection) == speaker, "it does not wear off"


def test_the_image_that_took_the_place_of_the_one_that_connected_is_named(speaking: Actor, governed: Box, wire: Wire) -> None:
    shell = governed.enrol(SHELL, RUNS)
    code = f"lambda: os.dup2(dial({V4!r}, 443).fileno(), 9)"
    assert speaking(f"spawn({SHELL!r}, '-c', 'echo foreign >&9', child={code})") == 0
    arrival = wire.arrival()
    speaker = Speaker.of(arrival.connection)
    assert speaker is not None and speaker.identity == shell, speaker
    assert arrival.origin.identity != shell


def hand_over(giver: Actor, taker: Actor) -> None:
    """`s` of one process becomes `t` of the other, over a unix socket."""
    taker("door = socket.socket(socket.AF_UNIX); door.bind('\\0taint'); door.listen()")
    giver("way = socket.socket(socket.AF_UNIX); way.connect('\\0taint'); socket.send_fds(way, [b'x'], [s.fileno()]); None")
    taker("t = socket.socket(fileno=socket.recv_fds(door.accept()[0], 1, 1)[1][0]); door.close()")


def test_a_socket_handed_over_names_the_other_exec_of_the_same_file(speaking: Actor, governed: Box, python: int, wire: Wire) -> None:
    other = governed.actor()
    speaking(f"s = dial({V4!r}, 443)")
    arrival = wire.arrival()
    hand_over(speaking, other)
    assert Speaker.of(arrival.connection) is None, "nothing was said yet"
    other("t.sendall(b'foreign')")
    speaker, origin = Speaker.of(arrival.connection), arrival.origin
    assert speaker is not None and speaker.identity == python == origin.identity
    assert speaker.exec_id != origin.exec_id and speaker.pid != origin.pid


def test_two_others_are_nobody(speaking: Actor, governed: Box, wire: Wire) -> None:
    governed.enrol(SHELL, RUNS)
    other = governed.actor()
    speaking(f"s = inherited(dial({V4!r}, 443))")
    connection = wire.arrival().connection
    hand_over(speaking, other)
    other("t.sendall(b'one')")
    speaking(f"spawn({SHELL!r}, '-c', 'echo two >&' + str(s.fileno()))")
    assert Speaker.of(connection) == Speaker(0, 0, 0)


def test_a_process_without_a_tag_is_nobody(speaking: Actor, governed: Box, wire: Wire, tmp_path: Path) -> None:
    """A socket that left the sandbox: whoever holds it out there has no identity in here."""
    door = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "door")
    door.bind(path)
    door.listen()
    speaking(f"s = dial({V4!r}, 443)")
    speaking(f"way = socket.socket(socket.AF_UNIX); way.connect({path!r}); socket.send_fds(way, [b'x'], [s.fileno()]); None")
    taken = socket.socket(fileno=socket.recv_fds(door.accept()[0], 1, 1)[1][0])
    connection = wire.arrival().connection
    assert Speaker.of(connection) is None
    taken.sendall(b"from outside")
    assert Speaker.of(connection) == Speaker(0, 0, 0)
    for _ in range(10):
        taken.sendall(b"and again")
    claims = Speaker.LAYOUT.unpack(connection.getsockopt(socket.SOL_SOCKET, SPEAKER_OPTION, Speaker.LAYOUT.size))[3]
    assert claims == 2, "a number that goes on would come round to nobody"
    taken.close()
    door.close()


def test_sendfile_is_sending(speaking: Actor, governed: Box, wire: Wire) -> None:
    other = governed.actor()
    speaking(f"s = dial({V4!r}, 443)")
    connection = wire.arrival().connection
    hand_over(speaking, other)
    other(f"os.sendfile(t.fileno(), os.open({PYTHON!r}, os.O_RDONLY), 0, 4096)")
    speaker = Speaker.of(connection)
    assert speaker is not None and speaker.exec_id


@pytest.mark.parametrize("end", ["s.close()", "reset(s)"])
def test_a_client_that_is_gone_is_answered_for_until_the_worker_closes(speaking: Actor, governed: Box, wire: Wire, end: str) -> None:
    """Its bytes can still be read, after a reset too."""
    governed.enrol(SHELL, RUNS)
    speaking(f"s = inherited(dial({V4!r}, 443)); spawn({SHELL!r}, '-c', 'echo foreign >&' + str(s.fileno()))")
    arrival = wire.arrival()
    assert arrival.origin and governed.maps.usage(governed.number)[2] == 1
    speaking(end)
    assert arrival.connection.recv(64) == b"foreign\n"
    assert Speaker.of(arrival.connection) is not None
    arrival.connection.close()
    assert governed.maps.usage(governed.number)[2] == 0


def test_after_a_reset_that_came_before_the_worker_asked_nobody_answers(speaking: Actor, governed: Box, wire: Wire) -> None:
    speaking(f"s = dial({V4!r}, 443); s.sendall(b'request'); reset(s)")
    assert governed.maps.usage(governed.number)[2] == 0
    arrival = wire.arrival()
    assert arrival.origin and arrival.connection.recv(64) == b"request"
    with pytest.raises(OSError):
        Speaker.of(arrival.connection)


def test_connections_that_no_worker_took_keep_nothing(speaking: Actor, governed: Box, wire: Wire) -> None:
    speaking(f"s = dial({V4!r}, 443)")
    connection = wire.arrival().connection
    assert governed.maps.usage(governed.number)[2] == 1
    connection.close()
    assert governed.maps.usage(governed.number)[2] == 0


def test_a_connect_that_came_to_nothing_keeps_nothing(governed: Box, speaking: Actor, wire: Wire) -> None:
    governed.netns = wire.bare
    lonely = governed.actor()
    lonely(DIAL)
    lonely(f"refused(dial, {V4!r}, 443)")
    assert governed.maps.usage(governed.number)[2] == 0
