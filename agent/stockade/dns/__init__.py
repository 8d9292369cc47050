"""The sandbox's own DNS: every name it may reach becomes a synthetic address, and no query leaves.

Reading order: synthetic (names ↔ addresses) · message (the wire) · resolver (the ladder) · server (sockets).
"""

from stockade.dns.resolver import Asker, Resolver
from stockade.dns.server import Server, serve
from stockade.dns.synthetic import QuotaExceeded, SyntheticTable

__all__ = ["Asker", "QuotaExceeded", "Resolver", "Server", "SyntheticTable", "serve"]
