"""What a certificate is good for, which CA is fit to sign, and what a token says that does not."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from framework.ca import Authority, pem
from framework.hsm import MODULE, PIN, Organisation
from framework.policy import http, relay, whole
from stockade.policy import Policy, load
from stockade.policy.hosts import parse_pattern
from stockade.signing import begin, names, own, process, sandbox
from stockade.signing.external import Organisation as External
from stockade.signing.names import Names
from stockade.signing.settings import Ca, Token
from stockade.types import StockadeError

TOKEN = pytest.mark.skipif(not (MODULE.exists() and shutil.which("softhsm2-util")), reason="no SoftHSM: apt-get install softhsm2")


def policy(tmp_path: Path, *rules: dict[str, object], **more: object) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(whole(*rules, allow=["curl"], **more))
    return load([file])


def test_the_policy_says_what_a_certificate_is_good_for(tmp_path: Path) -> None:
    """What is inspected; each host once, and none below a wildcard that is there."""
    rules = (
        http("curl", "api.example.com:8443", "*.example.com", "www.example.org", "10.20.0.0/16", "203.0.113.9", name="one"),
        relay("curl", "relayed.example.net", tls="passthrough"),
    )
    assert str(names.of(policy(tmp_path, *rules))) == "example.com www.example.org 10.20.0.0/16 203.0.113.9/32"


@pytest.mark.parametrize("more", [{"mode": "observe"}, {"rego": ["rule.rego"]}])
def test_names_that_nobody_can_list_have_to_be_stated(tmp_path: Path, more: dict[str, object]) -> None:
    (tmp_path / "rule.rego").write_text('allow { input.host == "a.example.com" }\n')
    found = policy(tmp_path, http("curl", "api.example.com"), **more)
    with pytest.raises(StockadeError) as error:
        sandbox.wanted(Ca(certificate=tmp_path), found)
    assert error.value.code == "ca_names"
    assert sandbox.wanted(Ca(certificate=tmp_path, names=("example.com",)), found) == Names(frozenset({"example.com"}))
    assert sandbox.wanted(Ca(), found).everything


def test_a_rule_for_every_host_makes_no_certificate_for_any(tmp_path: Path) -> None:
    """The format has none; one that came in another way is no name `*`."""
    found = policy(tmp_path, http("curl", "api.example.com"))
    (rule,) = found.rules
    everywhere = replace(rule, name="any", destination=replace(rule.destination, allow=(parse_pattern("*"),)))
    with pytest.raises(StockadeError, match="nobody knows which names") as error:
        names.of(found, [everywhere])
    assert error.value.code == "ca_names"


def test_more_names_than_a_certificate_holds_are_refused(tmp_path: Path) -> None:
    hosts = [f"host{number}.example" for number in range(names.MOST)]
    assert len(names.of(policy(tmp_path, http("curl", *hosts, name="many")))) == names.MOST
    with pytest.raises(StockadeError, match="129 hosts"):
        names.of(policy(tmp_path, http("curl", *hosts, "one.more.example", name="many")))


@pytest.mark.parametrize(
    ("has", "asked", "covered"),
    [
        (["example.com"], ["example.com"], True),
        (["example.com"], ["a.b.example.com"], True),
        (["example.com"], ["badexample.com"], False),
        (["example.com"], ["com"], False),
        (["example.com", "10.0.0.0/8"], ["10.0.0.0/8"], True),
        (["example.com"], ["10.1.2.3"], False),
        (["*"], ["anything.example", "10.1.2.3"], True),
        (["example.com"], ["*"], False),
        ([], [], True),
    ],
)
def test_one_certificate_does_for_what_another_is_for(has: list[str], asked: list[str], covered: bool) -> None:
    assert names.stated(has).covers(names.stated(asked)) is covered


def test_what_is_constrained_is_read_as_it_was_written(tmp_path: Path) -> None:
    organisation = Organisation.found(tmp_path / "ca")
    external = External.read(Ca(certificate=organisation.chain, key=organisation.key))
    for good_for in (
        Names(frozenset({"example.com", "localhost"}), frozenset({ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")})),
        Names(),
        Names(everything=True),
    ):
        made = x509.load_pem_x509_certificate(external.sign("box", good_for).certificate_pem)
        assert names.read(made) == good_for
        basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert basic.ca and basic.path_length == 0
        assert made.not_valid_after_utc <= organisation.issuing.not_valid_after_utc, "never beyond what signed it"


def test_keys_follow_each_other_under_one_root() -> None:
    first = own.create("box", 60.0)
    second = replace(first, signing=sandbox.again(first, Ca(), Names(everything=True)))
    root = x509.load_pem_x509_certificate(first.certificate_pem)
    for each in (first, second):
        made = x509.load_pem_x509_certificate(each.signing.certificate_pem)
        made.verify_directly_issued_by(root)
        assert each.signing.key not in (first.root_key, b"")
        assert each.signing.made < each.signing.due < each.signing.until
    assert first.signing.key != second.signing.key and repr(first).count("PRIVATE") == 0
    assert first.signing.until - first.signing.made <= 60 < second.signing.until - second.signing.made


def _root(directory: Path, **changed: object) -> Path:
    """One self-signed certificate that is fit, but for what is changed."""
    key = ec.generate_private_key(ec.SECP256R1())
    now, name = datetime.datetime.now(datetime.UTC), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now - datetime.timedelta(days=3))
    builder = builder.not_valid_after(now + datetime.timedelta(days=int(str(changed.get("days", 3)))))
    ca, length = bool(changed.get("ca", True)), changed.get("length")
    builder = builder.add_extension(x509.BasicConstraints(ca, length if isinstance(length, int) else None), critical=True)
    file = directory / "ca.pem"
    file.write_bytes(pem(builder.sign(key, hashes.SHA256())))
    (directory / "ca.key").touch(0o600)
    (directory / "ca.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"days": -1}, "is not valid today"), ({"ca": False}, "no certificate of a CA"), ({"length": 0}, "allows 0 authorities below it")],
)
def test_a_ca_that_nobody_would_believe_is_not_taken(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(StockadeError, match=said) as error:
        External.read(Ca(certificate=_root(tmp_path, **changed), key=tmp_path / "ca.key"))
    assert error.value.code == "ca_certificate"


def test_a_root_may_sign_by_itself(tmp_path: Path) -> None:
    ca = Ca(certificate=_root(tmp_path), key=tmp_path / "ca.key")
    authority = begin("box", ca, policy(tmp_path, http("curl", "api.example.com")))
    assert authority.signing.above_pem == b"" and authority.root_key is None


def test_a_chain_is_whole_or_refused(tmp_path: Path) -> None:
    organisation = Organisation.found(tmp_path / "ca")
    ca = Ca(certificate=organisation.chain, key=organisation.key)
    for content, said in (
        (pem(organisation.issuing), "is the last, and no root"),
        (pem(organisation.issuing) + pem(Authority.root().certificate), "is not signed by the next certificate"),
        (b"nothing", "holds no certificate"),
    ):
        organisation.chain.write_bytes(content)
        with pytest.raises(StockadeError, match=said):
            External.read(ca)


def test_the_root_stays_while_a_sandbox_lives(tmp_path: Path) -> None:
    """The one in the file is another: what it signs, nobody inside would believe."""
    organisation, other = Organisation.found(tmp_path / "ca"), Organisation.found(tmp_path / "other")
    authority = begin("box", Ca(certificate=organisation.chain, key=organisation.key, names=("*",)), Policy("p"))
    with pytest.raises(StockadeError, match="another one than box was started with"):
        sandbox.again(authority, Ca(certificate=other.chain, key=other.key), Names(everything=True))
    with pytest.raises(StockadeError, match="do not name any more"):
        sandbox.again(authority, Ca(), Names(everything=True))


def test_a_key_that_others_can_read_or_that_is_another_is_not_taken(tmp_path: Path) -> None:
    organisation, other = Organisation.found(tmp_path / "ca"), Organisation.found(tmp_path / "other")
    external = External.read(Ca(certificate=organisation.chain, key=other.key))
    with pytest.raises(StockadeError, match="is not the one of"):
        external.sign("box", Names())
    organisation.key.chmod(0o640)
    with pytest.raises(StockadeError, match="not root's alone"):
        External.read(Ca(certificate=organisation.chain, key=organisation.key)).sign("box", Names())


@TOKEN
@pytest.mark.skipif(os.geteuid() != 0, reason="the module and the PIN are root's")
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_token_signs_with_either_kind_of_key_and_says_why_not(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    organisation = Organisation.found(tmp_path / "ca", "rsa" if kind == "rsa" else "ec")
    organisation.move_into_token()
    monkeypatch.setenv("SOFTHSM2_CONF", str(organisation.conf))
    token = Token(MODULE, "stockade tests", "issuing", f"file:{organisation.pin}")
    ca = Ca(certificate=organisation.chain, key=token)
    made = x509.load_pem_x509_certificate(External.read(ca).sign("box", Names()).certificate_pem)
    made.verify_directly_issued_by(organisation.issuing)
    wrong = tmp_path / "wrong.pin"
    wrong.touch(0o600)
    wrong.write_text(f"not {PIN}\n")
    open_to_all = tmp_path / "open.pin"
    open_to_all.write_text(PIN)
    open_to_all.chmod(0o644)
    module = tmp_path / "module.so"
    shutil.copy(MODULE, module)
    module.chmod(0o666)
    linked = tmp_path / "linked.so"
    linked.symlink_to("/etc/hostname")
    anybodys = tmp_path / "anybodys"
    anybodys.mkdir()
    anybodys.chmod(0o777)
    shutil.copy(MODULE, anybodys / "module.so")
    leads_there = tmp_path / "leads_there"
    leads_there.symlink_to(anybodys)
    for other, said in (
        (
            (replace(token, token="none"), "no token is labelled none"),
            (replace(token, key="none"), "has no private key none"),
            (replace(token, pin=f"file:{wrong}"), "does not take the PIN"),
            (replace(token, pin=f"file:{open_to_all}"), "not root's alone"),
            (replace(token, pin="env:STOCKADE_TESTS_NONE"), "STOCKADE_TESTS_NONE is not set"),
            (replace(token, module=module), "can be written by others"),
            (replace(token, module=Path("/etc/hostname")), "cannot be used"),
            (replace(token, module=linked), "/etc/hostname cannot be used"),
            (replace(token, module=anybodys / "module.so"), f"{anybodys}, where the module .* can be written by others"),
            (replace(token, module=leads_there / "module.so"), f"{anybodys}, where the module .* can be written by others"),
            (replace(token, module=tmp_path), "is no file"),
            (replace(token, module=tmp_path / "none.so"), "No such file"),
        )
        if kind == "ec"
        else ()
    ):
        with pytest.raises(StockadeError, match=said) as error:
            External.read(replace(ca, key=other)).sign("box", Names())
        assert error.value.code == ("ca_pin" if said == "does not take the PIN" else "ca_unavailable")


@TOKEN
@pytest.mark.skipif(os.geteuid() != 0, reason="the module and the PIN are root's")
def test_a_token_is_asked_once_with_a_pin_that_it_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away, what it is asked fails for that; what it is not asked does not."""
    organisation = Organisation.found(tmp_path / "ca")
    organisation.move_into_token()
    monkeypatch.setenv("SOFTHSM2_CONF", str(organisation.conf))
    token = Token(MODULE, "stockade tests", "issuing", f"file:{organisation.pin}")
    ca = Ca(certificate=organisation.chain, key=token)
    sign = functools.partial(External.read(ca).sign, "box", Names())
    organisation.pin.write_text(f"not {PIN}\n")
    with pytest.raises(StockadeError, match="does not take the PIN") as error:
        sign()
    assert error.value.code == "ca_pin"
    organisation.pull()
    with pytest.raises(StockadeError, match="is not asked with it again") as error:
        sign()
    assert error.value.code == "ca_pin"
    sandbox.insist(ca)
    with pytest.raises(StockadeError, match="no token is labelled") as error:
        sign()
    assert error.value.code == "ca_unavailable"
    organisation.plug()
    with pytest.raises(StockadeError, match="does not take the PIN"):
        sign()
    organisation.pin.write_text(f"{PIN}\n")
    x509.load_pem_x509_certificate(sign().certificate_pem).verify_directly_issued_by(organisation.issuing)


class Swapping:
    """Puts another file in the place of one in the moment in which it is opened."""

    def __init__(self) -> None:
        self.at: tuple[Path, Path] | None = None
        sys.addaudithook(self._hook)  # it cannot be taken away: it is told what to do, and nothing else

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and self.at is not None and str(arguments[0]) == str(self.at[0]):
            (place, other), self.at = self.at, None
            other.rename(place)


@pytest.fixture(scope="session")
def swapping() -> Swapping:
    return Swapping()


def test_a_pin_is_read_from_the_file_that_was_looked_at(tmp_path: Path, swapping: Swapping) -> None:
    pin, other = tmp_path / "ca.pin", tmp_path / "other.pin"
    for path, mode in ((pin, 0o600), (other, 0o644)):
        path.write_text("4711\n")
        path.chmod(mode)
    assert process._pin(f"file:{pin}") == "4711"
    swapping.at = pin, other
    with pytest.raises(process.Unusable, match="not root's alone"):
        process._pin(f"file:{pin}")
