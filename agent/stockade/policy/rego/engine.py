"""The process in which Rego is evaluated: it parses what an author wrote, with an engine written in another language, and may loop.

Started as a script of its own, with an empty environment, by judge.py; holds no secret, and after its imports can open nothing: no file,
no socket, since it may have no further descriptor. Its child evaluates, one request at a time under a timer that kills it; the parent
answers for a child that died and makes the next one. The end of the channel ends both.

Frames are JSON with their length in front, 4 octets, most significant first. Asked:
    {"check": [[name, text], …]}                     → {"modules": [{"v1": bool, "ast": …}, …]}
                                                       or {"error": message, "at": [name, line, column]}
    {"functions": [name, …]}                         → {"unknown": [name, …]}
    {"load": key, "modules": [[name, text, v1], …]}  → {}
    {"key": key, "input": {…}}                       → {"allow": bool, "deny": bool}, {"missing": true} or {"failed": why}
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
from typing import Any

LENGTH = struct.Struct("!I")
FRAME_BYTES = 16 * 1024 * 1024
ADDRESS_SPACE = 1024 * 1024 * 1024
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
KILLED = {"failed": "it took too long, or more memory than it may have"}

_PLACE = re.compile(r"--> (.*):(\d+):(\d+)$", re.MULTILINE)
_MESSAGE = re.compile(r"^error: (.*)", re.MULTILINE)
_V1 = re.compile(r"^\s*import rego\.v1\b|\bif\s*(\{|\w)|\bcontains\b[^(]*$", re.MULTILINE)


def main() -> None:
    """Arguments: descriptor of the channel, milliseconds that an evaluation may take, user to become (-1: stay)."""
    descriptor, milliseconds, user = (int(word) for word in sys.argv[1:4])
    import regorus  # noqa: F401 - while there are descriptors to load it with

    channel = socket.socket(fileno=descriptor)
    _confine(user)
    while True:
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            _serve(channel, milliseconds / 1000)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        try:
            _send(channel, KILLED)
        except OSError:
            return


def _confine(user: int) -> None:
    if user >= 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    for limit, value in (
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, ADDRESS_SPACE),
    ):
        resource.setrlimit(limit, (value, value))


def _serve(channel: socket.socket, limit: float) -> None:
    engines: dict[str, Any] = {}
    while (asked := _receive(channel)) is not None:
        signal.setitimer(signal.ITIMER_REAL, limit)  # unhandled, SIGALRM ends the process: nothing gentler stops the engine
        answer = _answer(asked, engines)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(channel, answer)


def _answer(asked: dict[str, Any], engines: dict[str, Any]) -> dict[str, Any]:
    if "check" in asked:
        return _check([(str(name), str(text)) for name, text in asked["check"]])
    if "functions" in asked:
        return {"unknown": _unknown(asked["functions"])}
    if "load" in asked:
        engines.clear()  # a worker asks about the newest policy alone; one that still asks about the last one is told that it is missing
        engines[asked["load"]] = _engine(asked["modules"])
        return {}
    engine = engines.get(asked["key"])
    if engine is None:
        return {"missing": True}
    try:
        engine.set_input(asked["input"])
        return {"allow": _truth(engine, "allow"), "deny": _truth(engine, "deny")}
    except Exception as error:
        return {"failed": _problem(error)["error"]}


def _engine(modules: list[tuple[str, str, bool]]) -> Any:
    import regorus

    engine = regorus.Engine()
    for name, text, v1 in modules:
        engine.set_rego_v0(not v1)
        engine.add_policy(name, text)
    return engine


def _truth(engine: Any, rule: str) -> bool:
    """What a rule says. Undefined is false; a set that holds anything is true (`deny contains reason if …`). Raises ValueError."""
    found = engine.eval_query(f"data.stockade.{rule}")["result"]
    if not found:
        return False
    value = found[0]["expressions"][0]["value"]
    if isinstance(value, bool):
        return value
    if rule == "deny" and isinstance(value, set | frozenset | list):
        return bool(value)
    raise ValueError(f"error: {rule} is neither true nor false")


def _check(modules: list[tuple[str, str]]) -> dict[str, Any]:
    """Each module parsed as v1 or else as v0, and all of them evaluated once: only then does the engine find unsafe variables."""
    import regorus

    parsed: list[dict[str, Any]] = []
    for name, text in modules:
        problems = []
        for v1 in (True, False):
            engine = regorus.Engine()
            engine.set_rego_v0(not v1)
            try:
                engine.add_policy(name, text)
            except Exception as error:
                problems.append(_problem(error))
            else:
                parsed.append({"v1": v1, "ast": json.loads(engine.get_ast_as_json())[0]["ast"]})
                break
        else:
            return problems[0 if _V1.search(text) else 1]
    try:
        engine = _engine([(name, text, each["v1"]) for (name, text), each in zip(modules, parsed, strict=True)])
        engine.set_input({})
        for rule in ("allow", "deny"):
            engine.eval_query(f"data.stockade.{rule}")
    except Exception as error:
        return _problem(error)
    return {"modules": parsed}


def _unknown(names: list[str]) -> list[str]:
    """Those of the functions that the engine does not have: it says so itself only when it comes to evaluate a call."""
    engine = _engine([])
    unknown = []
    for name in names:
        try:
            engine.eval_query(f"{name}()")
        except Exception as error:
            if "could not find function" in str(error):
                unknown.append(name)
    return unknown


def _problem(error: Exception) -> dict[str, Any]:
    """The engine's message without its stack, and the place it names."""
    said = str(error).partition("Stack backtrace")[0]
    message = _MESSAGE.search(said)
    found: dict[str, Any] = {"error": (message[1] if message else said.strip() or "no reason given")[:500]}
    if place := _PLACE.search(said):
        found["at"] = [place[1], int(place[2]), int(place[3])]
    return found


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(data)) + data)


def _receive(channel: socket.socket) -> dict[str, Any] | None:
    head = _exactly(channel, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    data = _exactly(channel, length) if length <= FRAME_BYTES else None
    message: dict[str, Any] | None = json.loads(data) if data is not None else None
    return message


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    """None at the end of the channel."""
    data = bytearray()
    while len(data) < size:
        with contextlib.suppress(ConnectionResetError):
            if part := channel.recv(size - len(data)):
                data += part
                continue
        return None
    return bytes(data)


if __name__ == "__main__":
    main()
