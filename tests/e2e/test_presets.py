"""Presets as they ship, under the real clients: servers of the tests' own answer under the names that the presets have."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from framework import packages
from framework.internet import GIT, OTHER, Internet
from framework.machine import Machine, Result

NPM = "registry.npmjs.org"
DEBIAN = "deb.debian.org"
REPOSITORY = f"octocat/{packages.PACKAGE}.git"


@pytest.fixture(scope="module")
def registries(place: Path, internet: Internet) -> Iterator[Internet]:
    """`internet` is only asked for what this machine needs to have one."""
    directory = place / "registries"
    trees = {NPM: directory / "npm-tree", DEBIAN: directory / "debian-tree"}
    directory.mkdir()
    packages.npm(trees[NPM], f"https://{NPM}")
    trees[DEBIAN].mkdir()
    with Internet(directory, trees=trees) as up:
        shutil.copytree(directory / GIT / f"{packages.PACKAGE}.git", directory / GIT / REPOSITORY)
        yield up


@pytest.fixture(scope="module")
def known(registries: Internet, place: Path) -> Machine:
    (directory := place / "known").mkdir()
    return Machine(registries, directory)


def only_refused(result: Result, **expected: object) -> None:
    """The request is on record as denied by this rule, and never as allowed."""
    assert result.select(action="http", decision="deny", **expected), result
    assert not result.select(action="http", decision="allow", method=expected["method"], path=expected["path"]), result


@pytest.mark.client("npm", "node")
def test_npm_installs_and_does_not_publish(known: Machine, registries: Internet) -> None:
    installed = known.run(["npm", "install", packages.PACKAGE], options=["--preset", "npm"], room=(room := known.room()))
    assert installed.status == 0, installed
    assert packages.GREETING in (room / f"work/node_modules/{packages.PACKAGE}/index.js").read_text()
    assert installed.select(action="http", decision="allow", rule="npm-registry", host=NPM, path=f"/{packages.PACKAGE}", status=200), (
        installed
    )

    files = {"package.json": '{"name": "@me/thing", "version": "1.0.0"}', ".npmrc": f"//{NPM}/:_authToken=sesame\n"}
    published = known.run(["npm", "publish", "--access", "public"], options=["--preset", "npm"], files=files)
    assert published.status != 0, published
    assert "403" in published.stderr, published
    only_refused(published, rule="npm-registry", level="method", method="PUT", host=NPM, path="/@me%2Fthing")
    tokens = known.run(["npm", "token", "list"], options=["--preset", "npm"], files=files)
    assert tokens.status != 0, tokens
    only_refused(tokens, rule="npm-registry", level="path", method="GET", host=NPM, path="/-/npm/v1/tokens")

    assert {request["method"] for request in registries.nginx.requests(server=NPM)} == {"GET"}
    assert not [request for request in registries.nginx.requests(server=NPM) if request["path"].startswith("/-/")]


def github(*presets: str) -> str:
    """The presets with their host replaced, as whoever has a server of their own does it."""
    override = {rule: {"destination": {"allow": [GIT]}} for rule in ("github-clone", "github-push")[: len(presets)]}
    policy = {"version": 1, "name": "git", "extends": [f"presets/{name}" for name in presets], "override": override}
    return yaml.safe_dump(policy | {"exec": {"allow": ["sh", "git"]}})


PUSH = f"""
git clone -q https://{GIT}/{REPOSITORY} tree && cd tree &&
git -c user.name=me -c user.email=me@web.test commit -q --allow-empty -m "$0" && git push -q origin HEAD
"""


@pytest.mark.client("git")
def test_git_clones_and_pushes_only_with_the_preset_for_it(known: Machine, registries: Internet) -> None:
    refused = known.run(["sh", "-c", PUSH, "refused"], policy=github("github"), room=(room := known.room()))
    assert refused.status != 0, refused
    assert "403" in refused.stderr, refused
    assert (room / "work/tree/README").read_text().strip() == packages.GREETING
    assert refused.select(action="http", decision="allow", rule="github-clone", method="POST", path=f"/{REPOSITORY}/git-upload-pack"), (
        refused
    )
    only_refused(refused, rule="github-clone", level="path", method="POST", host=GIT, path=f"/{REPOSITORY}/git-receive-pack")

    pushed = known.run(["sh", "-c", PUSH, "pushed"], policy=github("github", "github-push"))
    assert pushed.status == 0, pushed
    assert pushed.select(action="http", decision="allow", rule="github-push", path=f"/{REPOSITORY}/git-receive-pack", status=200), pushed
    log = ["git", "-c", "safe.directory=*", "log", "--format=%s"]
    subjects = subprocess.run(log, cwd=registries.directory / GIT / REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    assert subjects == ["pushed", "one"]


@pytest.fixture(scope="module")
def archive(registries: Internet) -> None:
    """An unsigned Debian archive with one package."""
    root = registries.directory / "debian-tree/debian"
    control = f"Package: {packages.PACKAGE}\nVersion: 1.0\nArchitecture: all\nMaintainer: tests <tests@web.test>\nDescription: greets\n"
    tree, pool, lists = root / "tree", root / "pool/main", root / "dists/stable/main/binary-all"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(control)
    pool.mkdir(parents=True)
    lists.mkdir(parents=True)
    package = pool / f"{packages.PACKAGE}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, package], check=True, capture_output=True)
    digest, size = packages.sha256(package), package.stat().st_size
    index = f"{control}Filename: pool/main/{package.name}\nSize: {size}\nSHA256: {digest}\n\n"
    (lists / "Packages").write_text(index)
    release = "Suite: stable\nArchitectures: all amd64\nComponents: main\nDate: Fri, 27 Nov 2026 00:00:00 UTC\nSHA256:\n"
    release += f" {packages.sha256(lists / 'Packages')} {len(index)} main/binary-all/Packages\n"
    (root / "dists/stable/Release").write_text(release)


@pytest.mark.client("apt-get", "dpkg-deb")
def test_apt_reads_debian_and_nobody_elses_archive(known: Machine, registries: Internet, archive: None) -> None:
    before = len(registries.nginx.requests(server=OTHER))
    sources = f"deb [trusted=yes] http://{DEBIAN}/debian stable main\ndeb [trusted=yes] http://{OTHER}/debian stable main\n"
    room = known.room({"sources.list": sources})
    for name in ("lists/partial", "cache/archives/partial"):
        (room / "work" / name).mkdir(parents=True)
    work = room / "work"
    options = [f"-oDir::State::lists={work}/lists", f"-oDir::Cache={work}/cache"]
    options += [f"-oDir::Etc::sourcelist={work}/sources.list", "-oDir::Etc::sourceparts=/dev/null"]
    updated = known.run(["apt-get", *options, "update"], options=["--preset", "apt"], room=room)
    assert updated.select(action="dns", decision="deny", binary="apt", level="destination", host=OTHER), updated
    fetched = known.run(["apt-get", *options, "download", packages.PACKAGE], options=["--preset", "apt"], room=room)
    assert fetched.status == 0, fetched
    assert (work / f"{packages.PACKAGE}_1.0_all.deb").exists()
    path = f"/debian/pool/main/{packages.PACKAGE}_1.0_all.deb"
    assert fetched.select(action="http", decision="allow", rule="apt-debian", binary="apt", host=DEBIAN, port=80, path=path), fetched
    assert len(registries.nginx.requests(server=OTHER)) == before
