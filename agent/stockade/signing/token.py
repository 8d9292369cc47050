"""A key that stays in its PKCS#11 token, in the shape in which cryptography takes keys. Every signature asks a process of its own.

Owns also which PIN a token did not take: most lock after a few wrong ones, and somebody has to go there. It is not asked with that one
again before a person says so, or the file with the PIN is another.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stockade.signing.settings import Token

SECONDS = 15.0  # that a token may take

_Pin = tuple[str, int, int, int]  # where it is said, and the state of the file
_refused: dict[tuple[str, str], _Pin] = {}  # of a module and its token's label; for as long as this process


class Away(Exception):
    """The token did not sign, and why."""


class WrongPin(Away):
    """It does not take the PIN, or was not asked because it did not the last time."""


def key_of(token: Token, public: Any) -> Any:
    """The private key that belongs to a public one. Raises ValueError for a kind that signs no certificates here."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        return _Elliptic(token, public)
    if isinstance(public, rsa.RSAPublicKey):
        return _Rsa(token, public)
    raise ValueError("its key is neither RSA nor EC")


def sign(token: Token, data: bytes, algorithm: str, digest: str) -> bytes:
    """The signature as certificates have it. Raises Away."""
    where, pin = (str(token.module), token.token), _pin(token)
    if pin is not None and _refused.get(where) == pin:
        raise WrongPin(f"{token.token} did not take the PIN in {token.pin}, and is not asked with it again, since it would lock")
    request = {
        **{name: str(getattr(token, name)) for name in ("module", "token", "key", "pin")},
        "algorithm": algorithm,
        "digest": digest,
        "data": base64.b64encode(data).decode(),
    }
    program = "from stockade.signing.process import main; main()"
    try:
        # the environment is the caller's: modules find their own settings there
        ended = subprocess.run(
            [sys.executable, "-I", "-c", program], input=json.dumps(request).encode(), capture_output=True, timeout=SECONDS, check=False
        )
        answer = json.loads(ended.stdout)
    except subprocess.TimeoutExpired:
        raise Away(f"{token.module} did not answer in {SECONDS:g} seconds") from None
    except OSError as error:
        raise Away(f"no process to ask it in: {error}") from None
    except ValueError:
        last = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Away(f"{token.module} ended with status {ended.returncode}" + (f": {last[:200]}" if last else "")) from None
    if answer.get("wrong_pin"):
        if pin is not None:
            _refused[where] = pin
        raise WrongPin(str(answer["error"]))
    if "error" in answer:
        raise Away(str(answer["error"]))
    _refused.pop(where, None)
    return base64.b64decode(answer["signature"])


def ask_again(token: Token) -> None:
    """Once more, even with a PIN that it did not take: a person says so."""
    _refused.pop((str(token.module), token.token), None)


def _pin(token: Token) -> _Pin | None:
    """None: it cannot be looked at, and so nothing be asked with it. A variable is the same as long as this process."""
    kind, _, name = token.pin.partition(":")
    if kind != "file":
        return token.pin, 0, 0, 0
    try:
        about = Path(name).stat()
    except OSError:
        return None
    return token.pin, about.st_ino, about.st_mtime_ns, about.st_size


def _never() -> NoReturn:
    raise NotImplementedError("it stays in its token, and signs")


class _Elliptic(ec.EllipticCurvePrivateKey):
    def __init__(self, token: Token, public: ec.EllipticCurvePublicKey) -> None:
        self._token, self._public = token, public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        digest: Any = signature_algorithm.algorithm
        return sign(self._token, bytes(data), "ec", digest.name)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        _never()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        _never()

    def private_bytes(self, *_: Any) -> bytes:
        _never()

    def __copy__(self) -> _Elliptic:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> _Elliptic:
        return self


class _Rsa(rsa.RSAPrivateKey):
    def __init__(self, token: Token, public: rsa.RSAPublicKey) -> None:
        self._token, self._public = token, public

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        return sign(self._token, bytes(data), "rsa", algorithm.name)

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def decrypt(self, ciphertext: bytes, padding: Any) -> bytes:
        _never()

    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        _never()

    def private_bytes(self, *_: Any) -> bytes:
        _never()

    def __copy__(self) -> _Rsa:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> _Rsa:
        return self
