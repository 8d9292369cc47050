"""The agent's image: what is in it and what is not, that its list of parts is true, and what its two programs of a node do."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from framework import libraries
from framework.kubernetes import agent_image
from framework.kubernetes.wanted import available

DOCKER = agent_image.ROOT / "deploy/docker"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    available()
    return agent_image.build(tmp_path_factory.mktemp("image"))


def names(tar: Path) -> dict[str, tarfile.TarInfo]:
    """Every file of the image, as its layers have it one over another."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(tar) as archive:
        for layer in manifest(archive)["layers"]:
            file = archive.extractfile(blob(layer["digest"]))
            assert file is not None
            with tarfile.open(fileobj=file) as content:
                found |= {each.name.removeprefix("."): each for each in content}
    return found


def blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def manifest(archive: tarfile.TarFile) -> Json:
    (named,) = json.loads(read(archive, "index.json"))["manifests"]
    found: Json = json.loads(read(archive, blob(named["digest"])))
    return found


def test_each_blob_is_what_its_name_says_and_each_layer_what_the_config_says(tar: Path) -> None:
    with tarfile.open(tar) as archive:
        blobs = [each for each in archive if each.name.startswith("blobs/")]
        for each in blobs:
            file = archive.extractfile(each)
            assert file is not None
            assert hashlib.file_digest(file, "sha256").hexdigest() == Path(each.name).name  # type: ignore[arg-type]
        made = manifest(archive)
        config = json.loads(read(archive, blob(made["config"]["digest"])))
        assert [each["digest"] for each in made["layers"]] == config["rootfs"]["diff_ids"] and len(blobs) == 4
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/stockade"]


def test_what_an_agent_needs_is_there_and_what_an_intruder_wants_is_not(tar: Path) -> None:
    found = names(tar)
    assert {
        "/usr/bin/python3.13",
        "/usr/sbin/bpftool",
        "/usr/sbin/nft",
        "/usr/local/bin/stockade",
        "/usr/local/bin/on-node",
    } <= found.keys()
    assert not {name for name in found if re.fullmatch(r"/usr/s?bin/(gcc|cc|clang|make|apt|apt-get|pip3?|ssh|wget)", name)}
    assert not {name for name in found if "/site-packages/pip/" in name or name.startswith("/usr/share/man/man")}
    assert not {name for name, each in found.items() if each.isfile() and each.mode & 0o6000}, "nothing of it is setuid"
    writable = {name for name, each in found.items() if each.mode & 0o002 and not each.issym()}
    assert writable <= {"/tmp", "/var/tmp", "/run/lock"}
    assert not {name for name, each in found.items() if each.uid}


def test_the_same_checkout_makes_the_same_image(tar: Path, tmp_path: Path) -> None:
    """Of the same lower layer."""
    again = agent_image.build(tmp_path)
    with tarfile.open(tar) as one, tarfile.open(again) as other:
        assert manifest(one) == manifest(other)
    assert again.with_suffix(".cdx.json").read_bytes() == tar.with_suffix(".cdx.json").read_bytes()


def test_the_list_of_parts_is_of_its_format(tar: Path) -> None:
    try:
        library = libraries.python("cyclonedx-python-lib[json-validation]==11.12.0")
    except RuntimeError as error:
        pytest.skip(str(error))
    code = """if True:
        import pathlib, sys
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
        wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text())
        sys.exit(str(wrong) if wrong else 0)"""
    words: list[str | Path] = [libraries.PYTHON, "-c", code, tar.with_suffix(".cdx.json")]
    done = subprocess.run(words, env={"PYTHONPATH": str(library)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_list_of_parts_has_every_package_and_no_other(tar: Path) -> None:
    found, listed = names(tar), json.loads(tar.with_suffix(".cdx.json").read_text())["components"]
    python = {Path(name).parent.name for name in found if name.endswith(".dist-info/METADATA")}
    purls = [each["purl"] for each in listed]
    assert len(purls) == len(set(purls))
    assert len([each for each in purls if each.startswith("pkg:pypi/")]) == len(python) > 60
    infos = {
        Path(name).name.removesuffix(".list").partition(":")[0] for name in found if re.fullmatch(r"/var/lib/dpkg/info/[^/]+\.list", name)
    }
    assert {each["name"] for each in listed if each["purl"].startswith("pkg:deb/")} == infos
    assert any(re.fullmatch(r"pkg:deb/debian/libbpfcc@[^?]+\?arch=amd64&distro=debian-13", each) for each in purls)
    with tarfile.open(tar) as archive:
        inside = archive.extractfile(blob(manifest(archive)["layers"][-1]["digest"]))
        assert inside is not None
        with tarfile.open(fileobj=inside) as layer:
            assert read(layer, "./usr/share/stockade/sbom.cdx.json") == tar.with_suffix(".cdx.json").read_bytes()


def test_the_locked_wheels_are_all_that_the_product_needs() -> None:
    """And of versions that it takes; deploy/docker/lock.py makes the lists anew."""
    from packaging.requirements import Requirement

    project = tomllib.loads((agent_image.ROOT / "pyproject.toml").read_text())["project"]
    for file in DOCKER.glob("requirements*.txt"):
        locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", file.read_text(), re.MULTILINE))
        for each in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["kubernetes"]]):
            name = re.sub(r"[-_.]+", "-", each.name).lower()
            if "gpu" not in file.name:
                name = name.removesuffix("-gpu")
            if each.marker is None or each.marker.evaluate({"python_version": "3.13"}):
                assert name in locked and each.specifier.contains(locked[name]), f"{file.name}: {each}"


# --- its two programs of a node ---


def inside(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """One of deploy/docker's programs, by this machine's Python, as the first process of namespaces of its own."""
    unshared = ["unshare", "--pid", "--fork", "--mount-proc", "--mount", "--net", "--propagation=private"]
    return subprocess.run([*unshared, "bash", "-c", script, "test", *words], capture_output=True, text=True, check=False)


def test_a_command_on_a_node_is_in_the_nodes_cgroup_namespace_and_can_set_its_network() -> None:
    """As in a container of cgroup v2: one of its own, and a /proc/sys that is read-only."""
    available()
    python = str(agent_image.ROOT / ".venv/bin/python")
    script = """
        mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro,nosuid,nodev,noexec /proc/sys
        set_forward() { echo 1 >/proc/sys/net/ipv4/ip_forward; }
        export -f set_forward
        readlink /proc/self/ns/cgroup
        set_forward 2>/dev/null || echo closed
        unshare --cgroup bash -c 'readlink /proc/self/ns/cgroup; exec "$@"' test "$1" "$2" bash -c '
            readlink /proc/self/ns/cgroup
            set_forward && echo open
            (echo x >/proc/sys/kernel/domainname) 2>/dev/null || echo closed'
    """
    done = inside(script, python, str(DOCKER / "on_node.py"))
    node, closed, own, joined, opened, rest = done.stdout.split()
    assert (closed, opened, rest) == ("closed", "open", "closed"), done.stderr
    assert own != node and joined == node
