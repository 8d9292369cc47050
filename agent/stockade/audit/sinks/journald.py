"""journald, by its native protocol (systemd's JOURNAL_NATIVE_PROTOCOL): a datagram an entry, one too large in a sealed memfd.

MESSAGE is the record in the sink's format; STOCKADE_* fields are there to filter by: journalctl STOCKADE_DECISION=deny.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from stockade.audit.sinks.sink import ARRIVED, Failed, Item, Outcome

SOCKET = Path("/run/systemd/journal/socket")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NOTICE, _INFO = "5", "6"  # syslog's levels: a refusal is a normal but significant event


class JournaldSink:
    """The journal of the machine (systemd.journal-fields(7)); an entry that is too large for a datagram goes as a sealed file."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def send(self, batch: Sequence[Item]) -> Outcome:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.connect(str(self._path))
            for item in batch:
                self._put(self._socket, entry(item))
        except OSError as error:
            self.close()
            raise Failed(f"journald: {error.strerror}") from error
        return ARRIVED

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @staticmethod
    def _put(to: socket.socket, data: bytes) -> None:
        try:
            to.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            sealed = os.memfd_create("stockade", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
            try:
                os.write(sealed, data)
                fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, _SEALS)
                to.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sealed]))])
            finally:
                os.close(sealed)


def entry(item: Item) -> bytes:
    """One datagram in the native protocol of journald, with the whole record as MESSAGE."""
    record = item.record
    fields = {
        "PRIORITY": _NOTICE if record["decision"] == "deny" else _INFO,
        "SYSLOG_IDENTIFIER": "stockade",
        "STOCKADE_SANDBOX": record["sandbox"]["name"],
        "STOCKADE_ACTION": record["action"],
        "STOCKADE_DECISION": record["decision"],
        "STOCKADE_REASON": record["reason"],
        "STOCKADE_SEQ": str(record["seq"]),
        "STOCKADE_HASH": record["hash"],
    }
    return b"".join(_field(name, str(value).encode("ascii", "backslashreplace")) for name, value in fields.items()) + _field(
        "MESSAGE", item.text
    )


def _field(name: str, value: bytes) -> bytes:
    """With its length, so that nothing in the value can begin another field."""
    return name.encode("ascii") + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
