"""A sandbox's certificate authority, as it is kept and handed on: the root that the sandbox trusts, and the key that signs under it.

The root stays as long as the sandbox, because its programs have read it; what signs under it is short-lived and renewed. A worker is
given the signing half alone, and never the key of a root. Both keys are in the memory of the agent and in the file of root's that the
next agent adopts from (service/state.py); nowhere else. How they are made is stockade.signing's.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Signing:
    """What signs the certificates that clients are shown. PEM texts; the key never appears in a repr, a log or a traceback.

    above_pem: the certificates between it and the root, the nearest first; clients are shown them too. made, until: Unix time.
    """

    certificate_pem: bytes
    key: bytes = field(repr=False)
    above_pem: bytes = b""
    made: float = 0.0
    until: float = 0.0

    @property
    def due(self) -> float:
        """When another one has to take over: a third of its life is left then for whatever keeps that from working."""
        return self.until - (self.until - self.made) / 3


@dataclass(frozen=True, slots=True)
class Authority:
    """certificate_pem: the root, which the sandbox trusts. root_key None: that of an organisation, which keeps its key elsewhere."""

    name: str
    certificate_pem: bytes
    signing: Signing
    root_key: bytes | None = field(repr=False, default=None)

    @classmethod
    def create(cls, name: str) -> Authority:
        """A root of the sandbox's own, and a first key under it."""
        from stockade.signing.own import create  # cryptography takes 100 ms to load that the first fork can hide

        return create(name)
