"""Runs inside: prints, as JSON, what became of each attempt on a file. Arguments: WHAT:PATH…"""

import ctypes
import errno
import fcntl
import json
import os
import sys
import termios
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def read(path):
    with Path(path).open("rb") as file:
        file.read(1)


def write(path):
    os.close(os.open(path, os.O_WRONLY))


def make(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def run(path):
    if libc.execve(path.encode(), (ctypes.c_char_p * 2)(path.encode(), None), (ctypes.c_char_p * 1)(None)):
        raise OSError(ctypes.get_errno(), "execve")


def ioctl(path):
    with Path(path).open("rb") as file:
        fcntl.ioctl(file, termios.TCGETS, bytes(64))


ATTEMPTS = {
    "read": read,
    "write": write,
    "make": make,
    "list": os.listdir,
    "run": run,
    "ioctl": ioctl,
    "truncate": lambda path: os.truncate(path, 0),
    "socket": lambda path: os.mknod(path, 0o140600),
    "character": lambda path: os.mknod(path, 0o020600, os.makedev(1, 3)),
    "link": lambda path: os.link(path, path + "-link"),
    "move": lambda path: Path(path).rename(Path(path).parent / "below" / "moved"),
}


def attempt(what, path):
    try:
        ATTEMPTS[what](path)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


print(json.dumps({word: attempt(*word.split(":", 1)) for word in sys.argv[1:]}))
