"""What the kernel says of Landlock, as Linux 6.18 said it, and what a sandbox could try to make it say."""

from __future__ import annotations

import pytest

from stockade.kernel.abi import SCRIPT_PATH
from stockade.kernel.denials import ACCESS, DOMAIN, Denial, Domain, Ended, Told, parse

HEAD = b"audit(1795908171.585:308): domain=1aa35c22c "
SAID: list[tuple[int, bytes, Told]] = [
    (
        ACCESS,
        b'blockers=fs.ioctl_dev path="/dev/null" dev="devtmpfs" ino=3 ioctlcmd=0x5401',
        Denial(0x1AA35C22C, ("fs.ioctl_dev",), b"/dev/null"),
    ),
    (ACCESS, b'blockers=fs.make_sym path="/dev" dev="tmpfs" ino=1', Denial(0x1AA35C22C, ("fs.make_sym",), b"/dev")),
    (
        ACCESS,
        b'blockers=fs.read_file path=2F746D702F6C616E646C6F636B2D61756469742F776522697264206E610A6D65 dev="vda" ino=3276881',
        Denial(0x1AA35C22C, ("fs.read_file",), b'/tmp/landlock-audit/we"ird na\nme'),
    ),
    (
        ACCESS,
        b'blockers=fs.write_file,fs.truncate path="/work/kept" dev="vda" ino=9',
        Denial(0x1AA35C22C, ("fs.write_file", "fs.truncate"), b"/work/kept"),
    ),
    (ACCESS, b'blockers=scope.signal opid=1 ocomm="systemd"', Denial(0x1AA35C22C, ("scope.signal",))),
    (ACCESS, b"blockers=scope.abstract_unix_socket path=0066", Denial(0x1AA35C22C, ("scope.abstract_unix_socket",), b"\0f")),
    (ACCESS, b'blockers=ptrace opid=1 ocomm="systemd"', Denial(0x1AA35C22C, ("ptrace",))),
    (ACCESS, b"blockers=net.connect_tcp daddr=127.0.0.1 dest=80", Denial(0x1AA35C22C, ("net.connect_tcp",))),
    (ACCESS, b'blockers=fs.change_topology name="/" dev="tmpfs" ino=1', Denial(0x1AA35C22C, ("fs.change_topology",), b"/")),
    (ACCESS, b'blockers=fs.read_file path="<too_long>" dev="vda" ino=9', Denial(0x1AA35C22C, ("fs.read_file",))),
    (
        DOMAIN,
        b'status=allocated mode=enforcing pid=11299 uid=1471001001 exe="/usr/bin/python3.13" comm="stockade"',
        Domain(0x1AA35C22C, 11299, 1471001001),
    ),
    (DOMAIN, b"status=deallocated denials=3", Ended(0x1AA35C22C)),
]


@pytest.mark.parametrize(("kind", "said", "told"), SAID)
def test_what_the_kernel_says_is_read(kind: int, said: bytes, told: Told) -> None:
    assert parse(kind, HEAD + said) == told
    assert parse(kind, HEAD + said + b"\n\0") == told


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (ACCESS, b""),
        (ACCESS, b"audit(1.2:3): domain=1"),
        (ACCESS, b'audit(1.2:3): domain=1 path="/x"'),
        (ACCESS, b"audit(1.2:3): domain=x blockers=fs.read_file"),
        (ACCESS, b"audit(1.2:3): domain=11112222333344445 blockers=fs.read_file"),
        (ACCESS, b"audit(1.2:3): domain=-1 blockers=fs.read_file"),
        (ACCESS, b"pid=1 audit(1.2:3): domain=1 blockers=fs.read_file"),
        (ACCESS, HEAD + b"blockers="),
        (ACCESS, HEAD + b'blockers=fs.read_file, path="/x"'),
        (ACCESS, HEAD + b'blockers=fs.read_file\n path="/x"'),
        (ACCESS, HEAD + b"blockers=" + b",".join([b"fs.read_file"] * 33)),
        (ACCESS, HEAD + b"blockers=" + b"x" * 33),
        (ACCESS, HEAD + b"blockers=fs.read_file path=/x"),
        (ACCESS, HEAD + b"blockers=fs.read_file path=2F7"),
        (ACCESS, HEAD + b'blockers=fs.read_file path="'),
        (ACCESS, HEAD + b"blockers=fs.read_file path=\xc3\xa9"),
        (DOMAIN, HEAD + b"status=allocated mode=enforcing pid= uid=1"),
        (DOMAIN, HEAD + b"status=allocated mode=enforcing pid=-1 uid=1"),
        (DOMAIN, HEAD + b"status=allocated mode=enforcing pid=1"),
        (DOMAIN, HEAD + b"status=gone pid=1 uid=1"),
        (DOMAIN, HEAD + b"pid=1 uid=1"),
        (1300, HEAD + b"blockers=fs.read_file"),
        (1112, HEAD + b'blockers=fs.read_file path="/x"'),
    ],
)
def test_what_it_does_not_say_is_nothing(kind: int, said: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(kind, said)


def test_a_name_is_no_field() -> None:
    """The kernel spells out what has a space; what it leaves in quotes cannot close them, and the first field of a name counts."""
    hostile = b"/x path=/y blockers=fs.execute domain=2"
    told = parse(ACCESS, HEAD + b"blockers=fs.read_file path=" + hostile.hex().upper().encode() + b' dev="vda" ino=9')
    assert told == Denial(0x1AA35C22C, ("fs.read_file",), hostile)
    assert parse(ACCESS, HEAD + b'blockers=fs.read_file path="/x" path="/y" blockers=fs.execute') == Denial(
        0x1AA35C22C, ("fs.read_file",), b"/x"
    )
    assert parse(DOMAIN, HEAD + b'status=allocated mode=enforcing pid=7 uid=8 exe="/pid=1" comm="x" uid=0 pid=1') == Domain(
        0x1AA35C22C, 7, 8
    )


def test_a_long_path_is_cut_where_the_count_cuts_it() -> None:
    told = parse(ACCESS, HEAD + b'blockers=fs.read_file path="/' + b"a" * 5000 + b'" dev="vda" ino=9')
    assert isinstance(told, Denial)
    assert told.path == b"/" + b"a" * (SCRIPT_PATH - 2)
