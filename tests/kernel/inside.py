"""Runs in a governed cgroup and does what the test says: a line of Python in, what came of it out. Both are literals, one a line."""

import ast
import builtins
import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys
import threading
from typing import Any

WORLD = {
    "contextlib": contextlib,
    "ctypes": ctypes,
    "errno": errno,
    "os": os,
    "socket": socket,
    "struct": struct,
    "sys": sys,
    "threading": threading,
}


def perform(code: str) -> object:
    """The value of the last line, when that is an expression."""
    tree = ast.parse(code)
    last: Any = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    builtins.exec(compile(tree, "test", "exec"), WORLD)
    return eval(compile(ast.Expression(last.value), "test", "eval"), WORLD) if last else None


for line in sys.stdin:
    try:
        answer = ("value", perform(ast.literal_eval(line)))
        ast.literal_eval(repr(answer))
    except OSError as error:
        answer = ("errno", error.errno)
    except Exception as error:
        answer = ("error", f"{type(error).__name__}: {error}")
    sys.stdout.write(repr(answer) + "\n")
    sys.stdout.flush()
