"""What the section `ca` says: who signs the certificates that a sandbox is shown."""

from __future__ import annotations

from pathlib import Path

from stockade.policy.format.document import Findings
from stockade.settings.part import Part
from stockade.signing import names
from stockade.signing.settings import LIFE, SHORTEST, Ca, Token

_ACCEPTED = {"certificate": "/etc/stockade/ca.pem", "key": "/etc/stockade/ca.key, or `pkcs11`"}


def ca(part: Part, findings: Findings) -> Ca:
    stated = dict(part)
    if "key" in stated and "pkcs11" in stated:
        findings.add(stated["pkcs11"], "two_keys", "the key of the CA is in a file, or in a token", accepted="`key` or `pkcs11`")
    for one in ("key", "pkcs11", "names"):
        if one in stated and "certificate" not in stated:
            _without(part, one, "certificate", findings)
    if "certificate" in stated and not {"key", "pkcs11"} & stated.keys():
        _without(part, "certificate", "key", findings)
    if (life := part.seconds("life", LIFE)) < SHORTEST:
        findings.add(part.at("life"), "too_short", f"a key for {life:g} seconds is renewed all the time", accepted="at least 10s")
    good_for: list[str] = []
    for text, place in part.texts("names"):
        try:
            names.stated([text])
        except ValueError as error:
            findings.add(place, "bad_certificate_name", str(error), accepted="example.com, 10.1.2.0/24, *")
        else:
            good_for.append(text)
    certificate, key = _path(part, "certificate"), _path(part, "key")
    return Ca(life, certificate, key or _token(part.part("pkcs11")), tuple(good_for))


def _without(part: Part, one: str, other: str, findings: Findings) -> None:
    findings.add(dict(part)[one], "needs_key", f"`{one}` is of no use without `{other}`", accepted=f"{other}: {_ACCEPTED[other]}")


def _token(part: Part) -> Token | None:
    texts = [part.text(name) for name in ("module", "token", "key", "pin")]
    if None in texts:  # what is missing has been said
        return None
    module, token, key, pin = map(str, texts)
    return Token(Path(module), token, key, pin)


def _path(part: Part, key: str) -> Path | None:
    text = part.text(key)
    return None if text is None else Path(text)
