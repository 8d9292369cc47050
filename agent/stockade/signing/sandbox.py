"""The authority of one sandbox: how it begins, and how another key takes over under the same root. Blocks as long as a token takes."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from stockade.policy import Policy, Rule
from stockade.proxy.authority import Authority, Signing
from stockade.signing import about, names, own
from stockade.signing.external import Organisation
from stockade.signing.names import Names
from stockade.signing.settings import Ca, Token
from stockade.signing.token import ask_again
from stockade.types import StockadeError

Detail = dict[str, str | int | list[str]]


def begin(name: str, ca: Ca, policy: Policy) -> Authority:
    """Of a sandbox that starts. Raises StockadeError: then it does not."""
    if ca.certificate is None:
        return own.create(name, ca.life)
    organisation = Organisation.read(ca)
    return Authority(name, organisation.root_pem, organisation.sign(name, wanted(ca, policy)))


def again(authority: Authority, ca: Ca, good_for: Names) -> Signing:
    """The next key, under the root that the sandbox trusts. Raises StockadeError."""
    if authority.root_key is not None:
        return own.again(authority, ca.life)
    if ca.certificate is None:
        message = f"{authority.name} was started under an organisation's CA, which the settings do not name any more"
        raise StockadeError(message, hint="`certificate` under `ca` of the settings", code="ca_certificate")
    organisation = Organisation.read(ca)
    if organisation.root_pem != authority.certificate_pem:
        message = f"ca: the root in {ca.certificate} is another one than {authority.name} was started with, and trusts"
        raise StockadeError(message, hint="the old root stays in the file until it has ended, or start it anew", code="ca_certificate")
    return organisation.sign(authority.name, good_for)


def insist(ca: Ca) -> None:
    """The next attempt asks the token whatever it said of its PIN."""
    if isinstance(ca.key, Token):
        ask_again(ca.key)


def wanted(ca: Ca, policy: Policy, rules: Iterable[Rule] = ()) -> Names:
    """What certificates have to be good for under this policy, and these rules beside it. Raises StockadeError."""
    if ca.certificate is None:
        return Names(everything=True)
    return names.stated(ca.names) if ca.names else names.of(policy, rules)


def good_for(authority: Authority) -> Names:
    """What the key that signs now is good for."""
    return names.read(x509.load_pem_x509_certificate(authority.signing.certificate_pem))


def described(authority: Authority) -> Detail:
    """For records and for people."""
    root, signing = about.of(authority.certificate_pem), about.of(authority.signing.certificate_pem)
    return {
        "root": root.subject,
        "root_sha256": root.sha256,
        "root_until": about.moment(root.until),
        "signed_by": signing.issuer,
        "serial": signing.serial,
        "sha256": signing.sha256,
        "until": about.moment(signing.until),
        "good_for": str(good_for(authority)),
    }
