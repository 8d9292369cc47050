"""Where a daemon listens, for whoever asks: imported by every `stockade run`, so it imports next to nothing."""

from __future__ import annotations

import socket
from pathlib import Path

from stockade.service.settings import Settings


def path_of(settings: Settings) -> Path:
    return settings.run / "daemon.sock"


def answers(path: Path) -> bool:
    """Whether a daemon listens there: its socket outlives it by name only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            return False
        except OSError:  # its backlog is full, or it is slow: it lives
            return True
        return True


def found(settings: Settings) -> Path | None:
    """The socket of the daemon that runs."""
    path = path_of(settings)
    return path if answers(path) else None
