"""The process that signs with a key in a PKCS#11 token: one request on its standard input, one answer on its standard output, the end.

A vendor's module is code that nobody here has read: it is loaded by nobody else, lives as long as one signature, and when it hangs or
crashes the agent goes on. The key itself stays in the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any


class Unusable(Exception):
    """The text is for people."""


class WrongPin(Unusable):
    """The token counts this attempt, and locks after a few."""


def main() -> None:
    """{module, token, key, pin, algorithm: rsa | ec, digest, data} → {signature} or {error, wrong_pin}.

    pin: file:PATH or env:NAME; data, signature: base64. wrong_pin: whether that is the error.
    """
    asked = json.load(sys.stdin)
    said = os.dup(1)
    os.dup2(2, 1)  # some modules talk
    try:
        answer: dict[str, str | bool] = {"signature": base64.b64encode(_sign(asked)).decode()}
    except Unusable as error:
        answer = {"error": str(error), "wrong_pin": isinstance(error, WrongPin)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__} {error}".strip(), "wrong_pin": False}
    with os.fdopen(said, "w") as file:
        json.dump(answer, file)


def _sign(asked: dict[str, Any]) -> bytes:
    import pkcs11
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    module = _module(Path(asked["module"]))
    data = base64.b64decode(asked["data"])
    try:
        token = pkcs11.lib(str(module)).get_token(token_label=asked["token"])
    except pkcs11.exceptions.NoSuchToken:
        raise Unusable(f"no token is labelled {asked['token']}") from None
    except pkcs11.exceptions.MultipleTokensReturned:
        raise Unusable(f"several tokens are labelled {asked['token']}") from None
    except RuntimeError as error:
        raise Unusable(f"{module} cannot be used: {type(error).__name__} {error}".strip()) from None
    try:
        with token.open(user_pin=_pin(asked["pin"])) as session:
            key: Any = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=asked["key"])
            if asked["algorithm"] == "rsa":
                mechanism = getattr(pkcs11.Mechanism, f"{asked['digest'].upper()}_RSA_PKCS")
                return bytes(key.sign(data, mechanism=mechanism))
            # the digest is made here: few tokens have a mechanism that makes it
            raw = key.sign(hashlib.new(asked["digest"], data).digest(), mechanism=pkcs11.Mechanism.ECDSA)
            half = len(raw) // 2
            return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
    except pkcs11.exceptions.NoSuchKey:
        raise Unusable(f"{asked['token']} has no private key {asked['key']}") from None
    except pkcs11.exceptions.MultipleObjectsReturned:
        raise Unusable(f"{asked['token']} has several private keys {asked['key']}") from None
    except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinInvalid, pkcs11.exceptions.PinLenRange):
        raise WrongPin(f"{asked['token']} does not take the PIN in {asked['pin']}") from None
    except pkcs11.exceptions.PinLocked:
        raise Unusable(f"the PIN of {asked['token']} is locked") from None


def _pin(where: str) -> str:
    kind, _, name = where.partition(":")
    path = Path(name)
    try:
        if kind == "env":
            return os.environ[name]
        with path.open(encoding="utf-8") as file:
            about = os.fstat(file.fileno())  # of what is read, whatever the name leads to a moment later
            if about.st_uid != os.geteuid() or about.st_mode & 0o077:
                raise Unusable(f"{path} is not root's alone (chown root, chmod 600)")
            pin = file.read().rstrip("\r\n")
    except KeyError:
        raise Unusable(f"the variable {name} is not set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"cannot read the PIN in {path}: {error}") from None
    if not pin or "\n" in pin:
        raise Unusable(f"{path} does not hold one line")
    return pin


def _module(named: Path) -> Path:
    """Where it lies, free of links, below directories in which nobody but root can put another file in its place: it runs as root."""
    try:
        path = named.resolve(strict=True)
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unusable(f"the module {path} is no file")
        for each in (path, *path.parents):
            about = each.stat()
            others = about.st_mode & 0o022
            if each != path and about.st_mode & stat.S_ISVTX:
                others = 0  # as /tmp: what is root's in it can be neither removed nor renamed by others
            if about.st_uid not in (0, os.geteuid()) or others:
                what = f"the module {path}" if each == path else f"{each}, where the module {path} lies,"
                raise Unusable(f"{what} can be written by others than root")
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise Unusable(f"the module {named}: {error.strerror if isinstance(error, OSError) else error}") from None
    return path
