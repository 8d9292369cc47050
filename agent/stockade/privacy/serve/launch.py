"""How the agent starts a classifier. It ends with the last descriptor of its channel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from stockade.policy import Policy


def wanted(policy: object) -> bool:
    """Whether anything in this policy asks what is said: a policy that does not starts no classifier, and pays for none."""
    return isinstance(policy, Policy) and (
        getattr(policy, "privacy", None) is not None or any(getattr(rule, "scan", ()) for rule in policy.rules)
    )


def launch(user: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The channel to a new classifier, which loads while others go on. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        uid = user if os.geteuid() == 0 else os.geteuid()
        # Isolated and without the caller's environment: nothing that it has set steers this. ONNX Runtime would report to its maker, and
        # keep a database for that in the home of whoever runs it.
        program = "import sys; from stockade.privacy.serve.process import main; main(int(sys.argv[1]), int(sys.argv[2]))"
        words = [sys.executable, "-I", "-c", program, str(theirs.fileno()), str(uid)]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            words,
            pass_fds=[theirs.fileno()],
            env={"ORT_DISABLE_TELEMETRY": "1", "HOME": "/nonexistent"},
            stdin=quiet,
            stdout=quiet,
            cwd="/",
        )
    return ours, process
