"""What clients load: the bundle and Java's keystore, with the sandbox's CA beside the machine's roots."""

from __future__ import annotations

import datetime
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from stockade.proxy import Authority
from stockade.sandbox import trust
from stockade.types import StockadeError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("box-test")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.certificate_pem)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose bundle is two of this one's roots, with a keystore, and a second name for the bundle."""
    roots = x509.load_pem_x509_certificates(trust.system_bundle().read_bytes())[:2]
    bundle, keystore, absent = tmp_path / "ca.crt", tmp_path / "cacerts", tmp_path / "absent"
    from cryptography.hazmat.primitives.serialization import Encoding

    bundle.write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in roots) + b"\n\n")
    keystore.write_bytes(b"the machine's own")
    (tmp_path / "alias.pem").symlink_to(bundle)
    monkeypatch.setattr(trust, "BUNDLES", (absent, tmp_path / "alias.pem", bundle))
    monkeypatch.setattr(trust, "KEYSTORES", (absent, keystore))
    return tmp_path


def test_the_bundle_is_the_machines_and_ours(machine: Path, authority: Authority, certificate: x509.Certificate) -> None:
    store = trust.build(authority.certificate_pem)
    assert set(store.files) == {str(machine / "ca.crt"), str(machine / "cacerts")}, "where the links lead; nothing that is not there"
    loaded = x509.load_pem_x509_certificates(store.files[str(machine / "ca.crt")])
    assert loaded[:-1] == x509.load_pem_x509_certificates((machine / "ca.crt").read_bytes()) and loaded[-1] == certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=store.files[str(machine / "ca.crt")].decode())
    assert context.cert_store_stats()["x509_ca"] == 3
    assert (machine / "cacerts").read_bytes() == b"the machine's own", "the host's store is not touched"


def test_clients_with_a_bundle_of_their_own_are_told(machine: Path, authority: Authority) -> None:
    variables = trust.build(authority.certificate_pem).variables
    assert set(variables.values()) == {str(machine / "ca.crt")}
    assert set(variables) == {
        *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO", "DENO_CERT"),
    }


def test_the_keystore_holds_trusted_certificates_without_a_password(
    machine: Path, authority: Authority, certificate: x509.Certificate
) -> None:
    raw = trust.build(authority.certificate_pem).files[str(machine / "cacerts")]
    loaded = load_pkcs12(raw, None)
    assert loaded.key is None and loaded.cert is None
    assert certificate in [entry.certificate for entry in loaded.additional_certs] and len(loaded.additional_certs) == 3
    assert len({entry.friendly_name for entry in loaded.additional_certs}) == 3, "an alias that comes twice is one entry to Java"


@pytest.mark.skipif(not shutil.which("keytool"), reason="no keytool: apt-get install default-jre-headless")
def test_java_reads_it(machine: Path, authority: Authority, certificate: x509.Certificate) -> None:
    raw = trust.build(authority.certificate_pem).files[str(machine / "cacerts")]
    (machine / "store").write_bytes(raw)
    done = subprocess.run(
        ["keytool", "-list", "-keystore", str(machine / "store"), "-storetype", "PKCS12", "-storepass", ""],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.count("trustedCertEntry") == 3, done.stdout + done.stderr
    from cryptography.hazmat.primitives.hashes import SHA256

    assert certificate.fingerprint(SHA256()).hex(":").upper() in done.stdout


def test_the_authority_is_one_that_clients_accept(certificate: x509.Certificate) -> None:
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc


def test_a_machine_without_a_bundle_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "BUNDLES", (tmp_path / "absent",))
    with pytest.raises(StockadeError) as raised:
        trust.build(b"")
    assert (raised.value.code, raised.value.hint) == ("no_ca_bundle", "apt-get install ca-certificates")
