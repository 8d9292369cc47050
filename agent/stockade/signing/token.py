"""A key that stays in its PKCS#11 token, in the shape in which cryptography takes keys. Every signature asks a process of its own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stockade.signing.settings import Token

SECONDS = 15.0  # that a token may take


class Away(Exception):
    """The token did not sign, and why."""


def key_of(token: Token, public: Any) -> Any:
    """The private key that belongs to a public one. Raises ValueError for a kind that signs no certificates here."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        return _Elliptic(token, public)
    if isinstance(public, rsa.RSAPublicKey):
        return _Rsa(token, public)
    raise ValueError("its key is neither RSA nor EC")


def sign(token: Token, data: bytes, algorithm: str, digest: str) -> bytes:
    """The signature as certificates have it. Raises Away."""
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
    if "error" in answer:
        raise Away(str(answer["error"]))
    return base64.b64decode(answer["signature"])


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
