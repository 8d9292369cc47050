"""What the section `ca` of the settings says. Imports nothing that takes long: every start reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LIFE = 7 * 86400.0
SHORTEST = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """A key in a PKCS#11 token: the module that speaks to it, the labels of both, and where its PIN is: file:PATH or env:NAME."""

    module: Path
    token: str
    key: str
    pin: str


@dataclass(frozen=True, slots=True)
class Ca:
    """certificate None: each sandbox has a root of its own. key: its key, in a file or in a token.

    life: seconds for which a key signs. names: what certificates may be for; empty: what each sandbox's policy lets it reach.
    """

    life: float = LIFE
    certificate: Path | None = None
    key: Path | Token | None = None
    names: tuple[str, ...] = ()
