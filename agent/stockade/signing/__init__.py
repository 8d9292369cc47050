"""Who signs what a sandbox's clients are shown: a root of its own, or an organisation's whose key may be in a token.

sandbox (begins and goes on) · issue (certificates) · own (a root for one sandbox) · names (what a certificate is good for) · external (the
organisation's) · token (a key in a PKCS#11 token, asked through process) · process (the only importer of pkcs11) · settings (what the file
says of it) · about (what a certificate says of itself)

What is here loads cryptography only when it is called: that takes 100 ms, which the first fork can hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.signing.settings import Ca

if TYPE_CHECKING:
    from stockade.policy import Policy
    from stockade.proxy.authority import Authority

__all__ = ["Ca", "begin", "said"]


def begin(name: str, ca: Ca, policy: Policy) -> Authority:
    """Of a sandbox that starts. Blocks as long as a token takes. Raises StockadeError: then it does not start."""
    from stockade.signing import sandbox

    return sandbox.begin(name, ca, policy)


def said(authority: Authority) -> dict[str, str | int | list[str]]:
    """For the record of a start."""
    from stockade.signing import sandbox

    described = sandbox.described(authority)
    return {f"authority_{name}": described[name] for name in ("root_sha256", "signed_by", "serial", "until", "good_for")}
