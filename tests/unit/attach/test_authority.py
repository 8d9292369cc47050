"""A pod's root goes on over agents: what is kept is read again, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from stockade.attach.authority import forget, keep, kept
from stockade.proxy import Authority, Signing

AUTHORITY = Authority("app-1", b"ROOT", Signing(b"CERTIFICATE", b"KEY", b"", time.time(), time.time() + 3600), b"ROOT KEY")

root = pytest.mark.skipif(os.geteuid() != 0, reason="a file of root's is needed")


@root
@pytest.mark.parametrize("authority", [AUTHORITY, dataclasses.replace(AUTHORITY, root_key=None)])
def test_what_is_kept_is_read_again(tmp_path: Path, authority: Authority) -> None:
    path = tmp_path / "pods" / "uid"
    keep(path, authority)
    assert kept(path, "app-1") == authority
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    keep(path, dataclasses.replace(authority, certificate_pem=b"ANOTHER"))
    assert (found := kept(path, "app-1")) is not None and found.certificate_pem == b"ANOTHER"
    forget(path)
    assert kept(path, "app-1") is None and list(path.parent.iterdir()) == []


@root
def test_another_pods_an_expired_one_and_somebody_elses_are_none(tmp_path: Path) -> None:
    path = tmp_path / "uid"
    keep(path, AUTHORITY)
    assert kept(path, "app-2") is None
    path.chmod(0o644)
    assert kept(path, "app-1") is None
    path.chmod(0o600)
    os.chown(path, 1, 1)
    assert kept(path, "app-1") is None
    keep(path, dataclasses.replace(AUTHORITY, signing=dataclasses.replace(AUTHORITY.signing, until=time.time() - 1)))
    assert kept(path, "app-1") is None
    keep(path, AUTHORITY)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept(path, "app-1") is None


@root
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"format": 1, "signing": 3}), '{"format":1,"signing":{"key":"?"}}'])
def test_garbage_is_none(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "uid"
    path.write_text(text)
    path.chmod(0o600)
    assert kept(path, "app-1") is None
    assert "not what an agent wrote" in caplog.text
