"""The devices of one pod, closed for as long as the pod is, whether or not a policy governs it: a packet socket passes every program on a
cgroup, and what its runtime gives a container by default is enough to have one.

Beside whoever governs the pod, which closes the same devices by the same rules, and lets through them what its policy lets in.
"""

from __future__ import annotations

import threading

from stockade.attach.device import EGRESS, HOST_END, Closed
from stockade.attach.target import is_ours
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.joined import Joined
from stockade.types import StockadeError


class Devices:
    """closed: whether they are to be; said on the loop, while the methods block: each in a thread, one after the other.

    failure: why they are open all the same. shared: they are the node's own, and are left alone.
    """

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup, self._number = cgroup, cgroup.id
        self._turn = threading.Lock()
        self._joined: Joined | None = None
        self._closed: Closed | None = None
        self._ended = False
        self.closed = False
        self.shared = False
        self.failure = ""

    def shut(self, pid: int, *, holds: bool) -> None:
        """Those that are there now. pid: of a process in the pod's network. holds: it is the one that holds that, and whose next life has
        another one. Raises nothing: what is wrong is in `failure`.
        """
        with self._turn:
            if not self.closed or self._ended:
                return
            try:
                self._find(pid, holds=holds)
                if self._closed is not None:
                    self._closed.close()
            except (StockadeError, OSError) as error:
                self.failure = str(error) if self._cgroup.populated() else ""  # it goes with its devices
            else:
                self.failure = ""

    def silence(self) -> None:
        """What a policy let in before is neither let in nor answered any more."""
        with self._turn:
            if not self.closed or self._ended or self._closed is None or self._closed.by != EGRESS:
                return
            try:
                self._closed.silence()
            except (StockadeError, OSError) as error:
                self.failure = str(error) if self._cgroup.populated() else ""

    def open(self, pid: int | None) -> None:
        """Also what an agent before this one closed. pid: as above, if there is one."""
        with self._turn:
            if self.closed or self._ended:
                return
            try:
                if pid is not None:
                    self._find(pid, holds=False)
                if self._closed is not None:
                    self._closed.forget()
            except (StockadeError, OSError):  # nobody is in there any more
                pass
            self.failure = ""

    def end(self, *, gone: bool) -> None:
        """gone: the pod is, and its devices with it. Else the agent goes, and leaves them as they are."""
        with self._turn:
            self._ended = True
            if self._closed is not None and self._closed.by == HOST_END and gone:
                self._closed.open()
            self._leave()

    def _find(self, pid: int, *, holds: bool) -> None:
        """Where they are. Raises StockadeError."""
        joined = Joined(pid)
        if pid not in self._cgroup.processes() or (self._joined is not None and (not holds or joined.inode == self._joined.inode)):
            joined.close()
            return
        self._leave()
        self.shared = is_ours(pid, "net")
        if self.shared:
            joined.close()
        else:
            self._joined, self._closed = joined, Closed(joined, self._number)

    def _leave(self) -> None:
        if self._joined is not None:
            self._joined.close()
        self._joined = self._closed = None
