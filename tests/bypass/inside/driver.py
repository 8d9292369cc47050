"""Runs inside and outside alike: every attack of a module, or of a package, each in its own process, one JSON line each: {"id", "outcome"}.

    driver.py MODULE FACTS.json

An outcome is `out` when the call or the answer says that it went through, else the name of the error, of the signal, or what was found
missing. `broken: …` is a fault of the attack itself, and proves nothing. Between two attacks a datagram to MARK, refused and recorded with
the attack's number as its port, tells their records apart.
"""

import contextlib
import errno
import importlib
import json
import os
import pathlib
import signal
import socket
import sys
import time
import traceback

MARK, FIRST_PORT = "192.0.2.1", 20000
SECONDS = 20
patience = 1  # how many times longer it may take here
ATTACKS = {}


def attack(identifier):
    """Registers a function(facts, token) as the attack of that id."""

    def register(function):
        ATTACKS[identifier] = function
        return function

    return register


def perform(function, facts, token):
    try:
        return str(function(facts, token))
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, f"{type(error).__name__}: {error}")
    except BaseException:
        return "broken: " + traceback.format_exc(limit=-3)


def alone(function, facts, token):
    """In a child, so that what an attack does to its own process is its own affair."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(int(SECONDS * patience))
        os.write(write, perform(function, facts, token).encode()[:3000])
        os._exit(0)
    os.close(write)
    said = b""
    while part := os.read(read, 4096):
        said += part
    os.close(read)
    status = os.waitpid(child, 0)[1]
    return said.decode() or (f"SIG{signal.Signals(os.WTERMSIG(status)).name[3:]}" if os.WIFSIGNALED(status) else "nothing said")


def mark(number):
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
        marker.sendto(b"mark", (MARK, FIRST_PORT + number))


def main():
    global patience
    module, facts = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
    patience = facts["patience"]
    os.environ["RES_OPTIONS"] = f"timeout:{int(5 * patience)}"  # of libc, which would not wait longer for a name
    importlib.import_module(module)
    mine = {name: function for name, function in ATTACKS.items() if function.__module__.partition(".")[0] == module}
    chosen = {name: function for name, function in mine.items() if name not in facts["left_out"]}
    for number, (name, function) in enumerate(chosen.items()):
        if facts["phase"] != "control":
            mark(number)
        began = time.monotonic()
        outcome = alone(function, facts, f"~{facts['phase']}.{name}~".encode())
        print(json.dumps({"id": name, "number": number, "outcome": outcome, "seconds": round(time.monotonic() - began, 2)}), flush=True)
    if facts["phase"] != "control":
        mark(len(chosen))


if __name__ == "__main__":
    sys.modules["driver"] = sys.modules["__main__"]
    main()
