"""The network path above the kernel: who calls is known, what is asked is judged, and only then does anything leave.

`Worker` is what the agent holds. Everything that parses what the sandbox sent lives in the forked process behind it (`worker`). That is why
importing this package imports no mitmproxy: the agent never does, and the fork comes first.
"""

from __future__ import annotations

from stockade.proxy.authority import Authority, Signing
from stockade.proxy.fork import Worker, live
from stockade.proxy.settings import Settings
from stockade.proxy.spine import Begun, Caller, Listeners, Resolved, Spine

__all__ = ["Authority", "Begun", "Caller", "Listeners", "Resolved", "Settings", "Signing", "Spine", "Worker", "live"]
