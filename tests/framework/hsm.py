"""A hardware security module made of software (SoftHSM), with the key of an organisation's CA in it, and in no file."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from framework.ca import Authority, pem

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711"


@dataclass(frozen=True, slots=True)
class Organisation:
    """A root, and below it the CA that signs for Stockade. chain: a file with both. key: the file of its key, without a token.

    conf: what SoftHSM is told; without it, there is no token.
    """

    root: x509.Certificate
    issuing: x509.Certificate
    chain: Path
    key: Path
    pin: Path
    conf: Path

    @classmethod
    def found(cls, directory: Path, kind: Literal["ec", "rsa"] = "ec") -> Self:
        """With its key in a file, which `move_into_token` takes away."""
        directory.mkdir()
        root = Authority.root(kind)
        issuing = root.intermediate(kind)
        made = cls(
            root.certificate,
            issuing.certificate,
            *(directory / name for name in ("ca.pem", "ca.key", "ca.pin", "softhsm2.conf")),
        )
        made.chain.write_bytes(pem(issuing.certificate) + pem(root.certificate))
        made.key.touch(0o600)
        made.key.write_bytes(
            issuing.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return made

    def move_into_token(self) -> None:
        tokens = self.conf.parent / "tokens"
        tokens.mkdir(mode=0o700)
        self.conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.pin.touch(0o600)
        self.pin.write_text(PIN + "\n")
        self._util("--init-token", "--free", "--label", "stockade tests", "--pin", PIN, "--so-pin", "0815")
        self._util("--import", self.key, "--token", "stockade tests", "--label", "issuing", "--id", "01", "--pin", PIN)
        self.key.unlink()

    def in_token(self, **more: str) -> dict[str, object]:
        """The section `ca` of the settings."""
        named = {"module": str(MODULE), "token": "stockade tests", "key": "issuing", "pin": f"file:{self.pin}"}
        return {"certificate": str(self.chain), "pkcs11": named | more}

    def in_file(self) -> dict[str, object]:
        return {"certificate": str(self.chain), "key": str(self.key)}

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.conf)}

    def pull(self) -> None:
        """Away with the token, as a cable that is pulled."""
        self._move("tokens", "away")

    def plug(self) -> None:
        self._move("away", "tokens")

    def _move(self, whence: str, whither: str) -> None:
        (self.conf.parent / whither).mkdir(exist_ok=True)
        for token in (self.conf.parent / whence).iterdir():
            token.rename(self.conf.parent / whither / token.name)

    def _util(self, *words: str | Path) -> None:
        subprocess.run(["softhsm2-util", *map(str, words)], env=os.environ | self.environment, check=True, capture_output=True)
