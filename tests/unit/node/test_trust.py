"""What a pod's clients load, written where the pod may have been before: nothing of its making is followed, and a file is there whole."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from stockade.node import trust
from stockade.proxy import Authority
from stockade.sandbox.trust import system_bundle
from stockade.types import StockadeError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
    pytest.mark.skipif(os.geteuid() != 0, reason="it gives files to root"),
]
UID = "0b5a1c7e-4a52-4c0f-9d5e-6f2f0b1e8c11"


@pytest.fixture(scope="module")
def authority() -> bytes:
    return Authority.create("box-test").certificate_pem


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """As the kubelet makes it: everybody may write it, and what is in it is the fsGroup's."""
    made = tmp_path / "pods" / UID / "volumes/kubernetes.io~empty-dir" / trust.VOLUME
    made.mkdir(parents=True)
    os.chown(made, 0, 4711)
    made.chmod(0o2777)
    return made


def test_a_volume_is_found_by_its_pod(volume: Path, tmp_path: Path) -> None:
    assert trust.directory(UID, tmp_path) == volume
    assert trust.directory("ab" * 16, tmp_path) is None, "a pod that has none"
    assert trust.directory(f"../pods/{UID}", tmp_path) is None and trust.directory("", tmp_path) is None


def test_a_link_in_its_place_is_no_volume(volume: Path, tmp_path: Path, authority: bytes) -> None:
    elsewhere = tmp_path / "elsewhere"
    volume.rename(elsewhere)
    volume.symlink_to(elsewhere)
    assert trust.directory(UID, tmp_path) is None
    with pytest.raises(StockadeError, match="no volume"):
        trust.give(volume, authority)
    assert list(elsewhere.iterdir()) == []


def test_the_kubelets_own_directory_may_be_a_link(volume: Path, tmp_path: Path, authority: bytes) -> None:
    root = tmp_path / "kubelet"
    root.symlink_to(tmp_path)
    found = trust.directory(UID, root)
    assert found is not None
    trust.give(found, authority)
    assert (volume / trust.AUTHORITY).read_bytes() == authority


def test_the_store_has_the_machines_roots_and_the_sandboxs(volume: Path, authority: bytes) -> None:
    said = trust.give(volume, authority)
    assert said == "ca-bundle.crt, ca.crt, cacerts in /etc/stockade/trust"
    own = x509.load_pem_x509_certificate(authority)
    assert x509.load_pem_x509_certificates((volume / trust.BUNDLE).read_bytes()) == [
        *x509.load_pem_x509_certificates(system_bundle().read_bytes()),
        own,
    ]
    assert (volume / trust.AUTHORITY).read_bytes() == authority
    ssl.create_default_context(cafile=volume / trust.BUNDLE)
    for path in volume.iterdir():
        about = path.stat()
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, 0, 0o444), path
    about = volume.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, 0, 0o755), "and nobody else adds to it"


@pytest.mark.skipif(shutil.which("keytool") is None, reason="needs Java")
def test_java_reads_its_store_without_a_password(volume: Path, authority: bytes) -> None:
    trust.give(volume, authority)
    words = ["keytool", "-list", "-storetype", "PKCS12", "-keystore", volume / trust.KEYSTORE]
    listed = subprocess.run(words, input="\n", capture_output=True, text=True, check=True).stdout
    assert listed.count("trustedCertEntry") == len(x509.load_pem_x509_certificates((volume / trust.BUNDLE).read_bytes()))


@pytest.mark.parametrize("name", [trust.BUNDLE, trust.AUTHORITY, trust.KEYSTORE])
def test_a_link_that_the_pod_left_is_not_written_through(volume: Path, tmp_path: Path, authority: bytes, name: str) -> None:
    target = tmp_path / "of-the-machine"
    target.write_text("untouched")
    target.chmod(0o600)
    (volume / name).symlink_to(target)
    trust.give(volume, authority)
    assert target.read_text() == "untouched" and stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not (volume / name).is_symlink() and (volume / name).stat().st_size


def test_a_second_name_of_a_file_elsewhere_is_not_written_through(volume: Path, tmp_path: Path, authority: bytes) -> None:
    target = tmp_path / "of-the-machine"
    target.write_text("untouched")
    os.link(target, volume / trust.BUNDLE)
    trust.give(volume, authority)
    assert target.read_text() == "untouched"


def test_a_directory_in_the_way_goes_when_it_is_empty_and_is_told_of_else(volume: Path, authority: bytes) -> None:
    (volume / trust.BUNDLE).mkdir()
    trust.give(volume, authority)
    assert (volume / trust.BUNDLE).is_file()
    (volume / trust.AUTHORITY).unlink()
    (volume / trust.AUTHORITY / "in-the-way").mkdir(parents=True)
    with pytest.raises(StockadeError, match="cannot be written"):
        trust.give(volume, authority)
    assert not [path.name for path in volume.iterdir() if path.name.startswith(".")], "nothing half made is left"


def test_a_pod_that_is_left_alone_has_the_machines_roots_in_every_place(volume: Path, authority: bytes) -> None:
    """Its variables lead there: without a bundle it would trust nobody."""
    trust.give(volume, authority)
    trust.give(volume)
    roots = x509.load_pem_x509_certificates(system_bundle().read_bytes())
    for name in (trust.BUNDLE, trust.AUTHORITY):
        assert x509.load_pem_x509_certificates((volume / name).read_bytes()) == roots
    assert (volume / trust.KEYSTORE).stat().st_size


def test_another_authority_takes_the_place_of_the_one_before(volume: Path, authority: bytes) -> None:
    trust.give(volume, authority)
    (volume / ".stockade-of-one-that-was-killed").write_text("half")
    with (volume / trust.AUTHORITY).open("rb") as before:
        other = Authority.create("box-other").certificate_pem
        trust.give(volume, other)
        assert before.read() == authority, "who has it open reads on in the one before"
    assert (volume / trust.AUTHORITY).read_bytes() == other
    assert {path.name for path in volume.iterdir()} == {trust.BUNDLE, trust.AUTHORITY, trust.KEYSTORE}
